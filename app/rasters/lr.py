"""The policy's view of a plan: every tile of the LR raster as the network takes it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.rasters.gdal import open_tiff
from app.rasters.info import RasterInfo
from app.rasters.resample import Grid, fill, resample
from app.rasters.scaling import Scaling
from app.rasters.tiles import GRID, Tile, tile_grid


@dataclass(frozen=True, slots=True)
class LrBatch:
    """Some tiles in the order they were asked for.

    ``pixels`` is ``(B, C, lr_px, lr_px)`` uint8, row 0 north. ``valid`` ``(B,)`` is each tile's share 0..1 of
    valid pixels, ground beyond the raster's edge counted as not valid; ``patch_valid`` is the same of each
    patch, ``(B, 16)``.
    """

    tiles: tuple[Tile, ...]
    pixels: NDArray[np.uint8]
    valid: NDArray[np.float32]
    patch_valid: NDArray[np.float32]


def read_lr_tiles(
    path: Path,
    info: RasterInfo,
    tiles: Sequence[Tile],
    bands: tuple[int, ...],
    scaling: Scaling,
    lr_px: int,
    batch: int = 64,
) -> Iterator[LrBatch]:
    """All tiles, ``batch`` at a time: area averaged where the raster is finer than ``lr_px``, else bilinear.

    What is not valid (nodata, beyond the edge) continues the valid pixels around it, so that the network sees
    no frame; a tile without any is mid-grey. Raises TruncatedRaster where blocks cannot be read.
    """
    with open_tiff(path) as dataset:
        for start in range(0, len(tiles), batch):
            some = tuple(tiles[start : start + batch])
            pixels = np.empty((len(some), len(bands), lr_px, lr_px), np.uint8)
            covers = np.empty((len(some), lr_px, lr_px), np.float32)
            for i, tile in enumerate(some):
                grid = Grid(tile_grid(tile, lr_px), lr_px, lr_px, info.crs_wkt)
                values, covers[i] = resample(dataset, info, bands, grid)
                pixels[i] = shown(values, covers[i], scaling)
            yield LrBatch(some, pixels, covers.mean(axis=(1, 2)), _by_patch(covers))


def shown(values: NDArray[np.float32], cover: NDArray[np.float32], scaling: Scaling) -> NDArray[np.uint8]:
    """Resampled values as uint8, holes filled; mid-grey where nothing is known."""
    known = cover > 0
    if not known.any():
        return np.full(values.shape, 127, np.uint8)
    return scaling.apply(fill(values, known))


def _by_patch(covers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean cover of each patch, ``(B, 16)``; pixels on a border between patches count for both in part."""
    px = covers.shape[-1]
    edges = np.arange(GRID + 1) * px / GRID
    pixel = np.arange(px)
    share = np.clip(np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel), 0, 1)
    share = (share / (px / GRID)).astype(np.float32)
    found: NDArray[np.float32] = share @ covers @ share.T
    return found.reshape(len(covers), GRID * GRID)
