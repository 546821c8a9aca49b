"""From patches to buy to a draft: the cheapest legal polygons, their price, and that of full HR."""

import dataclasses
import json
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import shapely
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.budgets.areas import read_area
from app.budgets.on_plan import product_of
from app.budgets.tables import Budget
from app.core import money
from app.core.errors import NothingToOrder, Unprocessable
from app.core.settings import get_settings
from app.core.work import uuid7
from app.ledger.places import Place, middles
from app.ledger.shares import shares
from app.orderable import Cell, CellId, Orderable, as_given, cells_of_rows, orderable
from app.orders.had import Had, LeftOut, Tile, read_had
from app.orders.reading import patches_of
from app.orders.schemas import OrderForm
from app.orders.sources import source_of
from app.orders.tables import Order, OrderLine, OrderPlan, OrderTile
from app.plans.service import raster_info
from app.plans.tables import Plan, TileRow
from app.pricing.products import Product
from app.pricing.quote import quote
from app.pricing.service import find_product

DIGITS: Final = 9
"""Digits of a degree: a tenth of a millimetre."""


@dataclass
class Wanted:
    """What an order is to be made of, read from the database in one go.

    ``left_out`` is what was to be bought and is there or on its way already. ``received`` are all patches
    that came before, as bits: a polygon that merely covers one does not pay for it. ``avoid`` is ground that
    no polygon may lie on. ``figure`` is what a budget said that this costs, with VAT, and ``polygons`` what
    it had in mind (none where each patch is sold alone).
    """

    product: Product
    budget_id: uuid.UUID | None
    plan_ids: list[uuid.UUID]
    chosen: list[Cell] = field(default_factory=list)
    others: list[Cell] = field(default_factory=list)
    places: dict[Tile, Place] = field(default_factory=dict)
    received: Mapping[Tile, int] = field(default_factory=dict)
    left_out: dict[Tile, LeftOut] = field(default_factory=dict)
    avoid: shapely.Geometry | None = None
    figure: Decimal | None = None
    polygons: list[shapely.Geometry] = field(default_factory=list)


@dataclass
class Draft:
    """An order's rows, ready to be written together."""

    order: Order
    plans: list[OrderPlan]
    lines: list[OrderLine]
    tiles: list[OrderTile]


def read(session: Session, org_id: uuid.UUID, form: OrderForm) -> Wanted:
    """The product and the patches that a request names.

    Raises NotFound, Conflict for what is not ready, Unprocessable, and what ``find_product`` raises.
    """
    source = source_of(session, org_id, form)
    plans, budget = source.plans, source.budget
    product = _product(session, org_id, form, plans, budget)
    wanted = Wanted(product, form.budget, [plan.id for plan in plans])
    bought = _by_plan(source.bought)
    had = Had({}, {}) if form.again else read_had(session, wanted.plan_ids)
    wanted.received = had.received
    for plan in plans:
        _add_plan(session, wanted, plan, None if bought is None else bought[plan.id], had)
    never = [budget.request] if budget is not None else [plan.options or {} for plan in plans]
    areas = [read_area(options.get("never_buy"), ("body", "never_buy")) for options in never]
    if any(area is not None for area in areas):
        wanted.avoid = shapely.union_all([area for area in areas if area is not None])
    if form.patch_worth is not None:
        wanted.chosen = [dataclasses.replace(cell, worth=form.patch_worth) for cell in wanted.chosen]
    elif budget is not None:
        _hold_to(wanted, Product.from_json(budget.product), budget.answer)
    elif len(plans) == 1 and source.bought is None:
        _hold_to(wanted, product_of(plans[0]), plans[0].options)
    return wanted


def _hold_to(wanted: Wanted, priced_with: Product | None, answer: dict[str, Any] | None) -> None:
    if priced_with is None or priced_with.to_json() != wanted.product.to_json() or answer is None:
        return
    if "polygons" in answer:
        wanted.figure = Decimal(answer["result"]["quote"]["total"])
        wanted.polygons = [shapely.geometry.shape(one) for one in answer["polygons"]]


def _product(
    session: Session, org_id: uuid.UUID, form: OrderForm, plans: Sequence[Plan], budget: Budget | None
) -> Product:
    today = datetime.now(UTC).date()
    if form.product is not None:
        return find_product(session, org_id, form.product, today)
    kept = [product_of(plan) for plan in plans] if budget is None else [Product.from_json(budget.product)]
    terms = {json.dumps(one.to_json()): one for one in kept if one is not None}
    if None in kept or len(terms) != 1:
        detail = "Name a product: the plans have no price per km², or not all the same one."
        raise Unprocessable(detail, errors=[{"loc": ["body", "product"], "detail": detail}])
    [product] = terms.values()
    # prices that held when the plan or budget was made may have run out since
    return product if product.price_list is None else find_product(session, org_id, product.ref, today)


