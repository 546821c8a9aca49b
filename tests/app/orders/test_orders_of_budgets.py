"""An order from a budget: what the budget bought, held against full HR of the tiles it was about."""

from decimal import Decimal
from typing import Any

import pytest

from tests.app.budgets.test_on_plan import AD_HOC, planned, small
from tests.client import WAIT, made_plan, post_hr
from tests.conftest import Live
from tests.imagery import lr_geotiff, patch_geotiff


def test_full_hr_is_of_the_budgets_tiles(live: Live) -> None:
    plan = made_plan(live.client, lr_geotiff(2, 2), tile_size_m="80.1", threshold="0")
    body = {
        "budget": "9",
        "tiles": [{"plan": plan["id"], "tiles": [0, 3]}],
        "price_per_km2": "1000",
        "currency": "EUR",
    }
    budget = live.client.post("/v1/budgets", json=body, headers=WAIT).json()
    assert budget["status"] == "ready", budget
    answer = live.client.post("/v1/orders", json={"budget": budget["id"]})
    assert answer.status_code == 201, answer.text
    order: dict[str, Any] = answer.json()
    assert (order["budget"], order["plans"]) == (budget["id"], [plan["id"]])
    own = [patch["area_km2"] for tile in plan["tiles"] if tile["tile"] in (0, 3) for patch in tile["patches"]]
    # the outline is rounded to nine digits of a degree, the patches are not
    assert abs(order["full_hr"]["area_km2"] - sum(own)) < 1e-6
    assert Decimal(order["full_hr"]["nominal"]) == round(Decimal(sum(own) * 1000), 2)
    assert {tile["tile"] for tile in order["tiles"]} <= {0, 3}
    bought = {(tile["tile"], patch) for tile in order["tiles"] for patch in tile["patches"]}
    tiles = live.client.get(budget["links"]["tiles"]).json()["tiles"]
    assert bought == {(tile["tile"], patch) for tile in tiles for patch in tile["bought"]}
    assert 0 < Decimal(order["estimate"]["total"]) <= 9 < Decimal(order["full_hr"]["total"])


@pytest.mark.parametrize("terms", [AD_HOC, {"product": "ours/small"}])
def test_what_came_of_a_budget_is_left_out_and_its_word_kept(live: Live, terms: dict[str, str]) -> None:
    small(live)
    plan = planned(live, threshold="0")
    body = {"budget": "40", "plans": [plan["id"]], **terms}
    budget = live.client.post("/v1/budgets", json=body, headers=WAIT).json()
    tiles = live.client.get(budget["links"]["tiles"]).json()["tiles"]
    buys = sorted((tile["tile"], patch) for tile in tiles for patch in tile["bought"])
    place = tile, patch = buys[len(buys) // 2]
    post_hr(live.client, plan["id"], patch_geotiff(patch, tile_x=tile % 3, tile_y=tile // 3))
    order = live.client.post("/v1/orders", json={"budget": budget["id"]}).json()
    told = {"plan_id": plan["id"], "tile": tile, "received": [patch], "ordered": []}
    assert order["left_out"] == {"received": 1, "ordered": 0, "tiles": [told]}
    assert 0 < Decimal(order["estimate"]["total"]) <= Decimal(budget["result"]["quote"]["total"])
    covered = {(one["tile"], n): n in one["paid_before"] for one in order["tiles"] for n in one["patches"]}
    assert {*buys} - {place} <= {*covered}
    # without a minimum nothing lies on it, with one the least polygon may
    assert covered.get(place) in ((None,) if terms is AD_HOC else (None, True))
    assert [place for place, paid in covered.items() if paid] in ([], [place])


def test_a_strangers_budget_is_not_there(live: Live) -> None:
    plan = made_plan(live.client, lr_geotiff())
    body = {"budget": "5", "plans": [plan["id"]], "price_per_km2": "1000", "currency": "EUR"}
    budget = live.client.post("/v1/budgets", json=body, headers=WAIT).json()
    with live.as_key(live.new_key(org="other")) as stranger:
        assert stranger.post("/v1/orders", json={"budget": budget["id"]}).status_code == 404
