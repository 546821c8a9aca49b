"""Sending HR patches: placed by their georeference, taken whole or not at all."""

import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import numpy as np
import pytest
from affine import Affine
from fastapi.testclient import TestClient
from rasterio.warp import transform_bounds

from app.acquisitions import reading
from app.main import create_app
from patchplan.supervise import environment
from tests.client import classify, kept, made_plan, post_hr
from tests.conftest import Live
from tests.imagery import NORTH, UTM, WEST, geotiff, hr_geotiff, lr_geotiff, patch_geotiff, scene
from tests.plans import ready_plan


@pytest.fixture
def plan(live: Live) -> Any:
    """A plan of one tile with four chosen patches, priced."""
    return made_plan(
        live.client, lr_geotiff(), threshold="0", max_patches="4", price_per_km2="100", currency="EUR"
    )


def patches(answer: httpx.Response) -> list[Any]:
    assert answer.status_code == 201, answer.text
    return [patch for file in answer.json()["acquisitions"] for patch in file["patches"]]


def refusals(answer: httpx.Response) -> list[tuple[Any, Any, str]]:
    document = answer.json()
    found = document.get("refused") or [
        entry for file in document["acquisitions"] for entry in file["refused"]
    ]
    return [(entry["tile"], entry["patch"], entry["reason"]) for entry in found]


def test_any_patch_is_taken_and_marked(live: Live, plan: Any) -> None:
    chosen = plan["tiles"][0]["chosen"]
    other = next(patch for patch in range(16) if patch not in chosen)
    taken = patches(post_hr(live.client, plan["id"], patch_geotiff(chosen[0]), patch_geotiff(other)))
    assert [(patch["patch"], patch["chosen"]) for patch in taken] == [(chosen[0], True), (other, False)]
    planned = {patch["patch"]: patch for patch in plan["tiles"][0]["patches"]}
    for patch in taken:
        assert patch["area_km2"] == planned[patch["patch"]]["area_km2"]
        assert patch["price"] == planned[patch["patch"]]["price"]
        assert patch["valid_fraction"] >= 0.95
    listed = live.client.get(plan["links"]["acquisitions"]).json()
    assert listed["received"] == [{"tile": 0, "patches": sorted([chosen[0], other])}]
    assert listed["chosen_missing"] == [{"tile": 0, "patches": chosen[1:]}]


def test_one_file_may_hold_all_patches(live: Live, plan: Any) -> None:
    taken = patches(post_hr(live.client, plan["id"], hr_geotiff()))
    assert [patch["patch"] for patch in taken] == list(range(16))
    assert classify(live.client, plan["id"])["tiles"][0]["weights"] == {"hr": 1.0, "lr": 0.0}


def test_a_file_in_another_crs_finds_its_place(live: Live, plan: Any) -> None:
    # patch 5 lies 20..40 m east and south of the corner; three metres more on every side, in web mercator
    west, south, east, north = transform_bounds(
        UTM, "EPSG:3857", WEST + 17, NORTH - 43, WEST + 43, NORTH - 17, densify_pts=21
    )
    place = Affine((east - west) / 64, 0, west, 0, (south - north) / 64, north)
    content = geotiff(scene(64, 64), 1, crs="EPSG:3857", transform=place)
    assert [patch["patch"] for patch in patches(post_hr(live.client, plan["id"], content))] == [5]


def test_names_mean_nothing(live: Live, plan: Any) -> None:
    files = {"files": ("../patch_03.tif\n", patch_geotiff(9))}
    taken = patches(live.client.post(plan["links"]["acquisitions"], files=files))
    assert [patch["patch"] for patch in taken] == [9]
    assert not any("patch" in key for key in kept()["objects"])


def test_the_same_bytes_again_give_the_same_answer(live: Live, plan: Any) -> None:
    contents = [patch_geotiff(1), patch_geotiff(2)]
    first = post_hr(live.client, plan["id"], *contents)
    before = kept()
    again = post_hr(live.client, plan["id"], *contents)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert kept() == before
    # in any company
    third = post_hr(live.client, plan["id"], patch_geotiff(3), contents[0])
    assert third.json()["acquisitions"][1] == first.json()["acquisitions"][0]


