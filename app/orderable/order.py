"""The cheapest legal order that covers some patches: what ``app.orderable`` is for."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np
import shapely

from app.core import money
from app.orderable.cells import Cell, CellId
from app.orderable.ground import Floats, Shapes, areas_km2, shapes
from app.orderable.grouping import group_pieces
from app.orderable.grow import grow
from app.orderable.pieces import Group
from app.orderable.plain import cheaper_plain
from app.orderable.shapes import Shape, ShapeMaker, covers_pairs
from app.pricing.products import Product
from app.pricing.quote import Quote, quote

TIME_LIMIT_S: Final = 20.0
_AFTER: Final = 5.0


@dataclass(frozen=True)
class OrderPolygon:
    """One polygon to order (WGS 84), what it measures and is charged for (km²), and the patches it buys.

    A patch under two polygons is in the first one's ``covered`` only.
    """

    geometry: shapely.Geometry
    area_km2: Decimal
    charged_km2: Decimal
    covered: tuple[CellId, ...]


@dataclass(frozen=True)
class Orderable:
    """A legal order. ``dropped`` are patches asked for that cost more than they are worth.

    ``bound``: the least that the total (VAT included, and the worth of what is dropped) could come to with
    the polygons that were looked at; ``optimal``: the solver proved that nothing of those is cheaper.
    """

    product: Product
    polygons: tuple[OrderPolygon, ...]
    dropped: tuple[CellId, ...]
    quote: Quote
    bound: Decimal
    optimal: bool

    @property
    def covered(self) -> set[CellId]:
        """Every patch that the order buys."""
        return {patch for polygon in self.polygons for patch in polygon.covered}


def orderable(
    cells: Sequence[Cell],
    product: Product,
    *,
    candidates: Sequence[Cell] = (),
    avoid: shapely.Geometry | None = None,
    time_limit_s: float = TIME_LIMIT_S,
) -> Orderable:
    """The cheapest order found for ``cells`` that ``product`` allows.

    ``candidates`` are patches that need not be bought but are welcome where they cost nothing more, such as
    all others of the plans; ``avoid`` is ground that no polygon may lie on. A cell that no legal polygon can
    hold is dropped whatever it is worth. The search ends about ``time_limit_s`` after it began.
    """
    began = time.monotonic()
    maker = ShapeMaker(product, avoid)
    known: set[tuple[object, ...]] = set()
    asked, others = _once(cells, known), _once(candidates, known)
    least = _gross(product, min(tier.price_per_km2 for tier in product.tiers))
    wanted = [cell for cell in asked if cell.worth is None or cell.worth >= cell.area_km2 * least]
    groups: list[Group] = []
    bound, optimal = 0.0, True
    pieces = _Pieces(wanted)
    # what comes after the search takes several times what came before it
    after = min((time.monotonic() - began) * _AFTER, time_limit_s / 2)
    deadline = began + time_limit_s - after
    if wanted:
        price = _price_of_all(product, wanted)
        loss = _loss(pieces, _gross(product, price))
        found = group_pieces(maker, pieces.polygons, pieces.sides, loss, deadline)
        groups, bound, optimal = found.groups, found.bound, found.optimal
        if price < product.base_price_per_km2 and np.isfinite(loss).any():
            # in a smaller order what is given up would count for less ground, at the first tier's price
            bound *= float(price / product.base_price_per_km2)
        groups = _worth_it(product, groups, pieces)
        if not np.isfinite(loss).any():
            groups = cheaper_plain(maker, groups, wanted, others) or groups
    final = grow([group.shape for group in groups], maker, [cell.polygon for cell in others])
    polygons, bought = _order(final, [*asked, *others])
    price_of_all = quote(product, [polygon.area_km2 for polygon in polygons])
    dropped = tuple(cell.id for cell in asked if cell.id not in bought)
    return Orderable(
        product=product,
        polygons=polygons,
        dropped=dropped,
        quote=price_of_all,
        bound=min(_total(product, bound), price_of_all.total_unrounded) if polygons else Decimal(0),
        optimal=optimal,
    )


def as_given(polygons: Sequence[shapely.Geometry], product: Product, cells: Sequence[Cell]) -> Orderable:
    """The order of ``polygons`` (WGS 84) as they are, with those of ``cells`` that they cover.

    What is not covered of ``cells`` is not ``dropped``: nobody says here what was asked for.
    """
    final = [
        Shape(part, float(area), max(float(area), float(product.min_polygon_km2)))
        for part, area in zip(polygons, areas_km2(shapes(polygons)), strict=True)
    ]
    kept, _ = _order(final, cells)
    price = quote(product, [polygon.area_km2 for polygon in kept])
    return Orderable(product, kept, (), price, price.total_unrounded, optimal=False)


def _once(cells: Sequence[Cell], known: set[tuple[object, ...]]) -> list[Cell]:
    """The cells with any ground that are not ``known`` yet, each once; then they are."""
    found = []
    empty = shapely.is_empty(shapes([cell.polygon for cell in cells])).tolist()
    for cell, nothing in zip(cells, empty, strict=True):
        # a plain tuple: a name of its own costs three times as much
        name = (cell.plan_id.int, cell.tile, cell.patch)
        if not nothing and name not in known:
            known.add(name)
            found.append(cell)
    return found


class _Pieces:
    """Cells taken apart where the antimeridian cuts them: a polygon to order never crosses it."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = cells
        parts, self.owner = shapely.get_parts(shapes([cell.polygon for cell in cells]), return_index=True)
        self.polygons: Shapes = parts
        self.areas: Floats = areas_km2(parts)
        self.sides: Floats = np.sqrt(self.areas * 1e6)


