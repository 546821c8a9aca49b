"""What was received for plans with a price of their own: entered at it, as long as no order has bought it."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any, Final

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session, aliased

from app.acquisitions.tables import ReceivedPatch
from app.core import money
from app.core.work import uuid7
from app.ledger import service
from app.ledger.places import Place, middles
from app.ledger.shares import shares
from app.ledger.tables import AD_HOC, EntryKind, LedgerEntry
from app.orders.reading import patches_of
from app.orders.states import LIVE
from app.orders.tables import Order, OrderPlan, OrderTile
from app.plans.service import raster_info
from app.plans.tables import Plan, TileRow

TILES_AT_ONCE: Final = 1000
"""At most 16,000 patches are held together, however large an order is."""


@dataclass
class _Part:
    """What is entered of a tile of one acquisition: patches as bits, km², the plan's currency."""

    patches: int = 0
    area_km2: Decimal = Decimal(0)
    amount: Decimal = Decimal(0)
    corrected: Decimal = Decimal(0)

    def add(self, patch: int, area_km2: Decimal, price: Decimal, corrected: Decimal) -> None:
        self.patches |= 1 << patch
        self.area_km2 = money.EXACT.add(self.area_km2, area_km2)
        self.amount = money.EXACT.add(self.amount, price)
        self.corrected = money.EXACT.add(self.corrected, corrected)


def hold(session: Session, order: Order) -> None:
    """Lock the plans of an order until the transaction ends: what is received meanwhile, and other orders of
    them, wait. Call it before the order's state is changed.
    """
    plans = select(Plan.id).join(OrderPlan, OrderPlan.plan_id == Plan.id)
    plans = plans.where(OrderPlan.order_id == order.id).order_by(Plan.id)
    # a correction that waits for this lock may hold the row as a foreign key, which this lock leaves free
    session.execute(plans.with_for_update(of=Plan, key_share=True))


def acquired(session: Session, plan: Plan, acquisitions: Sequence[uuid.UUID]) -> None:
    """Enter the patches that these acquisitions brought for a plan with a bare price, at that price.

    A patch that an order bought, or that was received before, has been paid for. Of a plan with a product
    nothing is entered. Call it under the plan's lock, after the received patches were written.
    """
    tiles = select(ReceivedPatch.tile).where(ReceivedPatch.acquisition_id.in_(acquisitions)).distinct()
    at = session.scalars(select(func.clock_timestamp())).one()
    _settle(session, plan, session.scalars(tiles).all(), at, None)


def settle(session: Session, order: Order, at: datetime) -> None:
    """Bring what was received of an order's tiles in line with the order's new state, placed or cancelled.

    What the order now buys is taken back where it had been entered by itself; what it no longer buys, and no
    other order does, is entered. Call it after ``hold``, once the state is written.
    """
    plans = select(Plan).join(OrderPlan, OrderPlan.plan_id == Plan.id)
    plans = plans.where(OrderPlan.order_id == order.id).order_by(Plan.id)
    for plan in session.scalars(plans).all():
        tiles = select(OrderTile.tile).where(
            OrderTile.order_id == order.id, OrderTile.plan_id == plan.id, OrderTile.patches != 0
        )
        _settle(session, plan, session.scalars(tiles).all(), at, f"Order {order.id} was {order.state}.")


def _settle(session: Session, plan: Plan, tiles: Iterable[int], at: datetime, reason: str | None) -> None:
    # a vendor's minima, fee and tax are of a whole order: no patch has a price by itself
    if plan.currency is None or plan.product is not None:
        return
    for some in _batches(sorted(tiles)):
        bought = _bought(session, plan, some)
        twice = [entry.id for entry in _standing(session, plan, some) if entry.patches & bought[entry.tile]]
        service.reverse(session, LedgerEntry.id.in_(twice), at, reason or "An order bought these patches.")
        _enter(session, plan, some, bought, at, reason)


def _batches(tiles: list[int]) -> Iterator[list[int]]:
    rest = iter(tiles)
    while some := list(islice(rest, TILES_AT_ONCE)):
        yield some


def _bought(session: Session, plan: Plan, tiles: list[int]) -> dict[int, int]:
    """By tile, the patches that live orders pay for."""
    found: dict[int, int] = defaultdict(int)
    rows = session.execute(
        select(OrderTile.tile, OrderTile.patches, OrderTile.paid_before)
        .join(Order, Order.id == OrderTile.order_id)
        .where(OrderTile.plan_id == plan.id, OrderTile.tile.in_(tiles), Order.state.in_(LIVE))
    )
    for tile, mask, paid_before in rows:
        found[tile] |= mask & ~paid_before
    return found


