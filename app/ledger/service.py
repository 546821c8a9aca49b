"""Writing the ledger: each purchase once, however often it is asked for; corrections are entries too."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Select, func, select, text, tuple_, union_all
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from app.acquisitions.tables import Acquisition, ReceivedPatch
from app.core import money
from app.core.errors import IdempotencyMismatch, NotFound, Unprocessable
from app.core.work import uuid7
from app.ledger.places import Place, middles
from app.ledger.shares import shares
from app.ledger.tables import AD_HOC, EntryKind, LedgerEntry
from app.orders.states import LIVE
from app.orders.tables import Order, OrderPlan, OrderTile
from app.plans.service import raster_info
from app.plans.tables import Plan, TileRow

ROWS_AN_INSERT: Final = 2000

# what a purchase still stands at is taken back, its corrections included
REVERSE: Final = text("""
INSERT INTO ledger (
    id, org_id, at, kind, order_id, corrects, plan_id, tile, lon, lat, release, release_version,
    product, vendor, patches, area_km2, currency, amount, reason
)
SELECT gen_random_uuid(), e.org_id, :at, 'reversal', e.order_id, e.id, e.plan_id, e.tile, e.lon, e.lat,
    e.release, e.release_version, e.product, e.vendor, e.patches, -e.area_km2, e.currency,
    -e.amount - coalesce((SELECT sum(c.amount) FROM ledger c
                          WHERE c.corrects = e.id AND c.kind = 'correction'), 0),
    :reason
FROM ledger e
WHERE e.order_id = :order AND e.kind = 'purchase'
ON CONFLICT DO NOTHING
""")


def placed(session: Session, order: Order, at: datetime) -> None:
    """Enter what an order buys: one entry a tile, adding up to the order's price exactly."""
    tiles = session.execute(
        select(OrderTile, Plan.release, Plan.release_version)
        .join(Plan, Plan.id == OrderTile.plan_id)
        .where(OrderTile.order_id == order.id, OrderTile.patches != 0)
        .order_by(OrderTile.plan_id, OrderTile.tile)
    ).all()
    amounts = shares(order.price, [tile.area_km2 for tile, _, _ in tiles])
    rows = [
        {
            "kind": EntryKind.PURCHASE.value,
            "order_id": order.id,
            "plan_id": tile.plan_id,
            "tile": tile.tile,
            "lon": tile.lon,
            "lat": tile.lat,
            "release": release,
            "release_version": version,
            "patches": tile.patches,
            "area_km2": tile.area_km2,
            "amount": amount,
        }
        for (tile, release, version), amount in zip(tiles, amounts, strict=True)
    ]
    _enter(session, order, at, rows)


def delivered(session: Session, order: Order, at: datetime) -> None:
    """Enter that an order came: one entry a plan, which costs nothing."""
    plans = session.scalars(
        select(Plan).join(OrderPlan, OrderPlan.plan_id == Plan.id).where(OrderPlan.order_id == order.id)
    )
    rows = [
        {
            "kind": EntryKind.DELIVERY.value,
            "order_id": order.id,
            "plan_id": plan.id,
            "tile": None,
            "release": plan.release,
            "release_version": plan.release_version,
            "patches": 0,
            "area_km2": Decimal(0),
            "amount": Decimal(0),
        }
        for plan in plans
    ]
    _enter(session, order, at, rows)


def cancelled(session: Session, order: Order, at: datetime, reason: str | None) -> None:
    """Take back what was entered for an order."""
    session.execute(REVERSE, {"order": order.id, "at": at, "reason": reason or "The order was cancelled."})


