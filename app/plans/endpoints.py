"""``/v1/plans``: an LR raster in, the patches worth buying out."""

import uuid
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from app.core.auth import Principal, must_still_hold, require
from app.core.db import SessionDep, session_scope
from app.core.errors import (
    AreaRefused,
    BudgetTooSmall,
    Conflict,
    IdempotencyInFlight,
    IdempotencyMismatch,
    Internal,
    NotAcceptable,
    NotFound,
    PayloadTooLarge,
    PixelsLost,
    PriceListExpired,
    ServiceUnavailable,
    UnknownProduct,
    Unprocessable,
    UnsupportedMedia,
)
from app.core.notify import Listener
from app.core.prefer import Wait, WaitDep
from app.core.problems import problem_responses
from app.core.uploads import multipart_body, receive, text_properties
from app.core.work import WorkStatus, wake_key
from app.plans import geojson, preview, reading, service
from app.plans.accept import GEOJSON, JSON, best_of
from app.plans.examples import FORM_EXAMPLES, PAGE_EXAMPLE, PLAN_EXAMPLE, QUEUED_EXAMPLE
from app.plans.schemas import PlanForm, PlanOut, PlanPage
from app.plans.tables import Plan

router = APIRouter(prefix="/v1/plans", tags=["plans"])

Planner = Annotated[Principal, Depends(require("plan"))]

FORM = multipart_body(
    {
        "lr": {
            "type": "string",
            "format": "binary",
            "description": "One GeoTIFF, the LR raster.",
            "examples": ["lr.tif"],
        },
        **text_properties(PlanForm, FORM_EXAMPLES),
    },
    required=["lr"],
)

FINISHED: dict[str, Any] = {JSON: {"example": PLAN_EXAMPLE}}
QUEUED: dict[str, Any] = {JSON: {"example": QUEUED_EXAMPLE}}


@router.post(
    "",
    summary="Plan an LR raster",
    status_code=201,
    response_model=PlanOut,
    openapi_extra=FORM,
    responses={
        201: {"description": "The plan, ready or failed.", "content": FINISHED},
        202: {
            "description": "Not finished within the wait; ask at `Location`.",
            "model": PlanOut,
            "content": QUEUED,
            "headers": {"Location": {"schema": {"type": "string"}}},
        },
        **problem_responses(
            *(PayloadTooLarge, UnsupportedMedia, Unprocessable, IdempotencyMismatch, IdempotencyInFlight),
            *(UnknownProduct, PriceListExpired, BudgetTooSmall, AreaRefused),
        ),
    },
)
async def create_plan(
    request: Request,
    principal: Planner,
    wait: WaitDep,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Up to 255 ASCII characters, no spaces; the same key and body make one plan.",
            examples=["7c1e6f0a"],
        ),
    ] = None,
) -> Response:
    """Post one GeoTIFF; the answer is the finished plan if a worker is done within the wait, else a 202.

    A plan that could not be made is a 201 with `status: failed` and an `error`: it exists, and tells why.
    """
    async with receive(request, file_fields={"lr"}, text_fields=PlanForm.model_fields) as upload:
        await run_in_threadpool(must_still_hold, principal)
        accepted = await run_in_threadpool(service.accept, principal, upload, idempotency_key)
    headers = {"Idempotency-Replayed": "true"} if accepted.replayed else {}
    return await answer_in_time(request, principal.org_id, accepted.plan_id, wait, headers)


async def answer_in_time(
    request: Request, org_id: uuid.UUID, plan_id: uuid.UUID, wait: Wait, headers: dict[str, str]
) -> Response:
    """201 with the plan once finished, 202 when the wait is over; waiting holds no thread and no session."""
    listener: Listener = request.app.state.listener
    key = wake_key(Plan.__tablename__, plan_id)
    done = await listener.until(key, wait.seconds, partial(service.is_finished, plan_id))
    plan = await run_in_threadpool(_read, org_id, plan_id)
    return StreamingResponse(
        reading.stream_json(plan),
        status_code=201 if done else 202,
        media_type=JSON,
        headers={"Location": f"/v1/plans/{plan_id}", **wait.headers, **headers},
    )


def _read(org_id: uuid.UUID, plan_id: uuid.UUID) -> Plan:
    with session_scope() as session:
        return service.get_plan(session, org_id, plan_id)


@router.get(
    "",
    summary="List plans",
    responses={
        200: {"description": "A page of plans.", "content": {JSON: {"example": PAGE_EXAMPLE}}},
        **problem_responses(Unprocessable),
    },
)
def list_plans(
    session: SessionDep,
    principal: Planner,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    token: Annotated[
        str | None,
        Query(max_length=200, description="`next` of the page before.", examples=[PAGE_EXAMPLE["next"]]),
    ] = None,
    status: Annotated[
        WorkStatus | None, Query(description="Only plans in this state.", examples=["ready"])
    ] = None,
) -> PlanPage:
    """Your organisation's plans without their tiles, newest first."""
    plans, following = reading.list_plans(session, principal.org_id, limit, token, status)
    return PlanPage(plans=[reading.summarise(plan) for plan in plans], next=following)


@router.get(
    "/{plan_id}",
    summary="One plan",
    response_model=PlanOut,
    responses={
        200: {
            "description": "The plan as JSON, or one GeoJSON feature a patch.",
            "content": {**FINISHED, GEOJSON: {"example": geojson.EXAMPLE}},
        },
        **problem_responses(NotFound, NotAcceptable, Conflict),
    },
)
def get_plan(
    plan_id: uuid.UUID,
    principal: Planner,
    accept: Annotated[str | None, Header(description=f"`{JSON}` or `{GEOJSON}`.", examples=[GEOJSON])] = None,
) -> Response:
    """The plan with all its tiles; with `Accept: application/geo+json` a FeatureCollection of its patches."""
    wanted = best_of(accept, (JSON, GEOJSON))
    with session_scope() as session:
        if wanted == GEOJSON:
            plan = service.get_ready_plan(session, principal.org_id, plan_id)
        else:
            plan = service.get_plan(session, principal.org_id, plan_id)
    pieces = geojson.stream(plan) if wanted == GEOJSON else reading.stream_json(plan)
    return StreamingResponse(pieces, media_type=wanted, headers={"Vary": "Accept"})


@router.get(
    "/{plan_id}/preview.png",
    summary="A picture of a plan",
    response_class=Response,
    responses={
        200: {"description": "The LR image under the grid.", "content": {"image/png": {}}},
        **problem_responses(NotFound, Conflict, Internal, PixelsLost, ServiceUnavailable),
    },
)
def get_preview(plan_id: uuid.UUID, principal: Planner) -> Response:
    """LR and the HR received so far under the 4x4 grid: chosen patches outlined, probabilities written in."""
    return Response(preview.draw(principal.org_id, plan_id), media_type="image/png")
