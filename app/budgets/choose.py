"""The answer to a budget: how far along the way the money reaches, and what the whole way looks like."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

import numpy as np
import shapely

from app.budgets.lots import lot_by_lot
from app.budgets.steps import Way, patch_by_patch, sold_alone
from app.budgets.stock import ENOUGH, Mask, Stock, TileOffer, touching
from app.core import money
from app.orderable.ground import area_km2
from app.orderable.pieces import Ints
from app.orderable.shapes import ShapeMaker
from app.pricing.products import Product
from app.pricing.quote import Quote, check_budget, quote, too_small

# points of the curve that a client gets
CURVE_POINTS: Final = 100


class Verdict(StrEnum):
    """What is said of a tile."""

    ENOUGH = "lr_is_enough"
    BUY = "buy_these"
    NOT = "not_worth_it"
    UNSEEN = "not_seen"


@dataclass(frozen=True)
class CurvePoint:
    """What so much money buys: ``spend`` as the vendor would charge it, VAT included."""

    spend: Decimal
    expected: float
    patches: int


@dataclass(frozen=True)
class TileVerdict:
    """One tile of the answer. ``chosen`` were wanted, ``bought`` is all that comes with the polygons."""

    plan_id: Any
    tile: int
    verdict: Verdict
    chosen: tuple[int, ...]
    bought: tuple[int, ...]
    expected_before: float | None
    expected_after: float | None


@dataclass(frozen=True)
class Allocation:
    """Where the money goes. ``polygons`` is empty where every patch is sold by itself."""

    calibrated: bool
    quote: Quote
    expected_before: float
    expected_after: float
    expected_with_all: float
    curve: tuple[CurvePoint, ...]
    knee: int
    tiles: tuple[TileVerdict, ...]
    polygons: tuple[shapely.Geometry, ...]
    patches: int


def allocate(
    tiles: Sequence[TileOffer],
    product: Product,
    budget: Decimal,
    *,
    max_patches: int | None = None,
    must_buy: shapely.Geometry | None = None,
    never_buy: shapely.Geometry | None = None,
) -> Allocation:
    """What to buy for ``budget`` (in the product's currency, VAT included).

    ``max_patches`` is how many patches of a tile may be wanted; more may come with a polygon. Patches that
    have ground in common with ``must_buy`` are bought first, those with ``never_buy`` are not wanted and no
    polygon lies on that area. Where LR shows nothing, nothing is wanted but what must be bought. Raises
    BudgetTooSmall where the money does not pay for the smallest order, or for what must be bought.
    """
    stock = Stock(tiles)
    if len(stock):
        check_budget(product, budget, Decimal(repr(float(stock.area.min()))))
    must, never = touching(stock, must_buy), touching(stock, never_buy)
    must &= ~never
    way = _way(stock, product, must, never, max_patches, never_buy)
    km2, values = way.totals()
    prices = _Prices(product, km2)
    reached = prices.reached(budget)
    if reached < 0:
        raise too_small(product, budget, prices.of(0), "what must be bought")
    spent = _quote(stock, product, way, reached)
    while reached and spent.total > budget:
        reached -= 1
        spent = _quote(stock, product, way, reached)
    bought = way.after(reached)
    expected = [stock.expected(float(value)) for value in values]
    points = _points(prices, expected, way)
    return Allocation(
        calibrated=stock.calibrated,
        quote=spent,
        expected_before=stock.expected(float(stock.low.sum())),
        expected_after=expected[reached],
        expected_with_all=stock.expected(stock.value(np.ones(len(stock), bool))),
        curve=tuple(points),
        knee=knee([float(point.spend) for point in points], [point.expected for point in points]),
        tiles=tuple(_verdicts(stock, bought, must, must | ~never, tiles)),
        polygons=tuple(way.ground(reached)),
        patches=len(stock),
    )


def _way(
    stock: Stock,
    product: Product,
    must: Mask,
    never: Mask,
    max_patches: int | None,
    avoid: shapely.Geometry | None,
) -> Way:
    if not len(stock) or sold_alone(product, stock.area):
        return patch_by_patch(stock, must, never, max_patches)
    return lot_by_lot(stock, ShapeMaker(product, avoid), must, never, max_patches)


class _Prices:
    """Totals (VAT included, rounded) of growing areas, worked out only where they are asked for."""

    def __init__(self, product: Product, km2: "np.ndarray[Any, Any]") -> None:
        self.product, self.km2 = product, km2

    def of(self, steps: int) -> Decimal:
        product = self.product
        area = Decimal(repr(float(self.km2[steps])))
        if area <= 0:
            return money.total_of(Decimal(0), product.currency)
        net = product.price_between(Decimal(0), max(area, product.min_order_km2)) + product.fixed_fee
        rounded = money.total_of(net, product.currency)
        return rounded + money.total_of(rounded * product.vat_rate, product.currency)

    def reached(self, budget: Decimal) -> int:
        """The last step that is paid for; -1 where not even the first state is."""
        return bisect_right(range(len(self.km2)), budget, key=self.of) - 1


def _quote(stock: Stock, product: Product, way: Way, steps: int) -> Quote:
    """The order after so many steps, as the vendor would charge it."""
    polygons = way.ground(steps)
    if polygons:
        return quote(product, [money.measured(Decimal(repr(area_km2(polygon)))) for polygon in polygons])
    bought = way.after(steps)
    return quote(product, [money.measured(Decimal(repr(area))) for area in stock.area[bought].tolist()])


def _points(prices: _Prices, expected: list[float], way: Way) -> list[CurvePoint]:
    last = len(expected) - 1
    shown = sorted({round(last * i / (CURVE_POINTS - 1)) for i in range(CURVE_POINTS)})
    counts = np.cumsum([len(way.bought), *(len(step.bought) for step in way.steps)])
    return [CurvePoint(prices.of(at), expected[at], int(counts[at])) for at in shown]


def knee(spend: Sequence[float], expected: Sequence[float]) -> int:
    """The point furthest above the line from the first to the last: beyond it money buys less and less."""
    x, y = np.array(spend, float), np.array(expected, float)
    if len(x) < 3 or x[-1] <= x[0] or y[-1] <= y[0]:
        return len(x) - 1
    return int(np.argmax((y - y[0]) / (y[-1] - y[0]) - (x - x[0]) / (x[-1] - x[0])))


def _verdicts(
    stock: Stock, bought: Ints, must: Mask, open_: Mask, tiles: Sequence[TileOffer]
) -> list[TileVerdict]:
    held = np.zeros(len(stock), dtype=bool)
    held[bought] = True
    after = stock.values(stock.shares(held))
    possible = np.zeros(len(tiles), dtype=bool)
    if stock.calibrated:
        possible = stock.rise > ENOUGH
    else:
        thresholds = np.array([tile.threshold for tile in tiles])
        likely = open_ & (stock.probability > thresholds[stock.tile])
        possible[stock.tile[likely]] = True
    useful = held & (must | (stock.weight > 0) & (stock.rise[stock.tile] > 0))
    starts = np.searchsorted(stock.tile, np.arange(len(tiles) + 1))
    found = []
    for number, tile in enumerate(tiles):
        mine = slice(int(starts[number]), int(starts[number + 1]))
        got = stock.patch[mine][held[mine]]
        if len(got):
            verdict = Verdict.BUY
        elif stock.blind[number]:
            verdict = Verdict.UNSEEN
        else:
            verdict = Verdict.NOT if possible[number] else Verdict.ENOUGH
        told = stock.calibrated and not stock.blind[number]
        found.append(
            TileVerdict(
                plan_id=tile.plan_id,
                tile=tile.tile,
                verdict=verdict,
                chosen=tuple(stock.patch[mine][useful[mine]].tolist()),
                bought=tuple(got.tolist()),
                expected_before=float(stock.low[number]) if told else None,
                expected_after=float(after[number]) if told else None,
            )
        )
    return found
