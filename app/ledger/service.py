"""Writing the ledger: each purchase once, however often it is asked for; corrections are entries too."""

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, func, literal, select, tuple_, union_all
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from app.core import money
from app.core.errors import IdempotencyMismatch, NotFound, Unprocessable
from app.core.work import uuid7
from app.ledger.shares import shares
from app.ledger.tables import EntryKind, LedgerEntry
from app.orders.tables import Order, OrderPlan, OrderTile
from app.plans.tables import Plan

ROWS_AN_INSERT: Final = 2000

KEPT: Final = (
    *("org_id", "order_id", "plan_id", "tile", "lon", "lat", "release", "release_version"),
    *("product", "vendor", "currency"),
)
"""What an entry that corrects another has in common with it."""


def placed(session: Session, order: Order, at: datetime) -> None:
    """Enter what an order buys: one entry a tile, adding up to the order's price exactly."""
    _enter_shares(session, order, at, EntryKind.PURCHASE, order.price, None)


def charged(session: Session, order: Order, at: datetime, fee: Decimal, reason: str | None) -> None:
    """Enter what a vendor charges for cancelling an order: one entry a tile, adding up to the fee exactly.

    By tile as a purchase, so that reports of an area, a release or a class find their part of it.
    """
    _enter_shares(
        session, order, at, EntryKind.CANCELLATION_FEE, fee, reason or "The order was cancelled at a fee."
    )


def _enter_shares(
    session: Session, order: Order, at: datetime, kind: EntryKind, total: Decimal, reason: str | None
) -> None:
    tiles = session.execute(
        select(OrderTile, Plan.release, Plan.release_version)
        .join(Plan, Plan.id == OrderTile.plan_id)
        .where(OrderTile.order_id == order.id, OrderTile.patches != 0)
        .order_by(OrderTile.plan_id, OrderTile.tile)
    ).all()
    amounts = shares(total, [tile.area_km2 for tile, _, _ in tiles])
    buys = kind is EntryKind.PURCHASE
    rows = [
        {
            "kind": kind.value,
            "order_id": order.id,
            "plan_id": tile.plan_id,
            "tile": tile.tile,
            "lon": tile.lon,
            "lat": tile.lat,
            "release": release,
            "release_version": version,
            "patches": tile.patches if buys else 0,
            "area_km2": tile.area_km2 if buys else Decimal(0),
            "amount": amount,
            "reason": reason,
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
    bought = (LedgerEntry.order_id == order.id) & (LedgerEntry.kind == EntryKind.PURCHASE)
    reverse(session, bought, at, reason or "The order was cancelled.")


def reverse(session: Session, which: ColumnElement[bool], at: datetime, reason: str) -> None:
    """Take back what these entries still stand at, their corrections included; each is taken back once."""
    correction = aliased(LedgerEntry)
    corrected = (
        select(func.coalesce(func.sum(correction.amount), 0))
        .where(correction.corrects == LedgerEntry.id, correction.kind == EntryKind.CORRECTION)
        .scalar_subquery()
    )
    values = {
        **{name: getattr(LedgerEntry, name) for name in KEPT},
        "id": func.gen_random_uuid(),
        "at": literal(at),
        "kind": literal(EntryKind.REVERSAL.value),
        "corrects": LedgerEntry.id,
        "patches": LedgerEntry.patches,
        "area_km2": -LedgerEntry.area_km2,
        "amount": -LedgerEntry.amount - corrected,
        "reason": literal(reason),
    }
    taken = select(*values.values()).where(which)
    session.execute(insert(LedgerEntry).from_select(list(values), taken).on_conflict_do_nothing())


def correct(
    session: Session,
    org_id: uuid.UUID,
    entry_id: uuid.UUID,
    amount: Decimal,
    reason: str,
    key: str | None,
) -> tuple[LedgerEntry, bool]:
    """Add a correction of an entry by ``amount`` (its currency, may be negative); True if it was there.

    Raises NotFound, IdempotencyMismatch, and Unprocessable for an entry that is no purchase and no fee, an
    amount finer than the minor unit, and one that leaves less than nothing of what was bought together.
    """
    entry = session.scalar(
        select(LedgerEntry).where(LedgerEntry.id == entry_id, LedgerEntry.org_id == org_id)
    )
    if entry is None:
        raise NotFound(f"There is no ledger entry {entry_id}.")
    # corrections of what was bought together come one after the other, and not while it is being taken back
    session.execute(select(Order.id).where(Order.id == entry.order_id).with_for_update())
    if entry.order_id is None:
        session.execute(select(Plan.id).where(Plan.id == entry.plan_id).with_for_update(key_share=True))
    if key is not None:
        known = session.scalar(
            select(LedgerEntry).where(LedgerEntry.corrects == entry.id, LedgerEntry.idempotency_key == key)
        )
        if known is not None:
            if (known.amount, known.reason) != (amount, reason):
                raise IdempotencyMismatch("This Idempotency-Key was used before with another body.")
            return known, True
    if entry.kind not in (EntryKind.PURCHASE, EntryKind.ACQUISITION, EntryKind.CANCELLATION_FEE):
        raise Unprocessable(f"An entry of kind {entry.kind} is not corrected; correct the purchase.")
    taken_back = session.scalar(
        select(func.count()).where(LedgerEntry.corrects == entry.id, LedgerEntry.kind == EntryKind.REVERSAL)
    )
    if taken_back:
        raise Unprocessable("This purchase was taken back, there is nothing left to correct.")
    _check_amount(session, entry, amount)
    row = LedgerEntry(
        **{name: getattr(entry, name) for name in KEPT},
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
    insert_rows(session, [{"id": uuid7(), **common, **row} for row in rows])


def insert_rows(session: Session, rows: list[dict[str, Any]]) -> None:
    """Add entries; what an order enters once and is there already is left as it is."""
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
