"""Thousands of patches in polygons of about the right size: windows halved, patches closed up within each.

A window's patches are widened and narrowed again by the same distance (a morphological closing): what lies
closer than twice that distance becomes one polygon, with the width that a vendor asks for. Several distances
are tried, then the window is cut in two, and the cheaper of both is kept: the best of all ways through the
tree of windows, in time that grows with the number of patches and ends when it must.
"""

import math
import time
from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely

from app.orderable import pool
from app.orderable.ground import Floats, Frame, Shapes, areas_km2
from app.orderable.legal import rounded
from app.orderable.pieces import Group, Ints, members_of
from app.orderable.shapes import Shape, ShapeMaker, fill, join, narrowed, tidy

# a window with more patches is only cut, unless its ground is a few polygons of the least size
_LARGEST: Final = 3000
_FEW_MINIMA: Final = 4.0
# a plane with one scale fits so many metres
_WIDEST_M: Final = 50_000.0
# both ways to cut are tried in windows whose ground is at most so many polygons of the least size
_BOTH_WAYS: Final = 6.0
# fewer patches are always looked at one by one
_MANY: Final = 200
_SAME: Final = 1 + 1e-6


@dataclass(frozen=True)
class _Found:
    cost: float
    groups: tuple[Group, ...]


def clusters(maker: ShapeMaker, polygons: Shapes, sides: Floats, stop: float) -> tuple[list[Group], Ints]:
    """Groups over all of ``polygons`` but those no legal polygon can hold (the second value), until ``stop``.

    A group's ground is its polygon.
    """
    search = _Search(maker, polygons, sides)
    found = search.window(np.arange(len(polygons)), stop)
    held = np.zeros(len(polygons), dtype=bool)
    for group in found.groups:
        held[group.members] = True
    return [_as_it_lies(maker, polygons, group) for group in found.groups], np.flatnonzero(~held)


def _as_it_lies(maker: ShapeMaker, polygons: Shapes, group: Group) -> Group:
    """The group under its patches' own outline where that is legal and cheaper: closing widens all edges,
    those of ground that is wide enough too.
    """
    if group.shape.charged <= maker.minimum:
        return group
    outline = join(polygons[group.members])
    if outline.geom_type != "Polygon":
        return group
    shape = maker.judged(tidy(outline if maker.rules.holes_allowed else fill(outline)))
    return group if shape is None or shape.charged >= group.shape.charged else _group(group.members, shape)


