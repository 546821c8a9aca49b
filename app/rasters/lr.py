"""The policy's view of a plan: every tile of the LR raster as the network takes it."""

from collections.abc import Iterator, Sequence
from math import gcd
from pathlib import Path
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray

from app.rasters.areas import patch_rings
from app.rasters.gdal import open_tiff
from app.rasters.info import RasterInfo
from app.rasters.resample import Grid, fill, resample
from app.rasters.scaling import Scaling
from app.rasters.tiles import GRID, Tile, patch_bounds, tile_grid

MIN_SEEN: Final = 0.1
"""Of a patch with less than this share of valid LR pixels a network saw what others were continued with."""


def read_lr_tiles(
    path: Path,
    info: RasterInfo,
    tiles: Sequence[Tile],
    bands: tuple[int, ...],
    scaling: Scaling,
    lr_px: int,
    batch: int = 64,
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """All tiles in their order, ``batch`` at a time, as ``(pixels, valid)``.

    ``pixels`` is ``(B, C, lr_px, lr_px)`` uint8, row 0 north: area averaged where the raster is finer than
    ``lr_px``, else bilinear. ``valid`` ``(B, 16)`` is each patch's share 0..1 of valid pixels, ground beyond
    the raster's edge counted as not valid; a tile's share is their mean. What is not valid continues the
    valid pixels around it, so that the network sees no frame; a tile without any is mid-grey. Raises
    TruncatedRaster where blocks cannot be read.
    """
    with open_tiff(path) as dataset:
        for start in range(0, len(tiles), batch):
            some = tiles[start : start + batch]
            pixels = np.empty((len(some), len(bands), lr_px, lr_px), np.uint8)
            valid = np.empty((len(some), GRID * GRID), np.float32)
            for i, tile in enumerate(some):
                grid = Grid(tile_grid(tile, lr_px), lr_px, lr_px, info.crs_wkt)
                values, cover = resample(dataset, info, bands, grid)
                pixels[i], valid[i] = shown(values, cover, scaling), _by_patch(cover)
            yield pixels, valid


def shown(values: NDArray[np.float32], cover: NDArray[np.float32], scaling: Scaling) -> NDArray[np.uint8]:
    """Resampled values as uint8, holes filled; mid-grey where nothing is known."""
    known = cover > 0
    if not known.any():
        return np.full(values.shape, 127, np.uint8)
    return scaling.apply(fill(values, known))


def unseen_patches(tile: Tile, valid: NDArray[np.float32], lr_px: int) -> tuple[int, ...]:
    """The patches of which LR shows nothing, or hardly anything (``MIN_SEEN``), by id.

    ``valid`` (16,) is what ``read_lr_tiles`` says of the tile with ``lr_px``. What counts is the part of a
    patch inside the raster; a patch that has none is not named, nor one of which a rotated raster's edge
    leaves less than a strip half an LR pixel wide, unless nothing at all of the tile is valid.
    """
    if valid.min() >= MIN_SEEN:
        return ()
    # a rotated raster is sampled at every half LR pixel, which may miss what is narrower
    least = GRID / 2 / lr_px if tile.outline is not None and valid.any() else 0.0
    found = []
    for patch, ring in enumerate(patch_rings(tile)):
        xmin, ymin, xmax, ymax = patch_bounds(tile, patch)
        if ring is not None:
            inside = shapely.Polygon(ring).area / ((xmax - xmin) * (ymax - ymin))
            if inside >= least and valid[patch] < MIN_SEEN * inside:
                found.append(patch)
    return tuple(found)


def _by_patch(cover: NDArray[np.float32]) -> NDArray[np.float32]:
    """The means ``(16,)`` of ``cover`` (px, px) over the patches, also where px is no multiple of 4."""
    times = GRID // gcd(len(cover), GRID)
    even = cover.repeat(times, axis=0).repeat(times, axis=1)
    side = len(even) // GRID
    means: NDArray[np.float32] = even.reshape(GRID, side, GRID, side).mean(axis=(1, 3)).ravel()
    return means
