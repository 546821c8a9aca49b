"""A plan with a product, a budget and areas of its own, and orders that keep a budget's word, over HTTP."""

from decimal import Decimal
from typing import Any

import pytest
import shapely

from tests.client import GEOJSON, made_plan, post_plan
from tests.conftest import Live
from tests.imagery import lr_geotiff

AD_HOC: dict[str, Any] = {"price_per_km2": "1000", "currency": "EUR"}
SMALL = {
    "key": "small",
    "name": "Small",
    "vendor": "v",
    "source": "made up",
    "currency": "EUR",
    "price_per_km2": "1000",
    "min_polygon_km2": "0.01",
    "vat_rate": "0.19",
    "rules": {"max_vertices": 40, "min_width_m": 30},
}


def planned(live: Live, **fields: Any) -> dict[str, Any]:
    plan: dict[str, Any] = made_plan(live.client, lr_geotiff(3, 3), tile_size_m="80.1", **fields)
    return plan


def chosen(plan: dict[str, Any]) -> set[tuple[int, int]]:
    return {(tile["tile"], patch) for tile in plan["tiles"] for patch in tile["chosen"]}


def ground(live: Live, plan: dict[str, Any]) -> dict[tuple[int, int], shapely.Geometry]:
    answer = live.client.get(plan["links"]["self"], headers=GEOJSON).json()
    return {
        (one["properties"]["tile"], one["properties"]["patch"]): shapely.geometry.shape(one["geometry"])
        for one in answer["features"]
    }


def small(live: Live) -> str:
    answer = live.client.post("/v1/price-lists", json={"name": "ours", "products": [SMALL]})
    assert answer.status_code in (200, 201), answer.text
    return "ours/small"


def test_a_plan_spends_its_budget_and_no_more(live: Live) -> None:
    poor = planned(live, budget="8", threshold="0", **AD_HOC)
    rich = planned(live, budget="30", threshold="0", **AD_HOC)
    for plan, sum_ in ((poor, 8), (rich, 30)):
        result = plan["budget"]["result"]
        assert Decimal(plan["budget"]["budget"]) == sum_
        assert Decimal(result["quote"]["total"]) + Decimal(result["unspent"]) == sum_
        assert result["patches_bought"] == len(chosen(plan)) == plan["totals"]["chosen"] > 0
        assert Decimal(plan["totals"]["chosen_cost"]) == Decimal(result["quote"]["total"])
    assert chosen(poor) < chosen(rich)


def test_a_plans_product_sets_its_price_and_its_polygons(live: Live) -> None:
    product = small(live)
    plan = planned(live, budget="25", product=product, threshold="0")
    assert plan["product"] == f"{product}@1"
    result = plan["budget"]["result"]
    assert Decimal("11.90") <= Decimal(result["quote"]["total"]) <= 25
    assert result["quote"]["charged_km2"] >= 0.01
    assert plan["totals"]["chosen"] == result["patches_bought"] > 0
    # an order of the plan is priced with the plan's product, and keeps to the plan's budget
    order = live.client.post("/v1/orders", json={"plans": [plan["id"]]})
    assert order.status_code == 201, order.text
    assert order.json()["product"] == f"{product}@1"
    assert Decimal(order.json()["estimate"]["total"]) <= Decimal(result["quote"]["total"])
    priced = planned(live, product=product)
    assert priced["price_per_km2"] == "1000"
    assert priced["budget"] is None


def test_areas_that_must_and_must_not_be_bought(live: Live) -> None:
    plain = planned(live)
    shapes = ground(live, plain)
    one, two = shapes[0, 5], shapes[8, 3]
    inside = shapely.geometry.mapping(one.centroid.buffer(1e-5))
    other = shapely.geometry.mapping(two.centroid.buffer(1e-5))
    assert chosen(planned(live, threshold="1", must_buy=inside)) == {(0, 5)}
    assert chosen(planned(live, threshold="0", never_buy=other)) == set(shapes) - {(8, 3)}
    both = planned(live, budget="8", threshold="0", must_buy=inside, never_buy=other, **AD_HOC)
    assert (0, 5) in chosen(both)
    assert (8, 3) not in chosen(both)
    assert planned(live, threshold="1", must_buy=inside, never_buy=inside)["totals"]["chosen"] == 0


