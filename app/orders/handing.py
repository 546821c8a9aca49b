"""An order as the request bodies that others take. They are built and checked here, and never sent.

Sources: the STAPI specification by way of ``stapi-pydantic`` (``OrderPayload``); Planet's Orders API,
https://docs.planet.com/develop/apis/orders/mechanics/ and its clip tool's limits,
https://support.planet.com/hc/en-us/articles/6075850477213; UP42's estimate, ``POST /v2/orders/estimate``,
https://docs.up42.com/developers/api-orders.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final, Literal
from urllib.parse import quote as quoted

from pydantic import BaseModel, ValidationError
from stapi_pydantic import OrderParameters, OrderPayload

from app.core.errors import Unprocessable
from app.core.problems import pydantic_says
from app.orders.schemas import VendorRequests
from app.orders.tables import Order, OrderLine
from app.pricing.products import Product

Format = Literal["stapi", "planet", "up42"]

PLANET_VERTICES: Final = 500
"""Of one clip AOI."""


class Details(BaseModel):
    """What an order of patches cannot know itself and each format asks for."""

    start: datetime | None = None
    end: datetime | None = None
    item_id: list[str] = []
    item_type: str | None = None
    product_bundle: str | None = None
    data_product: str | None = None
    scene: str | None = None


def requests_of(order: Order, lines: Sequence[OrderLine], kind: Format, details: Details) -> VendorRequests:
    """The bodies of an order in one format; raises Unprocessable where ``details`` lacks what it needs."""
    make = {"stapi": _stapi, "planet": _planet, "up42": _up42}[kind]
    path, bodies = make(order, lines, details)
    return VendorRequests(order_id=order.id, format=kind, path=path, requests=bodies)


def _stapi(order: Order, lines: Sequence[OrderLine], details: Details) -> tuple[str, list[dict[str, Any]]]:
    start, end = _need(details, "stapi", "start", "end")
    if start.tzinfo is None or end.tzinfo is None:
        raise _missing("stapi", "`start` and `end` with a time zone")
    product = Product.from_json(order.terms)
    geometries = [line.geometry for line in lines]
    if not product.rules.single_part:
        geometries = [merged(geometries)]
    bodies = []
    for geometry in geometries:
        raw = {
            "datetime": f"{start.isoformat()}/{end.isoformat()}",
            "geometry": geometry,
            "order_parameters": {},
        }
        try:
            # the model is strict, which a geometry out of JSON meets as JSON only
            checked = OrderPayload[OrderParameters].model_validate(raw, strict=False)
        except ValidationError as error:
            raise Unprocessable(f"This makes no STAPI order: {pydantic_says(error.errors()[0])}.") from None
        bodies.append(checked.model_dump(mode="json", exclude_none=True))
    return f"/products/{quoted(product.key, safe='')}/orders", bodies


def _planet(order: Order, lines: Sequence[OrderLine], details: Details) -> tuple[str, list[dict[str, Any]]]:
    items, item_type, bundle = _need(details, "planet", "item_id", "item_type", "product_bundle")
    for line in lines:
        # cut in two it would be other polygons than were priced
        if (count := vertices(line.geometry)) > PLANET_VERTICES:
            raise Unprocessable(
                f"Line {line.line} has {count} vertices; Planet's clip takes {PLANET_VERTICES}."
                " A product with a lower max_vertices makes polygons that it takes."
            )
    batches = list(_by_vertices([line.geometry for line in lines], PLANET_VERTICES))
    bodies = [
        {
            "name": f"PatchPlan {order.id} {number}/{len(batches)}",
            "source_type": "scenes",
            "products": [{"item_ids": items, "item_type": item_type, "product_bundle": bundle}],
            "tools": [{"clip": {"aoi": merged(batch)}}],
        }
        for number, batch in enumerate(batches, start=1)
    ]
    return "/compute/ops/orders/v2", bodies


def _up42(order: Order, lines: Sequence[OrderLine], details: Details) -> tuple[str, list[dict[str, Any]]]:
    [data_product] = _need(details, "up42", "data_product")
    features = [
        {"type": "Feature", "properties": {"line": line.line}, "geometry": line.geometry} for line in lines
    ]
    body = {
        "dataProduct": data_product,
        "displayName": f"PatchPlan {order.id}",
        "params": {} if details.scene is None else {"id": details.scene},
        "featureCollection": {"type": "FeatureCollection", "features": features},
        "tags": [f"patchplan:{order.id}"],
    }
    return "/v2/orders/estimate", [body]


def merged(geometries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One geometry of several: a Polygon as it is, else a MultiPolygon."""
    if len(geometries) == 1:
        return geometries[0]
    parts: list[Any] = []
    for geometry in geometries:
        own = geometry["coordinates"]
        parts += own if geometry["type"] == "MultiPolygon" else [own]
    return {"type": "MultiPolygon", "coordinates": parts}


def _by_vertices(geometries: Sequence[dict[str, Any]], most: int) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    so_far = 0
    for geometry in geometries:
        count = vertices(geometry)
        if batch and so_far + count > most:
            yield batch
            batch, so_far = [], 0
        batch.append(geometry)
        so_far += count
    if batch:
        yield batch


def vertices(geometry: dict[str, Any]) -> int:
    """Points of all rings, the closing ones too."""
    parts = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return sum(len(ring) for part in parts for ring in part)


def _need(details: Details, kind: str, *names: str) -> list[Any]:
    found = [getattr(details, name) for name in names]
    missing = [name for name, value in zip(names, found, strict=True) if not value]
    if missing:
        raise _missing(kind, ", ".join(f"`{name}`" for name in missing))
    return found


def _missing(kind: str, what: str) -> Unprocessable:
    detail = f"{kind} also needs {what}, which an order of patches does not know."
    return Unprocessable(detail, errors=[{"loc": ["query"], "detail": detail}])
