"""Examples for the OpenAPI document."""

from typing import Any, Final

DATASET_ID: Final = "0199c0de-0000-7000-8000-000000000021"
SHA256: Final = "75ad42d35e7d2231fd301b114144a36727763baca65860ac2ef9c83dfd146a87"

SUMMARY: Final[dict[str, Any]] = {
    "id": DATASET_ID,
    "name": "harbors",
    "status": "ready",
    "created_at": "2026-11-22T12:00:00Z",
    "started_at": "2026-11-22T12:00:00.050Z",
    "finished_at": "2026-11-22T12:00:03.350Z",
    "origin": "upload",
    "source": {"file": "harbors.tar", "bytes": 38420480, "sha256": SHA256},
    "form": "folders",
    "content_sha256": SHA256,
    "snapshot_bytes": 38420480,
    "classes": ["forest", "harbor"],
    "pictures": 160,
    "train": 0,
    "val": 0,
    "test": 0,
    "warnings": [],
    "error": None,
    "links": {"self": f"/v1/datasets/{DATASET_ID}", "pictures": f"/v1/datasets/{DATASET_ID}/pictures"},
}

DATASET: Final[dict[str, Any]] = {
    **SUMMARY,
    "inventory": {
        "classes": [
            {"name": "forest", "pictures": 80, "splits": {}},
            {"name": "harbor", "pictures": 80, "splits": {}},
        ],
        "splits": None,
        "sizes": {"min": [256, 256], "median": [256, 256], "max": [256, 256], "distinct": 1},
        "bands": {"3": 160},
        "types": {"uint8": 160},
        "gsd_m": None,
        "bytes": 37135373,
        "unreadable": {"pictures": 0, "listed": []},
        "ignored": {"files that are no pictures": 1},
        "duplicates": {
            "compared": "exactly and nearly",
            "groups": 0,
            "pictures": 0,
            "across_splits": 0,
            "of_several_classes": 0,
            "listed": [],
        },
    },
}

QUEUED: Final[dict[str, Any]] = {
    **DATASET,
    "status": "queued",
    "started_at": None,
    "finished_at": None,
    "form": None,
    "content_sha256": None,
    "snapshot_bytes": None,
    "classes": [],
    "pictures": None,
    "train": None,
    "val": None,
    "test": None,
    "inventory": None,
}

PAGE: Final[dict[str, Any]] = {"datasets": [SUMMARY], "next": None}

PICTURES: Final[dict[str, Any]] = {
    "pictures": [
        {
            "picture": "forest/forest00.jpg",
            "class": "forest",
            "split": None,
            "width": 256,
            "height": 256,
            "bands": 3,
            "type": "uint8",
            "gsd_m": None,
            "bytes": 21804,
            "sha256": SHA256,
            "unreadable": None,
        }
    ],
    "next": None,
}

REQUEST: Final[dict[str, Any]] = {"name": "harbors-2026", "from": {"tags": {"team": "harbors"}}}

FORM: Final[dict[str, str]] = {
    "name": "harbors",
    "classes": '["forest", "harbor"]',
    "max_unreadable": "10",
    "max_leaks": "0",
    "mixed_bands": "false",
}
