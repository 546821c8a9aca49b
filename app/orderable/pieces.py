"""Which patches lie beside each other, and the fewest outlines they can be ordered in without any loss."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray

from app.orderable.ground import Floats, Shapes, areas_km2
from app.orderable.legal import vertices
from app.orderable.shapes import Shape, ShapeMaker, join, join_each, straight

Ints = NDArray[np.int64]

_LOSSLESS: Final = 1 + 1e-9


@dataclass(frozen=True)
class Group:
    """Pieces (their numbers, rising), the ground they cover, and the polygon to order for them."""

    members: Ints
    shape: Shape
    ground: shapely.Geometry
    area: float


def shared_edges(polygons: Shapes) -> Ints:
    """Pairs ``(K, 2)`` of polygons that have a whole edge in common."""
    points, of_polygon = shapely.get_coordinates(polygons, return_index=True)
    grid = np.round(points * 1e8).astype(np.int64).astype(np.uint64)
    mixed = _mix(grid[:, 0]) ^ (_mix(grid[:, 1] + np.uint64(0x9E3779B97F4A7C15)) << np.uint64(1))
    mixed = _mix(mixed)
    inside = of_polygon[1:] == of_polygon[:-1]
    # the same from either end
    edge = (mixed[1:] + mixed[:-1])[inside]
    owner = of_polygon[1:][inside]
    order = np.argsort(edge, kind="stable")
    edge, owner = edge[order], owner[order]
    same = edge[1:] == edge[:-1]
    pairs: Ints = np.stack([owner[:-1][same], owner[1:][same]], axis=1)
    return np.asarray(pairs[pairs[:, 0] != pairs[:, 1]], np.int64)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers so well stirred that the sum of two tells the pair (splitmix64's last step)."""
    v = values.copy()
    v ^= v >> np.uint64(30)
    v *= np.uint64(0xBF58476D1CE4E5B9)
    v ^= v >> np.uint64(27)
    v *= np.uint64(0x94D049BB133111EB)
    return v ^ (v >> np.uint64(31))


def components(count: int, pairs: Ints) -> Ints:
    """For each of ``count`` things the smallest number it is joined with over ``pairs``."""
    label = np.arange(count)
    while len(pairs):
        low = np.minimum(label[pairs[:, 0]], label[pairs[:, 1]])
        before = label.copy()
        np.minimum.at(label, pairs[:, 0], low)
        np.minimum.at(label, pairs[:, 1], low)
        np.minimum.at(label, before, label)
        label = label[label]
        if np.array_equal(label, before):
            break
    return label


def members_of(label: Ints) -> list[Ints]:
    """The numbers under each label, rising, ordered by their first."""
    order = np.argsort(label, kind="stable")
    cuts = np.flatnonzero(np.diff(label[order])) + 1
    return np.split(order, cuts) if len(order) else []


def outlines(maker: ShapeMaker, polygons: Shapes, sides: Floats) -> tuple[list[Group], list[Group]]:
    """Pieces joined to groups that cost no more than their ground or the minimum, and larger groups.

    The first list has every piece once; the second holds what was too lossy for one polygon (holes, corners,
    dents) as a whole: it may yet be the cheaper choice. A piece that has no legal polygon is in neither.
    """
    pairs = shared_edges(polygons)
    whole, unions = _outermost(polygons, members_of(components(len(polygons), pairs)))
    # before areas are measured: what is charged is the outline as it is delivered
    unions = _lean(unions)
    leaves: list[Group] = []
    lossy: list[Group] = []
    pending: list[tuple[Ints, shapely.Geometry]] = []
    for members, union, area in zip(whole, unions, areas_km2(unions), strict=True):
        quick = _as_it_is(maker, union, float(area))
        if quick is not None:
            leaves.append(Group(members, quick, union, float(area)))
        else:
            pending.append((members, union))
    while pending:
        members, union = pending.pop()
        if maker.cuts_free and len(members) > 1:
            # a cut costs nothing, a lossy polygon does
            halves = list(_halves(polygons, members, pairs))
            joined = _lean(join_each(polygons, halves))
            for half, one, area in zip(halves, joined, areas_km2(joined), strict=True):
                quick = _as_it_is(maker, one, float(area))
                if quick is None:
                    pending.append((half, one))
                else:
                    leaves.append(Group(half, quick, one, float(area)))
            continue
        shape = maker.best(polygons[members], float(sides[members].min()), union)
        area = float(areas_km2([union])[0])
        if shape is not None and (len(members) == 1 or shape.charged <= max(maker.minimum, area) * _LOSSLESS):
            leaves.append(Group(members, shape, union, area))
            continue
        if shape is not None:
            lossy.append(Group(members, shape, union, area))
        if len(members) > 1:
            pending += [(half, join(polygons[half])) for half in _halves(polygons, members, pairs)]
    return leaves, lossy


def _lean(outlines_: Shapes) -> Shapes:
    """Outlines without corners on straight lines, where that adds no ground."""
    fewer = straight(outlines_)
    found: Shapes = np.where(shapely.area(fewer) <= shapely.area(outlines_), fewer, outlines_)
    return found


def _as_it_is(maker: ShapeMaker, union: shapely.Geometry, area: float) -> Shape | None:
    """The outline itself where nothing but its corners has to be counted."""
    rules = maker.rules
    simple = not (rules.convex or maker.width or maker.refused or maker.avoid is not None)
    if not simple or union.geom_type != "Polygon" or (len(union.interiors) and not rules.holes_allowed):
        return None
    if rules.max_vertices is not None and vertices(union) > rules.max_vertices:
        return None
    return Shape(union, area, max(area, maker.minimum))


def _outermost(polygons: Shapes, whole: list[Ints]) -> tuple[list[Ints], Shapes]:
    """The components and their outlines, joined where ground overlaps or part of an edge is common."""
    unions = join_each(polygons, whole)
    one, other = shapely.STRtree(unions).query(unions, predicate="intersects")
    fresh = one < other
    one, other = one[fresh], other[fresh]
    along = shapely.get_dimensions(shapely.intersection(unions[one], unions[other])) >= 1
    if not along.any():
        return whole, unions
    label = components(len(whole), np.stack([one[along], other[along]], axis=1))
    joined = [np.sort(np.concatenate([whole[i] for i in group])) for group in members_of(label)]
    return joined, join_each(polygons, joined)


def _halves(polygons: Shapes, members: Ints, pairs: Ints) -> Iterator[Ints]:
    """The connected parts left and right of the middle of the longer side."""
    middle = shapely.get_coordinates(shapely.centroid(polygons[members]))
    spread = np.ptp(middle, axis=0) * np.array([np.cos(np.radians(middle[0, 1])), 1.0])
    axis = int(np.argmax(spread))
    order = np.argsort(middle[:, axis], kind="stable")
    near = np.zeros(len(members), dtype=bool)
    near[order[: len(members) // 2]] = True
    place = np.full(len(polygons), -1) if len(members) * 20 > len(polygons) else None
    for side in (members[near], members[~near]):
        inside = _within(pairs, side, place)
        yield from (side[part] for part in members_of(components(len(side), inside)))


def _within(pairs: Ints, members: Ints, place: Ints | None) -> Ints:
    """The pairs among ``members``, by their places in it."""
    if place is None:
        keep = np.isin(pairs[:, 0], members) & np.isin(pairs[:, 1], members)
        return np.searchsorted(members, pairs[keep])
    place[:] = -1
    place[members] = np.arange(len(members))
    inside = place[pairs]
    return inside[(inside >= 0).all(axis=1)]
