"""``/v1/training-runs``: a dataset and a recipe in, a release out; watched, stopped and gone on with."""

import uuid
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from app.core.auth import Principal, require
from app.core.db import SessionDep, session_scope
from app.core.errors import (
    Conflict,
    IdempotencyMismatch,
    NotFound,
    RecipeRefused,
    RunMoveRefused,
    TrainingDataRefused,
    Unprocessable,
)
from app.core.notify import ListenerDep
from app.core.problems import problem_responses
from app.training import events, reading, service
from app.training.examples import EVENTS_EXAMPLE, QUEUED_EXAMPLE, RUN_EXAMPLE
from app.training.schemas import MetricPage, RunOut, RunPage, TrainingForm
from app.training.states import RunStatus

router = APIRouter(prefix="/v1/training-runs", tags=["training"])

Trainer = Annotated[Principal, Depends(require("train"))]
Token = Annotated[
    str | None, Query(max_length=200, description="`next` of the page before.", examples=["YXQgMTc"])
]

JSON: Final = "application/json"
SHOWN: dict[str, Any] = {JSON: {"example": RUN_EXAMPLE}}
QUEUED: dict[str, Any] = {JSON: {"example": QUEUED_EXAMPLE}}


@router.post(
    "",
    summary="Train a release",
    status_code=202,
    responses={
        202: {
            "description": "The run, queued.",
            "content": QUEUED,
            "headers": {"Location": {"schema": {"type": "string"}}},
        },
        **problem_responses(Conflict, Unprocessable, RecipeRefused, TrainingDataRefused, IdempotencyMismatch),
    },
)
def create_run(
    form: TrainingForm,
    principal: Trainer,
    response: Response,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Up to 255 ASCII characters, no spaces; the same key and body make one run.",
            examples=["7c1e6f0a"],
        ),
    ] = None,
) -> RunOut:
    """Queue a training run. What is wrong with the recipe is said now, with the pictures, in the run.

    Follow it at its `events`; when it is `ready`, `release` names what it became.
    """
    accepted = service.create(principal, form, idempotency_key)
    response.headers["Location"] = f"/v1/training-runs/{accepted.run_id}"
    if accepted.replayed:
        response.headers["Idempotency-Replayed"] = "true"
    with session_scope() as session:
        return reading.run_out(service.get(session, principal.org_id, accepted.run_id))


@router.get(
    "",
    summary="List training runs",
    responses=problem_responses(Unprocessable),
)
def list_runs(
    session: SessionDep,
    principal: Trainer,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    token: Token = None,
    status: Annotated[
        RunStatus | None, Query(description="Only runs in this state.", examples=["running"])
    ] = None,
) -> RunPage:
    """Your organisation's runs, newest first."""
    rows, following = reading.list_runs(session, principal.org_id, limit, token, status)
    return RunPage(runs=[reading.run_out(row) for row in rows], next=following)


@router.get("/{run_id}", summary="One training run", responses=problem_responses(NotFound))
def get_run(session: SessionDep, run_id: uuid.UUID, principal: Trainer) -> RunOut:
    """Where the run stands, what it would go on from, and what it became."""
    return reading.run_out(service.get(session, principal.org_id, run_id))


@router.get(
    "/{run_id}/events",
    summary="Watch a training run",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events: `run`, `metric` (with an id), `end`.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": EVENTS_EXAMPLE}},
        },
        **problem_responses(NotFound),
    },
)
async def watch_run(
    run_id: uuid.UUID,
    principal: Trainer,
    listener: ListenerDep,
    last_event_id: Annotated[
        str | None, Header(description="Go on after this `metric`.", examples=["17"])
    ] = None,
) -> StreamingResponse:
    """Stage, epoch, step and time left as they change, and each epoch's loss, reward, accuracy and S.

    Epochs so far are told first, but for those up to `Last-Event-ID`; the stream ends with the run.
    """
    after = events.read_last_id(last_event_id)
    await run_in_threadpool(reading.look, principal.org_id, run_id, after)
    return StreamingResponse(
        events.stream(listener, principal, run_id, after),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.get(
    "/{run_id}/metrics",
    summary="A training run's curves",
    responses=problem_responses(NotFound, Unprocessable),
)
def list_metrics(
    session: SessionDep,
    run_id: uuid.UUID,
    principal: Trainer,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    token: Token = None,
) -> MetricPage:
    """One point for each epoch of each stage, in the order in which they were trained."""
    row = service.get(session, principal.org_id, run_id)
    rows, following = reading.list_metrics(session, row.id, limit, token)
    return MetricPage(metrics=[reading.metric_out(row) for row in rows], next=following)


@router.post(
    "/{run_id}/cancel",
    summary="Stop a training run",
    responses={200: {"content": SHOWN}, **problem_responses(NotFound, RunMoveRefused)},
)
def cancel_run(session: SessionDep, run_id: uuid.UUID, principal: Trainer) -> RunOut:
    """Free the device within seconds. `cancelling`: the trainer is being ended; then `cancelled`.

    Asking again changes nothing. A cancelled run can be resumed from its last checkpoint.
    """
    row = service.get(session, principal.org_id, run_id, lock=True)
    service.cancel(session, row)
    return reading.run_out(row)


@router.post(
    "/{run_id}/resume",
    summary="Go on with a training run",
    status_code=202,
    responses={202: {"content": QUEUED}, **problem_responses(NotFound, RunMoveRefused)},
)
def resume_run(run_id: uuid.UUID, principal: Trainer) -> RunOut:
    """Queue a cancelled or failed run again; it goes on from its last checkpoint, or from the beginning."""
    with session_scope() as session:
        row = service.get(session, principal.org_id, run_id, lock=True)
        service.resume(session, row)
    service.ring()
    return reading.run_out(row)
