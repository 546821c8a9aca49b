"""The Celery application ``workers.app``: messages ring desks, desks do the work.

A message carries no work, so losing one, or running it twice, changes nothing. Desks start with the process
and not with the broker's connection: without a broker a worker still sweeps.
"""

from pathlib import Path
from typing import Any, Final

import structlog
from celery import Celery
from celery.signals import setup_logging, worker_init, worker_shutdown, worker_shutting_down

import app.core.tables  # noqa: F401 - every table, or foreign keys do not resolve
from app.classifications.tables import Classification
from app.core import tracing
from app.core.logs import configure_logging
from app.core.queue import QUEUE, TASK, TRAINING_QUEUE
from app.core.settings import get_settings
from app.plans.tables import Plan
from workers.budgeting import BudgetDesk
from workers.classifying import ClassifyJob
from workers.comparing import CompareDesk
from workers.datasets import DatasetDesk
from workers.delivering import DeliveryDesk
from workers.desk import Desk
from workers.leases import Leases
from workers.metrics import serve_metrics
from workers.pickup import PickUp
from workers.planning import PlanJob
from workers.releases import Releases
from workers.scratch import Scratch
from workers.shadow_classes import ShadowClassifyDesk
from workers.shadowing import ShadowDesk
from workers.sweeping import StoreSweeper
from workers.training import TrainingDesk

log = structlog.get_logger(__name__)

STOP_WITHIN_S: Final = 20

AnyDesk = Desk | DeliveryDesk | TrainingDesk | PickUp


class Office:
    """The desks of this process, their leases, their releases and their scratch folder.

    ``queue`` says which: training has a process of its own, so that nothing else waits for it.
    """

    def __init__(self, queue: str = QUEUE) -> None:
        self._scratch = Scratch(get_settings().data_dir / "scratch")
        self.leases = Leases()
        self.sweeper = StoreSweeper()
        self.releases = Releases()
        self.desks: dict[str, AnyDesk] = {
            desk.kind: desk for desk in (self._training() if queue == TRAINING_QUEUE else self._inference())
        }

    @property
    def scratch(self) -> Path:
        """Where this process unpacks."""
        return self._scratch.path

    def _training(self) -> list[AnyDesk]:
        return [TrainingDesk(self.leases, self.scratch)]

    def _inference(self) -> list[AnyDesk]:
        return [
            DeliveryDesk(),
            Desk(lambda row: PlanJob(row, self.releases), Plan, self.leases, self.scratch),
            Desk(lambda row: ClassifyJob(row, self.releases), Classification, self.leases, self.scratch),
            DatasetDesk(self.leases, self.scratch),
            BudgetDesk(self.leases, self.scratch),
            CompareDesk(self.releases, self.leases, self.scratch),
            ShadowDesk(self.releases, self.leases, self.scratch),
            ShadowClassifyDesk(self.releases, self.leases, self.scratch),
            PickUp(self.releases),
        ]

    def open(self) -> None:
        """Clear what dead workers left, then start."""
        self._scratch.open()
        self.leases.start()
        self.sweeper.start()
        for desk in self.desks.values():
            desk.start()

    def stop(self) -> None:
        """Tell the desks to stop after the forward under way."""
        for desk in self.desks.values():
            desk.stop()

    def close(self) -> None:
        """Wait for the desks and leave nothing behind."""
        self.stop()
        for desk in self.desks.values():
            desk.join(timeout=STOP_WITHIN_S)
        self.leases.stop()
        self.sweeper.stop()
        self._scratch.close()


def make_celery() -> Celery:
    """The application, configured by the service's settings."""
    celery = Celery("workers", broker=get_settings().broker_url)
    celery.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_pool="threads",
        worker_concurrency=1,
        worker_prefetch_multiplier=16,
    )
    return celery


celery_app = make_celery()
_offices: list[Office] = []


@celery_app.task(name=TASK)  # type: ignore[untyped-decorator]
def look(kind: str) -> None:
    """There may be rows of ``kind`` (a work table's name): ring its desk."""
    for office in _offices:
        desk = office.desks.get(kind)
        if desk is not None:
            desk.ring()


@setup_logging.connect  # type: ignore[untyped-decorator]
def _log_as_the_service_does(**_: Any) -> None:
    # a receiver of this signal keeps Celery from setting up a log of its own
    configure_logging()


@worker_init.connect  # type: ignore[untyped-decorator]
def _open_office(**_: Any) -> None:
    queue = celery_app.conf.task_default_queue
    tracing.start("patchplan-trainer" if queue == TRAINING_QUEUE else "patchplan-worker")
    office = Office(queue)
    _offices.append(office)
    office.open()
    serve_metrics(get_settings().worker_metrics_port)
    log.info("office_opens", desks=sorted(office.desks), device=office.releases.device)


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stop_office(**_: Any) -> None:
    for office in _offices:
        office.stop()


@worker_shutdown.connect  # type: ignore[untyped-decorator]
def _close_office(**_: Any) -> None:
    while _offices:
        _offices.pop().close()
    tracing.stop()