class _Search:
    def __init__(self, maker: ShapeMaker, polygons: Shapes, sides: Floats) -> None:
        self.maker, self.polygons, self.sides = maker, polygons, sides
        self.areas = areas_km2(polygons)
        self.boxes = shapely.bounds(polygons)
        self.frame = Frame.around(polygons)

    def window(self, members: Ints, stop: float, *, inside: bool = False) -> _Found:
        """The cheapest groups found for a window's patches; what cannot be held costs nothing."""
        west, south = self.boxes[members, :2].min(axis=0)
        east, north = self.boxes[members, 2:].max(axis=0)
        frame = Frame.at((west + east) / 2, (south + north) / 2)
        spread = ((east - west) * frame.east_m, (north - south) * frame.north_m)
        ground, minimum = float(self.areas[members].sum()), self.maker.minimum
        extent = spread[0] * spread[1] / 1e6
        late = time.monotonic() > stop
        looked = max(spread) < _WIDEST_M and (len(members) <= _LARGEST or extent <= _FEW_MINIMA * minimum)
        whole = self._closed(members, frame, extent, stop, rough=late or not looked)
        if len(members) == 1:
            return whole or _Found(0.0, ())
        # two windows have two polygons at least, and all of the ground
        least = max(ground, 2 * minimum if len(whole.groups) == 1 else minimum) if whole else 0.0
        if whole is not None and (late or whole.cost <= least * _SAME):
            return whole
        axes = [int(np.argmax(spread))]
        if looked and extent <= _BOTH_WAYS * minimum and min(spread) > max(spread) / 4:
            axes.append(1 - axes[0])
        now = time.monotonic()
        best = whole
        if looked and not inside:
            merged = self._merged(members, frame, stop)
            if merged is not None and (best is None or merged.cost < best.cost):
                best = merged
        for at, axis in enumerate(axes):
            end = now + (stop - now) * (at + 1) / len(axes)
            found = self._cut(members, axis, end, inside=looked)
            if best is None or found.cost < best.cost:
                best = found
        return best or _Found(0.0, ())

    def _cut(self, members: Ints, axis: int, stop: float, *, inside: bool) -> _Found:
        one, other = self._halves(members, axis)
        now = time.monotonic()
        first = self.window(one, now + (stop - now) * len(one) / len(members), inside=inside)
        second = self.window(other, stop, inside=inside)
        return _Found(first.cost + second.cost, first.groups + second.groups)

    def _merged(self, members: Ints, frame: Frame, stop: float) -> _Found | None:
        """Neighbouring bins as wide as a polygon must be, joined until each group has the least size."""
        maker = self.maker
        side = float(self.sides[members].min())
        # at a pole a patch may be all edge and no ground
        wide = max(maker.width, side * 1.001, 0.1)
        bins, low, high = self._bins(members, wide)
        if len(bins) < 3:
            return None
        scale = np.array([frame.east_m, frame.north_m])
        low, high = low * scale, high * scale
        spare = np.maximum(maker.width - (high - low), 0.0) / 2
        flat = shapely.box(*(low - spare).T, *(high + spare).T)
        areas = shapely.area(flat) / 1e6
        groups = [
            Group(mine, Shape(box, area, max(area, maker.minimum)), box, area)
            for mine, box, area in zip(bins, flat, areas.tolist(), strict=True)
        ]
        merging = pool.Merging(groups, flat, maker.minimum, wide, convex=maker.rules.convex)
        merging.run(*pool.neighbours(flat))
        found: list[Group] = []
        for top in merging.members.values():
            rows = np.sort(np.concatenate([bins[i] for i in top]))
            mine = members[rows]
            part = self._closed(mine, frame, math.inf, stop, rough=False)
            if part is None:
                return None
            found += part.groups
        return _Found(sum(group.shape.charged for group in found), tuple(found))

    def _halves(self, members: Ints, axis: int) -> tuple[Ints, Ints]:
        """Left and right of the widest gap not far from the middle, or of the middle."""
        low, high = self.boxes[members, axis], self.boxes[members, axis + 2]
        order = np.argsort(low + high, kind="stable")
        n = len(order)
        reached = np.maximum.accumulate(high[order])[:-1]
        ahead = np.minimum.accumulate(low[order][::-1])[::-1][1:]
        near = np.abs(np.arange(1, n) - n / 2) <= max(n / 4, 1)
        gaps = np.where(near, ahead - reached, -np.inf)
        at = int(np.argmax(gaps)) + 1
        if gaps[at - 1] <= 1e-7:
            at = n // 2
        return np.sort(members[order[:at]]), np.sort(members[order[at:]])

    def _closed(
        self, members: Ints, frame: Frame, extent_km2: float, stop: float, *, rough: bool
    ) -> _Found | None:
        """The cheapest of the closings of a window's patches; None where one has no legal polygon."""
        maker, polygons = self.maker, self.polygons[members]
        side = float(self.sides[members].min())
        if rough or len(members) == 1 or extent_km2 * _SAME <= maker.minimum:
            shape = maker.over(shapely.multipolygons(polygons), polygons)
            if shape is None and len(members) == 1:
                shape = maker.best(polygons, side)
            return None if shape is None else _Found(shape.charged, (_group(members, shape),))
        flat = frame.plane(join(self._coarse(members, side)))
        options = sorted(self._closings(flat, side, stop), key=lambda option: option[0])
        best: _Found | None = None
        for estimate, outlines in options:
            if best is not None and estimate >= best.cost:
                break
            found = self._ordered(members, rounded(frame.lonlat(outlines)))
            if found is not None and (best is None or found.cost < best.cost):
                best = found
        return best

    def _coarse(self, members: Ints, side: float) -> Shapes:
        """The patches, or boxes around some of them where single ones make no difference."""
        maker = self.maker
        wide = max((maker.width - side) / 16, float(np.sqrt(maker.minimum * 1e6)) / 30)
        if wide < 2 * side or len(members) < _MANY:
            return self.polygons[members]
        low, high = self._bins(members, wide)[1:]
        found: Shapes = shapely.box(*low.T, *high.T)
        return found

    def _bins(self, members: Ints, wide_m: float) -> tuple[list[Ints], Floats, Floats]:
        """Patches by squares of ``wide_m`` that their middles lie in, and the corners of each bin's box."""
        boxes = self.boxes[members]
        scale = np.array([self.frame.east_m, self.frame.north_m])
        middle = (boxes[:, :2] + boxes[:, 2:]) / 2 * scale
        place = np.floor((middle - middle.min(axis=0)) / wide_m).astype(np.int64)
        bins = members_of(
            np.unique(place[:, 0] * (place[:, 1].max() + 1) + place[:, 1], return_inverse=True)[1]
        )
        low = np.array([boxes[mine, :2].min(axis=0) for mine in bins])
        return bins, low, np.array([boxes[mine, 2:].max(axis=0) for mine in bins])

    def _closings(self, flat: shapely.Geometry, side: float, stop: float) -> "list[tuple[float, Shapes]]":
        """What each distance leaves, with an estimate of what is charged for it."""
        maker = self.maker
        spare = max(maker.width - side, 0.0) / 2
        found: list[tuple[float, Shapes]] = []
        wide, reached = flat, 0.0
        for radius in _radii(maker, side, spare):
            if found and time.monotonic() > stop:
                break
            # from step to step: what has grown together has fewer corners
            while reached < radius:
                step = min(max(reached, side, radius / 64), radius - reached)
                wide, reached = shapely.buffer(wide, step, join_style="mitre"), reached + step
            parts = shapely.get_parts(narrowed(wide, radius - spare))
            if maker.rules.convex:
                parts = shapely.convex_hull(parts)
            elif not maker.rules.holes_allowed:
                parts = shapely.polygons(shapely.get_exterior_ring(parts))
            estimate = float(np.maximum(shapely.area(parts) / 1e6, maker.minimum).sum())
            found.append((estimate, parts))
            if len(parts) == 1 and len(shapely.get_rings(parts[0])) == 1 and maker.rules.max_vertices is None:
                break
        return found

    def _ordered(self, members: Ints, outlines: Shapes) -> _Found | None:
        polygons = self.polygons[members]
        tree = shapely.STRtree(outlines)
        cell, of = tree.query(shapely.point_on_surface(polygons), predicate="intersects")
        owner = np.full(len(members), -1)
        owner[cell[::-1]] = of[::-1]
        if (owner < 0).any():
            return None
        groups: list[Group] = []
        for number, outline in enumerate(outlines):
            mine = owner == number
            if not mine.any():
                continue
            shape = self.maker.over(outline, polygons[mine])
            if shape is None:
                return None
            groups.append(_group(members[mine], shape))
        return _Found(sum(group.shape.charged for group in groups), tuple(groups))


def _radii(maker: ShapeMaker, side: float, spare: float) -> list[float]:
    """From patches that touch to patches that a square of the least size could hold together."""
    low = max(spare, side / 16)
    high = max(float(np.sqrt(maker.minimum * 1e6)) / 2, maker.width, side)
    found = [low]
    for radius in sorted([side * 0.55, max(maker.width, side) * 0.8, high / 4, high / 2, high]):
        if radius > found[-1] * 1.25:
            found.append(radius)
    return found


def _group(members: Ints, shape: Shape) -> Group:
    return Group(np.sort(members), shape, shape.polygon, shape.area)


__all__ = ["clusters"]