@pytest.mark.parametrize("money", [{}, {"budget": "1000", **AD_HOC}], ids=["alone", "budget"])
def test_areas_come_before_max_patches(live: Live, money: dict[str, Any]) -> None:
    def plan(**fields: Any) -> dict[str, Any]:
        made: dict[str, Any] = made_plan(live.client, lr_geotiff(), threshold="0", **fields)
        return made

    plain = plan()
    shapes = ground(live, plain)
    likeliest = [
        patch["patch"] for patch in sorted(plain["tiles"][0]["patches"], key=lambda one: -one["probability"])
    ]
    first, last = likeliest[:2], likeliest[-3:]

    def areas(**patches: list[int]) -> list[int]:
        given = {
            name: shapely.geometry.mapping(
                shapely.union_all([shapes[0, p].centroid.buffer(1e-6) for p in of])
            )
            for name, of in patches.items()
        }
        found: list[int] = plan(max_patches="2", **given, **money)["tiles"][0]["chosen"]
        return found

    # by the money's own order, patches of equal ground differ from the likeliest in the last digits only
    def two(found: list[int], expected: list[int]) -> bool:
        return len(found) == 2 if money else found == sorted(expected)

    assert two(areas(), first)
    fenced = areas(never_buy=first)
    assert two(fenced, likeliest[2:4])
    assert not set(fenced) & set(first)
    assert areas(must_buy=last[1:]) == sorted(last[1:])
    # what must be bought is, though it be more than there may be
    assert areas(must_buy=last) == sorted(last)
    one = areas(must_buy=last[2:])
    assert two(one, [likeliest[0], last[2]])
    assert last[2] in one
    neither = areas(must_buy=last[2:], never_buy=last[2:])
    assert two(neither, first)
    assert last[2] not in neither


def test_options_that_do_not_fit_are_refused(live: Live) -> None:
    bow = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}
    bad: list[tuple[dict[str, Any], str]] = [
        ({"budget": "5"}, "unprocessable"),
        ({"budget": "-5", **AD_HOC}, "unprocessable"),
        ({"product": "example-archive/classic", **AD_HOC}, "unprocessable"),
        ({"product": "none/k"}, "unknown-product"),
        ({"product": "example-tasking/last-year"}, "price-list-expired"),
        ({"product": "example-archive/classic", "budget": "1"}, "budget-too-small"),
        ({"must_buy": bow}, "area-refused"),
    ]
    for fields, slug in bad:
        answer = post_plan(live.client, lr_geotiff(), **fields)
        assert (answer.status_code, answer.json()["type"]) == (422, f"/problems/{slug}"), (
            fields,
            answer.text,
        )
    assert live.client.get("/v1/plans").json()["plans"] == []
    # must_buy that the money does not pay for is known once the patches are: the plan fails with the problem
    world = {"type": "Polygon", "coordinates": [[[-100, 0], [-60, 0], [-60, 60], [-100, 60], [-100, 0]]]}
    failed = post_plan(
        live.client, lr_geotiff(3, 3), tile_size_m="80.1", budget="1", must_buy=world, **AD_HOC
    )
    assert failed.json()["status"] == "failed"
    assert failed.json()["error"]["type"] == "/problems/budget-too-small"


@pytest.mark.parametrize("terms", [AD_HOC, {"product": "ours/small"}])
def test_an_order_keeps_its_budgets_word(live: Live, terms: dict[str, str]) -> None:
    small(live)
    plan = planned(live, threshold="0")
    never = shapely.geometry.mapping(ground(live, plan)[4, 9].centroid.buffer(1e-5))
    for money in ("17", "26", "40", "100"):
        body = {"budget": money, "plans": [plan["id"]], "never_buy": never, **terms}
        budget = live.client.post("/v1/budgets", json=body, headers={"Prefer": "wait=40"}).json()
        tiles = live.client.get(budget["links"]["tiles"]).json()["tiles"]
        answer = live.client.post("/v1/orders", json={"budget": budget["id"]})
        assert answer.status_code == 201, answer.text
        order = answer.json()
        figure = Decimal(budget["result"]["quote"]["total"])
        assert 0 < Decimal(order["estimate"]["total"]) <= figure <= Decimal(money)
        bought = {(tile["tile"], patch) for tile in order["tiles"] for patch in tile["patches"]}
        assert {(tile["tile"], patch) for tile in tiles for patch in tile["bought"]} <= bought
        assert (4, 9) not in bought
