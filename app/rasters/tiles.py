"""Tiles and patches: which rectangles of a raster's CRS a plan is made of.

A tile is a rectangle in the CRS of the LR raster; a patch is an exact quarter by quarter of it, cut in
coordinates and never snapped to pixels. Tiles of a plan and patches of a tile share their edges bit for bit.
"""

from dataclasses import asdict, dataclass
from math import ceil, isfinite
from typing import Any, Self

import numpy as np
import shapely
from affine import Affine

from app.core.errors import BadValues, RasterTooLarge
from app.rasters.ground import handedness, lonlat, metres_per_unit
from app.rasters.info import Bounds, Point, RasterInfo

GRID = 4
MAX_TILES = 10_000
MAX_TILE_M = 20_000_000.0

SLIVER = 1e-6
"""What is left of a patch by less than this share of its side is rounding: nobody can deliver it."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One place seen once.

    ``row`` 0 is the raster's northernmost row of tiles, ``col`` 0 the column at its left when north is up.
    ``bounds`` is the whole tile and may reach over the raster's edge, ``clipped`` its box within the raster,
    both ``(xmin, ymin, xmax, ymax)`` in CRS units. ``outline`` holds the raster's corners where it is rotated
    against its CRS. ``valid_fraction`` is the tile's share inside the raster as cut, and after reading its
    share of valid pixels. ``north_up``: latitude grows with y; ``east_right``: the network's image is drawn
    with x growing to the right (False where the tile has to be turned to have north up).
    """

    index: int
    row: int
    col: int
    bounds: Bounds
    clipped: Bounds
    valid_fraction: float = 1.0
    north_up: bool = True
    east_right: bool = True
    outline: tuple[Point, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        outline = values.get("outline")
        return cls(
            **values
            | {
                "bounds": tuple(values["bounds"]),
                "clipped": tuple(values["clipped"]),
                "outline": None if outline is None else tuple((p[0], p[1]) for p in outline),
            }
        )


def cut_tiles(info: RasterInfo, tile_size_m: float | None = None, max_tiles: int = MAX_TILES) -> list[Tile]:
    """The tiles of a raster, row by row from the north.

    None makes the whole raster one tile; otherwise tiles have sides of ``tile_size_m`` ellipsoidal metres,
    measured along the CRS's axes at the raster's centre, starting in the corner with the raster's north and
    left. Raises BadValues for a size that is not a useful number, RasterTooLarge for more than ``max_tiles``.
    """
    north_up, east_right = _orientation(info)
    xmin, ymin, xmax, ymax = info.bounds
    width, height = xmax - xmin, ymax - ymin
    if tile_size_m is not None:
        width, height = _tile_units(info, tile_size_m)
    columns, rows = _count(xmax - xmin, width), _count(ymax - ymin, height)
    if columns * rows > max_tiles:
        raise RasterTooLarge(
            f"Tiles of {tile_size_m:g} m make {columns} x {rows} of them; one plan holds {max_tiles}.",
            tiles=columns * rows,
        )
    xs = _edges(xmin, xmax, width, columns, forward=east_right, exact=tile_size_m is None)
    ys = _edges(ymin, ymax, height, rows, forward=not north_up, exact=tile_size_m is None)
    cells = [
        (
            row,
            col,
            (min(xs[col : col + 2]), min(ys[row : row + 2]), max(xs[col : col + 2]), max(ys[row : row + 2])),
        )
        for row in range(rows)
        for col in range(columns)
    ]
    return _make(info, cells)


def _tile_units(info: RasterInfo, tile_size_m: float) -> tuple[float, float]:
    if not isfinite(tile_size_m) or not 0 < tile_size_m <= MAX_TILE_M:
        raise BadValues(f"tile_size_m must be above 0 and at most {MAX_TILE_M:.0f} metres.")
    if tile_size_m < GRID * info.gsd_m * 0.999:
        raise BadValues(
            f"tile_size_m {tile_size_m:g} is less than {GRID} pixels of this raster ({info.gsd_m:.3g} m)."
        )
    x_m, y_m = metres_per_unit(info.crs_wkt, *info.centre)
    return tile_size_m / x_m, tile_size_m / y_m


def _count(length: float, tile: float) -> int:
    # a raster that is a whole number of tiles wide must not grow one more by rounding
    return max(1, ceil(length / tile - 1e-6))


def _edges(low: float, high: float, step: float, n: int, *, forward: bool, exact: bool) -> list[float]:
    if exact:
        return [low, high] if forward else [high, low]
    start, sign = (low, 1) if forward else (high, -1)
    return [start + sign * step * k for k in range(n + 1)]


def _orientation(info: RasterInfo) -> tuple[bool, bool]:
    _, ymin, xmax, ymax = info.bounds
    x, y = info.centre
    _, lat = lonlat(info.crs_wkt, [x, x], [ymin, ymax])
    north_up = bool(lat[1] >= lat[0] - 1e-9)
    # away from the centre, which may be a pole
    turned = handedness(info.crs_wkt, x + (xmax - x) * 0.37, y + (ymax - y) * 0.41)
    return north_up, turned == north_up


def _make(info: RasterInfo, cells: list[tuple[int, int, Bounds]]) -> list[Tile]:
    bounds = np.array([c[2] for c in cells])
    low, high = np.array(info.bounds[:2]), np.array(info.bounds[2:])
    clipped = np.concatenate([np.maximum(bounds[:, :2], low), np.minimum(bounds[:, 2:], high)], axis=1)
    whole = np.prod(bounds[:, 2:] - bounds[:, :2], axis=1)
    inside = np.prod(np.maximum(clipped[:, 2:] - clipped[:, :2], 0), axis=1)
    outline = None
    if not info.axis_aligned:
        outline = info.outline
        shape = shapely.Polygon(outline)
        inside = shapely.area(shapely.intersection(shapely.box(*clipped.T), shape))
    middle = clipped[:, [0, 2]].mean(axis=1)
    _, lat = lonlat(info.crs_wkt, np.stack([middle, middle]), clipped[:, [1, 3]].T)
    north_up = lat[1] >= lat[0] - 1e-9
    turned = _orientation(info)
    right_handed = turned[0] == turned[1]
    fractions = np.clip(inside / whole, 0, 1)
    kept = [i for i in range(len(cells)) if inside[i] > 0]
    return [
        Tile(
            index=index,
            row=cells[i][0],
            col=cells[i][1],
            bounds=cells[i][2],
            clipped=(clipped[i, 0].item(), clipped[i, 1].item(), clipped[i, 2].item(), clipped[i, 3].item()),
            valid_fraction=float(fractions[i]),
            north_up=bool(north_up[i]),
            east_right=bool(north_up[i]) == right_handed,
            outline=outline,
        )
        for index, i in enumerate(kept)
    ]


def patch_bounds(tile: Tile, patch_id: int, grid: int = GRID) -> Bounds:
    """The exact cell of a patch in CRS units; id row-major, row 0 northernmost. Raises ValueError outside."""
    if not 0 <= patch_id < grid * grid:
        raise ValueError(f"patch {patch_id} is not one of 0..{grid * grid - 1}")
    row, col = divmod(patch_id, grid)
    xmin, ymin, xmax, ymax = tile.bounds
    x0, x1 = _quarter(xmin, xmax, col if tile.east_right else grid - 1 - col, grid)
    y0, y1 = _quarter(ymin, ymax, grid - 1 - row if tile.north_up else row, grid)
    return (x0, y0, x1, y1)


def _quarter(low: float, high: float, k: int, grid: int) -> tuple[float, float]:
    def edge(i: int) -> float:
        return high if i == grid else low + (high - low) * i / grid

    return edge(k), edge(k + 1)


def clip_patch(tile: Tile, patch_id: int, grid: int = GRID) -> Bounds | None:
    """The patch's box within the raster's bounds, None where nothing but a ``SLIVER`` is left of it."""
    p, c = patch_bounds(tile, patch_id, grid), tile.clipped
    box = (max(p[0], c[0]), max(p[1], c[1]), min(p[2], c[2]), min(p[3], c[3]))
    wide, tall = (box[2] - box[0]) / (p[2] - p[0]), (box[3] - box[1]) / (p[3] - p[1])
    return box if min(wide, tall) >= SLIVER else None


def tile_grid(tile: Tile, px: int) -> Affine:
    """Pixel positions of the tile's own px by px image (row 0 north) to CRS coordinates."""
    xmin, ymin, xmax, ymax = tile.bounds
    dx, dy = (xmax - xmin) / px, (ymax - ymin) / px
    x = (dx, xmin) if tile.east_right else (-dx, xmax)
    y = (-dy, ymax) if tile.north_up else (dy, ymin)
    return Affine(x[0], 0, x[1], 0, y[0], y[1])


def tile_sides_m(tile: Tile, crs_wkt: str) -> tuple[float, float]:
    """The tile's width and height in ellipsoidal metres, measured at the middle of its part in the raster."""
    xmin, ymin, xmax, ymax = tile.clipped
    x_m, y_m = metres_per_unit(crs_wkt, (xmin + xmax) / 2, (ymin + ymax) / 2)
    return (tile.bounds[2] - tile.bounds[0]) * x_m, (tile.bounds[3] - tile.bounds[1]) * y_m
