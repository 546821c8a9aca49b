"""The desk that sends webhooks: takes the deliveries whose time has come, and says how each went.

It is not a ``Desk``: nothing here is joined in a forward, and a row that failed waits for a time of its own.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from app.core.db import session_scope
from app.core.settings import get_settings
from app.webhooks import service
from app.webhooks.sending import NotDelivered, send
from app.webhooks.tables import WebhookDelivery, WebhookEndpoint
from workers.looking import Looking
from workers.metrics import WORK_DONE

log = structlog.get_logger(__name__)

# a webhook that hangs holds up its own thread only
AT_ONCE: Final = 8


class DeliveryDesk(Looking):
    """Sends what is due until told to stop."""

    kind = WebhookDelivery.__tablename__

    def __init__(self) -> None:
        super().__init__(f"desk-{self.kind}")

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
        _not_heard(row, error)
        return
    except Exception as error:
        # one webhook's trouble is that webhook's alone
        log.exception("webhook_broke", id=str(row.id), attempt=row.attempts)
        _not_heard(row, NotDelivered(f"It could not be sent: {type(error).__name__}."))
        return
    with session_scope() as session:
        service.heard(session, row, status)
    WORK_DONE.labels(DeliveryDesk.kind, "ready").inc()


def _not_heard(row: WebhookDelivery, why: NotDelivered) -> None:
    with session_scope() as session:
        service.not_heard(session, row, why.reason, why.status)
    WORK_DONE.labels(DeliveryDesk.kind, "failed").inc()
