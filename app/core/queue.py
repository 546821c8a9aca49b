"""The queue only says "look": rows are the truth, so a message may be lost without loss."""

from functools import lru_cache
from typing import Final

import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from prometheus_client import Counter

from app.core import tracing
from app.core.settings import get_settings

log = structlog.get_logger(__name__)

TASK: Final = "workers.look"
QUEUE: Final = "patchplan"
# of its own, so that inference never waits for training
TRAINING_QUEUE: Final = "training"

SENT = Counter("patchplan_queue_sent_total", "Messages that told workers to look.", ["kind", "outcome"])


@lru_cache
def get_queue() -> Celery:
    """The Celery client of this process; workers configure their own application in ``workers.app``."""
    client = Celery("patchplan", broker=get_settings().broker_url, set_as_current=False)
    client.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        broker_connection_timeout=1,
        broker_transport_options={"socket_connect_timeout": 1, "socket_timeout": 1, "max_retries": 0},
        task_publish_retry=False,
    )
    return client


def send(kind: str, queue: str = QUEUE) -> None:
    """Tell a worker there is work of ``kind`` (a work table's name). Never raises: workers sweep anyway."""
    try:
        with tracing.sending(kind):
            get_queue().send_task(
                TASK, args=[kind], queue=queue, ignore_result=True, retry=False, expires=600
            )
    except (OperationalError, OSError) as error:
        SENT.labels(kind, "lost").inc()
        log.warning("queue_unreachable", kind=kind, error=str(error))
    else:
        SENT.labels(kind, "sent").inc()
