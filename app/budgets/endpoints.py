"""``/v1/budgets``: which patches to buy where, for a sum of money."""

import uuid
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from app.budgets import service
from app.budgets.choose import Verdict
from app.budgets.schemas import (
    BUDGET_EXAMPLE,
    FORM_EXAMPLE,
    QUEUED_EXAMPLE,
    TILE_EXAMPLE,
    BudgetForm,
    BudgetOut,
    BudgetPage,
    BudgetTilePage,
)
from app.budgets.tables import Budget
from app.core.auth import Principal, require
from app.core.db import SessionDep, session_scope
from app.core.errors import (
    AreaRefused,
    BudgetTooSmall,
    Conflict,
    IdempotencyMismatch,
    NotAcceptable,
    NotFound,
    PriceListExpired,
    UnknownProduct,
    Unprocessable,
)
from app.core.notify import Listener
from app.core.prefer import WaitDep
from app.core.problems import problem_responses
from app.core.work import wake_key
from app.plans.accept import GEOJSON, JSON, best_of

router = APIRouter(prefix="/v1/budgets", tags=["budgets"])

Planner = Annotated[Principal, Depends(require("plan"))]
Limit = Annotated[int, Query(ge=1, le=1000)]
Token = Annotated[
    str | None, Query(max_length=200, description="`next` of the page before.", examples=["YXQgNDk"])
]

FINISHED: Final[dict[str, Any]] = {JSON: {"example": BUDGET_EXAMPLE}}
QUEUED: Final[dict[str, Any]] = {JSON: {"example": QUEUED_EXAMPLE}}
POLYGONS: Final[dict[str, Any]] = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "geometry": FORM_EXAMPLE["never_buy"],
            "properties": {"polygon": 0},
        }
    ],
}


@router.post(
    "",
    summary="Spend a budget",
    status_code=201,
    response_model=BudgetOut,
    responses={
        201: {"description": "The budget, ready or failed.", "content": FINISHED},
        202: {
            "description": "Not finished within the wait; ask at `Location`.",
            "model": BudgetOut,
            "content": QUEUED,
            "headers": {"Location": {"schema": {"type": "string"}}},
        },
        **problem_responses(
            *(NotFound, Conflict, Unprocessable, BudgetTooSmall, UnknownProduct, PriceListExpired),
            *(AreaRefused, IdempotencyMismatch),
        ),
    },
)
async def create_budget(
    request: Request,
    principal: Planner,
    wait: WaitDep,
    form: Annotated[BudgetForm, Body(examples=[FORM_EXAMPLE])],
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Up to 255 ASCII characters, no spaces; the same key and body make one budget.",
            examples=["budget-2026-11"],
        ),
    ] = None,
) -> Response:
    """Which patches of ready plans to buy for the most expected accuracy, at the vendor's real prices.

    Answers like a plan: 201 when the work is finished within the wait, else 202.
    """
    asked = await run_in_threadpool(service.create, principal.org_id, form, idempotency_key)
    listener: Listener = request.app.state.listener
    key = wake_key(Budget.__tablename__, asked.budget_id)
    done = await listener.until(key, wait.seconds, partial(service.is_finished, asked.budget_id))
    found = await run_in_threadpool(_read, principal.org_id, asked.budget_id)
    replayed = {"Idempotency-Replayed": "true"} if asked.replayed else {}
    return Response(
        found.model_dump_json(),
        status_code=201 if done else 202,
        media_type=JSON,
        headers={"Location": found.links["self"], **wait.headers, **replayed},
    )


def _read(org_id: uuid.UUID, budget_id: uuid.UUID) -> BudgetOut:
    with session_scope() as session:
        return service.get(session, org_id, budget_id)


@router.get(
    "",
    summary="List budgets",
    responses={
        200: {
            "description": "A page of budgets.",
            "content": {JSON: {"example": {"budgets": [BUDGET_EXAMPLE], "next": None}}},
        },
        **problem_responses(Unprocessable),
    },
)
def list_budgets(
    session: SessionDep,
    principal: Planner,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    token: Token = None,
) -> BudgetPage:
    """Your organisation's budgets, newest first."""
    budgets, following = service.page(session, principal.org_id, limit, token)
    return BudgetPage(budgets=budgets, next=following)


@router.get(
    "/{budget_id}",
    summary="One budget",
    response_model=BudgetOut,
    responses={
        200: {
            "description": "The budget with its curve as JSON, or the polygons to order as GeoJSON.",
            "content": {**FINISHED, GEOJSON: {"example": POLYGONS}},
        },
        **problem_responses(NotFound, NotAcceptable, Conflict),
    },
)
def get_budget(
    budget_id: uuid.UUID,
    principal: Planner,
    accept: Annotated[str | None, Header(description=f"`{JSON}` or `{GEOJSON}`.", examples=[GEOJSON])] = None,
) -> Response:
    """The budget; as GeoJSON its polygons (none where the product sells every patch by itself)."""
    wanted = best_of(accept, (JSON, GEOJSON))
    if wanted == JSON:
        found = _read(principal.org_id, budget_id)
        return Response(found.model_dump_json(), media_type=JSON, headers={"Vary": "Accept"})
    with session_scope() as session:
        polygons = service.polygons(session, principal.org_id, budget_id)
    features = [
        {"type": "Feature", "geometry": geometry, "properties": {"polygon": number}}
        for number, geometry in enumerate(polygons)
    ]
    return JSONResponse(
        {"type": "FeatureCollection", "features": features}, media_type=GEOJSON, headers={"Vary": "Accept"}
    )


@router.get(
    "/{budget_id}/tiles",
    summary="A budget's tiles",
    responses={
        200: {
            "description": "A page of tiles.",
            "content": {JSON: {"example": {"tiles": [TILE_EXAMPLE], "next": None}}},
        },
        **problem_responses(NotFound, Unprocessable),
    },
)
def list_budget_tiles(
    session: SessionDep,
    budget_id: uuid.UUID,
    principal: Planner,
    limit: Limit = 200,
    token: Token = None,
    verdict: Annotated[
        Verdict | None, Query(description="Only tiles with this verdict.", examples=["buy_these"])
    ] = None,
) -> BudgetTilePage:
    """What to buy of each tile, and what is expected of it. Empty until the budget is ready."""
    rows, following = service.tiles_page(session, principal.org_id, budget_id, limit, token, verdict)
    return BudgetTilePage(tiles=[service.show_tile(row) for row in rows], next=following)
