"""What to buy one after the other, best value for money first; the same way whatever the budget.

A budget buys the steps up to the first that it cannot pay. So a larger budget goes as far as a smaller one,
or further, and never expects less. Two ways lead there: where a vendor sells every patch by itself, a step is
one tile's next patches; where polygons have a least size, the ground is cut into lots, and a step is a lot's
next polygons.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import shapely

from app.budgets.stock import Mask, Stock
from app.orderable.ground import Floats
from app.orderable.pieces import Ints
from app.pricing.products import Product


@dataclass(frozen=True)
class Step:
    """Something more to buy: the area charged for (km²), the value gained, the patches that come with it.

    In a lot a step replaces the lot's polygons by ``polygons``; ``lot`` is None where patches are sold alone.
    """

    km2: float
    value: float
    bought: Ints
    lot: int | None = None
    polygons: tuple[shapely.Geometry, ...] = ()


@dataclass
class Way:
    """The first state (what must be bought) and the steps that follow, best first."""

    km2: float
    value: float
    bought: Ints
    polygons: dict[int, tuple[shapely.Geometry, ...]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def totals(self) -> tuple[Floats, Floats]:
        """Area charged for and value after 0, 1, 2, ... steps."""
        km2 = np.cumsum([self.km2, *(step.km2 for step in self.steps)])
        value = np.cumsum([self.value, *(step.value for step in self.steps)])
        return km2, value

    def after(self, steps: int) -> Ints:
        """The patches bought after so many steps, rising."""
        found = [self.bought, *(step.bought for step in self.steps[:steps])]
        return np.unique(np.concatenate(found))

    def ground(self, steps: int) -> list[shapely.Geometry]:
        """The polygons after so many steps; none where every patch is sold alone."""
        state = dict(self.polygons)
        for step in self.steps[:steps]:
            if step.lot is not None:
                state[step.lot] = step.polygons
        return [polygon for polygons in state.values() for polygon in polygons]


def sold_alone(product: Product, areas_km2: Floats) -> bool:
    """Whether every patch is a legal polygon by itself, without a minimum: then prices simply add up."""
    narrowest = float(np.sqrt(areas_km2.min() * 1e6)) if len(areas_km2) else 0.0
    return product.min_polygon_km2 == 0 and (product.rules.min_width_m or 0.0) <= narrowest * 0.9


def patch_by_patch(stock: Stock, must: Mask, never: Mask, max_patches: int | None) -> Way:
    """The way where patches are sold alone: each tile's patches in the order of weight for area."""
    value = stock.values(stock.shares(must))
    way = Way(float(stock.area[must].sum()), float(value.sum()), np.flatnonzero(must))
    steps = []
    held = stock.shares(must)
    starts = np.searchsorted(stock.tile, np.arange(len(stock.tiles) + 1))
    rate = stock.weight / np.maximum(stock.area, 1e-30)
    for tile in np.flatnonzero(stock.rise > 0).tolist():
        mine = np.arange(starts[tile], starts[tile + 1])
        free = mine[~must[mine] & ~never[mine] & (stock.weight[mine] > 0)]
        order = free[np.argsort(-rate[free], kind="stable")]
        if max_patches is not None:
            order = order[: max(0, max_patches - int(must[mine].sum()))]
        if len(order):
            steps += _hull_steps(stock, tile, order, held[tile], value[tile])
    way.steps = sorted(steps, key=lambda step: -step.value / step.km2)
    return way


def _hull_steps(stock: Stock, tile: int, order: Ints, held: float, value: float) -> list[Step]:
    cost = np.concatenate([[0.0], np.cumsum(stock.area[order])])
    shares = held + np.concatenate([[0.0], np.cumsum(stock.weight[order])])
    values = stock.values(shares, np.full(len(shares), tile))
    values[0] = value
    corners = upper_hull(cost, values)
    return [
        Step(float(cost[b] - cost[a]), float(values[b] - values[a]), order[a:b]) for a, b in pairwise(corners)
    ]


def upper_hull(cost: Sequence[float] | Floats, value: Sequence[float] | Floats) -> list[int]:
    """The corners, from the first point on, where more money buys most; rates fall, values rise.

    ``cost`` never falls from point to point.
    """
    hull: list[int] = [0]
    for i in range(1, len(cost)):
        if value[i] <= value[hull[-1]] + 1e-12:
            continue
        while len(hull) > 1 and _rate(cost, value, hull[-2], i) >= _rate(cost, value, hull[-2], hull[-1]):
            hull.pop()
        if cost[i] <= cost[hull[-1]] and len(hull) > 1:
            hull.pop()
        hull.append(i)
    return hull


def _rate(cost: Sequence[float] | Floats, value: Sequence[float] | Floats, a: int, b: int) -> float:
    spent = cost[b] - cost[a]
    return float("inf") if spent <= 0 else float((value[b] - value[a]) / spent)
