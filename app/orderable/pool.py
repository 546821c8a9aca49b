"""Groups worth considering: neighbours merged as long as that saves, and windows of the minimum's size."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Final

import numpy as np
import shapely

from app.orderable.ground import Floats, Frame, Shapes, shapes
from app.orderable.pieces import Group, Ints

# every subset is looked at up to here: 255 groups
EXHAUSTIVE: Final = 8
# all pairs up to here, the edges of the Delaunay triangulation above
_ALL_PAIRS: Final = 40
# all growing groups of so many outlines, only the last ones of more
_FEW: Final = 24
_NEAREST: Final = 3
_CIRCLE: Final = 6
_ASPECTS: Final = (1.0, 2.0, 0.5)


def neighbours(flat: Shapes) -> tuple[Ints, Floats]:
    """Pairs ``(K, 2)`` of outlines (metres) that lie next to each other, and the gaps between them."""
    n = len(flat)
    if n <= _ALL_PAIRS:
        pairs = np.array(list(combinations(range(n), 2)), dtype=np.int64).reshape(-1, 2)
    else:
        pairs = _delaunay(flat)
    return pairs, np.asarray(shapely.distance(flat[pairs[:, 0]], flat[pairs[:, 1]]), float)


def _delaunay(flat: Shapes) -> Ints:
    middle = np.round(shapely.get_coordinates(shapely.centroid(flat)), 6)
    places, first = np.unique(middle, axis=0, return_index=True)
    edges = shapely.delaunay_triangles(shapely.multipoints(places), only_edges=True)
    ends = np.round(shapely.get_coordinates(shapely.get_parts(edges)), 6).reshape(-1, 2)
    number = {place: int(at) for place, at in zip(map(tuple, places.tolist()), first, strict=True)}
    found = [number.get(tuple(end), -1) for end in ends.tolist()]
    pairs = np.array(found, dtype=np.int64).reshape(-1, 2)
    along = np.argsort(middle[:, 0] + middle[:, 1] * 1e-3, kind="stable")
    chain = np.stack([along[:-1], along[1:]], axis=1)
    pairs = np.sort(np.concatenate([pairs[(pairs >= 0).all(axis=1)], chain]), axis=1)
    return np.unique(pairs, axis=0)


class Merging:
    """Kruskal's way through the neighbours, nearest first, merging where that costs less than apart.

    Areas of groups are estimates: the smaller of the bounding box and the parts plus corridors between them;
    for a ``convex`` product that of the hull.
    """

    def __init__(
        self, groups: Sequence[Group], flat: Shapes, minimum: float, width_m: float, *, convex: bool
    ) -> None:
        self.parent = list(range(len(groups)))
        self.members: dict[int, list[int]] = {i: [i] for i in range(len(groups))}
        self.area = [group.area for group in groups]
        self.charged = [group.shape.charged for group in groups]
        self.box = shapely.bounds(flat).tolist()
        self.minimum = minimum
        self.width = width_m
        self.hulls: list[shapely.Geometry] | None = list(shapely.convex_hull(flat)) if convex else None
        self.steps: list[list[int]] = []

    def run(self, pairs: Ints, gaps: Floats) -> None:
        """Merge; ``steps`` then holds the members of every group that was passed by, the last ones last."""
        order = np.argsort(gaps, kind="stable")
        for (one, other), gap in zip(pairs[order].tolist(), gaps[order].tolist(), strict=True):
            self._try(self._root(one), self._root(other), gap)
        self.steps += [members for members in self.members.values() if len(members) > 1]

    def _try(self, a: int, b: int, gap: float) -> None:
        if a == b:
            return
        west, south, east, north = (
            f(x, y) for f, x, y in zip((min, min, max, max), self.box[a], self.box[b], strict=True)
        )
        hull = None
        if self.hulls is None:
            corridor = self.area[a] + self.area[b] + gap * self.width / 1e6
            area = min((east - west) * (north - south) / 1e6, corridor)
        else:
            hull = shapely.convex_hull(shapely.geometrycollections([self.hulls[a], self.hulls[b]]))
            area = shapely.area(hull) / 1e6
        charged = max(area, self.minimum)
        if charged >= self.charged[a] + self.charged[b]:
            return
        if charged > self.minimum:
            # what costs no more than the minimum is contained in what comes after it at the same price
            self.steps += [self.members[x] for x in (a, b) if len(self.members[x]) > 1]
        if len(self.members[a]) < len(self.members[b]):
            a, b = b, a
        self.parent[b] = a
        self.members[a] = self.members[a] + self.members.pop(b)
        self.area[a], self.charged[a] = area, charged
        self.box[a] = [west, south, east, north]
        if self.hulls is not None and hull is not None:
            self.hulls[a] = hull

    def _root(self, x: int) -> int:
        while self.parent[x] != x:
            self.parent[x] = self.parent[self.parent[x]]
            x = self.parent[x]
        return x


def windows(flat: Shapes, minimum: float, most: int) -> Iterator[Ints]:
    """What lies in rectangles of the minimum's area whose left and lower edges touch an outline."""
    west, south, east, north = shapely.bounds(flat).T
    n = len(flat)
    # even when corners are rounded, no rectangle shall be over the minimum
    side = np.sqrt(minimum * 1e6) * 0.9999
    anchors = np.arange(n) if n <= most else np.linspace(0, n - 1, most).astype(np.int64)
    for aspect in _ASPECTS:
        wide, high = side * np.sqrt(aspect), side / np.sqrt(aspect)
        for left in anchors.tolist():
            in_x = (west >= west[left] - 1e-6) & (east <= west[left] + wide)
            beside = np.flatnonzero(in_x & (north >= south[left] - high) & (south <= north[left] + high))
            lowest = beside[(south[beside] <= south[left]) & (south[beside] + high >= north[left])]
            for low in lowest[:6].tolist():
                inside = (south[beside] >= south[low] - 1e-6) & (north[beside] <= south[low] + high)
                found = beside[inside]
                if len(found) > 1:
                    yield found


