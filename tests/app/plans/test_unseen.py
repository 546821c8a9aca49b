"""Where LR shows nothing the policy buys nothing, neither by its probabilities nor for a budget."""

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import shapely

from tests.app.budgets.test_budgets import made, tiles_of
from tests.app.budgets.test_on_plan import AD_HOC, chosen, ground
from tests.client import made_plan
from tests.conftest import Live
from tests.imagery import geotiff, scene

SIDE = 16  # LR pixels of a tile
ALL = set(range(16))


def half_blind(kind: str) -> bytes:
    """Two tiles of 80 m; of the eastern one nothing is valid, or hardly anything."""
    pixels = scene(SIDE, 2 * SIDE)
    if kind == "nan":
        floats = pixels.astype(np.float32)
        floats[:, :, SIDE:] = np.nan
        return geotiff(floats, 5.0)
    if kind == "alpha":
        alpha = np.full((1, SIDE, 2 * SIDE), 255, np.uint8)
        alpha[:, :, SIDE:] = 0
        return geotiff(np.concatenate([pixels, alpha]), 5.0, alpha="YES")
    pixels[:, :, SIDE:] = 0
    if kind == "one pixel":
        pixels[:, 7, SIDE + 7] = 90
    return geotiff(pixels, 5.0, nodata=0)


@pytest.mark.parametrize("kind", ["nodata", "nan", "alpha", "one pixel"])
def test_a_budget_buys_nothing_where_nothing_was_seen(live: Live, kind: str) -> None:
    fields: dict[str, Any] = {"tile_size_m": "80.1", "threshold": "0"}
    plan = made_plan(live.client, half_blind(kind), **fields)
    seen, blind = plan["tiles"]
    assert plan["warnings"] == ["tiles_without_valid_pixels"]
    assert (set(seen["chosen"]), seen["unseen"]) == (ALL, [])
    assert (blind["chosen"], set(blind["unseen"])) == ([], ALL)
    assert {patch["probability"] for patch in blind["patches"]} == {0}
    budget = made(live, budget="1000", plans=[plan["id"]], **AD_HOC)
    verdicts = budget["result"]["verdicts"]
    assert {verdict for verdict, count in verdicts.items() if count} == {"buy_these", "not_seen"}
    assert [set(tile["bought"]) for tile in tiles_of(live, budget)] == [ALL, set()]
    [named] = tiles_of(live, budget, verdict="not_seen")
    assert named["tile"] == 1
    # money on the plan itself, and an area that overrules
    rich = made_plan(live.client, half_blind(kind), budget="1000", **fields, **AD_HOC)
    assert chosen(rich) == {(0, patch) for patch in ALL}
    assert Decimal(rich["budget"]["result"]["unspent"]) > 990
    inside = shapely.geometry.mapping(ground(live, plan)[1, 5].centroid.buffer(1e-5))
    for money in ({}, {"budget": "1000", **AD_HOC}):
        forced = made_plan(live.client, half_blind(kind), must_buy=inside, **fields, **money)
        assert chosen(forced) == {(0, patch) for patch in ALL} | {(1, 5)}


def test_of_a_tile_that_is_seen_in_part_only_that_part_is_bought(live: Live) -> None:
    pixels = scene(SIDE, SIDE)
    pixels[:, :, : SIDE // 2] = 0
    plan = made_plan(live.client, geotiff(pixels, 5.0, nodata=0), threshold="0")
    [tile] = plan["tiles"]
    west = {patch for patch in ALL if patch % 4 < 2}
    assert plan["warnings"] == ["patches_without_valid_pixels"]
    assert (set(tile["unseen"]), set(tile["chosen"])) == (west, ALL - west)
    budget = made(live, budget="1000", plans=[plan["id"]], **AD_HOC)
    [told] = tiles_of(live, budget)
    assert (told["verdict"], set(told["bought"])) == ("buy_these", ALL - west)