def acquired(session: Session, plan: Plan, acquisitions: Sequence[uuid.UUID]) -> None:
    """Enter the patches that these acquisitions brought for a plan with a bare price, at that price.

    A patch that an order bought, or that was received before, has been paid for. Of a plan with a product
    nothing is entered. Call it under the plan's lock, after the received patches were written.
    """
    # a vendor's minima, fee and tax are of a whole order: no patch has a price by itself
    if plan.currency is None or plan.product is not None:
        return
    new = session.execute(
        select(ReceivedPatch.acquisition_id, ReceivedPatch.tile, ReceivedPatch.patch, ReceivedPatch.area_km2)
        .add_columns(ReceivedPatch.price)
        .where(ReceivedPatch.acquisition_id.in_(acquisitions))
        .order_by(ReceivedPatch.tile, ReceivedPatch.patch)
    ).all()
    paid = _paid(session, plan, {row.tile for row in new})
    found: dict[tuple[uuid.UUID, int], list[Any]] = defaultdict(lambda: [0, Decimal(0), Decimal(0)])
    for row in new:
        if row.price is not None and not paid[row.tile] >> row.patch & 1:
            entry = found[row.acquisition_id, row.tile]
            entry[0] |= 1 << row.patch
            entry[1] = money.EXACT.add(entry[1], row.area_km2)
            entry[2] = money.EXACT.add(entry[2], row.price)
    places = _places(session, plan, {tile for _, tile in found})
    rows = [
        {
            "id": uuid7(),
            "org_id": plan.org_id,
            "kind": EntryKind.ACQUISITION.value,
            "acquisition_id": acquisition_id,
            "plan_id": plan.id,
            "tile": tile,
            "lon": places[tile][0],
            "lat": places[tile][1],
            "release": plan.release,
            "release_version": plan.release_version,
            "product": AD_HOC,
            "vendor": "",
            "patches": mask,
            "area_km2": area,
            "currency": plan.currency,
            "amount": amount,
        }
        for (acquisition_id, tile), (mask, area, amount) in found.items()
    ]
    _insert(session, rows)


def _paid(session: Session, plan: Plan, tiles: Iterable[int]) -> dict[int, int]:
    """By tile, the patches that live orders bought or that were entered when they were received."""
    wanted = list(tiles)
    paid: dict[int, int] = defaultdict(int)
    ordered = (
        select(OrderTile.tile, OrderTile.patches)
        .join(Order, Order.id == OrderTile.order_id)
        .where(OrderTile.plan_id == plan.id, OrderTile.tile.in_(wanted), Order.state.in_(LIVE))
    )
    entered = select(LedgerEntry.tile, LedgerEntry.patches).where(
        LedgerEntry.plan_id == plan.id,
        LedgerEntry.tile.in_(wanted),
        LedgerEntry.kind == EntryKind.ACQUISITION,
    )
    for query in (ordered, entered):
        for tile, mask in session.execute(query):
            if tile is not None:
                paid[tile] |= mask
    return paid


def _places(session: Session, plan: Plan, tiles: Iterable[int]) -> dict[int, Place]:
    rows = session.scalars(select(TileRow).where(TileRow.plan_id == plan.id, TileRow.tile.in_(list(tiles))))
    found = list(rows)
    return {row.tile: place for row, place in zip(found, middles(found, raster_info(plan)), strict=True)}