def test_the_same_file_twice_in_a_request_counts_once(live: Live, plan: Any) -> None:
    answer = post_hr(live.client, plan["id"], patch_geotiff(1), patch_geotiff(1))
    assert len(answer.json()["acquisitions"]) == 1


def test_other_bytes_for_a_received_patch_need_replace(live: Live, plan: Any) -> None:
    first = patch_geotiff(4, seed=1)
    post_hr(live.client, plan["id"], first)
    before, seen = kept(), classify(live.client, plan["id"])
    second = patch_geotiff(4, seed=2)
    refused = post_hr(live.client, plan["id"], patch_geotiff(5), second)
    assert refused.status_code == 409
    assert refused.json()["type"] == "/problems/patch-conflict"
    assert refused.json()["patches"] == [{"tile": 0, "patch": 4}]
    # taken whole or not at all
    assert {**kept(), "classifications": 0} == before
    assert len(patches(post_hr(live.client, plan["id"], second, replace="true"))) == 1
    after = classify(live.client, plan["id"])
    assert after["tiles"][0]["patches_used"] == [4]
    assert after["tiles"][0]["streams"]["hr"] != seen["tiles"][0]["streams"]["hr"]
    # the first bytes are now other bytes
    assert post_hr(live.client, plan["id"], first).status_code == 409
    assert len(patches(post_hr(live.client, plan["id"], first, replace="true"))) == 1
    assert classify(live.client, plan["id"])["tiles"][0]["streams"] == seen["tiles"][0]["streams"]
    listed = live.client.get(plan["links"]["acquisitions"]).json()
    assert listed["received"] == [{"tile": 0, "patches": [4]}]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (patch_geotiff(0, tile_x=3), "outside_every_tile"),
        (geotiff(scene(8, 4), 2.5), "insufficient_valid_pixels"),
        (patch_geotiff(0, pixel_m=5.0), "gsd_too_coarse"),
        (geotiff(scene(8, 8, bands=1), 2.5), "wrong_bands"),
    ],
    ids=["outside", "half", "coarse", "grey"],
)
def test_a_request_without_any_patch_to_take_is_refused(
    live: Live, plan: Any, content: bytes, reason: str
) -> None:
    before = kept()
    answer = post_hr(live.client, plan["id"], content)
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"] == "/problems/patches-refused"
    assert {found for _, _, found in refusals(answer)} == {reason}
    assert kept() == before


def test_a_patch_of_nodata_in_a_good_file_is_refused_alone(live: Live, plan: Any) -> None:
    pixels = scene(32, 32)
    pixels[:, 8:16, 8:16] = 0
    pixels[:, 0:8, 0:3] = 0
    answer = post_hr(live.client, plan["id"], geotiff(pixels, 2.5, nodata=0))
    assert sorted(refusals(answer)) == [(0, 0, "insufficient_valid_pixels"), (0, 5, "all_nodata")]
    assert len(patches(answer)) == 14


def test_two_files_for_one_patch_in_a_request(live: Live, plan: Any) -> None:
    answer = post_hr(live.client, plan["id"], patch_geotiff(6, seed=1), patch_geotiff(6, seed=2))
    assert [patch["patch"] for patch in patches(answer)] == [6]
    assert refusals(answer) == [(0, 6, "already_in_this_request")]


def test_a_file_left_out_for_another_of_its_request_is_looked_at_anew_without_it(
    live: Live, plan: Any
) -> None:
    one, other = patch_geotiff(6, seed=1), patch_geotiff(6, seed=2)
    first = post_hr(live.client, plan["id"], one, other)
    before, seen = kept(), classify(live.client, plan["id"])
    assert post_hr(live.client, plan["id"], one, other).json() == first.json()
    assert (
        post_hr(live.client, plan["id"], other, one).json()["acquisitions"]
        == first.json()["acquisitions"][::-1]
    )
    refused = post_hr(live.client, plan["id"], other)
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/patch-conflict")
    assert refused.json()["patches"] == [{"tile": 0, "patch": 6}]
    assert {**kept(), "classifications": 0} == before
    replaced = post_hr(live.client, plan["id"], other, replace="true")
    assert [patch["patch"] for patch in patches(replaced)] == [6]
    after = classify(live.client, plan["id"])
    assert after["tiles"][0]["streams"]["hr"] != seen["tiles"][0]["streams"]["hr"]
    # and by now it is the first that the request would put in the other's place
    assert post_hr(live.client, plan["id"], one, other).status_code == 409


