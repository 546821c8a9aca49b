"""The desk that sends webhooks: takes the deliveries whose time has come, and says how each went.

It is not a ``Desk``: nothing here is joined in a forward, and a row that failed waits for a time of its own.
"""

import uuid
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import structlog

from app.core import tracing
from app.core.db import session_scope
from app.core.settings import get_settings
from app.webhooks import service
from app.webhooks.sending import NotDelivered, send
from app.webhooks.tables import WebhookDelivery, WebhookEndpoint
from workers.looking import Looking
from workers.metrics import WORK_DONE

log = structlog.get_logger(__name__)

AT_ONCE: Final = 16
AN_ORGANISATION: Final = 4
"""Of those under way at once, how many may be one organisation's: its hosts may all hang."""


class DeliveryDesk(Looking):
    """Sends what is due until told to stop."""

    kind = WebhookDelivery.__tablename__

    def __init__(self) -> None:
        super().__init__(f"desk-{self.kind}")

    def work(self) -> int:
        """Send all that is due, and what becomes due meanwhile; returns how many tries that took.

        A slot is given anew as soon as its try is over, and messages that come while others hang are sent
        at once where a slot is free.
        """
        tries = 0
        under_way: dict[Future[None], uuid.UUID] = {}
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook") as pool:
            while not self._stopping.is_set():
                self._bell.clear()
                for over in [future for future in under_way if future.done()]:
                    del under_way[over]
                    over.result()
                for row, endpoint in self._next(Counter(under_way.values())):
                    future = pool.submit(_try, row, endpoint)
                    under_way[future] = endpoint.org_id
                    future.add_done_callback(lambda _: self._bell.set())
                    tries += 1
                if not under_way:
                    break
                self._bell.wait(get_settings().sweep_s)
        return tries

    def _next(self, held: Counter[uuid.UUID]) -> list[tuple[WebhookDelivery, WebhookEndpoint]]:
        free = AT_ONCE - held.total()
        if not free:
            return []
        with session_scope() as session:
            return service.take_due(session, free, held=held, share=AN_ORGANISATION)


def _try(row: WebhookDelivery, endpoint: WebhookEndpoint) -> None:
    tracing.taken(DeliveryDesk.kind, row.id, row.attempts, row.traceparent)
    try:
        with tracing.during(row.id):
            _send(row, endpoint)
    finally:
        tracing.over(row.id)


def _send(row: WebhookDelivery, endpoint: WebhookEndpoint) -> None:
    try:
        status = send(endpoint.url, endpoint.secret, str(row.id), row.body, get_settings().webhook_timeout_s)
    except NotDelivered as error:
        log.warning("webhook_not_delivered", id=str(row.id), attempt=row.attempts, error=error.reason)
        tracing.outcome(row.id, "not delivered", error)
        _not_heard(row, error)
        return
    except Exception as error:
        # one webhook's trouble is that webhook's alone
        log.exception("webhook_broke", id=str(row.id), attempt=row.attempts)
        tracing.outcome(row.id, "not delivered", error)
        _not_heard(row, NotDelivered(f"It could not be sent: {type(error).__name__}."))
        return
    with session_scope() as session:
        service.heard(session, row, status)
    tracing.outcome(row.id, "delivered")
    WORK_DONE.labels(DeliveryDesk.kind, "ready").inc()


def _not_heard(row: WebhookDelivery, why: NotDelivered) -> None:
    with session_scope() as session:
        service.not_heard(session, row, why.reason, why.status)
    WORK_DONE.labels(DeliveryDesk.kind, "failed").inc()
