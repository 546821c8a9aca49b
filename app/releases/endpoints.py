"""``/v1/releases``: any working key may read them; comparing them needs the scope ``train``."""

import uuid
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from app.core import money, queue
from app.core.auth import Principal, current_principal, require
from app.core.db import SessionDep, session_scope
from app.core.errors import ClassesDiffer, Conflict, NotFound, NothingHeldOut, Unprocessable
from app.core.notify import Listener
from app.core.prefer import WaitDep
from app.core.problems import problem_responses
from app.core.work import wake_key
from app.releases import comparing, promoting, reading, shadows
from app.releases.comparison_schemas import COMPARISON_EXAMPLE, ComparisonOut, comparison_out
from app.releases.finding import Found, find
from app.releases.schemas import ReleaseList, ReleaseOut
from app.releases.shadows import ShadowOut
from app.releases.tables import Comparison
from models.page import model_page

router = APIRouter(prefix="/v1/releases", tags=["releases"])

Reader = Annotated[Principal, Depends(current_principal)]
Trainer = Annotated[Principal, Depends(require("train"))]
Ref = Annotated[
    str,
    Path(
        max_length=100, description="Id, alias, or the name of an installed release.", examples=["ucmerced"]
    ),
]

MARKDOWN: Final = "text/markdown"
PAGE_EXAMPLE: Final = "# ucmerced 1\n\nAerial scenes at 0.3 m\n"
COMPARED: Final[dict[str, Any]] = {"application/json": {"example": COMPARISON_EXAMPLE}}
WAITING: Final[dict[str, Any]] = {
    "application/json": {
        "example": COMPARISON_EXAMPLE
        | dict.fromkeys(("finished_at", "held_out", "seen", "tile_km2", "by_ds", "verdict"))
        | {"status": "queued"}
    }
}

DatasetQuery = Annotated[
    uuid.UUID | None,
    Query(
        description="Data set whose held-out images are used; default: the first release's own.",
        examples=["0199c0de-0000-7000-8000-00000000000d"],
    ),
]
PriceQuery = Annotated[str | None, Query(description="Decimal string; needs `currency`.", examples=["12.50"])]
CurrencyQuery = Annotated[str | None, Query(description="ISO 4217; needs `price_per_km2`.", examples=["EUR"])]


def _price(price_per_km2: PriceQuery = None, currency: CurrencyQuery = None) -> tuple[Decimal, str] | None:
    try:
        if (price_per_km2 is None) != (currency is None):
            raise ValueError("price_per_km2 and currency come together or not at all")
        if price_per_km2 is None or currency is None:
            return None
        return money.parse_price(price_per_km2), money.parse_currency(currency)
    except ValueError as error:
        detail = str(error)
        raise Unprocessable(detail, errors=[{"loc": ["query", "price_per_km2"], "detail": detail}]) from None


Price = Annotated[tuple[Decimal, str] | None, Depends(_price)]


@router.get("", summary="List releases", responses=problem_responses(Unprocessable))
def list_releases(
    session: SessionDep,
    principal: Reader,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    token: Annotated[
        str | None, Query(max_length=200, description="`next` of the page before.", examples=["WyIyMDI2Il0"])
    ] = None,
) -> ReleaseList:
    """Releases with their cards: those installed with the service, then your organisation's, newest first."""
    return reading.page(session, principal.org_id, limit, token)


@router.get("/{release}", summary="One release", responses=problem_responses(NotFound, Unprocessable))
def get_release(session: SessionDep, principal: Reader, release: Ref) -> ReleaseOut:
    """One release with its card: classes, scale, training, and what was measured of it."""
    return reading.out(session, principal.org_id, find(session, principal.org_id, release))