def _by_plan(
    bought: Mapping[Tile, frozenset[int]] | None,
) -> dict[uuid.UUID, dict[int, frozenset[int]]] | None:
    if bought is None:
        return None
    found: dict[uuid.UUID, dict[int, frozenset[int]]] = defaultdict(dict)
    for (plan_id, tile), patches in bought.items():
        found[plan_id][tile] = patches
    return found


def _add_plan(
    session: Session,
    wanted: Wanted,
    plan: Plan,
    bought: Mapping[int, frozenset[int]] | None,
    had: Had,
) -> None:
    query = select(TileRow).where(TileRow.plan_id == plan.id).order_by(TileRow.tile)
    if bought is not None:
        # full HR is of the tiles that the source is about
        query = query.where(TileRow.tile.in_(bought))
    rows = session.scalars(query).all()
    for row, place in zip(rows, middles(rows, raster_info(plan)), strict=True):
        wanted.places[plan.id, row.tile] = place
    chosen = {
        row.tile: (
            bought[row.tile]
            if bought is not None
            else frozenset(patch for patch, is_chosen in enumerate(row.chosen) if is_chosen)
        )
        for row in rows
    }
    for tile, patches in chosen.items():
        left_out = had.of((plan.id, tile), patches)
        if any(left_out):
            wanted.left_out[plan.id, tile] = left_out
            chosen[tile] = patches - {*patches_of(left_out.received | left_out.ordered)}
    for cell in cells_of_rows(plan, rows, "all"):
        (wanted.chosen if cell.patch in chosen[cell.tile] else wanted.others).append(cell)


def draft(org_id: uuid.UUID, wanted: Wanted) -> Draft:
    """The order. Takes seconds for thousands of tiles, and no session. Raises NothingToOrder."""
    if not wanted.chosen:
        raise _nothing_left(wanted)
    product = wanted.product
    found = _cheapest(wanted)
    if not found.polygons:
        raise NothingToOrder("No patch is worth what the smallest legal polygon costs.")
    every = [dataclasses.replace(cell, worth=None) for cell in (*wanted.chosen, *wanted.others)]
    full = orderable(every, product, time_limit_s=get_settings().order_search_s)
    if wanted.avoid is None and full.quote.total < found.quote.total:
        # all of the ground may be simpler to hold than some of it
        whole = as_given([polygon.geometry for polygon in full.polygons], product, every)
        found = dataclasses.replace(whole, bound=min(found.bound, whole.bound))
    alone = dataclasses.replace(
        product, min_order_km2=Decimal(0), min_polygon_km2=Decimal(0), fixed_fee=Decimal(0)
    )
    order = _order(org_id, wanted, found, full)
    covered = found.covered
    order.nominal = quote(alone, [_area(cell for cell in wanted.chosen if cell.id in covered)]).total
    order.full_nominal = quote(alone, [_area(every)]).total
    return Draft(
        order,
        [OrderPlan(order_id=order.id, plan_id=plan_id) for plan_id in wanted.plan_ids],
        _lines(order, found),
        _tiles(order, wanted, found, every),
    )


def _nothing_left(wanted: Wanted) -> NothingToOrder:
    received = sum(each.received.bit_count() for each in wanted.left_out.values())
    ordered = sum(each.ordered.bit_count() for each in wanted.left_out.values())
    there = [f"{received} were received"] if received else []
    there += [f"{ordered} are in orders that were placed"] if ordered else []
    if not there:
        return NothingToOrder("No patch is to be bought: there is nothing to order.")
    return NothingToOrder(
        f"No patch is left to order: of those to be bought, {' and '.join(there)}. `again` orders them anew.",
        left_out={"received": received, "ordered": ordered},
    )


def _cheapest(wanted: Wanted) -> Orderable:
    """The cheapest order, and never a dearer one than the budget promised."""
    found = orderable(
        wanted.chosen,
        wanted.product,
        candidates=wanted.others,
        avoid=wanted.avoid,
        time_limit_s=get_settings().order_search_s,
    )
    if wanted.figure is None or (found.quote.total <= wanted.figure and not found.dropped):
        return found
    patches = [part for cell in wanted.chosen for part in shapely.get_parts(cell.polygon)]
    promised = as_given(wanted.polygons or patches, wanted.product, [*wanted.chosen, *wanted.others])
    return dataclasses.replace(promised, bound=min(found.bound, promised.bound))


