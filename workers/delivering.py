"""The desk that sends webhooks: takes the deliveries whose time has come, and says how each went.

It is not a ``Desk``: nothing here is joined in a forward, and a row that failed waits for a time of its own.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.core.db import session_scope
from app.core.settings import get_settings
from app.webhooks import service
from app.webhooks.sending import NotDelivered, send
from app.webhooks.tables import WebhookDelivery, WebhookEndpoint
from workers.metrics import WORK_DONE

log = structlog.get_logger(__name__)

# a webhook that hangs holds up its own thread only
AT_ONCE: Final = 8


class DeliveryDesk(threading.Thread):
    """Sends what is due until told to stop."""

    kind: Final = WebhookDelivery.__tablename__

    def __init__(self) -> None:
        super().__init__(name=f"desk-{self.kind}", daemon=True)
        self._bell = threading.Event()
        self._stopping = threading.Event()

    def ring(self) -> None:
        """There may be something to send: look now."""
        self._bell.set()

    def stop(self) -> None:
        """End after the tries under way; the rest is sent by whoever looks next."""
        self._stopping.set()
        self._bell.set()

    def run(self) -> None:
        """Look at every ring and every sweep until stopped."""
        while not self._stopping.is_set():
            try:
                self.work()
            except SQLAlchemyError as error:
                log.warning("desk_waits_for_database", kind=self.kind, error=str(error))
            self._bell.wait(get_settings().sweep_s)
            self._bell.clear()

    def work(self) -> int:
        """Send all that is due now; returns how many tries that took."""
        tries = 0
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook") as pool:
            while not self._stopping.is_set():
                self._bell.clear()
                with session_scope() as session:
                    due = service.take_due(session, AT_ONCE)
                if not due:
                    break
                tries += len(due)
                for _ in pool.map(lambda pair: _try(*pair), due):
                    pass
        return tries


def _try(row: WebhookDelivery, endpoint: WebhookEndpoint) -> None:
    try:
        status = send(endpoint.url, endpoint.secret, str(row.id), row.body, get_settings().webhook_timeout_s)
    except NotDelivered as error:
        log.warning("webhook_not_delivered", id=str(row.id), attempt=row.attempts, error=error.reason)
        with session_scope() as session:
            service.not_heard(session, row, error.reason, error.status)
        WORK_DONE.labels(DeliveryDesk.kind, "failed").inc()
        return
    with session_scope() as session:
        service.heard(session, row, status)
    WORK_DONE.labels(DeliveryDesk.kind, "ready").inc()
