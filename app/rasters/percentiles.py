"""Exact percentiles of a raster of any size in bounded memory; runs in the child."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.core.errors import NoValidPixels
from app.rasters.gdal import chunks, open_tiff, read
from app.rasters.info import RasterInfo

_BINS = 1 << 16


def percentiles(
    path: Path, info: RasterInfo, bands: tuple[int, ...], quantiles: tuple[float, ...]
) -> list[list[float]]:
    """Per band the values at ``quantiles`` (0..1) over all valid pixels, as float32 order statistics.

    A radix search: float32 bits, made sortable, are counted by their upper 16 and then by their lower 16
    bits, so two passes and a few counters do for any number of pixels. Raises NoValidPixels.
    """
    upper = np.zeros((len(bands), _BINS), np.int64)
    for keys in _keys(path, info, bands):
        for b, of_band in enumerate(keys):
            upper[b] += np.bincount(of_band >> 16, minlength=_BINS)
    total = int(upper[0].sum())
    if total == 0:
        raise NoValidPixels("No pixel is valid in all the bands that were chosen.")
    ranks = [min(total - 1, int(q * (total - 1) + 0.5)) for q in quantiles]
    below = np.cumsum(upper, axis=1)
    wanted = [[int(np.searchsorted(below[b], r, side="right")) for r in ranks] for b in range(len(bands))]
    lower = {(b, u): np.zeros(_BINS, np.int64) for b, uppers in enumerate(wanted) for u in uppers}
    for keys in _keys(path, info, bands):
        for b, u in lower:
            lower[b, u] += np.bincount(keys[b][keys[b] >> 16 == u] & 0xFFFF, minlength=_BINS)
    return [
        [
            _value(u, lower[b, u], r - int(below[b][u] - upper[b][u]))
            for u, r in zip(uppers, ranks, strict=True)
        ]
        for b, uppers in enumerate(wanted)
    ]


def _keys(path: Path, info: RasterInfo, bands: tuple[int, ...]) -> Any:
    with open_tiff(path) as dataset:
        for window in chunks(dataset):
            values, valid = read(dataset, info, bands, window)
            if valid.any():
                yield _sortable(values[:, valid])


def _sortable(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    bits = np.ascontiguousarray(values).view(np.uint32)
    keys: NDArray[np.uint32] = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return keys


def _value(upper: int, lower: NDArray[np.int64], rank: int) -> float:
    key = np.uint32(upper << 16 | int(np.searchsorted(np.cumsum(lower), rank, side="right")))
    bits = key ^ np.uint32(1 << 31) if key >> 31 else ~key
    return float(np.array(bits, np.uint32).view(np.float32))