def _standing(session: Session, plan: Plan, tiles: list[int]) -> Sequence[Any]:
    """The entries of what was received that were not taken back."""
    taken = aliased(LedgerEntry)
    return session.execute(
        select(LedgerEntry.id, LedgerEntry.tile, LedgerEntry.patches).where(
            LedgerEntry.plan_id == plan.id,
            LedgerEntry.tile.in_(tiles),
            LedgerEntry.kind == EntryKind.ACQUISITION,
            ~select(taken.id)
            .where(taken.corrects == LedgerEntry.id, taken.kind == EntryKind.REVERSAL)
            .exists(),
        )
    ).all()


def _enter(
    session: Session, plan: Plan, tiles: list[int], bought: dict[int, int], at: datetime, reason: str | None
) -> None:
    """Enter what was received of the tiles, was not bought by an order and does not stand yet."""
    paid = defaultdict(int, bought)
    for entry in _standing(session, plan, tiles):
        paid[entry.tile] |= entry.patches
    corrected = _corrected(session, plan, tiles)
    found: dict[tuple[uuid.UUID, int], _Part] = defaultdict(_Part)
    for row in _received(session, plan, tiles):
        if row.price is not None and not paid[row.tile] >> row.patch & 1:
            part = found[row.acquisition_id, row.tile]
            part.add(row.patch, row.area_km2, row.price, corrected.get((row.tile, row.patch), Decimal(0)))
    places = _places(session, plan, {tile for _, tile in found})
    rows = []
    for (acquisition_id, tile), part in found.items():
        common = {
            "org_id": plan.org_id,
            "at": at,
            "plan_id": plan.id,
            "tile": tile,
            "lon": places[tile][0],
            "lat": places[tile][1],
            "release": plan.release,
            "release_version": plan.release_version,
            "product": AD_HOC,
            "vendor": "",
            "currency": plan.currency,
            "reason": reason,
        }
        entry = {
            "id": uuid7(),
            "kind": EntryKind.ACQUISITION.value,
            "acquisition_id": acquisition_id,
            "corrects": None,
            "patches": part.patches,
            "area_km2": part.area_km2,
            "amount": part.amount,
        }
        rows.append(common | entry)
        if part.corrected:
            correction = {
                "id": uuid7(),
                "kind": EntryKind.CORRECTION.value,
                "acquisition_id": None,
                "corrects": entry["id"],
                "patches": 0,
                "area_km2": Decimal(0),
                "amount": part.corrected,
            }
            rows.append(common | correction)
    service.insert_rows(session, rows)


def _received(session: Session, plan: Plan, tiles: list[int]) -> Sequence[Any]:
    """Each patch once, as it came first: one that was replaced is paid for once."""
    return session.execute(
        select(ReceivedPatch.tile, ReceivedPatch.patch, ReceivedPatch.acquisition_id)
        .add_columns(ReceivedPatch.area_km2, ReceivedPatch.price)
        .where(ReceivedPatch.plan_id == plan.id, ReceivedPatch.tile.in_(tiles))
        .ext(distinct_on(ReceivedPatch.tile, ReceivedPatch.patch))
        .order_by(
            ReceivedPatch.tile,
            ReceivedPatch.patch,
            ReceivedPatch.received_in,
            ReceivedPatch.acquisition_id,
        )
    ).all()


def _corrected(session: Session, plan: Plan, tiles: list[int]) -> dict[tuple[int, int], Decimal]:
    """By tile and patch, what corrections had added to it when it was last taken back.

    What comes back stands at what it stood at: a credit note is not lost because an order came and went. An
    entry's corrections are shared out over its patches in equal parts.
    """
    taken = aliased(LedgerEntry)
    rows = session.execute(
        select(LedgerEntry.tile, LedgerEntry.patches, -taken.amount - LedgerEntry.amount)
        .join(taken, (taken.corrects == LedgerEntry.id) & (taken.kind == EntryKind.REVERSAL))
        .where(
            LedgerEntry.plan_id == plan.id,
            LedgerEntry.tile.in_(tiles),
            LedgerEntry.kind == EntryKind.ACQUISITION,
        )
        .order_by(taken.at)
    )
    found: dict[tuple[int, int], Decimal] = {}
    for tile, mask, corrections in rows:
        patches = patches_of(mask)
        parts = shares(corrections, [Decimal(1)] * len(patches))
        for patch, part in zip(patches, parts, strict=True):
            if tile is not None:
                found[tile, patch] = part
    return found


def _places(session: Session, plan: Plan, tiles: Iterable[int]) -> dict[int, Place]:
    rows = session.scalars(select(TileRow).where(TileRow.plan_id == plan.id, TileRow.tile.in_(list(tiles))))
    found = list(rows)
    return {row.tile: place for row, place in zip(found, middles(found, raster_info(plan)), strict=True)}
