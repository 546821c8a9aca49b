"""The HR images of labelled tiles, put together from the patches that were received, as class folders."""

import io
import tarfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from sqlalchemy import select

from app.acquisitions.pixels import ReceivedPixels, lay
from app.acquisitions.reading import received_as_of
from app.core.db import session_scope
from app.plans.service import raster_info, tile_of
from app.plans.tables import Plan, TileRow
from app.rasters.tiles import tile_grid

Pixels = NDArray[np.uint8]


def write_tiles(path: Path, chosen: Mapping[str, Any], scratch: Path) -> Iterator[None]:
    """A tar of ``CLASS/PLAN-TILE.tif``; pauses after each tile.

    ``chosen`` is what the request froze: ``{"plans": {id: {"revision": r, "tiles": {tile: class}}}}``. The
    same choice makes the same bytes, whatever is received or labelled later. Raises PixelsLost.
    """
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for plan_id, part in sorted(chosen["plans"].items()):
            labels = {int(tile): label for tile, label in part["tiles"].items()}
            for tile, content in _images(uuid.UUID(plan_id), part["revision"], set(labels), scratch):
                entry = tarfile.TarInfo(f"{labels[tile]}/{plan_id}-{tile:05d}.tif")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
                yield


def _images(
    plan_id: uuid.UUID, revision: int, wanted: set[int], scratch: Path
) -> Iterator[tuple[int, bytes]]:
    with session_scope() as session:
        plan = session.get_one(Plan, plan_id)
        rows = {
            row.tile: row
            for row in session.scalars(
                select(TileRow).where(TileRow.plan_id == plan_id, TileRow.tile.in_(wanted))
            )
        }
        received = [one for one in received_as_of(session, plan_id, revision) if one.tile in wanted]
    info = raster_info(plan)
    folder = scratch / f"patches-{plan_id}"
    folder.mkdir()
    pixels = ReceivedPixels(folder, plan.hr_px)
    for number in sorted(wanted):
        image = np.zeros((3, plan.hr_px, plan.hr_px), dtype=np.uint8)
        for one in received:
            if one.tile == number:
                lay(image, pixels.of(one), one.patch)
        yield number, _geotiff(image, info.crs_wkt, tile_grid(tile_of(rows[number], info), plan.hr_px))


def _geotiff(image: Pixels, crs_wkt: str, transform: Any) -> bytes:
    with rasterio.Env(), MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            width=image.shape[2],
            height=image.shape[1],
            count=3,
            dtype="uint8",
            crs=crs_wkt,
            transform=transform,
            photometric="RGB",
            compress="deflate",
        ) as dataset:
            dataset.write(image)
        return bytes(memory.read())
