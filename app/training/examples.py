"""Examples for the OpenAPI document."""

from typing import Any, Final

RUN_ID: Final = "0199c0de-0000-7000-8000-0000000000a1"
DATASET_ID: Final = "0199c0de-0000-7000-8000-0000000000d1"
RELEASE_ID: Final = "0199c0de-0000-7000-8000-0000000000e1"

FORM_EXAMPLE: Final[dict[str, Any]] = {
    "name": "coast-2026",
    "dataset": DATASET_ID,
    "recipe": "ucmerced",
    "overrides": {"stages": {"hr": {"epochs": 12}}},
    "stages": ["hr", "lr", "pt", "ft2"],
    "seed": 7,
    "device": "auto",
    "processes": 1,
}

PROGRESS_EXAMPLE: Final[dict[str, Any]] = {
    "doing": "training",
    "stage": "ft2",
    "member": 0,
    "epoch": 1,
    "epochs": 2,
    "step": 40,
    "steps": 66,
    "share": 0.93,
    "eta_s": 71.5,
}

METRIC_EXAMPLE: Final[dict[str, Any]] = {
    "stage": "ft2",
    "member": 0,
    "epoch": 0,
    "step": 66,
    "values": {"loss": 0.412, "reward": 0.81, "accuracy": 0.94, "s": 3.2, "seconds": 48.1},
    "at": "2026-11-22T12:04:00Z",
}

RUN_EXAMPLE: Final[dict[str, Any]] = {
    "id": RUN_ID,
    "status": "running",
    "created_at": "2026-11-22T12:00:00Z",
    "started_at": "2026-11-22T12:00:01Z",
    "finished_at": None,
    "name": "coast-2026",
    "dataset": DATASET_ID,
    "recipe": "ucmerced",
    "overrides": {"stages": {"hr": {"epochs": 12}}},
    "stages": ["hr", "lr", "pt", "ft2"],
    "seed": 7,
    "device": "auto",
    "processes": 1,
    "parent": None,
    "progress": PROGRESS_EXAMPLE,
    "notices": [],
    "checkpoint": {"stage": "ft2", "member": 0, "epochs": 1, "at": "2026-11-22T12:04:00Z"},
    "release": None,
    "error": None,
    "links": {
        "self": f"/v1/training-runs/{RUN_ID}",
        "events": f"/v1/training-runs/{RUN_ID}/events",
        "metrics": f"/v1/training-runs/{RUN_ID}/metrics",
    },
}

QUEUED_EXAMPLE: Final[dict[str, Any]] = RUN_EXAMPLE | {
    "status": "queued",
    "started_at": None,
    "progress": None,
    "checkpoint": None,
}

EVENTS_EXAMPLE: Final = (
    'event: run\ndata: {"status": "running", "progress": {"stage": "hr", "epoch": 0, "eta_s": 300.5}}\n\n'
    'id: 17\nevent: metric\ndata: {"stage": "hr", "member": 0, "epoch": 0, "step": 66, '
    '"values": {"loss": 1.9, "accuracy": 0.41}}\n\n'
    'event: end\ndata: {"status": "ready"}\n\n'
)