def correct(
    session: Session,
    org_id: uuid.UUID,
    entry_id: uuid.UUID,
    amount: Decimal,
    reason: str,
    key: str | None,
) -> tuple[LedgerEntry, bool]:
    """Add a correction of an entry by ``amount`` (its currency, may be negative); True if it was there.

    Raises NotFound, IdempotencyMismatch, and Unprocessable for an entry that is none of a purchase, an amount
    finer than the minor unit, and one that leaves less than nothing of what was bought together.
    """
    entry = session.scalar(
        select(LedgerEntry).where(LedgerEntry.id == entry_id, LedgerEntry.org_id == org_id)
    )
    if entry is None:
        raise NotFound(f"There is no ledger entry {entry_id}.")
    # corrections of what was bought together come one after the other, and not while it is being cancelled
    session.execute(select(Order.id).where(Order.id == entry.order_id).with_for_update())
    session.execute(select(Acquisition.id).where(Acquisition.id == entry.acquisition_id).with_for_update())
    if key is not None:
        known = session.scalar(
            select(LedgerEntry).where(LedgerEntry.corrects == entry.id, LedgerEntry.idempotency_key == key)
        )
        if known is not None:
            if (known.amount, known.reason) != (amount, reason):
                raise IdempotencyMismatch("This Idempotency-Key was used before with another body.")
            return known, True
    if entry.kind not in (EntryKind.PURCHASE, EntryKind.ACQUISITION):
        raise Unprocessable(f"An entry of kind {entry.kind} is not corrected; correct the purchase.")
    taken_back = session.scalar(
        select(func.count()).where(LedgerEntry.corrects == entry.id, LedgerEntry.kind == EntryKind.REVERSAL)
    )
    if taken_back:
        raise Unprocessable("This purchase was taken back, there is nothing left to correct.")
    _check_amount(session, entry, amount)
    values = {
        name: getattr(entry, name)
        for name in (
            *("org_id", "order_id", "plan_id", "tile", "lon", "lat", "release", "release_version"),
            *("product", "vendor", "currency"),
        )
    }
    row = LedgerEntry(
        **values,
        id=uuid7(),
        kind=EntryKind.CORRECTION.value,
        corrects=entry.id,
        patches=0,
        area_km2=Decimal(0),
        amount=amount,
        reason=reason,
        idempotency_key=key,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return row, False


def _check_amount(session: Session, entry: LedgerEntry, amount: Decimal) -> None:
    """Whether a correction is money, and no more than was paid: an entry alone is a share nobody pays."""
    if amount != money.total_of(amount, entry.currency):
        unit = money.plain(money.minor_unit(entry.currency))
        raise _refused(f"Nothing finer than {unit} {entry.currency} is paid.")
    paid: Decimal = session.scalars(_paid_together(entry)).one()
    # an acquisition's prices are unrounded: all of it back may be a part of a minor unit more
    if money.total_of(money.EXACT.add(paid, amount), entry.currency) < 0:
        paid_for = "order" if entry.order_id is not None else "acquisition"
        total = money.plain(money.total_of(paid, entry.currency))
        raise _refused(
            f"The entry's {paid_for} stands at {total} {entry.currency}: no more can be given back."
        )


def _paid_together(entry: LedgerEntry) -> Select[Decimal]:
    """The query of what an entry's order or acquisition stands at, in its currency, corrections included."""
    if entry.order_id is not None:
        return select(func.sum(LedgerEntry.amount)).where(LedgerEntry.order_id == entry.order_id)
    # only an entry itself names its acquisition, so that no correction is in both halves; one condition
    # with OR would read the whole ledger
    bought = LedgerEntry.acquisition_id == entry.acquisition_id
    correction = aliased(LedgerEntry)
    both = union_all(
        select(LedgerEntry.amount).where(bought),
        select(correction.amount).join(LedgerEntry, correction.corrects == LedgerEntry.id).where(bought),
    ).subquery()
    return select(func.sum(both.c.amount))


def _refused(detail: str) -> Unprocessable:
    return Unprocessable(detail, errors=[{"loc": ["body", "amount"], "detail": detail}])


def _enter(session: Session, order: Order, at: datetime, rows: list[dict[str, Any]]) -> None:
    common = {
        "org_id": order.org_id,
        "at": at,
        "product": order.product,
        "vendor": order.vendor,
        "currency": order.currency,
    }
    _insert(session, [{"id": uuid7(), **common, **row} for row in rows])


def _insert(session: Session, rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), ROWS_AN_INSERT):
        session.execute(insert(LedgerEntry).on_conflict_do_nothing(), rows[start : start + ROWS_AN_INSERT])


def list_entries(
    session: Session,
    org_id: uuid.UUID,
    limit: int,
    place: tuple[Any, uuid.UUID] | None,
    order_id: uuid.UUID | None,
    plan_id: uuid.UUID | None,
) -> list[LedgerEntry]:
    """Up to ``limit`` entries, newest first, after ``place`` (time and id of the last one seen)."""
    query = select(LedgerEntry).where(LedgerEntry.org_id == org_id)
    if place is not None:
        query = query.where(tuple_(LedgerEntry.at, LedgerEntry.id) < place)
    if order_id is not None:
        query = query.where(LedgerEntry.order_id == order_id)
    if plan_id is not None:
        query = query.where(LedgerEntry.plan_id == plan_id)
    newest = query.order_by(LedgerEntry.at.desc(), LedgerEntry.id.desc()).limit(limit)
    return list(session.scalars(newest))
