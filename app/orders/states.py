"""The states of an order and the moves between them; the database's trigger holds the same table."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from app.core.errors import OrderMoveRefused


class OrderState(StrEnum):
    """Where an order is on its way."""

    DRAFT = "draft"
    QUOTED = "quoted"
    PLACED = "placed"
    RECEIVED = "received"
    CANCELLED = "cancelled"


MOVES: Final[Mapping[OrderState, frozenset[OrderState]]] = {
    # straight to placed: a product with a public price needs no quote
    OrderState.DRAFT: frozenset({OrderState.QUOTED, OrderState.PLACED, OrderState.CANCELLED}),
    # quoted again: the vendor revised the offer
    OrderState.QUOTED: frozenset({OrderState.QUOTED, OrderState.PLACED, OrderState.CANCELLED}),
    OrderState.PLACED: frozenset({OrderState.RECEIVED, OrderState.CANCELLED}),
    OrderState.RECEIVED: frozenset(),
    OrderState.CANCELLED: frozenset(),
}

LIVE: Final = (OrderState.PLACED, OrderState.RECEIVED)
"""Orders in these states have been bought."""


def check_move(here: OrderState, to: OrderState) -> None:
    """Raises OrderMoveRefused for a move that the table does not hold."""
    if to not in MOVES[here]:
        possible = sorted(state.value for state in MOVES[here])
        ways = f"from there it can become {', '.join(possible)}" if possible else "that is its last state"
        raise OrderMoveRefused(
            f"The order is {here} and cannot become {to}: {ways}.", state=here.value, moves=possible
        )