def _order(org_id: uuid.UUID, wanted: Wanted, found: Orderable, full: Orderable) -> Order:
    product, price = wanted.product, found.quote
    return Order(
        id=uuid7(),
        org_id=org_id,
        budget_id=wanted.budget_id,
        product=product.ref,
        vendor=product.vendor,
        terms=product.to_json(),
        currency=product.currency,
        area_km2=_sum(polygon.area_km2 for polygon in found.polygons),
        charged_km2=price.charged_km2,
        net=price.net,
        fee=price.fee,
        unused_minimum=price.unused_minimum,
        rounding=price.rounding,
        vat=price.vat,
        total=price.total,
        full_area_km2=_sum(polygon.area_km2 for polygon in full.polygons),
        full_total=full.quote.total,
        # net and VAT are rounded one by one, which may be less than their exact sum
        bound=min(money.total_of(found.bound, product.currency), price.total),
        optimal=found.optimal,
        dropped=_by_tile(found.dropped),
    )


def _lines(order: Order, found: Orderable) -> list[OrderLine]:
    pairs = zip(found.polygons, found.quote.lines, strict=True)
    return [
        OrderLine(
            order_id=order.id,
            line=number,
            geometry=geojson(polygon.geometry),
            area_km2=polygon.area_km2,
            charged_km2=priced.charged_km2,
            amount=priced.amount,
            patch_count=len(polygon.covered),
        )
        for number, (polygon, priced) in enumerate(pairs, start=1)
    ]


def _tiles(order: Order, wanted: Wanted, found: Orderable, every: Sequence[Cell]) -> list[OrderTile]:
    """One row a tile of the plans, sharing out what full HR costs, and what patches alone would."""
    covered = found.covered
    chosen = {cell.id for cell in wanted.chosen}
    rows: dict[Tile, OrderTile] = {}
    alone: dict[Tile, Decimal] = defaultdict(Decimal)
    for cell in sorted(every, key=lambda cell: cell.id):
        tile, bit = (cell.plan_id, cell.tile), 1 << cell.patch
        row = rows.get(tile)
        if row is None:
            lon, lat = wanted.places[tile]
            left_out = wanted.left_out.get(tile, LeftOut(0, 0))
            row = rows[tile] = OrderTile(
                order_id=order.id, plan_id=tile[0], tile=tile[1], patches=0, chosen=0, paid_before=0,
                left_out_received=left_out.received, left_out_ordered=left_out.ordered,
                area_km2=Decimal(0), full_patches=0, full_area_km2=Decimal(0), lon=lon, lat=lat,
            )  # fmt: skip
        row.full_patches += 1
        row.full_area_km2 = money.EXACT.add(row.full_area_km2, cell.area_km2)
        if cell.id in covered:
            row.patches |= bit
            row.area_km2 = money.EXACT.add(row.area_km2, cell.area_km2)
        if cell.id in chosen:
            row.chosen |= bit
            if cell.id in covered:
                alone[tile] = money.EXACT.add(alone[tile], cell.area_km2)
        elif cell.id in covered and wanted.received.get(tile, 0) & bit:
            row.paid_before |= bit
    areas = [row.full_area_km2 for row in rows.values()]
    full = shares(order.full_total, areas)
    full_nominal = shares(order.full_nominal, areas)
    nominal = shares(order.nominal, [alone[tile] for tile in rows])
    for row, *amounts in zip(rows.values(), full, full_nominal, nominal, strict=True):
        row.full_total, row.full_nominal, row.nominal = amounts
    return list(rows.values())


def geojson(geometry: shapely.Geometry) -> dict[str, Any]:
    """A polygon as GeoJSON has it (RFC 7946): counter-clockwise, nine digits of a degree."""
    found = shapely.geometry.mapping(shapely.orient_polygons(geometry))
    return {"type": found["type"], "coordinates": _rounded(found["coordinates"])}


def _rounded(value: Any) -> Any:
    if isinstance(value, int | float):
        return round(float(value), DIGITS)
    return [_rounded(part) for part in value]


def _by_tile(patches: Iterable[CellId]) -> list[dict[str, Any]]:
    found: dict[Tile, list[int]] = defaultdict(list)
    for plan_id, tile, patch in sorted(patches):
        found[plan_id, tile].append(patch)
    return [
        {"plan_id": str(plan_id), "tile": tile, "patches": patches}
        for (plan_id, tile), patches in found.items()
    ]


def _area(cells: Iterable[Cell]) -> Decimal:
    return _sum(cell.area_km2 for cell in cells)


def _sum(values: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for value in values:
        total = money.EXACT.add(total, value)
    return total
