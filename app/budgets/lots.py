"""Buying where polygons have a least size: the ground in lots, each with a few states from nothing to all.

Within a lot rectangles of the least size are laid one after the other where they hold most value; at the end
stands the lot as one polygon. All are legal, so a state's price is what the vendor would charge. Values are
looked up on a raster of the lot with bins of a patch's side; what a rectangle covers is then counted exactly.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import shapely

from app.budgets.steps import Step, Way, upper_hull
from app.budgets.stock import Mask, Stock
from app.orderable.ground import Floats, Frame, area_km2
from app.orderable.grouping import group_pieces
from app.orderable.legal import rounded
from app.orderable.pieces import Ints
from app.orderable.shapes import Shape, ShapeMaker, covers, in_the_world

# a lot is cut in two as long as it holds more than so many polygons of the least size
_LOT_POLYGONS: Final = 8
_ASPECTS: Final = (1.0, 2.0, 0.5)
_MOST_WINDOWS: Final = 40
_TRIES: Final = 4


@dataclass(frozen=True)
class State:
    """A lot with some of it bought."""

    km2: float
    value: float
    bought: Ints
    polygons: tuple[shapely.Geometry, ...]


def lot_by_lot(stock: Stock, maker: ShapeMaker, must: Mask, never: Mask, max_patches: int | None) -> Way:
    """The way over lots. Patches that ``must`` be bought are in every state of their lot."""
    wanted = _wanted(stock, must, never, max_patches)
    least = max(maker.minimum, (maker.width / 1000) ** 2)
    way = Way(0.0, float(stock.low.sum()), np.zeros(0, np.int64))
    steps: list[tuple[float, Step]] = []
    for number, members in enumerate(_cut(stock, least)):
        states = list(_Lot(stock, maker, members, must, never, wanted).states())
        corners = upper_hull([state.km2 for state in states], [state.value for state in states])
        first = states[corners[0]]
        way.km2 += first.km2
        way.value += first.value
        way.bought = np.concatenate([way.bought, first.bought])
        if first.polygons:
            way.polygons[number] = first.polygons
        for a, b in pairwise(corners):
            rate = _rate(states[a], states[b])
            # what lies between two corners is worse value than both, but is there for who cannot pay more
            for one, other in pairwise(_rising(states[a : b + 1])):
                fresh = np.setdiff1d(other.bought, one.bought)
                more = Step(other.km2 - one.km2, other.value - one.value, fresh, number, other.polygons)
                steps.append((rate, more))
    # an equal rate keeps the order of lots and, within a lot, that of its states
    steps.sort(key=lambda step: -step[0])
    way.steps = [step for _, step in steps]
    return way


def _rate(one: State, other: State) -> float:
    spent = other.km2 - one.km2
    return (other.value - one.value) / spent if spent > 0 else float("inf")


def _rising(states: Sequence[State]) -> list[State]:
    """The first and the last state, and of those between them the ones that cost and gain more in turn."""
    last = states[-1]
    found = [states[0]]
    for state in states[1:-1]:
        before = found[-1]
        if before.km2 < state.km2 < last.km2 and before.value < state.value < last.value:
            found.append(state)
    return [*found, last]


def _wanted(stock: Stock, must: Mask, never: Mask, max_patches: int | None) -> Mask:
    wanted = ~never & (stock.weight > 0) & (stock.rise[stock.tile] > 0)
    if max_patches is not None:
        rate = np.where(wanted, stock.weight / np.maximum(stock.area, 1e-30), -1.0)
        rate = np.where(must, np.inf, rate)
        order = np.lexsort((-rate, stock.tile))
        starts = np.searchsorted(stock.tile[order], np.arange(len(stock.tiles)))
        rank = np.empty(len(stock), np.int64)
        rank[order] = np.arange(len(stock)) - starts[stock.tile[order]]
        wanted &= rank < max_patches
    return np.asarray(wanted | must, bool)


def _cut(stock: Stock, least_km2: float) -> Iterator[Ints]:
    """Tiles halved along the longer side until a lot holds few polygons of the least size."""
    middle = shapely.get_coordinates(shapely.centroid(stock.polygons))
    starts = np.searchsorted(stock.tile, np.arange(len(stock.tiles) + 1))
    counts = np.maximum(np.diff(starts), 1)
    of_tile = np.stack([np.bincount(stock.tile, middle[:, k], len(counts)) / counts for k in (0, 1)], axis=1)
    area = np.bincount(stock.tile, stock.area, minlength=len(counts))
    waiting = [np.flatnonzero(np.diff(starts) > 0)]
    while waiting:
        tiles = waiting.pop()
        scale = np.array([max(np.cos(np.radians(of_tile[tiles, 1].mean())), 1e-3), 1.0])
        spread = np.ptp(of_tile[tiles], axis=0) * scale
        # far apart is apart: patches 50 sides of a polygon away share none
        wide = spread.max() * 111.0 > 50 * np.sqrt(max(least_km2, 1e-9)) + np.sqrt(area[tiles].sum()) * 4
        if len(tiles) == 1 or not (area[tiles].sum() > _LOT_POLYGONS * least_km2 or wide):
            yield np.concatenate([np.arange(starts[t], starts[t + 1]) for t in np.sort(tiles).tolist()])
            continue
        axis = int(np.argmax(spread))
        order = tiles[np.argsort(of_tile[tiles, axis], kind="stable")]
        waiting += [order[len(order) // 2 :], order[: len(order) // 2]]


class _Lot:
    def __init__(
        self, stock: Stock, maker: ShapeMaker, members: Ints, must: Mask, never: Mask, wanted: Mask
    ) -> None:
        self.stock, self.maker, self.members = stock, maker, members
        self.polygons = stock.polygons[members]
        self.must, self.never, self.wanted = must[members], never[members], wanted[members]
        self.known = stock.seen[members] | self.must
        self.tiles = np.unique(stock.tile[members])
        self.base = float(stock.low[self.tiles].sum())
        self.gain = stock.rise[stock.tile[members]] * stock.weight[members] * self.wanted
        self.side = float(np.sqrt(np.median(stock.area[members]) * 1e6))
        self.frame = Frame.around(self.polygons)
        self.flat = self.frame.plane(self.polygons)
        self.tree = shapely.STRtree(self.polygons)

    def states(self) -> Iterator[State]:
        """Nothing (or what must be), more and more rectangles, everything; cost rising."""
        shapes_: list[Shape] = []
        held = np.zeros(len(self.members), dtype=bool)
        if self.must.any():
            shapes_, held = self._forced()
        state = self._state(shapes_, held)
        everything = self._whole()
        found = [state]
        for _ in range(_MOST_WINDOWS if everything is None or everything.km2 > state.km2 else 0):
            shape = self._best_window(held)
            if shape is None:
                break
            held = held | self._covered(shape)
            shapes_ = [*shapes_, shape]
            state = self._state(shapes_, held)
            if everything is not None and state.km2 >= everything.km2:
                break
            found.append(state)
        yield from found
        if everything is not None and everything.km2 >= found[-1].km2:
            yield everything

    def _state(self, shapes_: list[Shape], held: Mask) -> State:
        stock, bought = self.stock, self.members[held]
        # only this lot's tiles: an array over all of them for every state would be slow
        place = np.searchsorted(self.tiles, stock.tile[bought])
        shares = np.bincount(place, stock.weight[bought], minlength=len(self.tiles)).astype(float)
        gained = float(stock.values(shares, self.tiles).sum()) - self.base
        km2 = float(sum(shape.charged for shape in shapes_))
        return State(km2, gained, bought, tuple(shape.polygon for shape in shapes_))

    def _covered(self, shape: Shape) -> Mask:
        found = np.zeros(len(self.members), dtype=bool)
        near = self.tree.query(shape.polygon, predicate="intersects")
        found[near[covers(shape.polygon, self.polygons[near])]] = True
        return found

    def _forced(self) -> tuple[list[Shape], Mask]:
        parts = self.polygons[self.must]
        sides = np.full(len(parts), self.side)
        found = group_pieces(self.maker, parts, sides, np.full(len(parts), np.inf), 0.0)
        held = np.zeros(len(self.members), dtype=bool)
        for group in found.groups:
            held |= self._covered(group.shape)
        return [group.shape for group in found.groups], held

    def _whole(self) -> State | None:
        """The lot, as far as LR shows it, as one polygon; None where there is none, or nothing to gain."""
        if not self.wanted.any() or self.never.any():
            return None
        parts = shapely.get_parts(self.polygons[self.known])
        shape = self.maker.best(parts, self.side)
        if shape is None:
            return None
        return self._state([shape], self._covered(shape))

    def _best_window(self, held: Mask) -> Shape | None:
        gain = np.where(held, 0.0, self.gain)
        for _ in range(_TRIES):
            if gain.sum() <= 1e-12:
                return None
            shape, inside = self._window(gain)
            if shape is not None and gain[self._covered(shape)].sum() > 1e-12:
                return shape
            gain = np.where(inside, 0.0, gain)
        return None

    def _window(self, gain: Floats) -> tuple[Shape | None, Mask]:
        """The rectangle of the least size over most ``gain``; the second value is what it was laid over."""
        west, south, east, north = shapely.bounds(self.flat).T
        x0, y0, bin_m = west.min(), south.min(), self.side
        column = ((west + east) / 2 - x0) // bin_m
        row = ((south + north) / 2 - y0) // bin_m
        table = np.zeros((int(row.max()) + 1, int(column.max()) + 1))
        np.add.at(table, (row.astype(int), column.astype(int)), gain)
        sums = np.pad(table, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
        best = (-1.0, 0, 0, 1, 1)
        for high, wide in self._sizes(bin_m):
            h, w = min(high, table.shape[0]), min(wide, table.shape[1])
            total = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
            at = int(np.argmax(total))
            y, x = divmod(at, total.shape[1])
            if total[y, x] > best[0] + 1e-12:
                best = (float(total[y, x]), y, x, h, w)
        _, y, x, h, w = best
        inside = (row >= y) & (row < y + h) & (column >= x) & (column < x + w)
        box = (west[inside].min(), south[inside].min(), east[inside].max(), north[inside].max())
        return self._rectangle(box), inside

    def _sizes(self, bin_m: float) -> Iterator[tuple[int, int]]:
        area = max(self.maker.minimum * 1e6, bin_m**2, self.maker.width**2)
        for aspect in _ASPECTS:
            high = max(np.sqrt(area / aspect), self.maker.width)
            yield max(int(high / bin_m + 0.01), 1), max(int(area / high / bin_m + 0.01), 1)

    def _rectangle(self, box: tuple[float, float, float, float]) -> Shape | None:
        """A legal rectangle around ``box`` (metres), up to the least size where there is more ground."""
        west, south, east, north = box
        width = max(self.maker.width * 1.001 - (east - west), 0) / 2 + 1e-3
        height = max(self.maker.width * 1.001 - (north - south), 0) / 2 + 1e-3
        west, east, south, north = west - width, east + width, south - height, north + height
        grow = 0.0
        minimum = self.maker.minimum * 1e6
        if self.maker.refused and (east - west) * (north - south) < minimum:
            sides = (east - west) + (north - south)
            missing = minimum * (1 + 1e-6) - (east - west) * (north - south)
            grow = (-sides + np.sqrt(sides**2 + 4 * missing)) / 4
        for _ in range(60):
            flat = shapely.box(west - grow, south - grow, east + grow, north + grow)
            polygon = rounded(self.frame.lonlat(in_the_world(self.frame, flat)))
            area = area_km2(polygon)
            if not self.maker.refused or area >= self.maker.minimum:
                break
            grow += 1e-3 + grow * 1e-4
        if not self.maker.allows(polygon):
            return None
        return Shape(polygon, area, max(area, self.maker.minimum))
