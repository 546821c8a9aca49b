"""Examples of orders in the OpenAPI document."""

from typing import Any, Final

PLAN: Final = "0199c0de-0000-7000-8000-000000000001"
ID: Final = "0199c0de-0000-7000-8000-000000000021"
SQUARE: Final[dict[str, Any]] = {
    "type": "Polygon",
    "coordinates": [[[8.1, 50.1], [8.11, 50.1], [8.11, 50.11], [8.1, 50.11], [8.1, 50.1]]],
}

FORM: Final[dict[str, Any]] = {"plans": [PLAN], "product": "example-archive/archive-30cm"}
QUOTE_FORM: Final[dict[str, Any]] = {
    "total": "22.90",
    "currency": "EUR",
    "reference": "Q-2026-118",
    "valid_until": "2026-12-24",
}
MOVE_FORM: Final[dict[str, Any]] = {"to": "placed", "reason": "approved by purchasing"}
CANCEL_FORM: Final[dict[str, Any]] = {
    "to": "cancelled",
    "reason": "clouds all month",
    "cancellation_fee": "5.00",
    "currency": "EUR",
}

SUMMARY: Final[dict[str, Any]] = {
    "id": ID,
    "state": "quoted",
    "created_at": "2026-11-22T15:00:00Z",
    "placed_at": None,
    "product": "example-archive/archive-30cm@1",
    "vendor": "Example vendor",
    "currency": "EUR",
    "plans": [PLAN],
    "budget": None,
    "left_out": {"received": 1, "ordered": 0},
    "estimate": {
        "patches": 9,
        "area_km2": 0.8812,
        "charged_km2": 1.0,
        "fee": "0.00",
        "unused_minimum": "2.61",
        "rounding": "0.00",
        "net": "22.00",
        "vat": "0.00",
        "total": "22.00",
    },
    "full_hr": {"area_km2": 3.2, "total": "70.40", "nominal": "70.40"},
    "saving": {"nominal": "51.01", "nominal_share": 0.7246, "real": "47.50", "real_share": 0.6747},
    "quote": {
        "total": "22.90",
        "difference": "0.90",
        "difference_share": 0.040909,
        "reference": "Q-2026-118",
        "valid_until": "2026-12-24",
        "note": None,
        "quoted_at": "2026-11-22T15:04:00Z",
    },
    "price": "22.90",
    "cancellation_fee": None,
    "optimal": True,
    "bound": "22.00",
    "links": {"self": f"/v1/orders/{ID}", "ledger": f"/v1/ledger?order={ID}"},
}
ORDER: Final[dict[str, Any]] = {
    **SUMMARY,
    "left_out": {
        "received": 1,
        "ordered": 0,
        "tiles": [{"plan_id": PLAN, "tile": 0, "received": [0], "ordered": []}],
    },
    "lines": [
        {
            "line": 1,
            "area_km2": 0.8812,
            "charged_km2": 0.8812,
            "amount": "19.39",
            "patches": 9,
            "geometry": SQUARE,
        }
    ],
    "tiles": [{"plan_id": PLAN, "tile": 0, "patches": [1, 2, 3, 5, 6, 7, 9, 10, 11], "paid_before": []}],
    "dropped": [],
    "moves": [
        {"here": None, "to": "draft", "at": "2026-11-22T15:00:00Z", "reason": None},
        {"here": "draft", "to": "quoted", "at": "2026-11-22T15:04:00Z", "reason": None},
    ],
}
GEOJSON: Final[dict[str, Any]] = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "id": 1,
            "geometry": SQUARE,
            "properties": {
                "order_id": ID,
                "line": 1,
                "product": "example-archive/archive-30cm@1",
                "area_km2": 0.8812,
                "charged_km2": 0.8812,
                "amount": "19.39",
                "currency": "EUR",
                "patches": 9,
            },
        }
    ],
}
REQUESTS: Final[dict[str, Any]] = {
    "order_id": ID,
    "format": "stapi",
    "method": "POST",
    "path": "/products/archive-30cm/orders",
    "requests": [
        {
            "datetime": "2026-12-01T00:00:00+00:00/2026-12-31T00:00:00+00:00",
            "geometry": SQUARE,
            "order_parameters": {},
        }
    ],
}
