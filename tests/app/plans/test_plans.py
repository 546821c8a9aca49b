"""``/v1/plans`` through a real API and a real worker."""

import io
import json
from decimal import Decimal
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import update

from app.core.db import session_scope
from app.plans.tables import TileRow
from tests.app.core.test_problems import check_problem
from tests.client import GEOJSON, kept, made_plan, post_hr, post_plan
from tests.conftest import Live
from tests.imagery import NORTH, WEST, geotiff, hr_geotiff, lr_geotiff, scene
from tests.plans import ready_plan


def test_a_finished_plan(live: Live) -> None:
    answer = post_plan(live.client, lr_geotiff(), threshold="0.4", tags={"team": "forest"})
    assert answer.status_code == 201
    plan = answer.json()
    assert answer.headers["Location"] == plan["links"]["self"]
    assert plan["release"] == {
        "id": None,
        "name": "tiny",
        "version": "0",
        "streams": "hr+lr",
        "fusion": "eq7",
        "weights_sha256": plan["release"]["weights_sha256"],
    }
    assert plan["warnings"] == []
    assert plan["raster"]["crs"] == "EPSG:32617"
    assert plan["raster"]["bands"] == [1, 2, 3]
    [tile] = plan["tiles"]
    assert [patch["patch"] for patch in tile["patches"]] == list(range(16))
    for patch in tile["patches"]:
        assert patch["selected"] == (patch["probability"] > 0.4)
        # 20 m x 20 m, a little more on the ground than on the map
        assert patch["area_km2"] == pytest.approx(0.0004, rel=2e-3)
        assert patch["price"] is None
    assert plan["totals"]["chosen"] == len(tile["chosen"])
    assert plan["totals"]["cost"] is None
    assert live.client.get(answer.headers["Location"]).json() == plan


def test_prices_are_exact_and_only_totals_are_rounded(live: Live) -> None:
    plan = made_plan(
        live.client, lr_geotiff(), threshold="0", max_patches="5", price_per_km2="1234.567", currency="KWD"
    )
    patches = plan["tiles"][0]["patches"]
    for patch in patches:
        assert Decimal(patch["price"]) == Decimal(repr(patch["area_km2"])) * Decimal("1234.567")
    chosen = sum((Decimal(patch["price"]) for patch in patches if patch["selected"]), Decimal(0))
    assert plan["totals"]["chosen_cost"] == str(chosen.quantize(Decimal("0.001")))
    assert sum(patch["selected"] for patch in patches) == 5


def test_yen_have_no_decimals(live: Live) -> None:
    plan = made_plan(live.client, lr_geotiff(), threshold="0", price_per_km2="99999", currency="JPY")
    assert plan["totals"]["cost"] == str(int(plan["totals"]["cost"]))


