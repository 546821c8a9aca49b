"""The savings report: every figure worked out again from the rows alone."""

import json
from collections import defaultdict
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any

import pytest
from sqlalchemy import text

from app.core.db import session_scope
from tests.client import made_plan, post_hr, post_plan
from tests.conftest import Live
from tests.imagery import hr_geotiff, lr_geotiff, patch_geotiff

DECIMALS = {"EUR": 2, "JPY": 0, "KWD": 3}


def report(live: Live, **params: Any) -> Any:
    answer = live.client.get("/v1/reports/savings", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def rows(query: str) -> list[Any]:
    with session_scope() as session:
        return list(session.execute(text(query)).all())


def rounded(value: Decimal, currency: str | None) -> Decimal:
    if currency is None:
        return Decimal(0)
    return value.quantize(Decimal(1).scaleb(-DECIMALS[currency]), rounding=ROUND_HALF_EVEN)


def recomputed() -> dict[tuple[str | None, str | None], dict[str, Decimal]]:
    """The figures by (team, currency), from tiles and received patches as they lie in the database."""
    found: dict[tuple[str | None, str | None], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    with localcontext() as context:
        context.prec = 200
        for plan, team, price, currency in rows(
            "SELECT id, tags ->> 'team', price_per_km2, currency FROM plans WHERE status = 'ready'"
        ):
            group = found[team, currency]
            group["plans"] += 1
            tiles = rows(f"SELECT tile, chosen, areas_km2 FROM tiles WHERE plan_id = '{plan}'")
            received = {
                (tile, patch)
                for tile, patch in rows(
                    "SELECT tile, patch FROM received_patches"
                    f" WHERE plan_id = '{plan}' AND superseded_in IS NULL"
                )
            }
            areas = {
                "every": [area for _, _, each in tiles for area in each if area > 0],
                "planned": [
                    area
                    for _, chosen, each in tiles
                    for area, wanted in zip(each, chosen, strict=True)
                    if wanted
                ],
                "bought": [each[p] for tile, _, each in tiles for p in range(16) if (tile, p) in received],
            }
            for name, of_name in areas.items():
                group[f"{name} patches"] += len(of_name)
                group[f"{name} area"] += sum(of_name, Decimal(0))
                if price is not None:
                    group[f"{name} cost"] += rounded(
                        sum((area * price for area in of_name), Decimal(0)), currency
                    )
    return found


@pytest.fixture
def purchases(live: Live) -> list[Any]:
    """Plans of two teams and none, in three currencies and none; some, all, replaced or no patches bought."""
    forest, sea = {"team": "forest"}, {"team": "sea"}
    three = {"threshold": "0", "max_patches": "3"}
    five = {"threshold": "0", "max_patches": "5", "tile_size_m": "79.5"}
    made = [
        made_plan(live.client, lr_geotiff(), tags=forest, price_per_km2="1234.565", currency="EUR", **three),
        made_plan(live.client, lr_geotiff(2), tags=forest, price_per_km2="777.77", currency="EUR", **five),
        made_plan(live.client, lr_geotiff(seed=2), tags=forest, price_per_km2="150000", currency="JPY"),
        made_plan(live.client, lr_geotiff(seed=3), tags=sea, price_per_km2="0.333333333333", currency="KWD"),
        made_plan(live.client, lr_geotiff(seed=4), threshold="0", max_patches="1"),
    ]
    post_hr(live.client, made[0]["id"], *[patch_geotiff(patch) for patch in made[0]["tiles"][0]["chosen"]])
    post_hr(
        live.client, made[0]["id"], patch_geotiff(made[0]["tiles"][0]["chosen"][0], seed=9), replace="true"
    )
    post_hr(live.client, made[1]["id"], hr_geotiff())
    post_hr(live.client, made[3]["id"], patch_geotiff(0), patch_geotiff(15))
    post_hr(live.client, made[4]["id"], hr_geotiff())
    # a plan that is not ready is in no report
    post_plan(live.client, b"", tags={"team": "none"})
    return made


def test_every_figure_comes_out_again_from_the_rows(live: Live, purchases: list[Any]) -> None:
    expected = recomputed()
    groups = report(live, group_by="tag:team")["groups"]
    assert {(group["group"]["tag:team"], group["currency"]) for group in groups} == set(expected)
    for group in groups:
        figures = expected[group["group"]["tag:team"], group["currency"]]
        assert group["plans"] == figures["plans"]
        for name in ("every", "planned", "bought"):
            assert group[name]["patches"] == figures[f"{name} patches"]
            assert group[name]["area_km2"] == float(figures[f"{name} area"])
            if group["currency"] is None:
                assert group[name]["cost"] is None
            else:
                assert Decimal(group[name]["cost"]) == figures[f"{name} cost"]
        if group["currency"] is not None:
            assert Decimal(group["saving"]["cost"]) == figures["every cost"] - figures["bought cost"]
            assert Decimal(group["planned_saving"]["cost"]) == figures["every cost"] - figures["planned cost"]
        assert group["saving"]["area_km2"] == float(figures["every area"] - figures["bought area"])


def test_currencies_are_never_added(live: Live, purchases: list[Any]) -> None:
    assert [group["currency"] for group in report(live)["groups"]] == [None, "EUR", "JPY", "KWD"]
    assert report(live, group_by="currency")["groups"] == report(live)["groups"]


def test_a_plan_alone_costs_in_the_report_what_it_costs_itself(live: Live) -> None:
    plan = made_plan(
        live.client, lr_geotiff(), threshold="0", max_patches="3", price_per_km2="1234.565", currency="EUR"
    )
    post_hr(live.client, plan["id"], *[patch_geotiff(patch) for patch in plan["tiles"][0]["chosen"]])
    [group] = report(live)["groups"]
    assert group["every"]["cost"] == plan["totals"]["cost"]
    assert group["planned"]["cost"] == group["bought"]["cost"] == plan["totals"]["chosen_cost"]
    assert group["saving"]["cost"] == plan["totals"]["nominal_saving"]
    assert group["bought"]["chosen"] == group["bought"]["patches"] == 3
    assert group["plans_with_purchases"] == 1


def test_nothing_bought_costs_nothing_in_the_digits_of_its_currency(live: Live) -> None:
    made_plan(live.client, lr_geotiff(), price_per_km2="1234.565", currency="EUR")
    [group] = report(live)["groups"]
    assert group["bought"]["cost"] == "0.00"


def test_replacing_a_patch_does_not_buy_it_twice(live: Live) -> None:
    plan = made_plan(live.client, lr_geotiff())
    post_hr(live.client, plan["id"], patch_geotiff(3, seed=1))
    before = report(live)
    post_hr(live.client, plan["id"], patch_geotiff(3, seed=2), replace="true")
    assert report(live) == before


def test_periods(live: Live) -> None:
    moments = ["2026-01-04T23:59:59Z", "2026-01-05T00:00:00Z", "2026-02-01T00:00:00+02:00"]
    for seed, moment in enumerate(moments):
        plan = made_plan(live.client, lr_geotiff(seed=seed))
        with session_scope() as session:
            session.execute(text(f"UPDATE plans SET created_at = '{moment}' WHERE id = '{plan['id']}'"))

    def by(name: str, **params: str) -> list[tuple[str, int]]:
        groups = report(live, group_by=name, **params)["groups"]
        return [(group["group"][name.removeprefix("period:")], group["plans"]) for group in groups]

    assert by("day") == [("2026-01-04", 1), ("2026-01-05", 1), ("2026-01-31", 1)]
    assert by("week") == [("2026-W01", 1), ("2026-W02", 1), ("2026-W05", 1)]
    assert by("month") == by("period:month") == [("2026-01", 3)]
    ends = {"from": "2026-01-05", "to": "2026-01-31T22:00:00Z"}
    assert by("day", **ends) == [("2026-01-05", 1)]
    assert report(live, **ends)["from"] == "2026-01-05T00:00:00Z"
    assert by("day", **{"from": "2026-01-05T01:59:59+02:00"})[0] == ("2026-01-04", 1)
    assert by("day", **{"from": "2026-01-05T02:00:00+02:00"})[0] == ("2026-01-05", 1)


def test_groups_by_release_and_by_two_things(live: Live) -> None:
    made_plan(live.client, lr_geotiff(), tags={"a,b": "c", "team": "x"})
    made_plan(live.client, lr_geotiff(), release="tiny-hr")
    groups = report(live, group_by=["release", "tag:team"])["groups"]
    assert [group["group"] for group in groups] == [
        {"release": "tiny", "tag:team": "x"},
        {"release": "tiny-hr", "tag:team": None},
    ]


def test_an_empty_report(live: Live) -> None:
    empty: dict[str, Any] = {
        "from": None,
        "to": None,
        "group_by": [],
        "currency": None,
        "groups": [],
        "purchases": [],
    }
    assert report(live) == empty


@pytest.mark.parametrize(
    "params",
    [
        {"from": "yesterday"},
        {"from": "2026-13-01"},
        {"to": "2026-01-01T25:00"},
        {"from": "2026-02-01", "to": "2026-01-01"},
        {"group_by": "colour"},
        {"group_by": "tag:"},
        {"group_by": "day,month"},
        {"group_by": "tag:a,tag:b,tag:c,tag:d,tag:e"},
        {"from": "0001-01-01T00:00:00+23:59"},
    ],
    ids=json.dumps,
)
def test_bad_questions(live: Live, params: dict[str, str]) -> None:
    answer = live.client.get("/v1/reports/savings", params=params)
    assert answer.status_code == 422, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_reports_need_their_scope(live: Live) -> None:
    with live.as_key(live.new_key("plan", "acquire")) as client:
        assert client.get("/v1/reports/savings").status_code == 403
