"""``/v1/plans/{id}/classifications``: what is there."""

import uuid
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from app.classifications import service
from app.classifications.examples import CLASSIFICATION_EXAMPLE, QUEUED_EXAMPLE, SUMMARY_EXAMPLE
from app.classifications.schemas import ClassificationForm, ClassificationList, ClassificationOut
from app.classifications.tables import Classification
from app.core.auth import Principal, require
from app.core.db import SessionDep, session_scope
from app.core.errors import Conflict, NotFound, ReleaseReplaced, Unprocessable
from app.core.notify import Listener
from app.core.prefer import WaitDep
from app.core.problems import problem_responses
from app.core.work import wake_key
from app.plans.service import get_plan

router = APIRouter(prefix="/v1/plans/{plan_id}/classifications", tags=["classifications"])

Planner = Annotated[Principal, Depends(require("plan"))]

JSON: Final = "application/json"
FINISHED: dict[str, Any] = {JSON: {"example": CLASSIFICATION_EXAMPLE}}
QUEUED: dict[str, Any] = {JSON: {"example": QUEUED_EXAMPLE}}
LISTED: dict[str, Any] = {JSON: {"example": {"classifications": [SUMMARY_EXAMPLE], "next": None}}}


@router.post(
    "",
    summary="Classify a plan",
    status_code=201,
    response_model=ClassificationOut,
    responses={
        201: {"description": "The classification, ready or failed.", "content": FINISHED},
        202: {
            "description": "Not finished within the wait; ask at `Location`.",
            "model": ClassificationOut,
            "content": QUEUED,
            "headers": {"Location": {"schema": {"type": "string"}}},
        },
        **problem_responses(NotFound, Conflict, ReleaseReplaced, Unprocessable),
    },
)
async def create_classification(
    request: Request,
    plan_id: uuid.UUID,
    principal: Planner,
    wait: WaitDep,
    form: Annotated[ClassificationForm | None, Body(examples=[{"top_k": 3}])] = None,
) -> Response:
    """Classify every tile with the patches received until now: none, some or all of the chosen, or others.

    Each tile says which patches were used, which chosen ones are missing, and what each stream says alone.
    """
    row_id = await run_in_threadpool(service.create, principal.org_id, plan_id, form or ClassificationForm())
    listener: Listener = request.app.state.listener
    key = wake_key(Classification.__tablename__, row_id)
    done = await listener.until(key, wait.seconds, partial(service.is_finished, row_id))
    row = await run_in_threadpool(_read, principal.org_id, plan_id, row_id)
    return StreamingResponse(
        service.stream_json(row),
        status_code=201 if done else 202,
        media_type="application/json",
        headers={"Location": f"/v1/plans/{plan_id}/classifications/{row_id}", **wait.headers},
    )


def _read(org_id: uuid.UUID, plan_id: uuid.UUID, row_id: uuid.UUID) -> Classification:
    with session_scope() as session:
        return service.get(session, org_id, plan_id, row_id)


@router.get(
    "",
    summary="List classifications",
    responses={
        200: {"description": "A page of the plan's classifications.", "content": LISTED},
        **problem_responses(NotFound, Unprocessable),
    },
)
def list_classifications(
    session: SessionDep,
    plan_id: uuid.UUID,
    principal: Planner,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    token: Annotated[
        str | None, Query(max_length=200, description="`next` of the page before.", examples=["WyIyMDI2Il0"])
    ] = None,
) -> ClassificationList:
    """The plan's classifications without their tiles, newest first."""
    plan = get_plan(session, principal.org_id, plan_id)
    rows, following = service.list_of(session, plan, limit, token)
    return ClassificationList(classifications=[service.summarise(row) for row in rows], next=following)


@router.get(
    "/{classification_id}",
    summary="One classification",
    response_model=ClassificationOut,
    responses={
        200: {"description": "The classification.", "content": FINISHED},
        **problem_responses(NotFound),
    },
)
def get_classification(plan_id: uuid.UUID, classification_id: uuid.UUID, principal: Planner) -> Response:
    """The classification with all its tiles."""
    row = _read(principal.org_id, plan_id, classification_id)
    return StreamingResponse(service.stream_json(row), media_type="application/json")
