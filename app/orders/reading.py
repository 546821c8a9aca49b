"""An order as clients read it."""

import json
import uuid
from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core import money
from app.orders.schemas import (
    BoughtPatchesOut,
    Estimate,
    FullHr,
    LeftOutCounts,
    LeftOutOut,
    LeftOutPatchesOut,
    LineOut,
    MoveOut,
    OrderOut,
    OrderSaving,
    OrderSummary,
    QuoteOut,
    TilePatchesOut,
)
from app.orders.states import OrderState
from app.orders.tables import Order, OrderLine, OrderMove, OrderPlan, OrderTile


def summaries(session: Session, orders: Sequence[Order]) -> list[OrderSummary]:
    """Orders without their polygons, in their order."""
    ids = [order.id for order in orders]
    plans: dict[uuid.UUID, list[uuid.UUID]] = defaultdict(list)
    for order_id, plan_id in session.execute(
        select(OrderPlan.order_id, OrderPlan.plan_id)
        .where(OrderPlan.order_id.in_(ids))
        .order_by(OrderPlan.plan_id)
    ):
        plans[order_id].append(plan_id)
    masks = (OrderTile.patches, OrderTile.left_out_received, OrderTile.left_out_ordered)
    counted = session.execute(
        select(OrderTile.order_id, *(func.sum(func.bit_count(func.int4send(mask))) for mask in masks))
        .where(OrderTile.order_id.in_(ids))
        .group_by(OrderTile.order_id)
    )
    counts = {order_id: tuple(map(int, of_order)) for order_id, *of_order in counted}
    return [_summary(order, plans[order.id], *counts.get(order.id, (0, 0, 0))) for order in orders]


def whole(session: Session, order: Order) -> OrderOut:
    """An order with its polygons, patches and moves."""
    [summary] = summaries(session, [order])
    lines = lines_of(session, order.id)
    left_out = OrderTile.left_out_received.bitwise_or(OrderTile.left_out_ordered)
    tiles = session.scalars(
        select(OrderTile)
        .where(OrderTile.order_id == order.id, OrderTile.patches.bitwise_or(left_out) != 0)
        .order_by(OrderTile.plan_id, OrderTile.tile)
    ).all()
    moves = session.scalars(
        select(OrderMove).where(OrderMove.order_id == order.id).order_by(OrderMove.number)
    )
    return OrderOut(
        **dict(summary) | {"left_out": _left_out(summary.left_out, tiles)},
        lines=[
            LineOut(
                line=line.line,
                area_km2=line.area_km2,
                charged_km2=line.charged_km2,
                amount=line.amount,
                patches=line.patch_count,
                geometry=line.geometry,
            )
            for line in lines
        ],
        tiles=[
            BoughtPatchesOut(
                plan_id=tile.plan_id,
                tile=tile.tile,
                patches=patches_of(tile.patches),
                paid_before=patches_of(tile.paid_before),
            )
            for tile in tiles
            if tile.patches
        ],
        dropped=[TilePatchesOut.model_validate(each) for each in order.dropped],
        moves=[
            MoveOut(
                here=None if move.here is None else OrderState(move.here),
                to=OrderState(move.to),
                at=move.at,
                reason=move.reason,
            )
            for move in moves
        ],
    )


def _left_out(counts: LeftOutCounts, tiles: Sequence[OrderTile]) -> LeftOutOut:
    return LeftOutOut(
        **dict(counts),
        tiles=[
            LeftOutPatchesOut(
                plan_id=tile.plan_id,
                tile=tile.tile,
                received=patches_of(tile.left_out_received),
                ordered=patches_of(tile.left_out_ordered),
            )
            for tile in tiles
            if tile.left_out_received | tile.left_out_ordered
        ],
    )


def lines_of(session: Session, order_id: uuid.UUID) -> list[OrderLine]:
    """An order's polygons, in their order."""
    query = select(OrderLine).where(OrderLine.order_id == order_id).order_by(OrderLine.line)
    return list(session.scalars(query))


def patches_of(mask: int) -> list[int]:
    """The ids whose bits are set."""
    return [patch for patch in range(mask.bit_length()) if mask >> patch & 1]


def _summary(order: Order, plans: list[uuid.UUID], patches: int, received: int, ordered: int) -> OrderSummary:
    real = order.full_total - order.price
    nominal = order.full_nominal - order.nominal
    return OrderSummary(
        id=order.id,
        state=OrderState(order.state),
        created_at=order.created_at,
        placed_at=order.placed_at,
        product=order.product,
        vendor=order.vendor,
        currency=order.currency,
        plans=plans,
        budget=order.budget_id,
        left_out=LeftOutCounts(received=received, ordered=ordered),
        estimate=Estimate(
            patches=patches,
            area_km2=order.area_km2,
            charged_km2=order.charged_km2,
            fee=order.fee,
            unused_minimum=order.unused_minimum,
            rounding=order.rounding,
            net=order.net,
            vat=order.vat,
            total=order.total,
        ),
        full_hr=FullHr(area_km2=order.full_area_km2, total=order.full_total, nominal=order.full_nominal),
        saving=OrderSaving(
            nominal=nominal,
            nominal_share=share(nominal, order.full_nominal),
            real=real,
            real_share=share(real, order.full_total),
        ),
        quote=_quote(order),
        price=order.price,
        cancellation_fee=order.cancellation_fee,
        optimal=order.optimal,
        bound=order.bound,
        links={"self": f"/v1/orders/{order.id}", "ledger": f"/v1/ledger?order={order.id}"},
    )


def _quote(order: Order) -> QuoteOut | None:
    if order.quote_total is None or order.quoted_at is None or order.quote is None:
        return None
    until = order.quote.get("valid_until")
    difference = order.quote_total - order.total
    return QuoteOut(
        total=order.quote_total,
        difference=difference,
        difference_share=share(difference, order.total),
        reference=order.quote.get("reference"),
        valid_until=None if until is None else date.fromisoformat(until),
        note=order.quote.get("note"),
        quoted_at=order.quoted_at,
    )


def share(part: Decimal, whole_of_it: Decimal) -> float | None:
    """A share as a number with six digits; None of nothing."""
    return round(float(part / whole_of_it), 6) if whole_of_it else None


def geojson(session: Session, order: Order) -> str:
    """The polygons as a FeatureCollection."""
    features = [
        {
            "type": "Feature",
            "id": line.line,
            "geometry": line.geometry,
            "properties": {
                "order_id": str(order.id),
                "line": line.line,
                "product": order.product,
                "area_km2": float(line.area_km2),
                "charged_km2": float(line.charged_km2),
                "amount": money.plain(line.amount),
                "currency": order.currency,
                "patches": line.patch_count,
            },
        }
        for line in lines_of(session, order.id)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})
