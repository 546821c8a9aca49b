"""Making orders and moving them: one transaction writes a move, its ledger entries and its webhooks."""

import hashlib
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any, Final

from sqlalchemy import func, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.core import money, queue
from app.core.auth import Principal
from app.core.db import session_scope
from app.core.errors import (
    IdempotencyMismatch,
    NotFound,
    OrderMoveRefused,
    PriceListExpired,
    TooManyDrafts,
    Unprocessable,
)
from app.core.paging import Place
from app.ledger import received
from app.ledger import service as ledger
from app.orders import drafting, reading
from app.orders.schemas import MoveForm, OrderForm, OrderOut, QuoteForm
from app.orders.states import LIVE, OrderState, check_move
from app.orders.tables import Order, OrderMove
from app.pricing.products import Product
from app.webhooks.schemas import Event
from app.webhooks.service import tell
from app.webhooks.tables import WebhookDelivery

EVENTS: Final = {
    OrderState.DRAFT: Event.DRAFTED,
    OrderState.QUOTED: Event.QUOTED,
    OrderState.PLACED: Event.PLACED,
    OrderState.RECEIVED: Event.RECEIVED,
    OrderState.CANCELLED: Event.CANCELLED,
}

LATER_FIELDS: Final = {"classifications": None, "again": False, "cancellation_fee": None, "currency": None}
"""What says nothing in fields that forms did not always have: keys from before still hold."""

DRAFTS_AT_ONCE: Final = 2
"""In one process: a draft holds a processor for up to twice ``order_search_s``, and a thread of the API."""
DRAFT_WAIT_S: Final = 5.0
"""Long enough for small drafts to end; each who waits holds a thread."""
_TURNS: Final = threading.BoundedSemaphore(DRAFTS_AT_ONCE)


def fingerprint(form: OrderForm | QuoteForm | MoveForm) -> str:
    """What makes two bodies the same."""
    said = form.model_dump(mode="json")
    for name, unsaid in LATER_FIELDS.items():
        if said.get(name) == unsaid:
            said.pop(name, None)
    meaning = [type(form).__name__, said]
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def create(principal: Principal, form: OrderForm, key: str | None) -> tuple[uuid.UUID, bool]:
    """A draft of the form, and whether the key had made it before.

    The polygons are worked out between two short transactions. Raises what ``drafting`` raises,
    IdempotencyMismatch, and TooManyDrafts.
    """
    digest = fingerprint(form)
    with session_scope() as session:
        known = _made_with(session, principal.org_id, key, digest)
        if known is not None:
            return known, True
    with _turn():
        with session_scope() as session:
            wanted = drafting.read(session, principal.org_id, form)
        made = drafting.draft(principal.org_id, wanted)
    made.order.idempotency_key = key
    made.order.fingerprint = digest if key is not None else None
    try:
        with session_scope() as session:
            _write(session, principal, made)
    except IntegrityError:
        # the same request at the same time was quicker: its order is this one's answer
        with session_scope() as session:
            known = _made_with(session, principal.org_id, key, digest)
        if known is None:
            raise
        return known, True
    queue.send(WebhookDelivery.__tablename__)
    return made.order.id, False


@contextmanager
def _turn() -> Iterator[None]:
    """One of the few drafts at once, taken before the patches are read: they are most of the memory."""
    if not _TURNS.acquire(timeout=DRAFT_WAIT_S):
        raise TooManyDrafts(f"{DRAFTS_AT_ONCE} orders are being drafted already. Send the same again later.")
    try:
        yield
    finally:
        _TURNS.release()


def _made_with(session: Session, org_id: uuid.UUID, key: str | None, digest: str) -> uuid.UUID | None:
    if key is None:
        return None
    known = session.execute(
        select(Order.id, Order.fingerprint).where(Order.org_id == org_id, Order.idempotency_key == key)
    ).first()
    if known is None:
        return None
    if known.fingerprint != digest:
        raise IdempotencyMismatch("This Idempotency-Key was used before with another body.")
    found: uuid.UUID = known.id
    return found


def _write(session: Session, principal: Principal, made: drafting.Draft) -> None:
    session.add(made.order)
    session.flush()
    session.add_all([*made.plans, *made.lines, *made.tiles])
    session.refresh(made.order, ["created_at"])
    _note(session, principal, made.order, None, OrderState.DRAFT)


def get(session: Session, org_id: uuid.UUID, order_id: uuid.UUID, *, lock: bool = False) -> Order:
    """The organisation's order, locked against other moves if asked; raises NotFound."""
    query = select(Order).where(Order.id == order_id, Order.org_id == org_id)
    order = session.scalar(query.with_for_update() if lock else query)
    if order is None:
        raise NotFound(f"There is no order {order_id}.")
    return order


def list_orders(
    session: Session, org_id: uuid.UUID, limit: int, place: Place | None, state: OrderState | None
) -> list[Order]:
    """Up to ``limit`` orders, newest first, after ``place`` (time and id of the last one seen)."""
    query = select(Order).where(Order.org_id == org_id)
    if state is not None:
        query = query.where(Order.state == state)
    if place is not None:
        query = query.where(tuple_(Order.created_at, Order.id) < place)
    return list(session.scalars(query.order_by(Order.created_at.desc(), Order.id.desc()).limit(limit)))


