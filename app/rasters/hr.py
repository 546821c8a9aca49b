"""Acquisitions: bought pixels, found on the ground and laid into their patches.

A file is placed by its own georeference, in any CRS, and may hold one patch or many. Its name means nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from app.core.errors import BadBands
from app.rasters.areas import patch_rings
from app.rasters.bands import RGB, choose_bands
from app.rasters.gdal import open_tiff
from app.rasters.ground import Floats, project
from app.rasters.info import RasterInfo
from app.rasters.lr import shown
from app.rasters.resample import Grid, along_axes, resample
from app.rasters.scaling import Scaling, value_scaling
from app.rasters.tiles import GRID, Tile, tile_grid

MIN_VALID = 0.95
MAX_COARSER = 1.5
"""HR pixels may be this many times the tile's own hr_px pixel."""

_ROUNDING = 1.001
_SLIVER = 0.01
_EDGE_POINTS = 32


class Refusal(StrEnum):
    """Why a patch was not taken from a file."""

    OUTSIDE_EVERY_TILE = "outside_every_tile"
    INSUFFICIENT_VALID_PIXELS = "insufficient_valid_pixels"
    GSD_TOO_COARSE = "gsd_too_coarse"
    WRONG_BANDS = "wrong_bands"
    ALL_NODATA = "all_nodata"


@dataclass(frozen=True, slots=True)
class PatchPixels:
    """What one file holds of one patch.

    ``pixels`` ``(3, h, w)`` uint8 is the patch's window of the tile's hr_px image, north up, or None where
    ``refusal`` says why not. ``tile`` (its index in the plan) and ``patch`` are None only where the file as a
    whole lies outside every tile. ``valid_fraction`` counts the patch's part inside the LR raster; ``gsd_m``
    is the file's own.
    """

    tile: int | None
    patch: int | None
    pixels: NDArray[np.uint8] | None
    valid_fraction: float
    gsd_m: float
    refusal: Refusal | None = None


