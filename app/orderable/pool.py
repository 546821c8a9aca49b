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

    Areas of groups are estimates: the smaller of the bounding box and the parts plus corridors between them.
    """

    def __init__(
        self, groups: Sequence[Group], flat: Shapes, minimum: float, width_m: float, *, boxes_only: bool
    ) -> None:
        self.parent = list(range(len(groups)))
        self.members: dict[int, list[int]] = {i: [i] for i in range(len(groups))}
        self.area = [group.area for group in groups]
        self.charged = [group.shape.charged for group in groups]
        self.box = shapely.bounds(flat).tolist()
        self.minimum = minimum
        self.width = width_m
        self.boxes_only = boxes_only
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
        area = (east - west) * (north - south) / 1e6
        if not self.boxes_only:
            area = min(area, self.area[a] + self.area[b] + gap * self.width / 1e6)
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
