"""``/v1/orders``: from what should be bought to what was bought."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from fastapi.responses import JSONResponse

from app.core.auth import Principal, require
from app.core.db import SessionDep, session_scope
from app.core.errors import (
    Conflict,
    IdempotencyMismatch,
    NotAcceptable,
    NotFound,
    NothingToOrder,
    OrderMoveRefused,
    PriceListExpired,
    TooManyDrafts,
    UnknownProduct,
    Unprocessable,
)
from app.core.paging import read_token, token_of
from app.core.problems import problem_responses
from app.orders import examples, handing, reading, service
from app.orders.schemas import MoveForm, OrderForm, OrderOut, OrderPage, QuoteForm, VendorRequests
from app.orders.states import OrderState
from app.plans.accept import GEOJSON, JSON, best_of
from app.plans.idempotency import check_key

router = APIRouter(prefix="/v1/orders", tags=["orders"])

Buyer = Annotated[Principal, Depends(require("acquire"))]
Key = Annotated[
    str | None,
    Header(
        description="Up to 255 ASCII characters, no spaces; the same key and body do it once.",
        examples=["order-2026-118"],
    ),
]
DONE: dict[str, Any] = {JSON: {"example": examples.ORDER}}


@router.post(
    "",
    summary="Draft an order",
    status_code=201,
    response_model=OrderOut,
    responses={
        201: {"description": "The draft.", "content": DONE},
        **problem_responses(
            *(NotFound, Conflict, Unprocessable, NothingToOrder, UnknownProduct, PriceListExpired),
            *(IdempotencyMismatch, TooManyDrafts),
        ),
    },
)
def create_order(principal: Buyer, form: OrderForm, idempotency_key: Key = None) -> Response:
    """The cheapest legal polygons that cover what should be bought, their price, and what full HR would cost.

    Nothing is sent to a vendor: hand the order over as GeoJSON or with `/requests/{format}`, then post the
    quote, and say when it is placed and received.
    """
    order_id, replayed = service.create(principal, form, _key(idempotency_key))
    with session_scope() as session:
        order = reading.whole(session, service.get(session, principal.org_id, order_id))
    return _answer(order, replayed, status=201)


@router.get("", summary="List orders", responses=problem_responses(Unprocessable))
def list_orders(
    session: SessionDep,
    principal: Buyer,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    token: Annotated[
        str | None, Query(max_length=200, description="`next` of the page before.", examples=["WyIyMDI2Il0"])
    ] = None,
    state: Annotated[
        OrderState | None, Query(description="Only orders in this state.", examples=["placed"])
    ] = None,
) -> OrderPage:
    """Your organisation's orders without their polygons, newest first."""
    place = None if token is None else read_token(token)
    found = service.list_orders(session, principal.org_id, limit + 1, place, state)
    page = found[:limit]
    following = token_of(page[-1].created_at, page[-1].id) if len(found) > limit else None
    return OrderPage(orders=reading.summaries(session, page), next=following)


@router.get(
    "/{order_id}",
    summary="One order",
    response_model=OrderOut,
    responses={
        200: {
            "description": "The order as JSON, or one GeoJSON feature a polygon.",
            "content": {**DONE, GEOJSON: {"example": examples.GEOJSON}},
        },
        **problem_responses(NotFound, NotAcceptable),
    },
)
def get_order(
    session: SessionDep,
    order_id: uuid.UUID,
    principal: Buyer,
    accept: Annotated[str | None, Header(description=f"`{JSON}` or `{GEOJSON}`.", examples=[GEOJSON])] = None,
) -> Response:
    """The order with its polygons, patches and moves; as GeoJSON, its polygons alone."""
    wanted = best_of(accept, (JSON, GEOJSON))
    order = service.get(session, principal.org_id, order_id)
    if wanted == GEOJSON:
        text = reading.geojson(session, order)
    else:
        text = reading.whole(session, order).model_dump_json()
    return Response(text, media_type=wanted, headers={"Vary": "Accept"})