def patch_window(patch: int, hr_px: int, grid: int = GRID) -> tuple[int, int, int, int]:
    """``(row0, row1, col0, col1)`` of a patch in the tile's hr_px image: as in ``models.grid.edges``."""
    # halves go up
    edges = [(2 * k * hr_px + grid) // (2 * grid) for k in range(grid + 1)]
    row, col = divmod(patch, grid)
    return edges[row], edges[row + 1], edges[col], edges[col + 1]


def read_hr_patches(
    path: Path,
    info: RasterInfo,
    tiles: Sequence[Tile],
    crs_wkt: str,
    hr_px: int,
    scaling: Scaling | None = None,
    wanted: Sequence[str] = RGB,
    bands: Sequence[int] | None = None,
) -> Iterator[PatchPixels]:
    """Every patch of the plan that the file touches, one by one, in the plan's order.

    ``tiles`` and ``crs_wkt`` are the plan's, ``info`` is the file's own (from ``inspect``), ``scaling`` the
    plan's for this sensor (None: from this file). A patch that the file only grazes, as the corners of a
    warped file do its neighbours, is passed over, unless the file holds nothing else. Raises TruncatedRaster.
    """
    cells = _touched(info, tiles, crs_wkt)
    if not cells:
        yield PatchPixels(None, None, None, 0.0, info.gsd_m, Refusal.OUTSIDE_EVERY_TILE)
        return
    try:
        chosen, _ = choose_bands(info, wanted, bands)
    except BadBands:
        for tile, patch, _, _ in cells:
            yield PatchPixels(tile.index, patch, None, 0.0, info.gsd_m, Refusal.WRONG_BANDS)
        return
    scaling = scaling or value_scaling(path, info, chosen)
    grazed: list[PatchPixels] = []
    found_any = False
    with open_tiff(path) as dataset:
        for _, of_tile in groupby(cells, key=lambda cell: cell[0].index):
            together = list(of_tile)
            patches = _read_tile(dataset, info, chosen, scaling, together, crs_wkt, hr_px)
            for (_, _, _, outlined), read in zip(together, patches, strict=True):
                empty = read.refusal is not None and read.refusal is not Refusal.GSD_TOO_COARSE
                if empty and read.valid_fraction < _SLIVER and outlined < MIN_VALID:
                    grazed.append(read)
                    continue
                found_any = True
                yield read
    if not found_any:
        yield from grazed


Cell = tuple[Tile, int, shapely.Polygon, float]
"""A tile, a patch, the patch's part inside the LR raster, and the share of it the file's outline takes."""


def _touched(info: RasterInfo, tiles: Sequence[Tile], crs_wkt: str) -> list[Cell]:
    """Patches (their part inside the LR raster) of which the file's outline takes more than a sliver."""
    if not tiles:
        return []
    boxes = np.array([tile.clipped for tile in tiles])
    middle = (boxes[:, 0].min() + boxes[:, 2].max()) / 2
    outline = _outline(info, crs_wkt, float(middle))
    if outline is None:
        return []
    west, south, east, north = outline.bounds
    near = (boxes[:, 0] < east) & (boxes[:, 2] > west) & (boxes[:, 1] < north) & (boxes[:, 3] > south)
    shapely.prepare(outline)
    cells: list[Cell] = []
    for i in np.flatnonzero(near).tolist():
        for patch, ring in enumerate(patch_rings(tiles[i])):
            if ring is None:
                continue
            shape = shapely.Polygon(ring)
            outlined = outline.intersection(shape).area / shape.area
            if outlined > _SLIVER:
                cells.append((tiles[i], patch, shape, outlined))
    return cells


def _outline(info: RasterInfo, crs_wkt: str, near_x: float) -> shapely.Polygon | None:
    """The file's edge in the plan's CRS; None where that CRS has no place for it."""
    t = np.arange(_EDGE_POINTS) / _EDGE_POINTS
    corners = np.array(info.outline)
    ends = np.roll(corners, -1, axis=0)
    ring: Floats = (corners[:, None] + (ends - corners)[:, None] * t[None, :, None]).reshape(-1, 2)
    x, y = project(info.crs_wkt, crs_wkt, ring[:, 0], ring[:, 1], near_x)
    good = np.isfinite(x) & np.isfinite(y)
    if good.sum() < 3:
        return None
    shape = shapely.make_valid(shapely.Polygon(np.column_stack([x[good], y[good]])))
    return shape if shape.area > 0 else None


def _read_tile(
    dataset: Any,
    info: RasterInfo,
    bands: tuple[int, ...],
    scaling: Scaling,
    cells: Sequence[Cell],
    crs_wkt: str,
    hr_px: int,
) -> Iterator[PatchPixels]:
    """Patches of one tile. Where nothing is warped they are resampled together, in half the time."""
    tile = cells[0][0]
    windows = [patch_window(patch, hr_px) for _, patch, _, _ in cells]
    top, left = min(w[0] for w in windows), min(w[2] for w in windows)
    bottom, right = max(w[1] for w in windows), max(w[3] for w in windows)
    grid = Grid(tile_grid(tile, hr_px), hr_px, hr_px, crs_wkt)
    around = grid.part(top, bottom, left, right)
    if coarseness(info, around) > MAX_COARSER * _ROUNDING:
        for _, patch, _, _ in cells:
            yield PatchPixels(tile.index, patch, None, 0.0, info.gsd_m, Refusal.GSD_TOO_COARSE)
        return
    together = resample(dataset, info, bands, around) if along_axes(info, grid) else None
    for (_, patch, inside, _), (row0, row1, col0, col1) in zip(cells, windows, strict=True):
        part = grid.part(row0, row1, col0, col1)
        if together is None:
            values, cover = resample(dataset, info, bands, part, samples=4)
        else:
            there = slice(row0 - top, row1 - top), slice(col0 - left, col1 - left)
            values, cover = together[0][:, *there], together[1][there]
        yield _patch(info, scaling, tile, patch, _counted(part, inside), values, cover)


def _patch(
    info: RasterInfo,
    scaling: Scaling,
    tile: Tile,
    patch: int,
    counted: NDArray[np.float64],
    values: NDArray[np.float32],
    cover: NDArray[np.float32],
) -> PatchPixels:
    share = float(np.minimum(cover, counted).sum() / counted.sum()) if counted.any() else 0.0
    if share < MIN_VALID:
        why = Refusal.INSUFFICIENT_VALID_PIXELS if share > 0 else Refusal.ALL_NODATA
        return PatchPixels(tile.index, patch, None, share, info.gsd_m, why)
    return PatchPixels(tile.index, patch, shown(values, cover, scaling), share, info.gsd_m)


def coarseness(info: RasterInfo, grid: Grid) -> float:
    """The longer side of the file's pixel, at the grid's middle, in pixels of the grid."""
    t = grid.transform
    u, v = grid.width / 2, grid.height / 2
    x, y = project(
        grid.crs_wkt, info.crs_wkt, [t.a * u + t.b * v + t.c], [t.d * u + t.e * v + t.f], info.centre[0]
    )
    a, b, _, d, e, _ = info.transform
    steps_x, steps_y = x[0] + np.array([0, a, b]), y[0] + np.array([0, d, e])
    back_x, back_y = project(info.crs_wkt, grid.crs_wkt, steps_x, steps_y, t.c)
    sides = np.hypot(np.diff(back_x[[0, 1, 0, 2]])[::2] / t.a, np.diff(back_y[[0, 1, 0, 2]])[::2] / t.e)
    return float(np.max(sides)) if np.isfinite(sides).all() else float("inf")


def _counted(grid: Grid, inside: shapely.Polygon) -> NDArray[np.float64]:
    """The share of each pixel that lies in the patch's part inside the LR raster, ``(h, w)``."""
    t = grid.transform
    xs = t.c + t.a * np.arange(grid.width + 1)
    ys = t.f + t.e * np.arange(grid.height + 1)
    west, south, east, north = inside.bounds
    if shapely.box(west, south, east, north).equals(inside):
        return np.outer(_overlap(ys, south, north), _overlap(xs, west, east))
    pixels = shapely.box(xs[None, :-1], ys[:-1, None], xs[None, 1:], ys[1:, None])
    return np.asarray(shapely.area(shapely.intersection(pixels, inside)) / abs(t.a * t.e), float)


def _overlap(edges: NDArray[np.floating], low: float, high: float) -> Floats:
    a, b = np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:])
    return np.asarray(np.maximum(np.minimum(b, high) - np.maximum(a, low), 0) / (b - a), float)
