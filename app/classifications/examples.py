"""Examples for the OpenAPI document."""

from typing import Any, Final

from app.plans.examples import PLAN_ID, RELEASE_EXAMPLE

CLASSIFICATION_ID: Final = "0199c0de-0000-7000-8000-000000000003"

_HR: Final = {
    "class": "golfcourse",
    "fmow": "golf_course",
    "probability": 0.95,
    "probabilities": {"golfcourse": 0.95, "forest": 0.05},
}
_LR: Final = _HR | {"probability": 0.6, "probabilities": {"golfcourse": 0.6, "forest": 0.4}}

SUMMARY_EXAMPLE: Final[dict[str, Any]] = {
    "id": CLASSIFICATION_ID,
    "plan_id": PLAN_ID,
    "status": "ready",
    "created_at": "2026-11-22T12:00:10Z",
    "started_at": "2026-11-22T12:00:10.020Z",
    "finished_at": "2026-11-22T12:00:10.240Z",
    "release": RELEASE_EXAMPLE,
    "fusion": "log_pool",
    "top_k": 1,
    "classes": [{"name": "golfcourse", "fmow": "golf_course"}, {"name": "forest", "fmow": None}],
    "error": None,
    "links": {
        "self": f"/v1/plans/{PLAN_ID}/classifications/{CLASSIFICATION_ID}",
        "plan": f"/v1/plans/{PLAN_ID}",
    },
}

QUEUED_EXAMPLE: Final[dict[str, Any]] = SUMMARY_EXAMPLE | {
    "status": "queued",
    "started_at": None,
    "finished_at": None,
    "tiles": [],
}

CLASSIFICATION_EXAMPLE: Final[dict[str, Any]] = SUMMARY_EXAMPLE | {
    "tiles": [
        {
            "tile": 0,
            "status": "classified",
            "class": "golfcourse",
            "fmow": "golf_course",
            "probability": 0.9734,
            "top": [{"class": "golfcourse", "fmow": "golf_course", "probability": 0.9734}],
            "probabilities": {"golfcourse": 0.9734, "forest": 0.0266},
            "streams": {"hr": _HR, "lr": _LR},
            "fusion": "log_pool",
            "weights": {"hr": 0.925, "lr": 0.075},
            "patches_used": [1, 4, 5, 9],
            "chosen_missing": [],
            "buy_next": [],
        }
    ],
}