@router.get(
    "/{order_id}/requests/{format}",
    summary="An order for another system",
    responses=problem_responses(NotFound, Unprocessable),
)
def get_requests(
    session: SessionDep,
    order_id: uuid.UUID,
    principal: Buyer,
    kind: Annotated[Literal["stapi", "planet", "up42"], Path(alias="format")],
    start: Annotated[
        datetime | None, Query(description="stapi: not before.", examples=["2026-12-01T00:00:00Z"])
    ] = None,
    end: Annotated[
        datetime | None, Query(description="stapi: not after.", examples=["2026-12-31T00:00:00Z"])
    ] = None,
    item_id: Annotated[
        list[str] | None,
        Query(max_length=500, description="planet: scenes of the archive.", examples=[["20261101_100000_1"]]),
    ] = None,
    item_type: Annotated[
        str | None, Query(max_length=200, description="planet.", examples=["SkySatScene"])
    ] = None,
    product_bundle: Annotated[
        str | None, Query(max_length=200, description="planet.", examples=["visual"])
    ] = None,
    data_product: Annotated[
        str | None,
        Query(
            max_length=200,
            description="up42: id of the data product.",
            examples=["4f866cd3-d816-4c98-ace3-e6105623cf13"],
        ),
    ] = None,
    scene: Annotated[
        str | None, Query(max_length=200, description="up42: a scene of the archive.", examples=["s-1"])
    ] = None,
) -> VendorRequests:
    """The bodies that STAPI, Planet's orders or UP42's estimate take. They are not sent.

    One body a polygon where the product takes single parts (STAPI), or as many polygons in one as the other
    side takes.
    """
    order = service.get(session, principal.org_id, order_id)
    details = handing.Details(
        start=start,
        end=end,
        item_id=item_id or [],
        item_type=item_type,
        product_bundle=product_bundle,
        data_product=data_product,
        scene=scene,
    )
    return handing.requests_of(order, reading.lines_of(session, order.id), kind, details)


@router.post(
    "/{order_id}/quote",
    summary="Post the vendor's quote",
    response_model=OrderOut,
    responses={
        200: {"description": "The order, quoted.", "content": DONE},
        **problem_responses(NotFound, OrderMoveRefused, Unprocessable, IdempotencyMismatch),
    },
)
def post_quote(
    order_id: uuid.UUID, principal: Buyer, form: QuoteForm, idempotency_key: Key = None
) -> Response:
    """Keep what the vendor offers, beside the estimate. Placing the order then costs what was offered."""
    return _answer(*service.take_quote(principal, order_id, form, _key(idempotency_key)))


@router.post(
    "/{order_id}/moves",
    summary="Move an order",
    response_model=OrderOut,
    responses={
        200: {"description": "The order in its new state.", "content": DONE},
        **problem_responses(NotFound, OrderMoveRefused, PriceListExpired, Unprocessable, IdempotencyMismatch),
    },
)
def move_order(
    order_id: uuid.UUID, principal: Buyer, form: MoveForm, idempotency_key: Key = None
) -> Response:
    """Say that an order was placed, received or cancelled.

    Placing enters the purchase in the ledger, cancelling a placed order takes it back and enters what the
    vendor charges for that. Of two moves at once
    one is made; the other sees the new state, and is a 409 if it is not possible from there.
    """
    return _answer(*service.move(principal, order_id, form, _key(idempotency_key)))


def _key(key: str | None) -> str | None:
    return None if key is None else check_key(key)


def _answer(order: OrderOut, replayed: bool, status: int = 200) -> Response:
    headers = {"Location": f"/v1/orders/{order.id}"} if status == 201 else {}
    if replayed:
        headers["Idempotency-Replayed"] = "true"
    return JSONResponse(order.model_dump(mode="json"), status, headers)
