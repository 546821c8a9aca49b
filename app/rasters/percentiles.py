"""Exact percentiles of a raster of any size in bounded memory; runs in the child."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.core.errors import NoValidPixels
from app.rasters.gdal import chunks, open_tiff, read
from app.rasters.info import RasterInfo

Counts = NDArray[np.int64]
Keys = NDArray[np.uint32]

_BINS = 1 << 16


def percentiles(
    path: Path, info: RasterInfo, bands: tuple[int, ...], quantiles: Sequence[float]
) -> list[list[float]]:
    """Per band the values at ``quantiles`` (0..1) over all valid pixels, as order statistics.

    A radix search: values become 32-bit keys in their own order, which are counted by their upper 16 bits and
    then, near the ranks looked for, by their lower 16. Two passes and some counters do for any number of
    pixels, one for types of up to 16 bits. Types of more than 24 bits are looked at as float32. Raises
    NoValidPixels.
    """
    upper = np.zeros((len(bands), _BINS), np.int64)
    for keys in _keys(path, info, bands):
        for b, of_band in enumerate(keys):
            upper[b] += np.bincount(of_band >> 16, minlength=_BINS)
    total = int(upper[0].sum())
    if total == 0:
        raise NoValidPixels("No pixel is valid in all the bands that were chosen.")
    ranks = np.array([min(total - 1, int(q * (total - 1) + 0.5)) for q in quantiles])
    found = [_ranked(counts, ranks) for counts in upper]
    if np.dtype(info.dtype).itemsize <= 2 and info.dtype != "float16":
        return [[float(u) + np.iinfo(info.dtype).min for u, _ in of_band] for of_band in found]
    lower = _lower(path, info, bands, [sorted({u for u, _ in of_band}) for of_band in found])
    return [
        [_value(u, _ranked(lower[b][u], np.array([rest]))[0][0]) for u, rest in of_band]
        for b, of_band in enumerate(found)
    ]


def _ranked(counts: Counts, ranks: NDArray[np.int64]) -> list[tuple[int, int]]:
    """For each rank its bin and its rank within that bin."""
    upto = np.cumsum(counts)
    bins = np.searchsorted(upto, ranks, side="right")
    return [(int(b), int(r - upto[b] + counts[b])) for b, r in zip(bins, ranks, strict=True)]


def _lower(
    path: Path, info: RasterInfo, bands: tuple[int, ...], uppers: list[list[int]]
) -> list[dict[int, Counts]]:
    """Counts of the lower 16 bits of keys with certain upper bits, by band and upper bits."""
    slot = np.full((len(bands), _BINS), -1)
    for b, of_band in enumerate(uppers):
        slot[b, of_band] = np.arange(len(of_band))
    counts = [np.zeros(len(of_band) * _BINS, np.int64) for of_band in uppers]
    for keys in _keys(path, info, bands):
        for b, of_band in enumerate(keys):
            slots = slot[b, of_band >> 16]
            near = slots >= 0
            low = of_band[near] & 0xFFFF
            counts[b] += np.bincount(slots[near] * _BINS + low, minlength=len(counts[b]))
    return [dict(zip(u, c.reshape(-1, _BINS), strict=True)) for u, c in zip(uppers, counts, strict=True)]


def _keys(path: Path, info: RasterInfo, bands: tuple[int, ...]) -> Iterator[Keys]:
    """Keys ``(C, n)`` of valid pixels, a chunk at a time."""
    kind = np.dtype(info.dtype)
    with open_tiff(path) as dataset:
        for window in chunks(dataset):
            values, valid = read(dataset, info, bands, window)
            if not valid.any():
                continue
            if kind.kind in "iu" and kind.itemsize <= 2:
                yield (values[:, valid].astype(np.int64) - np.iinfo(kind).min).astype(np.uint32) << np.uint32(
                    16
                )
            else:
                yield _sortable(values[:, valid])


def _sortable(values: NDArray[np.float32]) -> Keys:
    bits = np.ascontiguousarray(values).view(np.uint32)
    keys: Keys = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return keys


def _value(upper: int, lower: int) -> float:
    key = np.uint32(upper << 16 | lower)
    bits = key ^ np.uint32(1 << 31) if key >> 31 else ~key
    return float(np.array(bits, np.uint32).view(np.float32))