def _gross(product: Product, price: Decimal) -> Decimal:
    return price * (1 + product.vat_rate)


def _price_of_all(product: Product, wanted: Sequence[Cell]) -> Decimal:
    """What a km² of all that is wanted costs, net and at most the first tier's price.

    What is worth its price in an order of that size alone would be given up at the first tier's.
    """
    whole = sum((cell.area_km2 for cell in wanted), Decimal(0))
    if whole == 0:
        return product.base_price_per_km2
    return min(product.base_price_per_km2, product.price_between(Decimal(0), whole) / whole)


def _loss(pieces: _Pieces, price: Decimal) -> Floats:
    """What losing each piece counts for, in km² at ``price``; inf where it must be bought."""
    parts = np.bincount(pieces.owner)
    whole = [
        np.inf if cell.worth is None or price == 0 else float(cell.worth / price) for cell in pieces.cells
    ]
    found: Floats = (np.array(whole) / parts)[pieces.owner]
    return found


def _worth_it(product: Product, groups: list[Group], pieces: _Pieces) -> list[Group]:
    """Without the groups that cost more than they are worth, and none at all where the whole order does."""
    worth = []
    for group in groups:
        found = [pieces.cells[i].worth for i in set(pieces.owner[group.members].tolist())]
        worth.append(None if None in found else sum((w for w in found if w is not None), Decimal(0)))
    kept = list(range(len(groups)))
    while kept:
        charged = {i: Decimal(repr(groups[i].shape.charged)) for i in kept}
        whole = sum(charged.values(), Decimal(0))
        total = _total_exact(product, whole)
        worst, least = -1, Decimal(0)
        for i in kept:
            value = worth[i]
            if value is None:
                continue
            gain = value - (total - _total_exact(product, whole - charged[i]) if len(kept) > 1 else total)
            if gain < least:
                worst, least = i, gain
        if worst < 0:
            break
        kept.remove(worst)
    values = [worth[i] for i in kept]
    if kept and None not in values:
        whole = sum((Decimal(repr(groups[i].shape.charged)) for i in kept), Decimal(0))
        if sum((value for value in values if value is not None), Decimal(0)) < _total_exact(product, whole):
            return []
    return [groups[i] for i in kept]


def _total(product: Product, km2: float) -> Decimal:
    return _total_exact(product, Decimal(repr(km2)))


def _total_exact(product: Product, km2: Decimal) -> Decimal:
    net = product.price_between(Decimal(0), max(km2, product.min_order_km2)) + product.fixed_fee
    return net * (1 + product.vat_rate)


def _order(final: Sequence[Shape], cells: Sequence[Cell]) -> tuple[tuple[OrderPolygon, ...], set[CellId]]:
    """The polygons with the patches each of them buys."""
    if not final:
        return (), set()
    parts, owner = shapely.get_parts(shapes([cell.polygon for cell in cells]), return_index=True)
    left = np.bincount(owner)
    outlines = shapes([shape.polygon for shape in final])
    line, part = shapely.STRtree(parts).query(outlines, predicate="intersects")
    inside = covers_pairs(outlines, parts, line, part)
    first = np.lexsort((part[inside], line[inside]))
    line, part = line[inside][first], part[inside][first]
    # of several polygons over a part the first has it
    keep = np.sort(np.unique(part, return_index=True)[1])
    line, part = line[keep], part[keep]
    polygons: list[OrderPolygon] = []
    bought: set[CellId] = set()
    ends = np.searchsorted(line, np.arange(len(final) + 1))
    for number, shape in enumerate(final):
        mine = owner[part[ends[number] : ends[number + 1]]]
        np.subtract.at(left, mine, 1)
        covered = tuple(cells[i].id for i in dict.fromkeys(mine.tolist()) if left[i] == 0)
        bought.update(covered)
        area = money.measured(Decimal(repr(shape.area)))
        polygons.append(OrderPolygon(shape.polygon, area, Decimal(repr(shape.charged)), covered))
    return tuple(polygons), bought
