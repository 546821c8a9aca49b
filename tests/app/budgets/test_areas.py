"""Areas as clients send them and as they are kept: the same ground, and nothing that cannot be kept."""

import hashlib
import json
import uuid
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.budgets import areas
from app.budgets.areas import MAX_POINTS, kept_area, read_area
from app.budgets.schemas import BudgetForm
from app.budgets.tables import Budget
from app.core.db import session_scope
from app.core.errors import AreaRefused
from app.plans.tables import Plan
from tests.app.core.test_problems import check_problem
from tests.imagery import lr_geotiff
from tests.plans import ready_plan

SQUARE: dict[str, Any] = {
    "type": "Polygon",
    "coordinates": [[[8.1, 50.1], [8.2, 50.1], [8.2, 50.2], [8.1, 50.2], [8.1, 50.1]]],
}
KEPT = {"type": "MultiPolygon", "coordinates": [SQUARE["coordinates"]]}
HOLE = {
    "type": "Polygon",
    "coordinates": [
        [[0, 0, 7], [9, 0, 7], [9, 9, 7], [0, 9, 7], [0, 0, 7]],
        [[1, 1], [1, 2], [2, 2], [2, 1], [1, 1]],
    ],
}
# one polygon 360 degrees wide, if they were joined
WORLD = {
    "type": "MultiPolygon",
    "coordinates": [
        [[[-180, -80], [0, -80], [0, 80], [-180, 80], [-180, -80]]],
        [[[0, -80], [180, -80], [180, 80], [0, 80], [0, -80]]],
    ],
}
# members that GeoJSON lets anybody add, and that no JSONB column holds
UNKEEPABLE = [r'"\u0000"', r'"\ud800"', r'{"\u0000": 1}', "NaN", "-Infinity"]