def take_quote(
    principal: Principal, order_id: uuid.UUID, form: QuoteForm, key: str | None
) -> tuple[OrderOut, bool]:
    """Keep the vendor's offer and move to quoted: the order, and whether the key had done so before.

    Raises NotFound, OrderMoveRefused, Unprocessable for another currency or an offer that has run out.
    """

    def write(_session: Session, order: Order, at: datetime) -> None:
        if form.currency != order.currency:
            raise _refused(
                "currency", f"The order is in {order.currency}; a quote in another cannot be compared."
            )
        if form.valid_until is not None and form.valid_until < _today():
            raise _refused("valid_until", "The quote has run out.")
        order.quote_total = form.total
        order.quoted_at = at
        order.quote = form.model_dump(mode="json", include={"reference", "valid_until", "note"})

    return _move(principal, order_id, OrderState.QUOTED, form.note, key, fingerprint(form), write)


def move(principal: Principal, order_id: uuid.UUID, form: MoveForm, key: str | None) -> tuple[OrderOut, bool]:
    """Move an order and enter in the ledger what that means: the order as this move left it, and whether the
    key had done so before (then as it stands).

    Raises NotFound, OrderMoveRefused, PriceListExpired, Unprocessable for a fee that this order cannot have
    cost.
    """
    to = OrderState(form.to)

    def write(session: Session, order: Order, at: datetime) -> None:
        if to is OrderState.PLACED:
            _check_price_holds(order)
            order.placed_at = at
            ledger.placed(session, order, at)
        elif to is OrderState.RECEIVED:
            ledger.delivered(session, order, at)
        else:
            _check_fee(order, form)
            if order.state == OrderState.PLACED:
                ledger.cancelled(session, order, at, form.reason)
            if form.cancellation_fee:
                ledger.charged(session, order, at, form.cancellation_fee, form.reason)
            # last: the database takes a fee together with the state, and queries write what was changed
            order.cancellation_fee = form.cancellation_fee

    return _move(principal, order_id, to, form.reason, key, fingerprint(form), write)


def _move(
    principal: Principal,
    order_id: uuid.UUID,
    to: OrderState,
    reason: str | None,
    key: str | None,
    digest: str,
    write: Callable[[Session, Order, datetime], None],
) -> tuple[OrderOut, bool]:
    with session_scope() as session:
        # whoever comes second waits here, and then sees the state that the first left
        order = get(session, principal.org_id, order_id, lock=True)
        if key is not None and _moved_with(session, order_id, key, digest):
            return reading.whole(session, order), True
        here = OrderState(order.state)
        check_move(here, to)
        buys_other_than_before = (here in LIVE) != (to in LIVE)
        if buys_other_than_before:
            received.hold(session, order)
        # one moment for the move and its entries, after the wait for the locks
        at = session.scalars(select(func.clock_timestamp())).one()
        write(session, order, at)
        order.state = to
        session.flush()
        if buys_other_than_before:
            received.settle(session, order, at)
        _note(session, principal, order, here, to, at=at, reason=reason, key=key, digest=digest)
        # read before the lock is given up: whoever waits for it may move the order on
        made = reading.whole(session, order)
    queue.send(WebhookDelivery.__tablename__)
    return made, False


def _moved_with(session: Session, order_id: uuid.UUID, key: str, digest: str) -> bool:
    known = session.scalar(
        select(OrderMove.fingerprint).where(OrderMove.order_id == order_id, OrderMove.idempotency_key == key)
    )
    if known is not None and known != digest:
        raise IdempotencyMismatch("This Idempotency-Key was used before with another body.")
    return known is not None


def _note(
    session: Session,
    principal: Principal,
    order: Order,
    here: OrderState | None,
    to: OrderState,
    *,
    at: datetime | None = None,
    reason: str | None = None,
    key: str | None = None,
    digest: str | None = None,
) -> None:
    """Write the move down and tell of it, in the transaction that makes it."""
    moves = session.scalar(select(func.count()).where(OrderMove.order_id == order.id)) or 0
    session.add(
        OrderMove(
            order_id=order.id,
            number=moves + 1,
            here=here,
            to=to,
            at=order.created_at if at is None else at,
            key_id=principal.key_id,
            reason=reason,
            idempotency_key=key,
            fingerprint=digest if key is not None else None,
        )
    )
    tell(session, order.org_id, EVENTS[to], order.id, _message(order, here, to))


def _message(order: Order, here: OrderState | None, to: OrderState) -> dict[str, Any]:
    return {
        "order_id": str(order.id),
        "from": here,
        "to": to.value,
        "product": order.product,
        "currency": order.currency,
        "estimate": money.plain(order.total),
        "quote": None if order.quote_total is None else money.plain(order.quote_total),
        "cancellation_fee": None if order.cancellation_fee is None else money.plain(order.cancellation_fee),
    }


def _check_fee(order: Order, form: MoveForm) -> None:
    if form.cancellation_fee is None:
        return
    if order.state != OrderState.PLACED:
        raise _refused("cancellation_fee", "The order was not placed: nobody charges for cancelling it.")
    if form.currency != order.currency:
        raise _refused("currency", f"The order is in {order.currency}, and so is its fee.")
    if form.cancellation_fee > order.price:
        price = money.plain(order.price)
        detail = f"The order's price is {price} {order.currency}: to cancel it costs no more."
        raise _refused("cancellation_fee", detail)


def _check_price_holds(order: Order) -> None:
    today = _today()
    if order.quote is not None:
        until = order.quote.get("valid_until")
        if until is not None and date.fromisoformat(until) < today:
            raise OrderMoveRefused(
                f"The quote held until {until}; post a new one.", state=order.state, moves=[]
            )
        return
    product = Product.from_json(order.terms)
    if not product.is_valid(today):
        raise PriceListExpired(
            f"The prices of {product.ref} held until {product.valid_to}; draft anew, or post a quote.",
            product=product.ref,
        )


def _today() -> date:
    return datetime.now(UTC).date()


def _refused(name: str, detail: str) -> Unprocessable:
    return Unprocessable(detail, errors=[{"loc": ["body", name], "detail": detail}])