@pytest.mark.parametrize("bad", [b"no tiff", patch_geotiff(2)[:200], geotiff(scene(8, 8), 2.5, crs=None)])
def test_one_bad_file_spoils_the_request(live: Live, plan: Any, bad: bytes) -> None:
    before = kept()
    answer = post_hr(live.client, plan["id"], patch_geotiff(1), bad)
    assert answer.status_code == 422
    assert answer.json()["file"]["position"] == 1
    assert kept() == before


@pytest.mark.parametrize(
    "fields", [{"replace": "perhaps"}, {"bands": "1,2,7"}, {"scale": "0"}, {"tile": "3"}]
)
def test_bad_fields_leave_nothing(live: Live, plan: Any, fields: dict[str, str]) -> None:
    before = kept()
    answer = post_hr(live.client, plan["id"], patch_geotiff(1), **fields)
    assert answer.status_code == 422, answer.text
    assert kept() == before


def test_no_files_at_all(live: Live, plan: Any) -> None:
    answer = live.client.post(plan["links"]["acquisitions"], files={"replace": (None, "true")})
    assert answer.status_code == 422


def test_a_plan_must_be_ready_first(live: Live) -> None:
    queued = live.client.post(
        "/v1/plans",
        files={"lr": ("lr.tif", lr_geotiff(40, 40, pixel_m=10.0))},
        data={"tile_size_m": "80.1"},
        headers={"Prefer": "wait=0"},
    ).json()
    assert post_hr(live.client, queued["id"], patch_geotiff(0)).status_code == 409


def test_acquiring_needs_its_scope(live: Live, plan: Any) -> None:
    with live.as_key(live.new_key("plan", "report")) as client:
        assert post_hr(client, plan["id"], patch_geotiff(0)).status_code == 403


def at_once(count: int, send: Any) -> list[httpx.Response]:
    start = threading.Barrier(count)

    def run(number: int) -> httpx.Response:
        start.wait()
        answer: httpx.Response = send(number)
        return answer

    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(run, number) for number in range(count)]]


