"""Registering webhooks, telling them, and the rows that hold what was told until it was heard."""

import base64
import json
import random
import secrets
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ARRAY, CTE, Uuid, all_, and_, any_, case, func, literal, select, true, tuple_, update
from sqlalchemy.orm import Session

from app.core.errors import Conflict, NotFound
from app.core.paging import read_token, token_of
from app.core.settings import get_settings
from app.core.texts import utc
from app.core.work import uuid7
from app.webhooks.addresses import check_url
from app.webhooks.schemas import Event, WebhookForm
from app.webhooks.tables import DeliveryState, WebhookDelivery, WebhookEndpoint

MOST_ENDPOINTS: Final = 20
LONGEST_WAIT_S: Final = 6 * 3600
GRACE_S: Final = 20
"""Beyond the time a try may take, how long a worker may be silent before another tries."""
IS_DUE: Final = and_(
    WebhookDelivery.state == DeliveryState.WAITING,
    # the statement's time and not each row's, by which no index could be searched
    WebhookDelivery.next_try_at <= func.statement_timestamp(),
)


def register(session: Session, org_id: uuid.UUID, form: WebhookForm) -> WebhookEndpoint:
    """A new webhook with a secret of its own; raises WebhookUrlRefused, Conflict when there are too many."""
    url = check_url(form.url)
    # one at a time, or those who count at the same moment are together too many
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"webhooks {org_id}", 0))))
    known = session.scalar(
        select(func.count())
        .select_from(WebhookEndpoint)
        .where(WebhookEndpoint.org_id == org_id, WebhookEndpoint.removed_at.is_(None))
    )
    if (known or 0) >= MOST_ENDPOINTS:
        raise Conflict(f"An organisation has at most {MOST_ENDPOINTS} webhooks; remove one first.")
    row = WebhookEndpoint(
        org_id=org_id,
        url=url,
        events=[event.value for event in form.events],
        description=form.description,
        secret="whsec_" + base64.b64encode(secrets.token_bytes(32)).decode(),
    )
    session.add(row)
    session.flush()
    return row


def get(session: Session, org_id: uuid.UUID, webhook_id: uuid.UUID) -> WebhookEndpoint:
    """The organisation's webhook; raises NotFound."""
    row = session.scalar(
        select(WebhookEndpoint).where(
            WebhookEndpoint.id == webhook_id,
            WebhookEndpoint.org_id == org_id,
            WebhookEndpoint.removed_at.is_(None),
        )
    )
    if row is None:
        raise NotFound(f"There is no webhook {webhook_id}.")
    return row


def remove(session: Session, org_id: uuid.UUID, webhook_id: uuid.UUID) -> None:
    """Tell it nothing more; what still waits for it is given up. Raises NotFound."""
    _retire(session, get(session, org_id, webhook_id).id, "The webhook was removed.")


def _retire(session: Session, endpoint_id: uuid.UUID, why: str) -> None:
    session.execute(
        update(WebhookEndpoint)
        .where(WebhookEndpoint.id == endpoint_id)
        .values(removed_at=func.clock_timestamp())
    )
    session.execute(
        update(WebhookDelivery)
        .where(WebhookDelivery.endpoint_id == endpoint_id, WebhookDelivery.state == DeliveryState.WAITING)
        .values(state=DeliveryState.GIVEN_UP, finished_at=func.clock_timestamp(), error=why)
    )


def list_webhooks(
    session: Session, org_id: uuid.UUID, limit: int, token: str | None
) -> tuple[list[WebhookEndpoint], str | None]:
    """A page of the organisation's webhooks, newest first, and the token of the next."""
    query = select(WebhookEndpoint).where(
        WebhookEndpoint.org_id == org_id, WebhookEndpoint.removed_at.is_(None)
    )
    if token is not None:
        query = query.where(tuple_(WebhookEndpoint.created_at, WebhookEndpoint.id) < read_token(token))
    order = WebhookEndpoint.created_at.desc(), WebhookEndpoint.id.desc()
    found = list(session.scalars(query.order_by(*order).limit(limit + 1)))
    page = found[:limit]
    return page, token_of(page[-1].created_at, page[-1].id) if len(found) > limit else None


