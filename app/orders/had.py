"""What of plans is there or on its way: patches that were received, and those that placed orders cover."""

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import func, literal, select
from sqlalchemy.orm import Session

from app.acquisitions.tables import ReceivedPatch
from app.orders.states import LIVE
from app.orders.tables import Order, OrderTile

Tile = tuple[uuid.UUID, int]


class LeftOut(NamedTuple):
    """Patches of a tile that an order does not ask for again, as bits, each under one reason."""

    received: int
    ordered: int


@dataclass(frozen=True)
class Had:
    """By tile, patches as bits: whose pixels stand as received, and what live orders cover.

    It is by plan. Pixels for another plan over the same ground are of another day for all that is known;
    sent to this plan as well, they are its own.
    """

    received: Mapping[Tile, int]
    ordered: Mapping[Tile, int]

    def of(self, tile: Tile, patches: Collection[int]) -> LeftOut:
        """Which of these patches of a tile need not be asked for; what came and was ordered came."""
        asked = sum(1 << patch for patch in patches)
        received = asked & self.received.get(tile, 0)
        return LeftOut(received, asked & self.ordered.get(tile, 0) & ~received)


def read_had(session: Session, plan_ids: Collection[uuid.UUID]) -> Had:
    """What is there of these plans now."""
    received = (
        select(
            ReceivedPatch.plan_id,
            ReceivedPatch.tile,
            func.bit_or(literal(1).bitwise_lshift(ReceivedPatch.patch)),
        )
        .where(ReceivedPatch.plan_id.in_(plan_ids), ReceivedPatch.superseded_in.is_(None))
        .group_by(ReceivedPatch.plan_id, ReceivedPatch.tile)
    )
    ordered = (
        select(OrderTile.plan_id, OrderTile.tile, func.bit_or(OrderTile.patches))
        .join(Order, Order.id == OrderTile.order_id)
        .where(OrderTile.plan_id.in_(plan_ids), Order.state.in_(LIVE))
        .group_by(OrderTile.plan_id, OrderTile.tile)
    )
    return Had(*({(row[0], row[1]): row[2] for row in session.execute(each)} for each in (received, ordered)))
