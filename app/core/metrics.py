"""What the database tells at each scrape: rows by status, how old the oldest is that nobody works on.

Every process of the API counts the same rows: take the largest of several, not their sum.
"""

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.core.db import Base, session_scope
from app.core.work import WorkRow, WorkStatus


class WorkCollector(Collector):
    """Counts the rows of every work table by status, and finds the oldest that no worker holds."""

    def collect(self) -> Iterator[Metric]:
        """The gauges; absent while the database is down."""
        rows = GaugeMetricFamily("patchplan_work_rows", "Rows by status.", labels=["table", "status"])
        oldest = GaugeMetricFamily(
            "patchplan_work_oldest_seconds",
            "Age of the oldest row that no worker holds; 0 where there is none.",
            labels=["table"],
        )
        try:
            with session_scope() as session:
                for table in work_tables():
                    counts: dict[str, int] = dict.fromkeys(WorkStatus, 0)
                    # training runs have states of their own beside the four
                    counts |= dict(_counts(session, table))
                    for status, count in counts.items():
                        rows.add_metric([table.__tablename__, str(status)], count)
                    oldest.add_metric([table.__tablename__], _oldest(session, table))
        except SQLAlchemyError:
            return
        yield rows
        yield oldest


def work_tables() -> list[type[WorkRow]]:
    """Every table whose rows are worked on in the background."""
    return [mapper.class_ for mapper in Base.registry.mappers if issubclass(mapper.class_, WorkRow)]


def _counts(session: Session, table: type[WorkRow]) -> list[tuple[str, int]]:
    query = select(table.status, func.count()).group_by(table.status)
    return [(status, count) for status, count in session.execute(query)]


def _oldest(session: Session, table: type[WorkRow]) -> float:
    """Seconds since the oldest row was made that is queued, or whose worker is silent for over its lease."""
    now = func.clock_timestamp()
    held_no_more = (table.status == WorkStatus.RUNNING) & (table.lease_expires_at < now)
    age = func.extract("epoch", now - func.min(table.created_at))
    found = session.scalar(select(age).where(or_(table.status == WorkStatus.QUEUED, held_no_more)))
    return max(0.0, float(found or 0))


DATABASE_REGISTRY: Final = CollectorRegistry()
"""What a scrape asks of the database; rooms add their own."""

DATABASE_REGISTRY.register(WorkCollector())
