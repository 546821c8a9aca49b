"""Orders anybody would think of, kept beside the clever one: a polygon a patch, a polygon a tile."""

from collections.abc import Iterable, Sequence

import numpy as np
import shapely

from app.orderable.cells import Cell
from app.orderable.ground import areas_km2, shapes
from app.orderable.pieces import Group, components, members_of, shared_edges
from app.orderable.shapes import Shape, ShapeMaker, fill, join, tidy


def cheaper_plain(
    maker: ShapeMaker, groups: Sequence[Group], cells: Sequence[Cell], others: Sequence[Cell]
) -> list[Group] | None:
    """A plain order that is legal and cheaper than ``groups``, if there is one (members are left empty)."""
    best = sum(group.shape.charged for group in groups) * (1 - 1e-12)
    found = None
    for polygons in (_patches(cells), _tiles(cells, others), _plans(cells, others)):
        shapes_ = _legal(maker, polygons, best)
        if shapes_ is not None:
            best = sum(shape.charged for shape in shapes_)
            found = [Group(np.zeros(0, np.int64), shape, shape.polygon, shape.area) for shape in shapes_]
    return found


def _legal(maker: ShapeMaker, polygons: Sequence[shapely.Geometry], under: float) -> list[Shape] | None:
    areas = areas_km2(shapes(polygons))
    charged = np.maximum(areas, maker.minimum)
    if not len(areas) or charged.sum() >= under or (maker.refused and (areas < maker.minimum).any()):
        return None
    if not all(maker.allows(polygon) for polygon in polygons):
        return None
    return [
        Shape(polygon, float(area), float(cost))
        for polygon, area, cost in zip(polygons, areas, charged, strict=True)
    ]


def _patches(cells: Sequence[Cell]) -> list[shapely.Geometry]:
    return list(shapely.get_parts(shapes([cell.polygon for cell in cells])))


def _tiles(cells: Sequence[Cell], others: Sequence[Cell]) -> list[shapely.Geometry]:
    """Each tile of which a patch is wanted, whole as far as its patches are known."""
    wanted = {(cell.plan_id, cell.tile) for cell in cells}
    of_tile: dict[object, dict[int, shapely.Geometry]] = {tile: {} for tile in wanted}
    for cell in (*cells, *others):
        if (cell.plan_id, cell.tile) in of_tile:
            of_tile[cell.plan_id, cell.tile][cell.patch] = cell.polygon
    return _outlines(list(patches.values()) for patches in of_tile.values())


def _plans(cells: Sequence[Cell], others: Sequence[Cell]) -> list[shapely.Geometry]:
    """The whole ground around the wanted patches, as far as patches touch."""
    every = list({cell.id: cell for cell in (*cells, *others)}.values())
    if len(every) == len(cells):
        return []
    polygons = shapes([cell.polygon for cell in every])
    parts, owner = shapely.get_parts(polygons, return_index=True)
    names = {cell.id for cell in cells}
    wanted = np.array([every[i].id in names for i in owner])
    label = components(len(parts), shared_edges(parts))
    return _outlines(list(parts[members]) for members in members_of(label) if wanted[members].any())


def _outlines(groups: Iterable[list[shapely.Geometry]]) -> list[shapely.Geometry]:
    found = []
    for polygons in groups:
        union = join(shapely.get_parts(shapes(polygons)))
        found += [tidy(fill(part)) for part in shapely.get_parts(union)]
    return found
