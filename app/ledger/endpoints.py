"""``/v1/ledger``: what was bought, entry by entry."""

import uuid
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Response
from starlette.responses import StreamingResponse

from app.core.auth import Principal, require
from app.core.db import SessionDep
from app.core.errors import IdempotencyMismatch, NotAcceptable, NotFound, Unprocessable
from app.core.paging import read_token, token_of
from app.core.problems import problem_responses
from app.ledger import export, service
from app.ledger.schemas import ENTRY, CorrectionForm, EntryOut, EntryPage
from app.ledger.tables import LedgerEntry
from app.orders.reading import patches_of
from app.plans.accept import JSON, best_of
from app.plans.idempotency import check_key

router = APIRouter(prefix="/v1/ledger", tags=["ledger"])

CSV: Final = "text/csv"
CSV_EXAMPLE: Final = (
    ",".join(export.COLUMNS) + "\n0199c0de-0000-7000-8000-000000000041,2026-11-22T15:10:00+00:00,purchase,..."
)
EXAMPLES: Final[dict[str, Any]] = {
    JSON: {"example": {"entries": [ENTRY], "next": None}},
    CSV: {"example": CSV_EXAMPLE},
}


@router.get(
    "",
    summary="Read the ledger",
    response_model=EntryPage,
    responses={
        200: {"description": "A page of entries, or all of them as CSV.", "content": EXAMPLES},
        **problem_responses(Unprocessable, NotAcceptable),
    },
)
def list_ledger(
    session: SessionDep,
    principal: Annotated[Principal, Depends(require("report"))],
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    token: Annotated[
        str | None, Query(max_length=200, description="`next` of the page before.", examples=["WyIyMDI2Il0"])
    ] = None,
    order: Annotated[
        uuid.UUID | None, Query(description="Only this order's entries.", examples=[ENTRY["order_id"]])
    ] = None,
    plan: Annotated[
        uuid.UUID | None, Query(description="Only this plan's entries.", examples=[ENTRY["plan_id"]])
    ] = None,
    accept: Annotated[str | None, Header(description=f"`{JSON}` or `{CSV}`.", examples=[CSV])] = None,
) -> Response:
    """Every purchase, delivery, reversal, correction and fee, newest first; as CSV all of them, oldest first.

    Nothing in it is ever changed or deleted. `amount` added up over all entries is what was spent.
    """
    if best_of(accept, (JSON, CSV)) == CSV:
        pieces = export.stream_csv(principal.org_id, order, plan)
        return StreamingResponse(pieces, media_type=CSV, headers={"Vary": "Accept"})
    place = None if token is None else read_token(token)
    found = service.list_entries(session, principal.org_id, limit + 1, place, order, plan)
    page = found[:limit]
    following = token_of(page[-1].at, page[-1].id) if len(found) > limit else None
    body = EntryPage(entries=[entry_out(row) for row in page], next=following)
    return Response(body.model_dump_json(), media_type=JSON, headers={"Vary": "Accept"})


@router.post(
    "/{entry_id}/corrections",
    summary="Correct an entry",
    status_code=201,
    responses=problem_responses(NotFound, Unprocessable, IdempotencyMismatch),
)
def correct_entry(
    session: SessionDep,
    principal: Annotated[Principal, Depends(require("admin"))],
    response: Response,
    entry_id: uuid.UUID,
    form: CorrectionForm,
    idempotency_key: Annotated[
        str | None, Header(description="The same key and body correct once.", examples=["credit-note-7"])
    ] = None,
) -> EntryOut:
    """Add an entry that says by how much a purchase's amount was wrong; the purchase stays as it is."""
    key = None if idempotency_key is None else check_key(idempotency_key)
    row, replayed = service.correct(session, principal.org_id, entry_id, form.amount, form.reason, key)
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"
    return entry_out(row)


def entry_out(row: LedgerEntry) -> EntryOut:
    """An entry as clients get it."""
    names = [name for name in EntryOut.model_fields if name != "patches"]
    values = {name: getattr(row, name) for name in names}
    return EntryOut.model_validate({**values, "patches": patches_of(row.patches)})
