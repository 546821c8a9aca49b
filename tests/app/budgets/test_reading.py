"""Budgets as they are listed: what is shown, and nothing of what is not."""

import json
import math
import tracemalloc
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from app.budgets import service
from app.budgets.areas import MAX_POINTS
from app.budgets.tables import Budget
from app.core.db import session_scope
from app.core.errors import IdempotencyMismatch
from tests.app.core.test_problems import check_problem
from tests.plans import ready_plan

RESULT: dict[str, Any] = {
    "basis": "uncalibrated",
    "quote": {"polygons": 1, "charged_km2": "0.1", "net": "1.75", "vat": "0.00", "total": "1.75"},
    "unspent": "8.25",
    "expected_before": 0.0,
    "expected_after": 1.0,
    "expected_with_all": 1.0,
    "patches_bought": 16,
    "patches": 16,
    "verdicts": {"lr_is_enough": 0, "buy_these": 1, "not_worth_it": 0},
    "curve": [{"spend": "0.00", "expected": 0.0, "patches": 0}],
    "knee": 0,
}
LARGE = 2_000_000
"""Bytes: one area as large as may be is more than that once it is read."""


def circle(points: int) -> dict[str, Any]:
    """A polygon of so many positions, the closing one included."""
    angles = [2 * math.pi * k / (points - 1) for k in range(points - 1)]
    ring = [[8 + math.cos(angle) / 9, 50 + math.sin(angle) / 9] for angle in angles]
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


@pytest.fixture
def budgets(client: TestClient) -> list[dict[str, Any]]:
    """A ready budget and a queued one, oldest first, with areas as large as they may be."""
    found: list[dict[str, Any]] = []
    for plans in ([ready_plan(2, 1), ready_plan()], [ready_plan(2, 1)]):
        body = {
            "budget": "10",
            "price_per_km2": "5",
            "currency": "EUR",
            "plans": [str(plan) for plan in plans[1:]],
            "tiles": [{"plan": str(plans[0]), "tiles": [1]}],
            "max_patches": 3 if plans[1:] else None,
            "must_buy": circle(MAX_POINTS),
            "never_buy": circle(MAX_POINTS),
        }
        headers = {"Prefer": "wait=0", "Idempotency-Key": str(len(found))}
        answer = client.post("/v1/budgets", json=body, headers=headers)
        assert answer.status_code == 202, answer.text
        found.append({"id": uuid.UUID(answer.json()["id"]), "body": body})
    polygons = [circle(MAX_POINTS)]
    with session_scope() as session:
        session.execute(
            text(
                "UPDATE budgets SET status = 'ready', started_at = now(), finished_at = now(),"
                " answer = :answer WHERE id = :id"
            ),
            {"id": found[0]["id"], "answer": json.dumps({"result": RESULT, "polygons": polygons})},
        )
    return found


def test_budgets_are_shown_as_they_were_asked_for(client: TestClient, budgets: list[dict[str, Any]]) -> None:
    listed = client.get("/v1/budgets").json()["budgets"]
    assert [one["id"] for one in listed] == [str(one["id"]) for one in budgets[::-1]]
    for one, made in zip(listed, budgets[::-1], strict=True):
        body = made["body"]
        assert one == client.get(f"/v1/budgets/{made['id']}").json()
        assert one["max_patches"] == body["max_patches"]
        assert one["plans"] == [*body["plans"], *(part["plan"] for part in body["tiles"])]
    queued, ready = listed
    assert (queued["status"], queued["result"]) == ("queued", None)
    assert (ready["status"], ready["result"]["unspent"]) == ("ready", "8.25")
    as_geojson = {"Accept": "application/geo+json"}
    [feature] = client.get(f"/v1/budgets/{ready['id']}", headers=as_geojson).json()["features"]
    assert feature["geometry"] == circle(MAX_POINTS)
    check_problem(client.get(f"/v1/budgets/{queued['id']}", headers=as_geojson), 409, "conflict")
    check_problem(client.get(f"/v1/budgets/{uuid.uuid4()}", headers=as_geojson), 404, "not-found")
    check_problem(client.get(f"/v1/budgets/{uuid.uuid4()}/tiles"), 404, "not-found")


def test_areas_and_polygons_stay_in_the_database(budgets: list[dict[str, Any]]) -> None:
    with session_scope() as session:
        org_id = session.scalars(select(Budget.org_id).limit(1)).one()
        ready = budgets[0]["id"]

        def repeat() -> None:
            with pytest.raises(IdempotencyMismatch):
                service._made_with(session, org_id, "0", "another body")

        looks: list[Callable[[], object]] = [
            lambda: service.page(session, org_id, 50, None),
            lambda: service.get(session, org_id, ready),
            lambda: service.tiles_page(session, org_id, ready, 50, None, None),
            repeat,
        ]
        for look in looks:
            look()  # what is imported or compiled once is not counted
            assert _peak(look) < LARGE
        assert _peak(lambda: session.scalars(select(Budget)).all()) > LARGE


def _peak(work: Callable[[], object]) -> int:
    """The most bytes that Python held for it at once."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
