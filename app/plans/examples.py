"""Examples for the OpenAPI document."""

from typing import Any, Final

PLAN_ID: Final = "0199c0de-0000-7000-8000-000000000001"

RELEASE_EXAMPLE: Final[dict[str, Any]] = {
    "id": None,
    "name": "ucmerced",
    "version": "2",
    "streams": "hr+lr",
    "fusion": "log_pool",
    "weights_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}

SUMMARY_EXAMPLE: Final[dict[str, Any]] = {
    "id": PLAN_ID,
    "status": "ready",
    "created_at": "2026-11-22T12:00:00Z",
    "started_at": "2026-11-22T12:00:00.050Z",
    "finished_at": "2026-11-22T12:00:00.350Z",
    "release": RELEASE_EXAMPLE,
    "threshold": 0.5,
    "max_patches": 4,
    "tile_size_m": None,
    "price_per_km2": "12.50",
    "currency": "EUR",
    "product": None,
    "budget": None,
    "tags": {"team": "forest"},
    "raster": {
        "width": 64,
        "height": 64,
        "crs": "EPSG:32617",
        "transform": [1.2, 0.0, 404000.0, 0.0, -1.2, 3285000.0],
        "dtype": "uint8",
        "gsd_m": 1.2,
        "bands": [1, 2, 3],
        "scaling": {"kind": "as_is", "gain": [1.0, 1.0, 1.0], "bias": [0.0, 0.0, 0.0]},
        "sha256": "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
        "bytes": 12_912,
    },
    "warnings": [],
    "totals": {
        "tiles": 1,
        "patches": 16,
        "chosen": 1,
        "area_km2": 0.0058976,
        "chosen_area_km2": 0.0003686,
        "cost": "0.07",
        "chosen_cost": "0.00",
        "nominal_saving": "0.07",
    },
    "error": None,
    "links": {
        "self": f"/v1/plans/{PLAN_ID}",
        "preview": f"/v1/plans/{PLAN_ID}/preview.png",
        "acquisitions": f"/v1/plans/{PLAN_ID}/acquisitions",
        "classifications": f"/v1/plans/{PLAN_ID}/classifications",
    },
}

QUEUED_EXAMPLE: Final[dict[str, Any]] = SUMMARY_EXAMPLE | {
    "status": "queued",
    "started_at": None,
    "finished_at": None,
    "raster": SUMMARY_EXAMPLE["raster"] | {"scaling": None},
    "totals": None,
    "tiles": [],
}

PAGE_EXAMPLE: Final[dict[str, Any]] = {
    "plans": [SUMMARY_EXAMPLE],
    "next": "WyIyMDI2LTExLTIyVDEyOjAwOjAwKzAwOjAwIiwgIjAxOTljMGRlLTAwMDAtNzAwMC04MDAwLTAwMDAwMDAwMDAwMSJd",
}

# what a client sends beside the raster
FORM_EXAMPLES: Final[dict[str, str]] = {
    "release": "ucmerced",
    "threshold": "0.5",
    "max_patches": "4",
    "bands": "3,2,1",
    "scale": "0.0001",
    "offset": "-0.1",
    "tile_size_m": "76.8",
    "price_per_km2": "12.50",
    "currency": "EUR",
    "product": "example-archive/small-minimum",
    "budget": "50.00",
    "must_buy": '{"type": "Polygon", "coordinates": [[[8.1, 50.1], [8.2, 50.1], [8.2, 50.2], [8.1, 50.1]]]}',
    "never_buy": '{"type": "Polygon", "coordinates": [[[8.3, 50.1], [8.4, 50.1], [8.4, 50.2], [8.3, 50.1]]]}',
    "tags": '{"team": "forest"}',
    "replace": "true",
}

PLAN_EXAMPLE: Final[dict[str, Any]] = SUMMARY_EXAMPLE | {
    "tiles": [
        {
            "tile": 0,
            "row": 0,
            "col": 0,
            "bounds": [404000.0, 3284923.2, 404076.8, 3285000.0],
            "clipped_bounds": [404000.0, 3284923.2, 404076.8, 3285000.0],
            "valid_fraction": 1.0,
            "chosen": [5],
            "unseen": [],
            "patches": [
                {
                    "patch": 5,
                    "probability": 0.913,
                    "selected": True,
                    "area_km2": 0.0003686,
                    "price": "0.0046075",
                }
            ],
            "gain": {
                "lr": 0.62,
                "hr": 0.98,
                "weights": [0.01] * 5 + [0.4, 0.1] + [0.01] * 2 + [0.1, 0.28] + [0.01] * 5,
            },
        }
    ]
}
