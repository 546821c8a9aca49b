"""``/v1/budgets`` through a real API and a real worker."""

import json
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import update

from app.core.db import session_scope
from app.plans.tables import TileRow
from tests.client import GEOJSON, WAIT, made_plan, post_plan
from tests.conftest import Live
from tests.imagery import lr_geotiff

AD_HOC: dict[str, Any] = {"price_per_km2": "1000", "currency": "EUR"}


def plan_of(live: Live, tiles: int = 3) -> dict[str, Any]:
    plan: dict[str, Any] = made_plan(live.client, lr_geotiff(tiles, tiles), tile_size_m="80.1", threshold="0")
    return plan


def post(live: Live, headers: dict[str, str] | None = None, **body: Any) -> Any:
    return live.client.post("/v1/budgets", json=body, headers={**WAIT, **(headers or {})})


def made(live: Live, **body: Any) -> dict[str, Any]:
    answer = post(live, **body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert found["status"] == "ready", found["error"]
    return found


def tiles_of(live: Live, budget: dict[str, Any], **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    token: str | None = None
    while True:
        more = {"token": token} if token else {}
        page = live.client.get(budget["links"]["tiles"], params={"limit": 4, **params, **more}).json()
        found += page["tiles"]
        token = page["next"]
        if token is None:
            return found


def test_without_a_gain_model_the_answer_says_so(live: Live) -> None:
    plan = plan_of(live)
    budget = made(live, budget="20", plans=[plan["id"]], **AD_HOC)
    result = budget["result"]
    assert result["basis"] == "uncalibrated"
    assert Decimal(result["quote"]["total"]) + Decimal(result["unspent"]) == 20
    tiles = tiles_of(live, budget)
    assert [tile["tile"] for tile in tiles] == list(range(9))
    assert sum(len(tile["bought"]) for tile in tiles) == result["patches_bought"] > 40
    areas = {(t["tile"], p["patch"]): p["area_km2"] for t in plan["tiles"] for p in t["patches"]}
    paid = sum(areas[tile["tile"], patch] for tile in tiles for patch in tile["bought"]) * 1000
    assert float(result["quote"]["total"]) == pytest.approx(paid, abs=0.02)
    assert result["curve"][0]["patches"] == 0
    assert 0 <= result["knee"] < len(result["curve"])
    assert live.client.get(budget["links"]["self"]).json() == budget
    bought = tiles_of(live, budget, verdict="buy_these")
    assert {tile["tile"] for tile in bought} == {tile["tile"] for tile in tiles if tile["bought"]}


def test_a_vendors_minimum_is_in_the_price_and_the_polygons_can_be_had(live: Live) -> None:
    plan = plan_of(live)
    sold = {
        "key": "k",
        "name": "n",
        "vendor": "v",
        "source": "made up",
        "currency": "EUR",
        "price_per_km2": "1000",
        "min_polygon_km2": "0.01",
    }
    live.client.post("/v1/price-lists", json={"name": "ours", "products": [sold]})
    budget = made(live, budget="25", product="ours/k", plans=[plan["id"]])
    assert budget["product"] == "ours/k@1"
    assert budget["result"]["quote"]["charged_km2"] >= 0.01
    polygons = live.client.get(budget["links"]["self"], headers=GEOJSON)
    assert polygons.headers["Content-Type"] == "application/geo+json"
    assert len(polygons.json()["features"]) == budget["result"]["quote"]["polygons"] >= 1
    # a new version changes nothing of what was priced with the old one
    live.client.post("/v1/price-lists", json={"name": "ours", "products": [sold | {"price_per_km2": "9"}]})
    assert live.client.get(budget["links"]["self"]).json() == budget
    problem = post(live, budget="5", product="ours/k@1", plans=[plan["id"]])
    assert (problem.status_code, problem.json()["type"]) == (422, "/problems/budget-too-small")
    assert problem.json()["smallest_order"] == "10.00"


def test_with_the_gain_of_its_release_a_budget_speaks_of_accuracy(live: Live) -> None:
    from app.core.settings import get_settings
    from models.card import load_card

    folder = get_settings().releases_dir / "tiny"
    card = load_card(folder)
    text = (folder / "card.json").read_text()
    plan = plan_of(live)
    rising = {"lr": 0.5, "hr": 0.9, "weights": [1 / 16] * 16}
    with session_scope() as session:
        session.execute(update(TileRow).values(gain=rising))
        session.execute(update(TileRow).where(TileRow.tile == 4).values(gain=rising | {"hr": 0.4}))
    raw = json.loads(text)
    try:
        raw["gain"] = {"curve": [0, 0.7, 1]}
        (folder / "card.json").write_text(json.dumps(raw))
        budget = made(live, budget="1000", plans=[plan["id"]], **AD_HOC)
        small = made(live, budget="10", plans=[plan["id"]], max_patches=2, **AD_HOC)
        with session_scope() as session:
            nothing = {"gain": None, "unseen": list(range(16)), "probabilities": [0.0] * 16}
            session.execute(update(TileRow).where(TileRow.tile == 5).values(nothing))
        blind = made(live, budget="10", tiles=[{"plan": plan["id"], "tiles": [5]}], **AD_HOC)
    finally:
        (folder / "card.json").write_text(text)
    assert card.gain is None
    result = budget["result"]
    assert result["basis"] == "gain"
    assert result["expected_before"] == pytest.approx(0.5)
    assert result["expected_after"] == pytest.approx(0.5 + 0.4 * 8 / 9)
    assert result["verdicts"] == {"buy_these": 8, "lr_is_enough": 1, "not_worth_it": 0, "not_seen": 0}
    assert blind["result"]["basis"] == "gain"
    assert blind["result"]["verdicts"]["not_seen"] == 1
    tiles = tiles_of(live, small)
    assert max(len(tile["bought"]) for tile in tiles) == 2
    assert all(tile["expected_after"] >= tile["expected_before"] for tile in tiles)


def test_some_tiles_of_a_plan(live: Live) -> None:
    plan = plan_of(live)
    budget = made(live, budget="1000", tiles=[{"plan": plan["id"], "tiles": [7, 2]}], **AD_HOC)
    assert [tile["tile"] for tile in tiles_of(live, budget)] == [2, 7]


def test_one_key_is_one_budget(live: Live) -> None:
    plan = plan_of(live, 1)
    body = {"budget": "10", "plans": [plan["id"]], **AD_HOC}
    first = post(live, {"Idempotency-Key": "k"}, **body)
    again = post(live, {"Idempotency-Key": "k"}, **body)
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    other = post(live, {"Idempotency-Key": "k"}, **body | {"budget": "11"})
    assert other.json()["type"] == "/problems/idempotency-mismatch"
    page = live.client.get("/v1/budgets").json()
    assert [budget["id"] for budget in page["budgets"]] == [first.json()["id"]]


def test_one_key_is_one_budget_also_once_its_prices_have_run_out(live: Live) -> None:
    product = {"key": "p", "name": "p", "vendor": "v", "source": "s"}
    product |= {"currency": "EUR", "price_per_km2": "17"}
    good = {"name": "ours", "products": [product]}
    assert live.client.post("/v1/price-lists", json=good).status_code == 201
    body: dict[str, Any] = {"budget": "10", "product": "ours/p", "plans": [plan_of(live, 1)["id"]]}
    first = post(live, {"Idempotency-Key": "k"}, **body)
    over = {"name": "ours", "products": [product | {"valid_to": "2020-01-01"}]}
    assert live.client.post("/v1/price-lists", json=over).status_code == 201
    assert post(live, **body).json()["type"] == "/problems/price-list-expired"
    again = post(live, {"Idempotency-Key": "k"}, **body)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    other = post(live, {"Idempotency-Key": "k"}, **body | {"budget": "11"})
    assert other.json()["type"] == "/problems/idempotency-mismatch"


def test_bad_requests_leave_nothing(live: Live) -> None:
    plan = plan_of(live, 1)
    good = {"budget": "10", "plans": [plan["id"]], **AD_HOC}
    bow = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}
    over = {"type": "Polygon", "coordinates": [[[179, 0], [-179, 0], [-179, 1], [179, 1], [179, 0]]]}
    bad: list[tuple[dict[str, Any], int, str]] = [
        (good | {"budget": "-1"}, 422, "unprocessable"),
        (good | {"budget": "0"}, 422, "unprocessable"),
        (good | {"currency": "EURO"}, 422, "unprocessable"),
        (good | {"product": "example-archive/classic"}, 422, "unprocessable"),
        (good | {"plans": []}, 422, "unprocessable"),
        (good | {"plans": [plan["id"], plan["id"]]}, 422, "unprocessable"),
        (good | {"tiles": [{"plan": plan["id"], "tiles": [0]}]}, 422, "unprocessable"),
        ({**AD_HOC, "budget": "1", "tiles": [{"plan": plan["id"], "tiles": [1]}]}, 422, "unprocessable"),
        (good | {"max_patches": 17}, 422, "unprocessable"),
        (good | {"must_buy": bow}, 422, "area-refused"),
        (good | {"never_buy": over}, 422, "area-refused"),
        (good | {"plans": ["0199c0de-0000-7000-8000-000000000001"]}, 404, "not-found"),
        ({"budget": "10", "plans": [plan["id"]], "product": "none/k"}, 422, "unknown-product"),
        (
            {"budget": "10", "plans": [plan["id"]], "product": "example-tasking/last-year"},
            422,
            "price-list-expired",
        ),
        (
            {"budget": "10", "plans": [plan["id"]], "product": "example-archive/classic"},
            422,
            "budget-too-small",
        ),
    ]
    for body, status, slug in bad:
        answer = post(live, **body)
        assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}"), body
    assert live.client.get("/v1/budgets").json()["budgets"] == []
    ledger = live.client.get("/v1/ledger")
    assert ledger.status_code != 200 or ledger.json()["entries"] == []


def test_a_plan_must_be_ready(live: Live) -> None:
    queued = post_plan(
        live.client, lr_geotiff(40, 40, pixel_m=10.0), tile_size_m="80.1", headers={"Prefer": "wait=0"}
    ).json()
    answer = post(live, budget="10", plans=[queued["id"]], **AD_HOC)
    assert answer.status_code in (409, 201)
    if answer.status_code == 409:
        assert answer.json()["type"] == "/problems/conflict"


def test_an_organisation_sees_its_own_budgets_only(live: Live) -> None:
    plan = plan_of(live, 1)
    budget = made(live, budget="10", plans=[plan["id"]], **AD_HOC)
    with live.as_key(live.new_key(org="other")) as other:
        assert other.get("/v1/budgets").json()["budgets"] == []
        assert other.get(budget["links"]["self"]).status_code == 404
        assert other.get(budget["links"]["tiles"]).status_code == 404
        answer = other.post("/v1/budgets", json={"budget": "10", "plans": [plan["id"]], **AD_HOC})
        assert answer.status_code == 404
    with live.as_key(live.new_key("report")) as reporter:
        assert reporter.get("/v1/budgets").status_code == 403
