"""``/v1/aliases``: names for releases. Any key may read them; moving one needs the scope ``train``."""

import uuid
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from app.core import queue
from app.core.auth import Principal, current_principal, require
from app.core.db import SessionDep, session_scope
from app.core.errors import (
    ClassesDiffer,
    Conflict,
    GateUndecided,
    NotFound,
    NothingHeldOut,
    PreconditionFailed,
    PromotionRefused,
    Unprocessable,
)
from app.core.notify import Listener
from app.core.prefer import WaitDep
from app.core.problems import problem_responses
from app.core.work import wake_key
from app.releases import aliases, promoting
from app.releases.alias_schemas import (
    ALIAS_EXAMPLE,
    FOLLOWING,
    AliasForm,
    AliasHistory,
    AliasOut,
    AliasPage,
    AliasStep,
    RollbackForm,
)
from app.releases.finding import find_key
from app.releases.tables import Alias, AliasMove, Comparison

router = APIRouter(prefix="/v1/aliases", tags=["releases"])

Reader = Annotated[Principal, Depends(current_principal)]
Trainer = Annotated[Principal, Depends(require("train"))]
Name = Annotated[str, Path(max_length=100, description="The alias.", examples=["champion"])]
Limit = Annotated[int, Query(ge=1, le=200)]
Token = Annotated[
    str | None, Query(max_length=200, description="`next` of the page before.", examples=[FOLLOWING])
]
IfMatch = Annotated[
    str | None,
    Header(
        description="`ETag` of the alias as you read it; refused with 412 when it was moved since.",
        examples=['"3"'],
    ),
]

ETAG: dict[str, Any] = {"ETag": {"schema": {"type": "string"}}}
MOVED: dict[str, Any] = {
    "content": {"application/json": {"example": ALIAS_EXAMPLE}},
    "headers": ETAG,
}


@router.get("", summary="List aliases", responses=problem_responses(Unprocessable))
def list_aliases(session: SessionDep, principal: Reader, limit: Limit = 50, token: Token = None) -> AliasPage:
    """Your organisation's aliases, the one moved last first."""
    found, following = aliases.page(session, principal.org_id, limit, token)
    return AliasPage(aliases=[_out(session, alias) for alias in found], next=following)


@router.get(
    "/{name}",
    summary="One alias",
    response_model=AliasOut,
    responses={200: {"description": "What it stands for.", **MOVED}, **problem_responses(NotFound)},
)
def get_alias(principal: Reader, name: Name) -> Response:
    """What an alias stands for; `ETag` is what `If-Match` of a move is held against."""
    return _answer(principal.org_id, name, 200)


@router.get(
    "/{name}/history",
    summary="An alias's history",
    responses=problem_responses(NotFound, Unprocessable),
)
def get_history(
    session: SessionDep, principal: Reader, name: Name, limit: Limit = 50, token: Token = None
) -> AliasHistory:
    """Every move, rollback and removal of an alias, newest first: who, when, why, and what the gate saw."""
    found, following = aliases.history(session, principal.org_id, name, limit, token)
    return AliasHistory(steps=[_step(row) for row in found], next=following)


@router.put(
    "/{name}",
    summary="Move an alias",
    response_model=AliasOut,
    responses={
        200: {"description": "It stands for the release now.", **MOVED},
        201: {"description": "It is new.", "model": AliasOut, **MOVED},
        **problem_responses(
            NotFound,
            Conflict,
            PromotionRefused,
            GateUndecided,
            PreconditionFailed,
            Unprocessable,
            ClassesDiffer,
            NothingHeldOut,
        ),
    },
)
async def move_alias(
    request: Request,
    principal: Trainer,
    wait: WaitDep,
    name: Name,
    form: Annotated[AliasForm, Body()],
    if_match: IfMatch = None,
) -> Response:
    """Point an alias at a release. Plans that name no release are made with `champion` from then on.

    A new `champion` has to pass the gate: on its own held-out images it may not be significantly less
    accurate or more expensive than the one before. The call waits for that comparison as `Prefer: wait`
    says; while it is not done the answer is 409 `gate-undecided`: send the same again. `shadow` names the
    release that is run beside the champion.
    """
    expected = aliases.read_if_match(if_match)
    found = await run_in_threadpool(promoting.begin, principal, name, form, expected)
    if isinstance(found, promoting.Gate):
        listener: Listener = request.app.state.listener
        key = wake_key(Comparison.__tablename__, found.comparison_id)
        await listener.until(key, wait.seconds, partial(promoting.is_finished, found.comparison_id))
        found = await run_in_threadpool(promoting.end, principal, name, form, found)
    return await run_in_threadpool(_answer, principal.org_id, name, 201 if found.created else 200)


@router.post(
    "/{name}/rollback",
    summary="Roll an alias back",
    response_model=AliasOut,
    responses={
        200: {"description": "It stands for what it stood for before.", **MOVED},
        **problem_responses(NotFound, Conflict, PreconditionFailed, Unprocessable),
    },
)
def roll_back(
    principal: Trainer,
    name: Name,
    form: Annotated[RollbackForm | None, Body(examples=[{"reason": "too many harbours"}])] = None,
    if_match: IfMatch = None,
) -> Response:
    """Undo the alias's last move; twice undoes two. Never gated: it is the way out."""
    expected = aliases.read_if_match(if_match)
    reason = None if form is None else form.reason
    with session_scope() as session:
        aliases.roll_back(session, principal.org_id, name, principal.key_id, expected, reason)
    queue.send(promoting.PICK_UP)
    return _answer(principal.org_id, name, 200)


@router.delete(
    "/{name}",
    summary="Remove an alias",
    status_code=204,
    responses=problem_responses(NotFound, PreconditionFailed, Unprocessable),
)
def remove_alias(session: SessionDep, principal: Trainer, name: Name, if_match: IfMatch = None) -> Response:
    """The alias stands for nothing any more; its history stays. Without `shadow` nothing runs beside."""
    aliases.remove(session, principal.org_id, name, principal.key_id, aliases.read_if_match(if_match))
    return Response(status_code=204)


def _answer(org_id: uuid.UUID, name: str, status: int) -> Response:
    with session_scope() as session:
        found = _out(session, aliases.get(session, org_id, name))
    return JSONResponse(
        found.model_dump(mode="json"), status_code=status, headers={"ETag": f'"{found.version}"'}
    )


def _out(session: SessionDep, alias: Alias) -> AliasOut:
    assert alias.release is not None
    try:
        card = find_key(session, alias.org_id, alias.release).card
    except NotFound:
        card = None
    return AliasOut(
        name=alias.name,
        release=alias.release,
        release_name=None if card is None else card.name,
        release_version=None if card is None else card.version,
        version=alias.version,
        last=_step(aliases.last_move(session, alias)),
    )


def _step(row: AliasMove) -> AliasStep:
    return AliasStep.model_validate(row, from_attributes=True)
