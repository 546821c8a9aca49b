"""Orders anybody would think of, kept beside the clever one: a polygon a patch, a polygon a tile."""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import shapely

from app.orderable.cells import Cell
from app.orderable.ground import Floats, areas_km2, shapes
from app.orderable.pieces import Group, components, members_of, shared_edges
from app.orderable.shapes import Shape, ShapeMaker, fill, join, tidy

# areas of patches agree with those of polygons over them to so much
_MEASURED: Final = 1 - 1e-6
# corners that go from straight lines change an area by as much
_CHEAPER: Final = 1 - 5e-8


def cheaper_plain(
    maker: ShapeMaker, groups: Sequence[Group], cells: Sequence[Cell], others: Sequence[Cell]
) -> list[Group] | None:
    """A plain order that is legal and cheaper than ``groups``, if there is one (members are left empty)."""
    best = sum(group.shape.charged for group in groups) * _CHEAPER
    found = None
    for plain in (_patches, _tiles, _plans):
        shapes_ = _legal(maker, plain(maker, cells, others, best), best)
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


def _too_dear(maker: ShapeMaker, areas: Floats, under: float) -> bool:
    """Whether polygons over so much ground each (km²) cost too much, whatever they look like."""
    return float(np.maximum(areas, maker.minimum).sum()) * _MEASURED >= under


def _areas(cells: Sequence[Cell]) -> Floats:
    return np.array([float(cell.area_km2) for cell in cells])


def _patches(
    maker: ShapeMaker, cells: Sequence[Cell], _others: Sequence[Cell], under: float
) -> Sequence[shapely.Geometry]:
    if _too_dear(maker, _areas(cells), under):
        return []
    return list(shapely.get_parts(shapes([cell.polygon for cell in cells])))


def _tiles(
    maker: ShapeMaker, cells: Sequence[Cell], others: Sequence[Cell], under: float
) -> Sequence[shapely.Geometry]:
    """Each tile of which a patch is wanted, whole as far as its patches are known."""
    of_tile: dict[object, dict[int, Cell]] = {(cell.plan_id, cell.tile): {} for cell in cells}
    for cell in (*cells, *others):
        patches = of_tile.get((cell.plan_id, cell.tile))
        if patches is not None:
            patches[cell.patch] = cell
    areas = [sum(float(cell.area_km2) for cell in patches.values()) for patches in of_tile.values()]
    if _too_dear(maker, np.array(areas), under):
        return []
    return _outlines([cell.polygon for cell in patches.values()] for patches in of_tile.values())


def _plans(
    maker: ShapeMaker, cells: Sequence[Cell], others: Sequence[Cell], under: float
) -> Sequence[shapely.Geometry]:
    """The whole ground around the wanted patches, as far as patches touch."""
    if _too_dear(maker, np.array([_areas(cells).sum()]), under):
        return []
    every = [*cells, *others]
    parts, owner = shapely.get_parts(shapes([cell.polygon for cell in every]), return_index=True)
    label = components(len(parts), shared_edges(parts))
    wanted = np.zeros(len(parts), dtype=bool)
    wanted[label[owner < len(cells)]] = True
    share = _areas(every) / np.maximum(np.bincount(owner, minlength=len(every)), 1)
    ground: Floats = np.bincount(label, share[owner], minlength=len(parts))[wanted].astype(float)
    if _too_dear(maker, ground, under):
        return []
    return _outlines(list(parts[members]) for members in members_of(label) if wanted[label[members[0]]])


def _outlines(groups: Iterable[list[shapely.Geometry]]) -> list[shapely.Geometry]:
    found = []
    for polygons in groups:
        union = join(shapely.get_parts(shapes(polygons)))
        found += [tidy(fill(part)) for part in shapely.get_parts(union)]
    return found