def list_deliveries(
    session: Session, webhook_id: uuid.UUID, limit: int, token: str | None
) -> tuple[list[WebhookDelivery], str | None]:
    """A page of a webhook's deliveries, newest first, and the token of the next."""
    query = select(WebhookDelivery).where(WebhookDelivery.endpoint_id == webhook_id)
    if token is not None:
        query = query.where(WebhookDelivery.id < read_token(token)[1])
    found = list(session.scalars(query.order_by(WebhookDelivery.id.desc()).limit(limit + 1)))
    page = found[:limit]
    return page, token_of(page[-1].created_at, page[-1].id) if len(found) > limit else None


def tell(
    session: Session, org_id: uuid.UUID, event: Event, subject_id: uuid.UUID, data: Mapping[str, Any]
) -> None:
    """Write a delivery for every webhook that wants ``event``, in the caller's transaction.

    The body is fixed here, so that every try sends, and signs, the same bytes.
    """
    wanting = session.scalars(
        select(WebhookEndpoint.id)
        .where(
            WebhookEndpoint.org_id == org_id,
            WebhookEndpoint.removed_at.is_(None),
            literal(event.value) == any_(WebhookEndpoint.events),
        )
        .order_by(WebhookEndpoint.id)
        # whoever removes one waits, and then gives up what was written for it
        .with_for_update(read=True)
    ).all()
    message = {"type": event.value, "timestamp": utc(datetime.now(UTC)), "data": dict(data)}
    body = json.dumps(message, separators=(",", ":"))
    for endpoint_id in wanting:
        session.add(
            WebhookDelivery(
                id=uuid7(), endpoint_id=endpoint_id, event=event.value, subject_id=subject_id, body=body
            )
        )


def take_due(
    session: Session, limit: int, *, held: Mapping[uuid.UUID, int], share: int
) -> list[tuple[WebhookDelivery, WebhookEndpoint]]:
    """Take up to ``limit`` deliveries whose time has come; another worker leaves them alone for the lease.

    An organisation is given no more than ``share`` together with those that the caller has under way
    (``held``, by organisation), and whose fewest are under way comes first: hosts that hang hold up their own
    organisation.
    """
    due = _locked(session, limit, Counter(held), share)
    if not due:
        return []
    lease = timedelta(seconds=get_settings().webhook_timeout_s + GRACE_S)
    taken = session.scalars(
        update(WebhookDelivery)
        .where(WebhookDelivery.id.in_(due))
        .values(
            attempts=WebhookDelivery.attempts + 1,
            fence=WebhookDelivery.fence + 1,
            next_try_at=func.clock_timestamp() + lease,
        )
        .returning(WebhookDelivery),
        execution_options={"synchronize_session": False, "populate_existing": True},
    ).all()
    endpoints = {
        row.id: row
        for row in session.scalars(
            select(WebhookEndpoint).where(WebhookEndpoint.id.in_({row.endpoint_id for row in taken}))
        )
    }
    return [(row, endpoints[row.endpoint_id]) for row in sorted(taken, key=lambda row: row.id)]


def _locked(session: Session, limit: int, held: Counter[uuid.UUID], share: int) -> list[uuid.UUID]:
    """Up to ``limit`` due deliveries in the order of their turn, locked until the transaction ends.

    What others have locked is passed over, and its organisation's next are ranked in its place. Ranking does
    not lock: it looks at more than is taken, and what it locked would be hidden from others for nothing.
    """
    due, looked_at = list[uuid.UUID](), set[uuid.UUID]()
    while True:
        ranked = dict(_ranked(session, held, share, looked_at))
        turns, passed_over = list(ranked), False
        while turns and len(due) < limit:
            missing = limit - len(due)
            some, turns = turns[:missing], turns[missing:]
            # due again: another worker may have taken a row since it was ranked
            query = select(WebhookDelivery.id).where(WebhookDelivery.id.in_(some), IS_DUE)
            locked = session.scalars(query.with_for_update(skip_locked=True)).all()
            passed_over |= len(locked) < len(some)
            held.update(ranked[one] for one in locked)
            due += locked
        if not passed_over or len(due) == limit:
            return due
        looked_at |= ranked.keys()