def feature(geometry: Any, **more: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": {"name": "north"}, **more}


def nested(times: int) -> str:
    """A Feature of a Feature of a Feature."""
    return '{"type": "Feature", "geometry": ' * times + json.dumps(SQUARE) + "}" * times


def with_member(value: str) -> str:
    return json.dumps(SQUARE)[:-1] + f', "x": {value}}}'


@pytest.mark.parametrize(
    "value",
    [
        SQUARE,
        HOLE,
        WORLD,
        feature(SQUARE, id=7),
        {"type": "FeatureCollection", "features": [feature(SQUARE), feature(WORLD), feature(SQUARE)]},
    ],
    ids=["polygon", "hole", "world", "feature", "collection"],
)
def test_what_is_kept_is_the_same_ground(value: dict[str, Any]) -> None:
    kept = json.loads(json.dumps(kept_area(value, ("body",))))
    assert kept.keys() == {"type", "coordinates"}
    assert read_area(kept, ("body",)) == read_area(value, ("body",))
    assert kept_area(kept, ("body",)) == kept_area(value, ("body",))


def test_what_is_kept_is_a_multipolygon_of_numbers() -> None:
    assert json.loads(json.dumps(kept_area(feature(SQUARE), ("body",)))) == KEPT
    assert kept_area(None, ("body",)) is None


@pytest.mark.parametrize("times", [2, 400])
def test_a_feature_holds_no_feature(times: int) -> None:
    value = json.loads(nested(times))
    for area in (value, {"type": "FeatureCollection", "features": [value]}):
        with pytest.raises(AreaRefused, match="Feature"):
            read_area(area, ("body", "must_buy"))


def test_a_type_that_is_no_text_is_refused() -> None:
    kind: Any = "x"
    for _ in range(900):
        kind = [kind]
    with pytest.raises(AreaRefused, match="no text"):
        read_area({"type": kind}, ("body", "must_buy"))


def test_what_lacks_a_member_is_told_which() -> None:
    for value, lacks in (
        ({}, "type"),
        ({"type": "Polygon"}, "coordinates"),
        ({"type": "Feature"}, "geometry"),
    ):
        with pytest.raises(AreaRefused, match=f"it lacks '{lacks}'"):
            read_area(value, ("body", "must_buy"))


def squares(count: int) -> dict[str, Any]:
    """So many squares of five points each, side by side."""
    rings = []
    for k in range(count):
        west, south = k % 100 / 10, k // 100 / 10
        east, north = west + 0.05, south + 0.05
        rings.append([[[west, south], [east, south], [east, north], [west, north], [west, south]]])
    return {"type": "MultiPolygon", "coordinates": rings}


def fan(points: int) -> list[list[list[float]]]:
    """The rings of a polygon of so many points, far from all squares."""
    upper = [[20 + k / 1000, 1.0] for k in range(points - 2)]
    return [[*upper, [20.0, 0.0], upper[0]]]


def test_an_areas_points_are_counted_together() -> None:
    most = squares(1000)
    most["coordinates"][0] = fan(MAX_POINTS - 999 * 5)
    kept = kept_area(most, ("body",))
    assert kept_area(kept, ("body",)) == kept
    one_more = squares(1000)
    one_more["coordinates"][0] = fan(MAX_POINTS - 999 * 5 + 1)
    collection = {"type": "FeatureCollection", "features": [feature(one_more)]}
    for area in (one_more, collection):
        with pytest.raises(AreaRefused, match="20000 points, those of all its polygons") as caught:
            read_area(area, ("body", "must_buy"))
        assert caught.value.extra["errors"][0]["loc"] == ["body", "must_buy"]


def test_an_area_of_too_many_points_is_a_422(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    area = squares(2)
    area["coordinates"][0] = fan(MAX_POINTS - 4)
    answer = post_budget(client, ready_plan(), json.dumps(area))
    check_problem(answer, 422, "area-refused")
    assert "20000 points" in answer.json()["detail"]
    # a plan's text fields end before so many points do
    monkeypatch.setattr(areas, "MAX_POINTS", 9)
    check_problem(post_plan(client, "never_buy", json.dumps(squares(2))), 422, "area-refused")
    assert post_plan(client, "never_buy", json.dumps(squares(1))).status_code == 202


def post_plan(client: TestClient, name: str, area: str) -> Any:
    files = {"lr": ("lr.tif", lr_geotiff())}
    return client.post("/v1/plans", files=files, data={name: area}, headers={"Prefer": "wait=0"})


def post_budget(client: TestClient, plan: uuid.UUID, area: str, **headers: str) -> Any:
    terms = '"budget": "10", "price_per_km2": "5", "currency": "EUR"'
    body = f'{{{terms}, "plans": ["{plan}"], "must_buy": {area}}}'
    return client.post(
        "/v1/budgets",
        content=body,
        headers={"Content-Type": "application/json", "Prefer": "wait=0", **headers},
    )


@pytest.mark.parametrize("member", UNKEEPABLE)
def test_other_members_of_an_area_are_not_kept(client: TestClient, member: str) -> None:
    answer = post_plan(client, "never_buy", with_member(member))
    assert answer.status_code == 202, answer.text
    assert post_budget(client, ready_plan(), with_member(member)).status_code == 202
    with session_scope() as session:
        plan = session.get(Plan, uuid.UUID(answer.json()["id"]))
        assert plan is not None
        assert plan.options == {"never_buy": KEPT}
        [budget] = session.scalars(select(Budget))
        assert budget.request["must_buy"] == KEPT
        assert budget.request["never_buy"] is None


def test_areas_without_end_are_refused(client: TestClient) -> None:
    plan = ready_plan()
    for area in (nested(400), with_member("[" * 400 + "]" * 400)):
        check_problem(post_budget(client, plan, area), 422, "area-refused")
    check_problem(post_plan(client, "must_buy", nested(400)), 422, "area-refused")
    check_problem(post_plan(client, "must_buy", nested(1500)), 422, "unprocessable")


def test_a_budgets_key_goes_with_the_body_as_it_was_sent(client: TestClient) -> None:
    plan, key = ready_plan(), {"Idempotency-Key": "one"}
    area = json.dumps(feature(SQUARE, id=7))
    first = post_budget(client, plan, area, **key)
    again = post_budget(client, plan, area, **key)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]
    check_problem(post_budget(client, plan, json.dumps(SQUARE), **key), 422, "idempotency-mismatch")
    # keys of bodies that were sent before areas were kept by themselves still find them
    form = BudgetForm.model_validate(json.loads(again.request.content))
    whole = json.dumps(form.model_dump(mode="json"), sort_keys=True)
    with session_scope() as session:
        [budget] = session.scalars(select(Budget))
        assert budget.fingerprint == hashlib.sha256(whole.encode()).hexdigest()