@router.get(
    "/{release}/model-page",
    summary="A release's model page",
    response_class=Response,
    responses={
        200: {
            "description": "The card in words and tables.",
            "content": {MARKDOWN: {"schema": {"type": "string"}, "example": PAGE_EXAMPLE}},
        },
        **problem_responses(NotFound, Unprocessable),
    },
)
def get_model_page(session: SessionDep, principal: Reader, release: Ref) -> Response:
    """What the release is, what it was trained on and how good it is, as Markdown for people."""
    card = find(session, principal.org_id, release).card
    return Response(model_page(card), media_type=f"{MARKDOWN}; charset=utf-8")


@router.get(
    "/{release}/shadow", summary="A release as a shadow", responses=problem_responses(NotFound, Unprocessable)
)
def get_shadow(session: SessionDep, principal: Reader, release: Ref) -> ShadowOut:
    """How its choices and classes differ from the champion's on the live plans it was run beside.

    Point the alias `shadow` at a release to have it run: after each answer, when nobody waits for one.
    """
    return shadows.report(session, principal.org_id, find(session, principal.org_id, release))


@router.post(
    "/{release}/compare/{other}",
    summary="Compare two releases",
    status_code=201,
    response_model=ComparisonOut,
    responses={
        201: {"description": "The comparison, ready or failed.", "content": COMPARED},
        202: {
            "description": "Not finished within the wait; ask at `Location`.",
            "model": ComparisonOut,
            "content": WAITING,
            "headers": {"Location": {"schema": {"type": "string"}}},
        },
        **problem_responses(NotFound, Conflict, Unprocessable, ClassesDiffer, NothingHeldOut),
    },
)
async def compare_releases(
    request: Request,
    principal: Trainer,
    wait: WaitDep,
    release: Ref,
    other: Ref,
    price: Price,
    dataset: DatasetQuery = None,
) -> Response:
    """Both on the same images that were held out of a data set: accuracy, S, cost, per class, significance.

    The same two on the same data set are measured once; asked again the answer comes at once.
    """
    asked = await run_in_threadpool(_ask, principal.org_id, release, other, dataset)
    listener: Listener = request.app.state.listener
    key = wake_key(Comparison.__tablename__, asked.row.id)
    done = await listener.until(key, wait.seconds, partial(promoting.is_finished, asked.row.id))
    answer = await run_in_threadpool(asked.read, price)
    here = f"/v1/releases/{asked.release.key}/compare/{asked.other.key}?dataset={asked.row.dataset_id}"
    return JSONResponse(
        answer.model_dump(mode="json", by_alias=True),
        status_code=201 if done else 202,
        headers={"Location": here, **wait.headers},
    )


@router.get(
    "/{release}/compare/{other}",
    summary="A comparison",
    responses={
        200: {"description": "The comparison.", "content": COMPARED},
        **problem_responses(NotFound, Conflict, Unprocessable, NothingHeldOut),
    },
)
def get_comparison(
    principal: Reader, release: Ref, other: Ref, price: Price, dataset: DatasetQuery = None
) -> ComparisonOut:
    """A comparison that was asked for, at another price if you like."""
    with session_scope() as session:
        both = find(session, principal.org_id, release), find(session, principal.org_id, other)
        row = comparing.read(session, principal.org_id, *both, dataset)
    return comparison_out(row, *both, *(price or (None, None)))


@dataclass(frozen=True)
class _Asked:
    """A comparison that was asked for; aliases may move while it is waited for."""

    release: Found
    other: Found
    row: Comparison

    def read(self, price: tuple[Decimal, str] | None) -> ComparisonOut:
        with session_scope() as session:
            row = comparing.get(session, self.row.id)
        return comparison_out(row, self.release, self.other, *(price or (None, None)))


def _ask(org_id: uuid.UUID, release: str, other: str, dataset: uuid.UUID | None) -> _Asked:
    with session_scope() as session:
        both = find(session, org_id, release), find(session, org_id, other)
        row = comparing.ask(session, org_id, *both, dataset)
    queue.send(Comparison.__tablename__)
    return _Asked(*both, row)
