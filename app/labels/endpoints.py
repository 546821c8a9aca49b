"""``/v1/plans/{id}/labels``: what a tile turned out to be."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from app.core.auth import Principal, require
from app.core.db import SessionDep
from app.core.errors import Conflict, NotFound, UnknownLabels, Unprocessable
from app.core.paging import token_of_number
from app.core.problems import problem_responses
from app.labels import service
from app.labels.schemas import LabelForm, LabelOut, LabelPage
from app.labels.tables import Label
from app.plans.service import get_plan

router = APIRouter(prefix="/v1/plans/{plan_id}/labels", tags=["labels"])

Reader = Annotated[Principal, Depends(require("plan"))]
Labeller = Annotated[Principal, Depends(require("train"))]


@router.post(
    "",
    summary="Say what tiles turned out to be",
    status_code=201,
    responses=problem_responses(NotFound, Conflict, Unprocessable, UnknownLabels),
)
def create_labels(session: SessionDep, plan_id: uuid.UUID, principal: Labeller, form: LabelForm) -> LabelPage:
    """Record a class for each of some tiles, with the key's name, `by` and the time. All or none is recorded.

    Earlier labels stay readable; the newest counts. A class that is new must be said to be (`new_classes`).
    """
    written = service.record(session, principal, plan_id, form)
    return LabelPage(plan_id=plan_id, labels=[_out(row) for row in written], next=None)


@router.get("", summary="List labels", responses=problem_responses(NotFound, Unprocessable))
def list_labels(
    session: SessionDep,
    plan_id: uuid.UUID,
    principal: Reader,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    token: Annotated[
        str | None, Query(max_length=200, description="`next` of the page before.", examples=["YXQgMTAyNA"])
    ] = None,
    history: Annotated[
        bool, Query(description="Every label that was ever given, newest first, also those taken back.")
    ] = False,
) -> LabelPage:
    """The labels that count, by tile; with `history=true` all of them."""
    plan = get_plan(session, principal.org_id, plan_id)
    rows, following = service.page(session, plan, limit, token, history=history)
    return LabelPage(
        plan_id=plan_id,
        labels=[_out(row) for row in rows],
        next=None if following is None else token_of_number(following),
    )


def _out(row: Label) -> LabelOut:
    return LabelOut(
        number=row.number, tile=row.tile, class_=row.class_name, by=row.by, key=row.key_name, at=row.at
    )
