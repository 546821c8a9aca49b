"""What to buy next, seen what the received patches show: of a release that looks twice."""

import json
from pathlib import Path
from typing import Any

import pytest
import shapely

from app.core.db import session_scope
from tests.app.releases.publishing import CLASSES, org_id
from tests.client import GEOJSON, classify, made_plan, post_hr
from tests.conftest import Live
from tests.imagery import lr_geotiff, patch_geotiff
from tests.releases import ALL_AT_ONCE, NOTHING, looks_twice
from workers.publishing import publish


def two_looks(folder: Path, missed_cost: float) -> str:
    """An untrained release that looks twice; returns its id. It buys all or nothing, by that price."""
    looks_twice(folder, CLASSES, missed_cost)
    with session_scope() as session:
        row = publish(
            session, org_id=org_id(), name=folder.name, folder=folder, training_run_id=None, dataset_id=None
        )
        return str(row.id)


@pytest.fixture
def dear(live: Live, tmp_path: Path) -> str:
    return two_looks(tmp_path / "dear", ALL_AT_ONCE)


def test_a_release_of_one_look_says_nothing_of_it(live: Live) -> None:
    plan = made_plan(live.client, lr_geotiff(), threshold="0", max_patches="4")
    assert classify(live.client, plan["id"])["tiles"][0]["buy_next"] is None


def test_what_is_worth_buying_next(live: Live, dear: str, tmp_path: Path) -> None:
    plan = made_plan(live.client, lr_geotiff(), release=dear)
    assert plan["tiles"][0]["chosen"] == list(range(16))
    first = classify(live.client, plan["id"])["tiles"][0]
    assert first["buy_next"] == list(range(16))
    post_hr(live.client, plan["id"], patch_geotiff(0), patch_geotiff(6))
    found = classify(live.client, plan["id"])
    assert found["tiles"][0]["patches_used"] == [0, 6]
    assert found["tiles"][0]["buy_next"] == [p for p in range(16) if p not in (0, 6)]
    # nor does asking again change it, whoever asks
    kept = live.client.get(found["links"]["self"]).json()
    assert kept["tiles"] == found["tiles"]
    cheap = two_looks(tmp_path / "cheap", NOTHING)
    assert classify(live.client, plan["id"], release=cheap)["tiles"][0]["buy_next"] == []


def test_no_more_than_the_plan_allows(live: Live, dear: str) -> None:
    plan = made_plan(live.client, lr_geotiff(), release=dear, max_patches="3")
    post_hr(live.client, plan["id"], patch_geotiff(0), patch_geotiff(15))
    (tile,) = classify(live.client, plan["id"])["tiles"]
    assert len(tile["buy_next"]) == 1
    assert set(tile["buy_next"]) <= {5, 6, 9, 10}  # the centre comes first
    post_hr(live.client, plan["id"], patch_geotiff(tile["buy_next"][0]))
    (tile,) = classify(live.client, plan["id"])["tiles"]
    assert tile["buy_next"] == []


def test_what_was_bought_next_counts_as_bought(live: Live, dear: str) -> None:
    plan = made_plan(live.client, lr_geotiff(), release=dear, max_patches="2")
    chosen = plan["tiles"][0]["chosen"]
    other = next(patch for patch in range(16) if patch not in chosen)
    post_hr(live.client, plan["id"], patch_geotiff(other))
    (tile,) = classify(live.client, plan["id"])["tiles"]
    (following,) = tile["buy_next"]
    assert following in chosen
    post_hr(live.client, plan["id"], patch_geotiff(following))
    (tile,) = classify(live.client, plan["id"])["tiles"]
    assert tile["patches_used"] == sorted([other, following])


def outlines(live: Live, plan: dict[str, Any], *patches: int) -> str:
    """A GeoJSON area with ground in common with these patches of the plan's tile and no others."""
    answer = live.client.get(plan["links"]["self"], headers=GEOJSON).json()
    found = [
        shapely.geometry.shape(feature["geometry"]).centroid.buffer(1e-6)
        for feature in answer["features"]
        if feature["properties"]["patch"] in patches
    ]
    return json.dumps(shapely.geometry.mapping(shapely.union_all(found)))


def test_areas_come_before_the_limit_at_the_second_purchase_too(live: Live, dear: str) -> None:
    plain = made_plan(live.client, lr_geotiff(), release=dear)
    areas = {"never_buy": outlines(live, plain, 5, 6), "must_buy": outlines(live, plain, 0)}
    plan = made_plan(live.client, lr_geotiff(), release=dear, max_patches="3", **areas)
    patches = sorted(plan["tiles"][0]["patches"], key=lambda one: (-one["probability"], one["patch"]))
    likeliest = [one["patch"] for one in patches if one["patch"] not in (0, 5, 6)]
    assert plan["tiles"][0]["chosen"] == sorted([0, *likeliest[:2]])
    following = classify(live.client, plan["id"])["tiles"][0]["buy_next"]
    assert len(following) == 3
    assert 0 in following
    assert not {5, 6} & set(following)
    post_hr(live.client, plan["id"], patch_geotiff(9), patch_geotiff(15))
    assert classify(live.client, plan["id"])["tiles"][0]["buy_next"] == [0]
    post_hr(live.client, plan["id"], patch_geotiff(10))
    # what must be bought is still missing, though as many as may be are there
    assert classify(live.client, plan["id"])["tiles"][0]["buy_next"] == [0]
    post_hr(live.client, plan["id"], patch_geotiff(0))
    assert classify(live.client, plan["id"])["tiles"][0]["buy_next"] == []


def test_areas_of_the_plan_hold_for_the_second_purchase_too(live: Live, dear: str) -> None:
    plan = made_plan(live.client, lr_geotiff(), release=dear)
    fenced = made_plan(live.client, lr_geotiff(), release=dear, never_buy=outlines(live, plan, 6))
    assert 6 not in fenced["tiles"][0]["chosen"]
    (tile,) = classify(live.client, fenced["id"])["tiles"]
    assert tile["buy_next"] == [p for p in range(16) if p != 6]


def test_a_budget_may_be_spent_so_nothing_is_said(live: Live, dear: str) -> None:
    plan = made_plan(
        live.client, lr_geotiff(), release=dear, price_per_km2="20", currency="EUR", budget="1000"
    )
    assert classify(live.client, plan["id"])["tiles"][0]["buy_next"] is None
