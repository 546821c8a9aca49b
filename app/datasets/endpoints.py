"""``/v1/datasets``: labelled pictures in, an immutable snapshot and its inventory out."""

import uuid
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from app.core.auth import Principal, must_still_hold, require
from app.core.bodies import allow
from app.core.db import SessionDep, session_scope
from app.core.errors import (
    ArchiveRefused,
    BadRequest,
    Conflict,
    DatasetLost,
    Internal,
    MissingPictures,
    NotFound,
    OneClass,
    PayloadTooLarge,
    ServiceUnavailable,
    SourceNotAllowed,
    Unprocessable,
    UnsupportedMedia,
)
from app.core.notify import Listener
from app.core.paging import token_of
from app.core.prefer import WaitDep
from app.core.problems import problem_responses
from app.core.settings import get_settings
from app.core.uploads import multipart_body, receive, text_properties
from app.core.work import WorkStatus, wake_key
from app.datasets import examples, reading, service
from app.datasets.schemas import DatasetForm, DatasetOut, DatasetPage, DatasetRequest, PicturePage
from app.datasets.tables import Dataset

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])

Trainer = Annotated[Principal, Depends(require("train"))]
Token = Annotated[
    str | None,
    Query(max_length=200, description="`next` of the page before.", examples=["YXQgMTAyNA"]),
]


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with what it refers to in place, as a request body's in OpenAPI has no ``$defs``."""
    parts = schema.pop("$defs", {})

    def fill(value: Any) -> Any:
        if isinstance(value, list):
            return [fill(each) for each in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return fill(parts[value["$ref"].rsplit("/", 1)[1]])
        return {key: fill(each) for key, each in value.items()}

    filled: dict[str, Any] = fill(schema)
    return filled


JSON: Final = "application/json"
MOST_JSON_BYTES: Final = 1024 * 1024

BODY = multipart_body(
    {
        "archive": {
            "type": "string",
            "format": "binary",
            "description": "A tar, tar.gz or zip of class folders, of an fMoW tree, or of pictures with a "
            "CSV or GeoJSON that lists path, label and perhaps split.",
        },
        **text_properties(DatasetForm, examples.FORM),
    },
    required=["archive"],
)
BODY["requestBody"]["content"][JSON] = {
    "schema": _inlined(DatasetRequest.model_json_schema(by_alias=True)),
    "example": examples.REQUEST,
}

DONE: dict[str, Any] = {JSON: {"example": examples.DATASET}}


@router.post(
    "",
    summary="Make a dataset",
    status_code=201,
    response_model=DatasetOut,
    openapi_extra=BODY,
    responses={
        200: {"description": "A dataset with this content was there already.", "content": DONE},
        201: {"description": "The dataset, ready or failed.", "content": DONE},
        202: {
            "description": "Not finished within the wait; ask at `Location`.",
            "model": DatasetOut,
            "content": {JSON: {"example": examples.QUEUED}},
            "headers": {"Location": {"schema": {"type": "string"}}},
        },
        **problem_responses(
            *(BadRequest, NotFound, Conflict, PayloadTooLarge, UnsupportedMedia, Unprocessable),
            *(ArchiveRefused, SourceNotAllowed, MissingPictures, OneClass),
        ),
    },
)
async def create_dataset(request: Request, principal: Trainer, wait: WaitDep) -> Response:
    """Post an archive as multipart, or as JSON the address of pictures or the labelled tiles to make it of.

    It is read once in the background into a snapshot that never changes. The same content is the same
    dataset: then the older one is the answer. One that could not be made has `status: failed` and an `error`.
    """
    accepted = await _accept(request, principal)
    listener: Listener = request.app.state.listener
    key = wake_key(Dataset.__tablename__, accepted.dataset_id)
    done = await listener.until(key, wait.seconds, partial(service.is_finished, accepted.dataset_id))
    found = await run_in_threadpool(_read, principal.org_id, accepted.dataset_id)
    older = accepted.existed or found.id != accepted.dataset_id
    return JSONResponse(
        found.model_dump(mode="json", by_alias=True),
        status_code=202 if not done else 200 if older else 201,
        headers={"Location": f"/v1/datasets/{found.id}", **wait.headers},
    )


async def _accept(request: Request, principal: Principal) -> service.Accepted:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == JSON:
        form = _parsed(await _body(request))
        return await run_in_threadpool(service.accept_request, principal, form)
    limit = get_settings().max_dataset_bytes
    async with receive(
        request, file_fields={"archive"}, text_fields=DatasetForm.model_fields, max_bytes=limit
    ) as upload:
        await run_in_threadpool(must_still_hold, principal)
        return await run_in_threadpool(service.accept_upload, principal, upload)


async def _body(request: Request) -> bytes:
    allow(request, MOST_JSON_BYTES)
    try:
        return await request.body()
    except ClientDisconnect as error:
        raise BadRequest("The client went away before the body was complete.") from error


def _parsed(body: bytes) -> DatasetRequest:
    try:
        return DatasetRequest.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        if found[0]["type"] == "json_invalid":
            why = found[0]["msg"].removeprefix("Invalid JSON: ")
            raise BadRequest(f"This is no JSON: {why}.") from None
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in found]) from None


