"""``/v1/price-lists``: what an organisation pays, version by version."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from app.core.auth import Principal, current_principal, require
from app.core.db import SessionDep, session_scope
from app.core.errors import (
    BadRequest,
    Conflict,
    NotFound,
    PayloadTooLarge,
    PriceListRefused,
    UnmeetableRules,
    Unprocessable,
    UnsupportedMedia,
)
from app.core.problems import problem_responses
from app.pricing import listing, service
from app.pricing.reading import JSON_TYPES, YAML_TYPES, read_price_list
from app.pricing.schemas import (
    BODY_EXAMPLE,
    LIST_EXAMPLE,
    NAME,
    SUMMARY_EXAMPLE,
    PriceListIn,
    PriceListOut,
    PriceListPage,
    PriceListVersions,
)

router = APIRouter(prefix="/v1/price-lists", tags=["price lists"])

Reader = Annotated[Principal, Depends(current_principal)]
Editor = Annotated[Principal, Depends(require("admin"))]
ListName = Annotated[str, Path(pattern=NAME, description="The list's name.", examples=["example-archive"])]
Version = Annotated[int, Path(ge=1, le=999_999_999, description="Counted from 1.", examples=[1])]
Limit = Annotated[int, Query(ge=1, le=200)]
Token = Annotated[
    str | None,
    Query(max_length=200, description="`next` of the page before.", examples=["YWZ0ZXIgYXJjaGl2ZQ"]),
]

MAX_BYTES: Final = 1024 * 1024
JSON: Final = "application/json"

YAML_EXAMPLE: Final = """\
name: our-archive
products:
  - key: archive-30
    name: Archive 30 cm
    vendor: Example Imaging
    source: made up
    currency: EUR
    price_per_km2: "17.50"
    min_polygon_km2: "0.5"
    rules: {max_vertices: 500}
"""


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """A JSON schema without references, for a body that FastAPI does not read itself."""
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    return {name: _inlined(value, definitions) for name, value in schema.items() if name != "$defs"}


_SCHEMA: Final = PriceListIn.model_json_schema()
_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            JSON_TYPES[0]: {"schema": _inlined(_SCHEMA, _SCHEMA["$defs"]), "example": BODY_EXAMPLE},
            YAML_TYPES[0]: {"schema": {"type": "string"}, "example": YAML_EXAMPLE},
        },
    }
}


@router.post(
    "",
    summary="Post a version of a price list",
    status_code=201,
    response_model=PriceListOut,
    openapi_extra=_BODY,
    responses={
        200: {
            "description": "The newest version says just this already.",
            "model": PriceListOut,
            "content": {JSON: {"example": LIST_EXAMPLE}},
        },
        201: {"description": "A new version.", "content": {JSON: {"example": LIST_EXAMPLE}}},
        **problem_responses(
            BadRequest,
            Conflict,
            PayloadTooLarge,
            UnsupportedMedia,
            Unprocessable,
            PriceListRefused,
            UnmeetableRules,
        ),
    },
)
async def post_price_list(request: Request, principal: Editor) -> Response:
    """Send YAML or JSON. A name that is known gets a new version; versions never change and all stay.

    Plans, budgets and orders keep the version they were priced with.
    """
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BYTES:
            raise PayloadTooLarge(f"A price list has at most {MAX_BYTES} bytes.")
    # a megabyte of YAML takes seconds to read
    kind = request.headers.get("content-type", "")
    posted = await run_in_threadpool(read_price_list, bytes(content), kind)
    found, fresh = await run_in_threadpool(_create, principal, posted)
    return Response(
        found.model_dump_json(),
        status_code=201 if fresh else 200,
        media_type=JSON,
        headers={"Location": found.links["self"]},
    )


def _create(principal: Principal, posted: PriceListIn) -> tuple[PriceListOut, bool]:
    with session_scope() as session:
        row, fresh = service.create(session, principal.org_id, posted)
        return listing.whole(row), fresh


@router.get(
    "",
    summary="List price lists",
    responses={
        200: {
            "description": "A page of lists.",
            "content": {JSON: {"example": {"price_lists": [SUMMARY_EXAMPLE], "examples": [], "next": None}}},
        },
        **problem_responses(Unprocessable),
    },
)
def list_price_lists(
    session: SessionDep, principal: Reader, limit: Limit = 50, token: Token = None
) -> PriceListPage:
    """The newest version of each of your organisation's lists by name, and the shipped examples."""
    rows, following = listing.page(session, principal.org_id, limit, token)
    shown = [listing.summary(row) for row in rows]
    return PriceListPage(
        price_lists=shown,
        examples=[] if token else [listing.example_summary(name) for name in service.examples()],
        next=following,
    )


@router.get(
    "/{name}",
    summary="The newest version of a price list",
    responses={
        200: {"description": "The list.", "content": {JSON: {"example": LIST_EXAMPLE}}},
        **problem_responses(NotFound, Unprocessable),
    },
)
def get_price_list(session: SessionDep, principal: Reader, name: ListName) -> PriceListOut:
    """Your organisation's list, or a shipped example."""
    row = service.get(session, principal.org_id, name)
    return listing.example(name) if row is None else listing.whole(row)


@router.get(
    "/{name}/versions",
    summary="List a price list's versions",
    responses={
        200: {
            "description": "A page of versions.",
            "content": {JSON: {"example": {"versions": [SUMMARY_EXAMPLE], "next": None}}},
        },
        **problem_responses(NotFound, Unprocessable),
    },
)
def list_versions(
    session: SessionDep, principal: Reader, name: ListName, limit: Limit = 50, token: Token = None
) -> PriceListVersions:
    """Every version that was ever posted, newest first."""
    if service.get(session, principal.org_id, name) is None:
        return PriceListVersions(versions=[listing.example_summary(name)], next=None)
    rows, following = listing.versions(session, principal.org_id, name, limit, token)
    return PriceListVersions(versions=[listing.summary(row) for row in rows], next=following)


@router.get(
    "/{name}/versions/{version}",
    summary="One version of a price list",
    responses={
        200: {"description": "The version.", "content": {JSON: {"example": LIST_EXAMPLE}}},
        **problem_responses(NotFound, Unprocessable),
    },
)
def get_version(session: SessionDep, principal: Reader, name: ListName, version: Version) -> PriceListOut:
    """The list as it was posted then."""
    row = service.get(session, principal.org_id, name, version)
    return listing.example(name) if row is None else listing.whole(row)
