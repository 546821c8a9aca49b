"""Cutting out patches that a plan chose, as a vendor would deliver them: the source's own pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from affine import Affine
from rasterio.features import geometry_mask
from rasterio.windows import Window

from app.rasters import RasterInfo, Tile
from app.rasters.gdal import open_tiff, read
from app.rasters.tiles import clip_patch
from patchplan.demo.geotiff import colour_bands, write_geotiff

FINE_PX: Final = 40
"""From so many pixels a side on, (1 - 1/40)^2 > 95 % of a patch are covered by the pixels centred in it."""

LEAST_PX: Final = 4
"""The service takes no raster that is smaller."""

_NEARLY = 1e-6


@dataclass(frozen=True)
class Cut:
    """A patch cut out of a raster: the tile's index, the patch's id, the file."""

    tile: int
    patch: int
    path: Path


def cut_patches(hr: Path, info: RasterInfo, wanted: list[tuple[Tile, int]], folder: Path) -> list[Cut]:
    """One GeoTIFF for each patch of tiles in ``info``'s CRS.

    Left out are patches of under ``LEAST_PX`` a side and those without a single valid pixel: nobody delivers
    them.

    Pixels are neither moved nor resampled. A pixel belongs to the patch its centre lies in, so that no ground
    is bought twice; where patches are only a few pixels wide, or the raster is rotated, all that it touches.
    """
    cuts = []
    with open_tiff(hr) as dataset:
        for tile, patch in wanted:
            path = folder / f"tile{tile.index:04d}-patch{patch:02d}.tif"
            if _cut(dataset, info, tile, patch, path):
                cuts.append(Cut(tile.index, patch, path))
    return cuts


def _cut(dataset: Any, info: RasterInfo, tile: Tile, patch: int, path: Path) -> bool:
    bounds = clip_patch(tile, patch)
    if bounds is None:
        return False
    xmin, ymin, xmax, ymax = bounds
    ring = [(xmin, ymin), (xmin, ymax), (xmax, ymax), (xmax, ymin)]
    transform = Affine(*info.transform)
    window = _pixel_window(info, [~transform @ corner for corner in ring])
    if window is None:
        return False
    placed = transform @ Affine.translation(window.col_off, window.row_off)
    bands = colour_bands(info)
    raw = dataset.read(bands, window=window)
    valid = read(dataset, info, bands, window)[1]
    if not info.axis_aligned:
        shape = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
        inside = geometry_mask([shape], valid.shape, placed, all_touched=True, invert=True)
        valid &= inside
        raw = np.where(inside, raw, raw.dtype.type(0))
    if not valid.any():
        return False
    write_geotiff(path, raw, valid, placed, info)
    return True


def _pixel_window(info: RasterInfo, ring: list[tuple[float, float]]) -> Window | None:
    sides = []
    for axis, size in enumerate((info.width, info.height)):
        low, high = min(p[axis] for p in ring), max(p[axis] for p in ring)
        if info.axis_aligned and high - low >= FINE_PX:
            first, last = np.floor(low + 0.5), np.floor(high + 0.5)
        else:
            first, last = np.floor(low + _NEARLY), np.ceil(high - _NEARLY)
        first, last = max(0, int(first)), min(size, int(last))
        if last - first < LEAST_PX:
            return None
        sides.append((first, last - first))
    (col, width), (row, height) = sides
    return Window(col, row, width, height)