def growths(flat: Shapes, areas: Floats, minimum: float, width_m: float) -> Iterator[Ints]:
    """From each outline, always the next one that costs least ground, to just over the minimum.

    Of many outlines only the last group under the minimum and the first one over it; of few all of them.
    ``areas`` are the outlines' (km²). Nothing where there is no minimum to share.
    """
    n = len(flat)
    gaps = np.asarray(shapely.distance(flat[:, None], flat[None, :]), float)
    west, south, east, north = shapely.bounds(flat).T
    for seed in range(n if minimum > 0 else 0):
        chosen, free = [seed], np.ones(n, dtype=bool)
        free[seed] = False
        area, gap = areas[seed], gaps[seed].copy()
        box = np.array([west[seed], south[seed], east[seed], north[seed]])
        while free.any() and area <= minimum:
            wide = np.maximum(east, box[2]) - np.minimum(west, box[0])
            high = np.maximum(north, box[3]) - np.minimum(south, box[1])
            cost = np.minimum(wide * high / 1e6, area + areas + gap * width_m / 1e6)
            best = int(np.argmin(np.where(free, cost, np.inf)))
            if cost[best] > minimum and n > _FEW and len(chosen) > 1:
                yield np.array(chosen)
            chosen.append(best)
            free[best] = False
            area, gap = float(cost[best]), np.minimum(gap, gaps[best])
            box = np.array(
                [min(box[0], west[best]), min(box[1], south[best]),
                 max(box[2], east[best]), max(box[3], north[best])]
            )  # fmt: skip
            if n <= _FEW or area > minimum or not free.any():
                yield np.array(chosen)


def changes(taken: Sequence[Ints], flat: Shapes) -> Iterator[Ints]:
    """What may be better than the groups ``taken``: two near ones as one, or an outline in the other one."""
    grounds = np.array([shapely.geometrycollections(flat[group]) for group in taken], dtype=object)
    near = np.asarray(shapely.distance(grounds[:, None], grounds[None, :]), float)
    np.fill_diagonal(near, np.inf)
    for a, group in enumerate(taken):
        for b in np.argsort(near[a], kind="stable")[: min(_NEAREST, len(taken) - 1)].tolist():
            if a < b or a not in np.argsort(near[b], kind="stable")[:_NEAREST]:
                yield np.union1d(group, taken[b])
            to_b = np.asarray(shapely.distance(flat[group], grounds[b]), float)
            for row in group[np.argsort(to_b, kind="stable")[:_NEAREST]].tolist():
                yield np.union1d(taken[b], [row])
                if len(group) > 1:
                    yield np.setdiff1d(group, [row])


def circles(flat: Shapes) -> Iterator[Ints]:
    """Each outline with its nearest ones: with every one of them, of few outlines with every two too."""
    n = len(flat)
    gaps = np.asarray(shapely.distance(flat[:, None], flat[None, :]), float)
    np.fill_diagonal(gaps, -1.0)
    nearest = np.argsort(gaps, axis=1, kind="stable")[:, 1 : _CIRCLE + 1].tolist()
    for size in (1, 2) if n <= _ALL_PAIRS else (1,):
        for one, near in enumerate(nearest):
            for others in combinations(near, size):
                yield np.array([one, *others])


def subsets(count: int) -> Iterator[Ints]:
    """Every set of two or more of ``count`` pieces."""
    for size in range(2, count + 1):
        for chosen in combinations(range(count), size):
            yield np.array(chosen, dtype=np.int64)


def flattened(groups: Sequence[Group]) -> Shapes:
    """The groups' ground in metres around their common middle."""
    outlines = shapes([group.ground for group in groups])
    found: Shapes = Frame.around(outlines).plane(outlines)
    return found