def _read(org_id: uuid.UUID, dataset_id: uuid.UUID) -> DatasetOut:
    with session_scope() as session:
        return reading.dataset_out(service.get_dataset(session, org_id, dataset_id))


@router.get(
    "",
    summary="List datasets",
    responses={
        200: {"description": "A page of datasets.", "content": {JSON: {"example": examples.PAGE}}},
        **problem_responses(Unprocessable),
    },
)
def list_datasets(
    session: SessionDep,
    principal: Trainer,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    token: Token = None,
    status: Annotated[
        WorkStatus | None, Query(description="Only datasets in this state.", examples=["ready"])
    ] = None,
) -> DatasetPage:
    """Your organisation's datasets without their inventories, newest first; each content once."""
    found = service.list_datasets(session, principal.org_id, limit + 1, token, status)
    page = found[:limit]
    following = token_of(page[-1].created_at, page[-1].id) if len(found) > limit else None
    return DatasetPage(datasets=[reading.summarise(row) for row in page], next=following)


@router.get(
    "/{dataset_id}",
    summary="One dataset",
    responses={200: {"description": "The dataset.", "content": DONE}, **problem_responses(NotFound)},
)
def get_dataset(
    session: SessionDep, response: Response, dataset_id: uuid.UUID, principal: Trainer
) -> DatasetOut:
    """The dataset and its inventory; for one with the content of an older one the answer is the older."""
    row = service.get_dataset(session, principal.org_id, dataset_id)
    response.headers["Content-Location"] = f"/v1/datasets/{row.id}"
    return reading.dataset_out(row)


@router.get(
    "/{dataset_id}/pictures",
    summary="A dataset's pictures",
    response_model_exclude_none=False,
    responses={
        200: {"description": "A page of pictures.", "content": {JSON: {"example": examples.PICTURES}}},
        **problem_responses(NotFound, Conflict, Unprocessable, Internal, DatasetLost, ServiceUnavailable),
    },
)
def list_pictures(
    session: SessionDep,
    dataset_id: uuid.UUID,
    principal: Trainer,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    token: Token = None,
) -> PicturePage:
    """The whole inventory, picture by picture, and at its end the files that could not be read."""
    return reading.pictures(service.get_ready_dataset(session, principal.org_id, dataset_id), limit, token)


@router.delete(
    "/{dataset_id}",
    summary="Delete a dataset",
    status_code=204,
    responses=problem_responses(NotFound, Conflict),
)
def delete_dataset(dataset_id: uuid.UUID, principal: Trainer) -> None:
    """Delete a dataset and its snapshot. One that training runs or releases were made from stays: a 409."""
    service.delete_dataset(principal.org_id, dataset_id)
