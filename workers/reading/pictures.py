"""One look at every picture: does it decode, how large is it, what does it show."""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from models.data import pixels, tiff
from models.data.duplicates import THUMB
from models.data.source import UnreadableImageError
from workers.reading.forms import Found, Sample
from workers.reading.heap import Heap

THREADS: Final = 2
AT_ONCE: Final = 64
MOST_PIXELS: Final = 2**27
"""Of one picture: with threads decoding side by side its copies fit the child's memory."""

_PIXEL_SCALE, _TRANSFORM, _GEO_KEYS = 33550, 34264, 34735


@dataclass(frozen=True)
class Look:
    """What one look at a sample found. ``digest`` is of its pixels, ``thumb`` (16, 16, 3) uint8 as bytes."""

    sample: Sample
    width: int
    height: int
    bands: int
    kind: str
    gsd_m: float | None
    size: int
    sha256: str
    digest: bytes
    thumb: bytes


def look_at_all(heap: Heap, found: Found, scratch: Path) -> Iterator[Look | tuple[Sample, str]]:
    """Every sample's look, or the sample and why it cannot be decoded; in order, a few at a time."""

    def one(sample: Sample) -> Look | tuple[Sample, str]:
        try:
            return _look(heap, found, sample, scratch)
        except UnreadableImageError as error:
            return sample, str(error).removeprefix(f"{sample.name}: ")
        except MemoryError:
            return sample, "takes more memory to decode than there is"

    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(found.samples), AT_ONCE):
            yield from list(pool.map(one, found.samples[start : start + AT_ONCE]))


def thumbs_of(looks: Sequence[Look]) -> npt.NDArray[np.float32]:
    """(n, d) for ``models.data.duplicates.near_pairs``."""
    flat = np.frombuffer(b"".join(look.thumb for look in looks), dtype=np.uint8)
    return flat.reshape(len(looks), -1).astype(np.float32)


def _look(heap: Heap, found: Found, sample: Sample, scratch: Path) -> Look:
    data = heap.read(sample.name)
    bands, kind = pixels.bands(data, max_pixels=MOST_PIXELS)
    if found.source is None:
        image = pixels.decode(data, max_pixels=MOST_PIXELS)
        gsd = _gsd(data, scratch)
    else:
        # a box's own window of its picture
        image = found.source.read(sample.row)
        gsd = _described_gsd(heap, sample.name)
    height, width = image.shape[:2]
    thumb = Image.fromarray(image).resize((THUMB, THUMB), Image.Resampling.BOX)
    return Look(
        sample,
        width,
        height,
        bands,
        kind,
        gsd,
        len(data),
        hashlib.sha256(data).hexdigest(),
        hashlib.sha256(f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes()).digest(),
        np.asarray(thumb).tobytes(),
    )


def _described_gsd(heap: Heap, picture: str) -> float | None:
    """The GSD that an fMoW picture's JSON gives, metres."""
    beside = picture.rpartition(".")[0] + ".json"
    try:
        gsd = float(json.loads(heap.read(beside))["gsd"])
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError, UnreadableImageError):
        return None
    return gsd if math.isfinite(gsd) and gsd > 0 else None


def _gsd(data: bytes, scratch: Path) -> float | None:
    """The GSD of a GeoTIFF in metres, None where the picture has no place on the ground."""
    if data[:2] not in (b"II", b"MM"):
        return None
    tags: ImageFileDirectory_v2 = tiff.directory(data)
    if _GEO_KEYS not in tags or not (_PIXEL_SCALE in tags or _TRANSFORM in tags):
        return None
    path = scratch / f"look-{threading.get_ident()}.tif"
    path.write_bytes(data)
    try:
        return _ground_side(path)
    finally:
        path.unlink()


def _ground_side(path: Path) -> float | None:
    # most datasets have no GeoTIFF: GDAL and PROJ are loaded for the first that comes
    from rasterio.errors import RasterioError

    from app.core.errors import ProblemError
    from app.rasters.gdal import open_tiff
    from app.rasters.ground import metres_per_unit

    try:
        with open_tiff(path) as dataset:
            if not dataset.crs:
                return None
            t, wkt = dataset.transform, str(dataset.crs.to_wkt())
            x, y = t @ (dataset.width / 2, dataset.height / 2)
        x_m, y_m = metres_per_unit(wkt, x, y)
        side = math.sqrt(math.hypot(t.a * x_m, t.d * y_m) * math.hypot(t.b * x_m, t.e * y_m))
    except (ProblemError, RasterioError, ValueError, RuntimeError):
        return None
    return side if math.isfinite(side) and side > 0 else None
