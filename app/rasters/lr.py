"""The policy's view of a plan: every tile of the LR raster as the network takes it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.rasters.gdal import open_tiff
from app.rasters.info import RasterInfo
from app.rasters.resample import Grid, fill, resample
from app.rasters.scaling import Scaling
from app.rasters.tiles import Tile, tile_grid


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
    ``lr_px``, else bilinear. ``valid`` ``(B,)`` is each tile's share 0..1 of valid pixels, ground beyond the
    raster's edge counted as not valid. What is not valid continues the valid pixels around it, so that the
    network sees no frame; a tile without any is mid-grey. Raises TruncatedRaster where
    blocks cannot be read.
    """
    with open_tiff(path) as dataset:
        for start in range(0, len(tiles), batch):
            some = tiles[start : start + batch]
            pixels = np.empty((len(some), len(bands), lr_px, lr_px), np.uint8)
            valid = np.empty(len(some), np.float32)
            for i, tile in enumerate(some):
                grid = Grid(tile_grid(tile, lr_px), lr_px, lr_px, info.crs_wkt)
                values, cover = resample(dataset, info, bands, grid)
                pixels[i], valid[i] = shown(values, cover, scaling), cover.mean()
            yield pixels, valid


def shown(values: NDArray[np.float32], cover: NDArray[np.float32], scaling: Scaling) -> NDArray[np.uint8]:
    """Resampled values as uint8, holes filled; mid-grey where nothing is known."""
    known = cover > 0
    if not known.any():
        return np.full(values.shape, 127, np.uint8)
    return scaling.apply(fill(values, known))
