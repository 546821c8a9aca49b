"""Pixels put back where the store no longer has them, by whoever sends the same file again."""

import uuid
from collections.abc import Sequence
from pathlib import Path

import structlog
from sqlalchemy import select

from app.acquisitions import pixels
from app.acquisitions.tables import Acquisition, ReceivedPatch, pixels_key
from app.core.db import session_scope
from app.core.store import get_store
from app.plans.tables import Plan
from app.rasters import RasterInfo, Scaling, Tile, read_hr_patches

log = structlog.get_logger(__name__)


def lost_of(plan_id: uuid.UUID, digest: str) -> list[uuid.UUID]:
    """The acquisitions of the same file, newest first, whose pixels the store no longer has."""
    # a file none of whose patches were taken has no object
    brought = select(ReceivedPatch.acquisition_id).where(ReceivedPatch.acquisition_id == Acquisition.id)
    query = select(Acquisition.id).where(
        Acquisition.plan_id == plan_id, Acquisition.digest == digest, brought.exists()
    )
    with session_scope() as session:
        found = session.scalars(query.order_by(Acquisition.revision.desc())).all()
    return [each for each in found if not get_store().exists(pixels_key(plan_id, each))]


def put_back(
    plan: Plan,
    tiles: Sequence[Tile],
    acquisition_id: uuid.UUID,
    path: Path,
    info: RasterInfo,
    bands: Sequence[int] | None,
) -> bool:
    """Keep all patches the acquisition brought anew, read from the same file at ``path``.

    They are read as they were at first, by the scaling noted then, and lie in the same slots; no row changes.
    False where the file no longer gives the same patches: then nothing is kept.
    """
    key = pixels_key(plan.id, acquisition_id)
    with session_scope() as session:
        scaling = session.get_one(Acquisition, acquisition_id).scaling
        received = session.execute(
            select(ReceivedPatch.tile, ReceivedPatch.patch)
            .where(ReceivedPatch.acquisition_id == acquisition_id)
            .order_by(ReceivedPatch.slot)
        )
        places: list[tuple[int | None, int | None]] = [(tile, patch) for tile, patch in received]
    squares, wanted = path.with_suffix(".u8"), set(places)
    found: list[tuple[int | None, int | None]] = []
    with squares.open("wb") as out:
        for patch in read_hr_patches(
            path,
            info,
            tiles,
            plan.raster["crs_wkt"],
            plan.hr_px,
            scaling=None if scaling is None else Scaling.from_json(scaling),
            wanted=plan.band_names,
            bands=bands,
        ):
            if patch.pixels is not None and (patch.tile, patch.patch) in wanted:
                pixels.append(out, patch.pixels, plan.hr_px)
                found.append((patch.tile, patch.patch))
    if found != places:
        # read by other rules than these were; a patch in another's slot would be worse than none
        log.error("pixels_not_put_back", acquisition=str(acquisition_id), key=key)
        return False
    get_store().put(key, squares)
    log.warning("pixels_put_back", acquisition=str(acquisition_id), key=key)
    return True
