"""``/v1/plans/{id}/acquisitions``: the patches that were bought."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from app.acquisitions import reading, service
from app.acquisitions.schemas import AcquisitionForm, AcquisitionList, AcquisitionsOut
from app.core.auth import Principal, must_still_hold, require
from app.core.db import session_scope
from app.core.errors import (
    Conflict,
    NotFound,
    PatchConflict,
    PatchesRefused,
    PayloadTooLarge,
    Unprocessable,
    UnsupportedMedia,
)
from app.core.problems import problem_responses
from app.core.uploads import multipart_body, receive, text_properties
from app.plans.examples import FORM_EXAMPLES
from app.plans.service import get_plan

router = APIRouter(prefix="/v1/plans/{plan_id}/acquisitions", tags=["acquisitions"])

Buyer = Annotated[Principal, Depends(require("acquire"))]

FORM = multipart_body(
    {
        "files": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "GeoTIFFs of one patch or of several, in any CRS.",
            "examples": [["patch-05.tif", "patch-06.tif"]],
        },
        **text_properties(AcquisitionForm, FORM_EXAMPLES),
    },
    required=["files"],
)


@router.post(
    "",
    summary="Send patches that were bought",
    status_code=201,
    response_model=AcquisitionsOut,
    openapi_extra=FORM,
    responses=problem_responses(
        NotFound, Conflict, PatchConflict, PayloadTooLarge, UnsupportedMedia, Unprocessable, PatchesRefused
    ),
)
async def create_acquisitions(request: Request, plan_id: uuid.UUID, principal: Buyer) -> Response:
    """Every patch of the plan that a file covers is taken, chosen or not; others are refused with a reason.

    Files are placed by their own georeference. The same bytes again give the same answer, and put back
    pixels that the store has lost; other bytes for a received patch are a 409 unless `replace=true`. A
    request is taken whole or not at all: it fails if one of its files is no good raster, or if no patch of
    any file can be taken.
    """
    async with receive(request, file_fields={"files"}, text_fields=AcquisitionForm.model_fields) as upload:
        await run_in_threadpool(must_still_hold, principal)
        ids = await run_in_threadpool(service.take, principal, plan_id, upload)
    pieces = reading.stream_request(plan_id, ids)
    return StreamingResponse(pieces, status_code=201, media_type="application/json")


@router.get(
    "",
    summary="What was received",
    response_model=AcquisitionList,
    responses=problem_responses(NotFound),
)
def list_acquisitions(plan_id: uuid.UUID, principal: Buyer) -> Response:
    """All files a plan has received, newest first, and which chosen patches are still missing."""
    with session_scope() as session:
        pieces = reading.stream_everything(session, get_plan(session, principal.org_id, plan_id))
    return StreamingResponse(pieces, media_type="application/json")