def test_other_bytes_for_one_patch_at_once_are_taken_from_one(live: Live, plan: Any) -> None:
    answers = at_once(4, lambda n: post_hr(live.client, plan["id"], patch_geotiff(8, seed=n + 1)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert kept()["received_patches"] == 1
    assert sum(plan["id"] in key for key in kept()["objects"]) == 2


def test_the_same_bytes_at_once_give_the_same_answer(live: Live, plan: Any) -> None:
    answers = at_once(4, lambda _: post_hr(live.client, plan["id"], patch_geotiff(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert kept()["acquisitions"] == 1
    assert sum(plan["id"] in key for key in kept()["objects"]) == 2


def test_the_stretch_of_a_sensor_is_fixed_by_its_first_request(live: Live, plan: Any) -> None:
    def raw(patch: int, gain: int) -> bytes:
        row, col = divmod(patch, 4)
        pixels = scene(8, 8, seed=patch).astype(np.uint16) * gain
        return geotiff(pixels, 2.5, west=WEST + col * 20, north=NORTH - row * 20)

    first = post_hr(live.client, plan["id"], raw(0, 10), raw(1, 40)).json()["acquisitions"]
    scaling = first[0]["scaling"]
    assert scaling["kind"] == "stretch"
    assert first[1]["scaling"] == scaling
    # it spans both files: the darker one's low end, the brighter one's high end
    both = np.concatenate([scene(8, 8, seed=0)[0].ravel() * 10.0, scene(8, 8, seed=1)[0].ravel() * 40.0])
    low, high = np.percentile(both, [2, 98])
    assert low * scaling["gain"][0] + scaling["bias"][0] == pytest.approx(0, abs=4)
    assert high * scaling["gain"][0] + scaling["bias"][0] == pytest.approx(255, abs=4)
    later = post_hr(live.client, plan["id"], raw(2, 200)).json()["acquisitions"][0]
    assert later["scaling"] == scaling
    # another sensor has a stretch of its own; what the request says needs none
    said = post_hr(live.client, plan["id"], raw(3, 10), scale="0.0001").json()["acquisitions"][0]
    assert said["scaling"]["kind"] == "request"


def test_prices_of_received_patches_are_exact(live: Live, plan: Any) -> None:
    for patch in patches(post_hr(live.client, plan["id"], hr_geotiff())):
        assert Decimal(patch["price"]) == Decimal(repr(patch["area_km2"])) * 100


def test_tiles_of_a_large_plan_are_told_apart(live: Live) -> None:
    plan = made_plan(live.client, lr_geotiff(3, 2), tile_size_m="79.97", threshold="0", max_patches="1")
    content = patch_geotiff(5, tile_x=1, tile_y=1)
    [patch] = patches(post_hr(live.client, plan["id"], content))
    tile = next(tile for tile in plan["tiles"] if (tile["row"], tile["col"]) == (1, 1))
    assert (patch["tile"], patch["patch"]) == (tile["tile"], 5)
    answered = {each["tile"]: each for each in classify(live.client, plan["id"])["tiles"]}
    assert answered[tile["tile"]]["patches_used"] == [5]
    assert all(not each["patches_used"] for number, each in answered.items() if number != tile["tile"])


def test_a_request_that_holds_too_much_is_to_be_sent_in_parts(live: Live) -> None:
    plan = made_plan(live.client, lr_geotiff())
    parts = [patch_geotiff(patch) for patch in range(3)]
    two = 2 * 3 * 8 * 8
    with environment({"PATCHPLAN_MAX_REQUEST_PIXELS": str(two)}), TestClient(create_app()) as client:
        client.headers["Authorization"] = f"Bearer {live.new_key()}"
        before = kept()
        answer = post_hr(client, plan["id"], *parts)
        assert (answer.status_code, answer.json()["limit_values"]) == (413, two)
        assert kept() == before
        assert post_hr(client, plan["id"], *parts[:2]).status_code == 201


def test_an_answer_of_many_patches_comes_in_pages(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = made_plan(live.client, lr_geotiff(3, 1), tile_size_m="79.97")
    posted = post_hr(live.client, plan["id"], hr_geotiff(3, 1)).json()
    monkeypatch.setattr(reading, "PATCHES_A_PAGE", 5)
    [acquisition] = posted["acquisitions"]
    assert [(each["tile"], each["patch"]) for each in acquisition["patches"]][:48] == [
        (tile, patch) for tile in range(3) for patch in range(16)
    ]
    streamed = b"".join(reading.stream_request(uuid.UUID(plan["id"]), [uuid.UUID(acquisition["id"])]))
    assert json.loads(streamed) == posted


def test_which_file_came_last_does_not_hang_on_clocks(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids are made by the clocks of several machines, of which one may be an hour behind."""
    plan_id = str(ready_plan())
    first, second = patch_geotiff(5), patch_geotiff(5, seed=9)
    assert post_hr(client, plan_id, first).status_code == 201
    assert post_hr(client, plan_id, second, replace="true").status_code == 201
    now = time.time_ns
    with monkeypatch.context() as behind:
        behind.setattr(time, "time_ns", lambda: now() - 3600 * 10**9)
        back = post_hr(client, plan_id, first, replace="true")
    again = post_hr(client, plan_id, first)
    assert (back.status_code, again.status_code) == (201, 201), again.text
    assert again.json() == back.json()
    listed = client.get(f"/v1/plans/{plan_id}/acquisitions").json()["acquisitions"]
    assert listed[0] == back.json()["acquisitions"][0]
