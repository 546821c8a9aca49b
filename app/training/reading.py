"""A training run as clients read it: itself, lists by keyset, its curves, its events."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from app.core.db import session_scope
from app.core.paging import read_number, read_token, token_of, token_of_number
from app.plans.schemas import ProblemOut
from app.training import service
from app.training.schemas import Checkpoint, MetricOut, Progress, RunOut
from app.training.states import RunStatus
from app.training.tables import TrainingMetric, TrainingRun

METRICS_A_LOOK = 500


def run_out(row: TrainingRun) -> RunOut:
    """A run as clients get it."""
    base = f"/v1/training-runs/{row.id}"
    return RunOut(
        id=row.id,
        status=row.state,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        name=row.name,
        dataset=row.dataset_id,
        recipe=row.recipe_name,
        overrides=row.overrides,
        stages=row.stages,
        seed=row.seed,
        device=row.device,
        processes=row.processes,
        parent=row.parent,
        progress=None if row.progress is None else Progress.model_validate(row.progress),
        notices=row.notices,
        checkpoint=None if row.checkpoint is None else Checkpoint.model_validate(row.checkpoint),
        release=row.release_id,
        error=None if row.error is None else ProblemOut.model_validate(row.error),
        links={"self": base, "events": f"{base}/events", "metrics": f"{base}/metrics"}
        | ({"release": f"/v1/releases/{row.release_id}"} if row.release_id else {}),
    )


def list_runs(
    session: Session, org_id: uuid.UUID, limit: int, token: str | None, status: RunStatus | None
) -> tuple[list[TrainingRun], str | None]:
    """A page of an organisation's runs, newest first, and the token of the next. Raises Unprocessable."""
    query = select(TrainingRun).where(TrainingRun.org_id == org_id)
    if status is not None:
        query = query.where(TrainingRun.status == status)
    if token is not None:
        query = query.where(tuple_(TrainingRun.created_at, TrainingRun.id) < tuple_(*read_token(token)))
    query = query.order_by(TrainingRun.created_at.desc(), TrainingRun.id.desc()).limit(limit + 1)
    found = session.scalars(query).all()
    page = list(found[:limit])
    more = len(found) > limit
    return page, (token_of(page[-1].created_at, page[-1].id) if more else None)


def list_metrics(
    session: Session, run_id: uuid.UUID, limit: int, token: str | None
) -> tuple[list[TrainingMetric], str | None]:
    """A page of a run's epochs, oldest first, and the token of the next. Raises Unprocessable."""
    after = 0 if token is None else read_number(token)
    found = _metrics_after(session, run_id, after, limit + 1)
    page = list(found[:limit])
    return page, (token_of_number(page[-1].id) if len(found) > limit else None)


def metric_out(row: TrainingMetric) -> MetricOut:
    """One epoch as clients get it."""
    return MetricOut(
        stage=row.stage, member=row.member, epoch=row.epoch, step=row.step, values=row.values, at=row.at
    )


@dataclass(frozen=True)
class Look:
    """What a watching client is told at one look: the run, and epochs it has not heard of."""

    run: RunOut
    metrics: Sequence[TrainingMetric]


def look(org_id: uuid.UUID, run_id: uuid.UUID, after: int) -> Look:
    """The run and its epochs after metric number ``after``, in a short session; raises NotFound."""
    with session_scope() as session:
        row = service.get(session, org_id, run_id)
        return Look(run_out(row), _metrics_after(session, run_id, after, METRICS_A_LOOK))


def _metrics_after(session: Session, run_id: uuid.UUID, after: int, limit: int) -> Sequence[TrainingMetric]:
    # a run's metrics are written while its row is locked, so their numbers come in order
    query = select(TrainingMetric).where(TrainingMetric.run_id == run_id, TrainingMetric.id > after)
    return session.scalars(query.order_by(TrainingMetric.id).limit(limit)).all()