def test_edge_tiles_are_clipped_in_area_price_and_choice(live: Live) -> None:
    # 80 m tiles over 110 m x 100 m: the second column holds 30 m, the second row 20 m
    plan = made_plan(
        live.client,
        geotiff(scene(20, 22), 5.0),
        tile_size_m="80",
        threshold="0",
        price_per_km2="10",
        currency="EUR",
    )
    assert [(tile["row"], tile["col"]) for tile in plan["tiles"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    corner = plan["tiles"][3]
    assert corner["valid_fraction"] == pytest.approx(30 * 20 / 80**2, rel=0.02)
    empty = [patch["patch"] for patch in corner["patches"] if patch["area_km2"] == 0]
    assert empty == [2, 3, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
    assert not set(empty) & set(corner["chosen"])
    assert all(Decimal(patch["price"]) == 0 for patch in corner["patches"] if patch["patch"] in empty)
    whole = sum(patch["area_km2"] for tile in plan["tiles"] for patch in tile["patches"])
    assert whole == pytest.approx(0.110 * 0.100, rel=2e-3)
    assert plan["totals"]["patches"] == 16 * 4 - sum(
        patch["area_km2"] == 0 for tile in plan["tiles"] for patch in tile["patches"]
    )


def test_tiles_say_what_hr_gains_where_the_release_can_tell(live: Live) -> None:
    plan = made_plan(live.client, lr_geotiff())
    assert [tile["gain"] for tile in plan["tiles"]] == [None]
    gain = {"lr": 0.25, "hr": 0.75, "weights": [0.5, 0.5] + [0.0] * 14}
    with session_scope() as session:
        session.execute(update(TileRow).where(TileRow.plan_id == plan["id"]).values(gain=gain))
    shown = live.client.get(plan["links"]["self"]).json()
    assert [tile["gain"] for tile in shown["tiles"]] == [gain]


def test_geojson_has_a_feature_a_patch(live: Live) -> None:
    plan = made_plan(
        live.client, lr_geotiff(2, 2), tile_size_m="80.1", threshold="0", price_per_km2="7", currency="EUR"
    )
    answer = live.client.get(plan["links"]["self"], headers=GEOJSON)
    assert answer.headers["Content-Type"] == "application/geo+json"
    assert answer.headers["Vary"] == "Accept"
    found = answer.json()
    assert found["type"] == "FeatureCollection"
    assert len(found["features"]) == 4 * 16
    by_place = {(f["properties"]["tile"], f["properties"]["patch"]): f for f in found["features"]}
    for tile in plan["tiles"]:
        for patch in tile["patches"]:
            feature = by_place[tile["tile"], patch["patch"]]
            assert feature["properties"] == {**patch, "tile": tile["tile"], "currency": "EUR"}
            assert set(feature["properties"]) == {
                *("tile", "patch", "probability", "selected", "area_km2", "price", "currency")
            }
            ring = feature["geometry"]["coordinates"][0]
            assert ring[0] == ring[-1]
            assert all(-82.1 < lon < -81.9 and 29.6 < lat < 29.8 for lon, lat in ring)
    north = [np.mean([p[1] for p in by_place[0, patch]["geometry"]["coordinates"][0]]) for patch in (0, 12)]
    assert north[0] > north[1]


def test_a_plan_that_is_not_ready_has_no_geojson_and_no_picture(live: Live) -> None:
    queued = post_plan(
        live.client, lr_geotiff(40, 40, pixel_m=10.0), tile_size_m="80.1", headers={"Prefer": "wait=0"}
    )
    path = queued.headers["Location"]
    assert live.client.get(path, headers=GEOJSON).status_code == 409
    assert live.client.get(f"{path}/preview.png").status_code == 409
    shown = live.client.get(path).json()
    assert shown["status"] in ("queued", "running")
    assert shown["totals"] is None


def test_only_json_and_geojson_can_be_had(live: Live) -> None:
    plan = made_plan(live.client, lr_geotiff())
    assert live.client.get(plan["links"]["self"], headers={"Accept": "text/csv"}).status_code == 406


def test_a_preview_of_pixels_that_are_lost_says_so(client: TestClient) -> None:
    plan = ready_plan()
    answer = client.get(f"/v1/plans/{plan}/preview.png")
    check_problem(answer, 500, "pixels-lost")
    assert answer.json()["plan_id"] == str(plan)
    # to come back later does not help
    assert "retry-after" not in answer.headers


def test_the_preview_is_a_picture(live: Live) -> None:
    plan = made_plan(live.client, lr_geotiff())
    answer = live.client.get(plan["links"]["preview"])
    assert answer.headers["Content-Type"] == "image/png"
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.width > 400
    assert len(picture.convert("RGB").getcolors(2**24) or []) > 100


def test_warnings(live: Live) -> None:
    unnamed = geotiff(scene(16, 16), 5.0, photometric="MINISBLACK")
    assert made_plan(live.client, unnamed)["warnings"] == ["bands_assumed"]
    assert made_plan(live.client, unnamed, bands="3,2,1")["warnings"] == []
    far = made_plan(live.client, lr_geotiff(pixel_m=80.0, tiles_x=16, tiles_y=16))
    assert far["warnings"] == ["outside_training_scale"]


def test_values_that_saturate_are_told_of_lr_and_of_hr(live: Live) -> None:
    plan = made_plan(live.client, lr_geotiff(), scale="0.05")
    assert "values_saturate" in plan["warnings"]
    [acquisition] = post_hr(live.client, plan["id"], hr_geotiff(), scale="0.05").json()["acquisitions"]
    assert "values_saturate" in acquisition["warnings"]
    assert "values_saturate" not in made_plan(live.client, lr_geotiff(), scale="0.0039")["warnings"]


def test_a_tile_of_nodata_is_not_bought(live: Live) -> None:
    pixels = scene(16, 32)
    pixels[:, :, 16:] = 0
    plan = made_plan(live.client, geotiff(pixels, 5.0, nodata=0), tile_size_m="80.1", threshold="0")
    assert plan["warnings"] == ["tiles_without_valid_pixels"]
    blind = [tile for tile in plan["tiles"] if tile["valid_fraction"] == 0]
    assert len(blind) == 1
    assert blind[0]["chosen"] == []


def test_a_16_bit_raster_is_stretched_once_and_the_stretch_is_kept(live: Live) -> None:
    pixels = scene(16, 16).astype(np.uint16) * 40 + 300
    plan = made_plan(live.client, geotiff(pixels, 5.0))
    assert plan["raster"]["scaling"]["kind"] == "stretch"
    low, high = np.percentile(pixels[0], [2, 98])
    gain, bias = plan["raster"]["scaling"]["gain"][0], plan["raster"]["scaling"]["bias"][0]
    assert low * gain + bias == pytest.approx(0, abs=2)
    assert high * gain + bias == pytest.approx(255, abs=2)


BAD_FIELDS = [
    {"threshold": "1.01"},
    {"max_patches": "17"},
    {"bands": "1,2,9"},
    {"bands": "a"},
    {"scale": "0"},
    {"tile_size_m": "-1"},
    {"tile_size_m": "0.001"},
    {"price_per_km2": "1"},
    {"price_per_km2": "1", "currency": "XXX"},
    {"tags": "[]"},
    {"release": "no-such-release"},
    {"release": "../tiny"},
    {"treshold": "0.5"},
]


@pytest.mark.parametrize("fields", BAD_FIELDS, ids=json.dumps)
def test_values_out_of_range_leave_nothing(live: Live, fields: dict[str, str]) -> None:
    before = kept()
    answer = post_plan(live.client, lr_geotiff(), headers={"Idempotency-Key": "k"}, **fields)
    assert answer.status_code == 422, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["status"] == 422
    assert kept() == before


BAD_FILES: list[tuple[str, Any]] = [
    ("text", b"not a tiff"),
    ("nothing", b""),
    ("cut", lr_geotiff()[:300]),
    ("no crs", geotiff(scene(16, 16), 5.0, crs=None)),
    ("one pixel", geotiff(scene(1, 1), 5.0)),
    ("vrt", b"<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>"),
]


@pytest.mark.parametrize(
    "content", [content for _, content in BAD_FILES], ids=[name for name, _ in BAD_FILES]
)
def test_bad_rasters_leave_nothing(live: Live, content: bytes) -> None:
    before = kept()
    answer = post_plan(live.client, content, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 422, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert kept() == before


def test_object_names_are_the_services_own(live: Live) -> None:
    before = set(kept()["objects"])
    files = {"lr": ("../../etc/passwd\x07; evil name.tif", lr_geotiff())}
    answer = live.client.post("/v1/plans", files=files, headers={"Prefer": "wait=20"})
    assert answer.status_code == 201, answer.text
    assert set(kept()["objects"]) - before == {f"plans/{answer.json()['id']}/lr.tif"}


def ids(page: Any) -> list[str]:
    return [plan["id"] for plan in page["plans"]]


def test_lists_go_from_page_to_page(live: Live) -> None:
    made = [
        post_plan(live.client, lr_geotiff(seed=seed), headers={"Prefer": "wait=0"}).json()["id"]
        for seed in range(5)
    ]
    found: list[str] = []
    token: str | None = None
    for _ in range(3):
        page = live.client.get("/v1/plans", params={"limit": 2} | ({"token": token} if token else {})).json()
        found += ids(page)
        token = page["next"]
    assert found == made[::-1]
    assert token is None
    assert "tiles" not in live.client.get("/v1/plans").json()["plans"][0]


@pytest.mark.parametrize(
    "token", ["x", "bm90IGpzb24", "WzEsMl0", "W10", "%00", "e30=", "WyIyMDI2LTAxLTAxIiwgIngiXQ"]
)
def test_a_token_of_ones_own_making_is_refused(live: Live, token: str) -> None:
    assert live.client.get("/v1/plans", params={"token": token}).status_code == 422


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 201}, {"limit": "x"}, {"status": "lost"}])
def test_lists_have_limits(live: Live, params: dict[str, str]) -> None:
    assert live.client.get("/v1/plans", params=params).status_code == 422


def test_an_organisation_sees_its_own_plans_only(live: Live) -> None:
    plan = made_plan(live.client, lr_geotiff())
    with live.as_key(live.new_key(org="other")) as other:
        assert other.get("/v1/plans").json()["plans"] == []
        for path in (
            plan["links"]["self"],
            plan["links"]["preview"],
            plan["links"]["acquisitions"],
            plan["links"]["classifications"],
        ):
            assert other.get(path).status_code == 404
        files = {"files": ("a.tif", lr_geotiff())}
        assert other.post(plan["links"]["acquisitions"], files=files).status_code == 404
        assert other.post(plan["links"]["classifications"]).status_code == 404
        assert other.get("/v1/reports/savings").json()["groups"] == []


@pytest.mark.parametrize("scope", ["report", "acquire", "train"])
def test_planning_needs_its_scope(live: Live, scope: str) -> None:
    with live.as_key(live.new_key(scope)) as client:
        assert post_plan(client, lr_geotiff()).status_code == 403
        assert client.get("/v1/plans").status_code == 403


def test_without_a_key_nothing_is_read(live: Live) -> None:
    with httpx.Client(base_url=live.url, trust_env=False) as anyone:
        answer = anyone.post("/v1/plans", files={"lr": ("x.tif", b"x")})
        assert answer.status_code == 401
        assert anyone.get("/v1/releases").status_code == 401


def test_the_place_of_the_raster(live: Live) -> None:
    plan = made_plan(live.client, lr_geotiff())
    assert plan["tiles"][0]["bounds"] == [WEST, NORTH - 80, WEST + 80, NORTH]
    assert plan["tiles"][0]["clipped_bounds"] == plan["tiles"][0]["bounds"]