def _ranked(
    session: Session, held: Mapping[uuid.UUID, int], share: int, without: Collection[uuid.UUID]
) -> Iterator[tuple[uuid.UUID, uuid.UUID]]:
    """Deliveries that are due, each with its organisation, in the order of their turn: up to ``share`` of
    each organisation, less its ``held``, and none of those ``without``.

    What is looked at grows with these and with the webhooks for which something waits, not with what waits.
    """
    told = _endpoints_told()
    first = (
        select(WebhookDelivery.id, WebhookDelivery.next_try_at)
        .where(WebhookDelivery.endpoint_id == told.c.endpoint_id, IS_DUE)
        .where(WebhookDelivery.id != all_(literal(list(without), ARRAY(Uuid))))
        .order_by(WebhookDelivery.next_try_at, WebhookDelivery.id)
        .limit(share)
        .lateral("first")
    )
    under_way = case(dict(held), value=WebhookEndpoint.org_id, else_=0) if held else literal(0)
    turn = func.row_number().over(
        partition_by=WebhookEndpoint.org_id, order_by=(first.c.next_try_at, first.c.id)
    )
    ranked = (
        select(first.c.id, WebhookEndpoint.org_id, first.c.next_try_at, (under_way + turn).label("turn"))
        .select_from(told)
        .join(WebhookEndpoint, WebhookEndpoint.id == told.c.endpoint_id)
        .join(first, true())
        .subquery()
    )
    query = select(ranked.c.id, ranked.c.org_id).where(ranked.c.turn <= share)
    for row in session.execute(query.order_by(ranked.c.turn, ranked.c.next_try_at)):
        yield row.id, row.org_id


def _endpoints_told() -> CTE:
    """The webhooks for which deliveries wait, due or not, each found by one search of the index."""
    waiting = select(WebhookDelivery.endpoint_id).where(WebhookDelivery.state == DeliveryState.WAITING)
    # by the time too, as the index of what waits has it: that of pages would lead through what was delivered
    next_one = waiting.order_by(WebhookDelivery.endpoint_id, WebhookDelivery.next_try_at).limit(1)
    told = select(next_one.scalar_subquery().label("endpoint_id")).cte("told", recursive=True)
    beyond = next_one.where(WebhookDelivery.endpoint_id > told.c.endpoint_id).scalar_subquery()
    return told.union_all(select(beyond).where(told.c.endpoint_id.is_not(None)))


def heard(session: Session, row: WebhookDelivery, status: int) -> bool:
    """The message was taken; False when another worker has it by now."""
    return _write(session, row, state=DeliveryState.DELIVERED, status=status, error=None, finished=True)


def not_heard(session: Session, row: WebhookDelivery, reason: str, status: int | None) -> bool:
    """This try failed: wait longer than before, or give up. 410 means: never again, and the webhook ends."""
    if status == 410:
        _retire(session, row.endpoint_id, "It answered 410: it wants to hear no more.")
        return True
    last = row.attempts >= get_settings().webhook_attempts
    state = DeliveryState.GIVEN_UP if last else DeliveryState.WAITING
    return _write(session, row, state=state, status=status, error=reason, finished=last)


def wait_after(attempts: int) -> float:
    """Seconds until the next try: four times longer each time, up to six hours, a tenth of it by chance."""
    wait = min(get_settings().webhook_backoff_s * 4.0 ** min(attempts - 1, 20), LONGEST_WAIT_S)
    # so that what failed together is not tried together
    return wait * random.uniform(1.0, 1.1)  # noqa: S311


def _write(
    session: Session,
    row: WebhookDelivery,
    *,
    state: DeliveryState,
    status: int | None,
    error: str | None,
    finished: bool,
) -> bool:
    written = session.execute(
        update(WebhookDelivery)
        .where(
            WebhookDelivery.id == row.id,
            WebhookDelivery.fence == row.fence,
            WebhookDelivery.state == DeliveryState.WAITING,
        )
        .values(
            state=state,
            status=status,
            error=error,
            finished_at=func.clock_timestamp() if finished else None,
            next_try_at=func.clock_timestamp() + timedelta(seconds=wait_after(row.attempts)),
        )
        .returning(WebhookDelivery.id)
    ).first()
    return written is not None
