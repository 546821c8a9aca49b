"""Work is rows: who may take one, who holds it, and who may write its answer.

A row is ``queued`` until a worker claims it, ``running`` while a worker holds its lease, then ``ready`` or
``failed``. Each claim raises ``fence``; an answer is taken only with the fence of the last claim, so a worker
that was thought dead cannot overwrite its successor's. All times are the database's own clock.
"""

import secrets
import time
import uuid
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar

from sqlalchemy import (
    CheckConstraint,
    ColumnElement,
    DateTime,
    Index,
    String,
    case,
    func,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core import tracing
from app.core.errors import WorkAbandoned
from app.core.settings import get_settings

CHANNEL: Final = "patchplan"

PATIENCE: Final = timedelta(days=1)
"""How long after ``advanced_at`` attempts may end on what passes by itself without being counted.

An outage of the store or a full disk is mended within a day. What still fails then may be the row's own
fault, and is given up after ``max_attempts`` more.
"""


class WorkStatus(StrEnum):
    """The four states of a piece of work."""

    QUEUED = "queued"
    RUNNING = "running"
    READY = "ready"
    FAILED = "failed"


TRANSITIONS: Final[Mapping[WorkStatus, frozenset[WorkStatus]]] = {
    # queued -> failed: a row given back too often is given up when it is next looked at
    WorkStatus.QUEUED: frozenset({WorkStatus.RUNNING, WorkStatus.FAILED}),
    # running -> running is a claim after the lease ran out; running -> queued is a worker giving work back
    WorkStatus.RUNNING: frozenset(WorkStatus),
    WorkStatus.READY: frozenset(),
    WorkStatus.FAILED: frozenset(),
}


def uuid7() -> uuid.UUID:
    """A time-ordered id (RFC 9562, section 5.7), so that rows made together lie together."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    return uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62)


class WorkRow:
    """Columns of a table whose rows are worked on in the background. Mix in beside ``Base``.

    The table's ``__table_args__`` should include ``*work_constraints(name)``.
    """

    __tablename__: str

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    status: Mapped[WorkStatus] = mapped_column(String(16), default=WorkStatus.QUEUED)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    lease_owner: Mapped[str | None] = mapped_column(String(200))
    lease_expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    fence: Mapped[int] = mapped_column(default=0, server_default="0")
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    # beside the work, for messages carry none; null unless the request is traced
    traceparent: Mapped[str | None] = mapped_column(String(55), default=tracing.traceparent)

    @classmethod
    def tenant(cls) -> ColumnElement[Any]:
        """Whose work a row is, where organisations share a worker; by default each row is its own."""
        return cls.id.expression

    @classmethod
    def advanced_at(cls) -> ColumnElement[Any]:
        """When a row last got further, by the database's clock; by default when the work on it was begun."""
        return cls.started_at.expression


Row = TypeVar("Row", bound=WorkRow)


def work_constraints(table: str) -> tuple[CheckConstraint | Index, ...]:
    """What the database itself checks of a work table, and the index that claiming reads."""
    return (
        CheckConstraint("status IN ('queued', 'running', 'ready', 'failed')", name="status"),
        CheckConstraint(
            "(status = 'running') = (lease_owner IS NOT NULL)"
            " AND (lease_owner IS NULL) = (lease_expires_at IS NULL)",
            name="lease",
        ),
        CheckConstraint("(status IN ('ready', 'failed')) = (finished_at IS NOT NULL)", name="finished"),
        Index(f"ix_{table}_open", "created_at", postgresql_where=text("status IN ('queued', 'running')")),
    )


def wake_key(table: str, row_id: uuid.UUID) -> str:
    """What a finished row is announced as on ``CHANNEL``."""
    return f"{table}:{row_id}"


def claim(
    session: Session,
    model: type[Row],
    owner: str,
    limit: int,
    lease_s: float,
    only: ColumnElement[bool] | None = None,
) -> list[Row]:
    """Take up to ``limit`` rows that are queued or whose holder's lease (``lease_s`` seconds) ran out.

    ``only`` narrows them down to what the worker can do.

    Oldest first; rows another session is claiming are skipped, not waited for. A row already started
    ``max_attempts`` times is failed instead of being given out. The caller commits.
    """
    open_rows = session.execute(
        select(model.id, model.attempts)
        .where(
            or_(
                model.status == WorkStatus.QUEUED,
                (model.status == WorkStatus.RUNNING) & (model.lease_expires_at < func.clock_timestamp()),
            ),
            true() if only is None else only,
        )
        .order_by(model.created_at, model.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    most = get_settings().max_attempts
    for row_id, attempts in open_rows:
        if attempts >= most:
            problem = WorkAbandoned(f"This work was started {attempts} times and no worker finished it.")
            _close(session, model, model.id == row_id, WorkStatus.FAILED, {"error": problem.document()})
    wanted = [row_id for row_id, attempts in open_rows if attempts < most]
    if not wanted:
        return []
    taken = session.scalars(
        update(model)
        .where(model.id.in_(wanted))
        .values(
            status=WorkStatus.RUNNING,
            fence=model.fence + 1,
            attempts=model.attempts + 1,
            started_at=_begun(model),
            lease_owner=owner,
            lease_expires_at=_lease_end(lease_s),
        )
        .returning(model),
        execution_options={"synchronize_session": False, "populate_existing": True},
    ).all()
    return sorted(taken, key=lambda row: (row.created_at, row.id))


def within_share(
    session: Session, model: type[Row], held: Collection[uuid.UUID], share: int
) -> tuple[int, ColumnElement[bool]]:
    """How many more rows may be claimed at once, and of whom, so that of no organisation more than ``share``
    are among the ``held`` and those.
    """
    tenant = model.tenant()
    rows = session.execute(select(tenant, func.count()).where(model.id.in_(held)).group_by(tenant)).all()
    full = [whose for whose, count in rows if count >= share]
    most = max((count for _, count in rows if count < share), default=0)
    return share - most, tenant.not_in(full)


def heartbeat(
    session: Session, model: type[Row], held: Mapping[uuid.UUID, int], lease_s: float
) -> set[uuid.UUID]:
    """Extend the leases of ``held`` (row id -> fence of the claim); returns the ids still held.

    An id that is missing from the answer was lost to another worker (or closed): drop it.
    """
    kept: set[uuid.UUID] = set()
    for row_id, fence in sorted(held.items()):
        alive = session.execute(
            update(model)
            .where(_held(model, row_id, fence))
            .values(lease_expires_at=_lease_end(lease_s))
            .execution_options(synchronize_session=False)
            .returning(model.id)
        ).first()
        if alive is not None:
            kept.add(row_id)
    return kept


def finish(session: Session, model: type[Row], row_id: uuid.UUID, fence: int, **values: Any) -> bool:
    """Write the answer (``values``: columns) and set ready; False when another claim has fenced this one out.

    Call it first in the transaction that writes the answer's other rows, and write those only when it
    says True: the row stays locked until the commit.
    """
    return _close(session, model, _held(model, row_id, fence), WorkStatus.READY, values)


def fail(
    session: Session,
    model: type[Row],
    row_id: uuid.UUID,
    fence: int,
    problem: Mapping[str, Any],
    **values: Any,
) -> bool:
    """Set failed with ``problem`` (``ProblemError.document()``); False when fenced out."""
    closing = {**values, "error": dict(problem)}
    return _close(session, model, _held(model, row_id, fence), WorkStatus.FAILED, closing)


def give_back(session: Session, model: type[Row], row_id: uuid.UUID, fence: int, *, counted: bool) -> bool:
    """Queue the row again; False when fenced out.

    ``counted=False`` takes the attempt back too: the worker was told to stop, the work is not to blame.
    """
    done = session.execute(
        update(model)
        .where(_held(model, row_id, fence))
        .values(
            status=WorkStatus.QUEUED,
            lease_owner=None,
            lease_expires_at=None,
            attempts=model.attempts - (0 if counted else 1),
        )
        .execution_options(synchronize_session=False)
        .returning(model.id)
    ).first()
    return done is not None


def put_off(session: Session, model: type[Row], row_id: uuid.UUID, fence: int) -> bool:
    """Leave the row to its lease and take the attempt back: what the work needs is away, nobody died on it.

    The attempt stays counted if the row has not got further for ``PATIENCE``. False when fenced out.
    """
    patient = model.advanced_at() > func.clock_timestamp() - PATIENCE
    done = session.execute(
        update(model)
        .where(_held(model, row_id, fence))
        .values(attempts=model.attempts - case((patient, 1), else_=0))
        .execution_options(synchronize_session=False)
        .returning(model.id)
    ).first()
    return done is not None


def announce(session: Session, model: type[WorkRow], row_id: uuid.UUID) -> None:
    """Wake those who wait for this row, at commit."""
    session.execute(select(func.pg_notify(CHANNEL, wake_key(model.__tablename__, row_id))))


def _held(model: type[WorkRow], row_id: uuid.UUID, fence: int) -> ColumnElement[bool]:
    return (model.id == row_id) & (model.status == WorkStatus.RUNNING) & (model.fence == fence)


def _begun(model: type[WorkRow]) -> ColumnElement[Any]:
    """``started_at`` of a row that is claimed: now, unless earlier attempts still count or wait with it.

    Else work that lay for days, given back by a worker that was stopped or left by one that was switched off,
    would have used up its patience before it was tried again.
    """
    now = func.clock_timestamp()
    as_if_new = (model.status == WorkStatus.QUEUED) & (model.attempts == 0)
    return case(
        (or_(as_if_new, model.lease_expires_at < now - PATIENCE), now),
        else_=func.coalesce(model.started_at, now),
    )


def _lease_end(lease_s: float) -> ColumnElement[datetime]:
    return func.clock_timestamp() + timedelta(seconds=lease_s)


def _close(
    session: Session,
    model: type[WorkRow],
    which: ColumnElement[bool],
    status: WorkStatus,
    values: Mapping[str, Any],
) -> bool:
    closing = {
        "status": status,
        "finished_at": func.clock_timestamp(),
        "lease_owner": None,
        "lease_expires_at": None,
        # a row may be given up while it is queued; both ends of its life are then the same moment
        "started_at": func.coalesce(model.started_at, func.clock_timestamp()),
    }
    closed = session.execute(
        update(model)
        .where(which)
        .values(**closing, **values)
        .execution_options(synchronize_session=False)
        .returning(model.id)
    ).first()
    if closed is None:
        return False
    announce(session, model, closed[0])
    tracing.outcome(closed[0], status)
    return True
