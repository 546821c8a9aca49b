"""How much ground each patch covers: what a price per km2 is multiplied with."""

from collections.abc import Iterator, Sequence
from decimal import Decimal

import numpy as np
import shapely

from app.rasters.ground import ring_areas_m2
from app.rasters.info import Bounds
from app.rasters.tiles import GRID, SLIVER, Tile, clip_patch, patch_bounds

BATCH = 500


def patch_areas_km2(tile: Tile, crs_wkt: str, clip: bool = True, grid: int = GRID) -> tuple[Decimal, ...]:
    """True ellipsoidal areas (WGS 84) of the tile's patches in km2, unrounded, by patch id.

    ``clip`` counts only what lies inside the raster: 0 for a patch wholly beyond its edge.
    """
    return next(plan_areas_km2([tile], crs_wkt, clip, grid))


def plan_areas_km2(
    tiles: Sequence[Tile], crs_wkt: str, clip: bool = True, grid: int = GRID
) -> Iterator[tuple[Decimal, ...]]:
    """``patch_areas_km2`` of many tiles, in their order, hundreds at a time (10,000 tiles take seconds)."""
    for start in range(0, len(tiles), BATCH):
        batch = tiles[start : start + BATCH]
        cells = [shape for tile in batch for shape in patch_rings(tile, clip, grid)]
        areas = _areas_m2(crs_wkt, cells)
        for i in range(len(batch)):
            of_tile = areas[i * grid * grid : (i + 1) * grid * grid]
            yield tuple(Decimal(repr(area)).scaleb(-6) for area in of_tile)


Ring = tuple[tuple[float, float], ...]


def patch_rings(tile: Tile, clip: bool = True, grid: int = GRID) -> list[Ring | None]:
    """Each patch as a ring of corners in CRS units, not closed; None where clipping leaves nothing."""
    ids = range(grid * grid)
    if not clip:
        return [box_ring(patch_bounds(tile, p, grid)) for p in ids]
    boxes = [clip_patch(tile, p, grid) for p in ids]
    if tile.outline is None:
        return [None if box is None else box_ring(box) for box in boxes]
    raster = shapely.Polygon(tile.outline)
    return [None if box is None else _cut(box, raster) for box in boxes]


def box_ring(box: Bounds) -> Ring:
    xmin, ymin, xmax, ymax = box
    return ((xmin, ymin), (xmax, ymin), (xmax, ymax), (xmin, ymax))


def _cut(box: Bounds, raster: shapely.Polygon) -> Ring | None:
    part = shapely.box(*box).intersection(raster)
    whole = (box[2] - box[0]) * (box[3] - box[1])
    if part.geom_type != "Polygon" or part.area < SLIVER * whole:
        return None
    return tuple((x, y) for x, y in shapely.geometry.polygon.orient(part).exterior.coords[:-1])


def _areas_m2(crs_wkt: str, rings: Sequence[Ring | None]) -> list[float]:
    areas = np.zeros(len(rings))
    by_corners: dict[int, list[tuple[int, Ring]]] = {}
    for i, ring in enumerate(rings):
        if ring is not None:
            by_corners.setdefault(len(ring), []).append((i, ring))
    for members in by_corners.values():
        areas[[i for i, _ in members]] = ring_areas_m2(crs_wkt, [ring for _, ring in members])
    return [float(a) for a in areas]
