"""What tests send to the service, as short as a client's library would have it."""

import json
from typing import Any

import httpx
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.core.db import session_scope
from app.core.settings import get_settings
from app.core.store import get_store

WAIT = {"Prefer": "wait=40"}
GEOJSON = {"Accept": "application/geo+json"}


def post_plan(
    client: httpx.Client | TestClient, content: bytes, *, headers: dict[str, str] | None = None, **fields: Any
) -> Any:
    """``POST /v1/plans``; fields that are no strings are sent as JSON."""
    form = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
    sent = {**WAIT, **(headers or {})}
    return client.post("/v1/plans", files={"lr": ("lr.tif", content)}, data=form, headers=sent)


def made_plan(client: httpx.Client | TestClient, content: bytes, **fields: Any) -> Any:
    """A plan that is ready."""
    answer = post_plan(client, content, **fields)
    assert answer.status_code == 201, answer.text
    plan = answer.json()
    assert plan["status"] == "ready", plan["error"]
    return plan


def post_hr(client: httpx.Client | TestClient, plan_id: str, *contents: bytes, **fields: str) -> Any:
    """``POST .../acquisitions`` with one file for each of ``contents``."""
    files = [("files", (f"{number}.tif", content)) for number, content in enumerate(contents)]
    return client.post(f"/v1/plans/{plan_id}/acquisitions", files=files, data=fields)


def classify(client: httpx.Client | TestClient, plan_id: str, **body: Any) -> Any:
    """A classification that is ready."""
    answer = client.post(f"/v1/plans/{plan_id}/classifications", json=body, headers=WAIT)
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert found["status"] == "ready", found["error"]
    return found


def kept() -> dict[str, Any]:
    """Everything the service keeps: rows a table, objects, files being checked."""
    tables = ("plans", "tiles", "acquisitions", "received_patches", "classifications", "idempotency_keys")
    with session_scope() as session:
        rows = {table: session.scalar(text(f"SELECT count(*) FROM {table}")) for table in tables}
    spool = get_settings().spool_dir
    files = sorted(path.name for path in spool.iterdir()) if spool.exists() else []
    return {**rows, "objects": get_store().keys(), "spool": files}
