"""The demo: LR by area, patches cut to the pixel, a drawing that never changes, and the whole of it."""

import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import rasterio
from affine import Affine
from numpy.typing import NDArray

from app.rasters import Limits, Scaling, Tile, cut_tiles, inspect, patch_bounds, read_hr_patches
from models.card import Card, ClassName, Range
from models.release import tiny_release
from patchplan.demo import fetch
from patchplan.demo.cut import cut_patches
from patchplan.demo.drawn import draw_scene, town
from patchplan.demo.errors import DemoError
from patchplan.demo.job import FILES
from patchplan.demo.run import main
from patchplan.demo.scene import Scene, choose_scene, make_lr
from tests.conftest import child_environment, short_folder
from tests.releases import ALL_AT_THE_SECOND, looks_twice

TURN = Affine.rotation(17)
PLACES: dict[str, tuple[str, Affine]] = {
    "utm": ("EPSG:32617", Affine(0.5, 0, 404_000, 0, -0.5, 3_285_000)),
    "degrees": ("EPSG:4326", Affine(2.7e-6, 0, -115.17, 0, -2.7e-6, 36.24)),
    "feet": ("EPSG:2263", Affine(1.6, 0, 980_000, 0, -1.6, 200_000)),
    "web mercator": ("EPSG:3857", Affine(0.6, 0, 1_000_000, 0, -0.6, 6_600_000)),
    "south up": ("EPSG:32734", Affine(0.5, 0, 300_000, 0, 0.5, 6_200_000)),
    "rotated": ("EPSG:32617", Affine.translation(404_000, 3_285_000) @ TURN @ Affine.scale(0.5, -0.5)),
}


def card(tile_m: float = 80, lr_gsd_m: float = 5, hr_px: int = 128) -> Card:
    """A release's card with this scale."""
    return Card(
        name="some",
        version="0",
        streams="hr+lr",
        fusion="eq7",
        fill="lr",
        classes=(ClassName("field"), ClassName("forest")),
        lr_px=16,
        hr_px=hr_px,
        tile_m=Range(tile_m, tile_m / 2, tile_m * 2),
        lr_gsd_m=Range(lr_gsd_m, 1, 10),
        hr_gsd_m=tile_m / hr_px,
        weights_sha256="",
        architecture={},
    )


def write(
    path: Path,
    pixels: NDArray[Any],
    crs: str = PLACES["utm"][0],
    at: Affine = PLACES["utm"][1],
    **profile: Any,
) -> Path:
    bands, height, width = pixels.shape
    profile = {"photometric": "RGB", **profile} if bands >= 3 else profile
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=bands, dtype=pixels.dtype, crs=crs,
        transform=at, **profile,
    ) as file:  # fmt: skip
        file.write(pixels)
    return path


def noise(height: int, width: int, dtype: str = "uint8", bands: int = 3) -> NDArray[Any]:
    return np.random.default_rng(5).integers(1, 255, (bands, height, width)).astype(dtype)


def lr_of(scene: Scene, path: Path) -> NDArray[Any]:
    make_lr(scene, path)
    with rasterio.open(path) as file:
        return np.asarray(file.read(masked=True))


def block_means(pixels: NDArray[Any], scene: Scene) -> NDArray[np.float64]:
    col, row, width, height = scene.window
    across, down = scene.factors
    part = pixels[:, row : row + height, col : col + width].astype(np.float64)
    blocks = part.reshape(len(pixels), height // down, down, width // across, across)
    return np.asarray(blocks.mean(axis=(2, 4)))


@pytest.mark.parametrize(("dtype", "tolerance"), [("uint8", 0.501), ("uint16", 0.501), ("float32", 1e-3)])
def test_lr_is_the_mean_of_the_hr_under_it(tmp_path: Path, dtype: str, tolerance: float) -> None:
    pixels = noise(330, 500, dtype, bands=4)
    scene = choose_scene(write(tmp_path / "hr.tif", pixels), card(), 24)
    assert scene.factors == (10, 10)
    found = lr_of(scene, tmp_path / "lr.tif")
    assert found.dtype == dtype
    means = block_means(pixels, scene)
    assert found.shape == means.shape
    assert np.abs(found - means).max() <= tolerance
    assert abs(found.mean() - means.mean()) < 0.1
    with rasterio.open(tmp_path / "lr.tif") as lr:
        col, row, width, height = scene.window
        hr = PLACES["utm"][1]
        assert lr.transform @ (0, 0) == pytest.approx(hr @ (col, row), abs=1e-6)
        assert lr.transform @ (lr.width, lr.height) == pytest.approx(
            hr @ (col + width, row + height), abs=1e-6
        )


def test_nodata_does_not_bleed_into_lr(tmp_path: Path) -> None:
    pixels = np.full((3, 320, 320), 200, np.uint16)
    pixels[:, :, 104:] = 0
    scene = choose_scene(write(tmp_path / "hr.tif", pixels, nodata=0), card(), 24)
    make_lr(scene, tmp_path / "lr.tif")
    with rasterio.open(tmp_path / "lr.tif") as lr:
        values, valid = lr.read(), lr.dataset_mask() > 0
    left = (104 - scene.window[0]) // scene.factors[0]
    assert valid[:, :left].all()
    assert not valid[:, left + 1 :].any()
    assert set(np.unique(values[:, valid])) == {200}


def test_the_middle_is_used_where_there_are_many_tiles(tmp_path: Path) -> None:
    scene = choose_scene(write(tmp_path / "hr.tif", noise(1000, 1600)), card(), 6)
    make_lr(scene, tmp_path / "lr.tif")
    tiles = cut_tiles(inspect(tmp_path / "lr.tif"), scene.tile_m)
    assert len(tiles) == 6
    assert all(tile.valid_fraction > 0.999 for tile in tiles)
    col, row, width, height = scene.window
    assert abs((col + width / 2) - 800) <= 1
    assert abs((row + height / 2) - 500) <= 1
    assert any("--tiles" in note for note in scene.notes)


def test_a_small_image_is_one_tile_and_a_coarse_one_is_warned_of(tmp_path: Path) -> None:
    small = choose_scene(write(tmp_path / "small.tif", noise(100, 110)), card(), 24)
    assert small.tile_m is None
    at = Affine(10, 0, 404_000, 0, -10, 3_285_000)
    coarse = choose_scene(write(tmp_path / "coarse.tif", noise(64, 64), at=at), card(), 24)
    assert any("coarser" in note for note in coarse.notes)
    make_lr(coarse, tmp_path / "lr.tif")
    assert cut_tiles(inspect(tmp_path / "lr.tif"), coarse.tile_m)


def test_a_fourth_band_called_alpha_is_kept_as_a_band_if_it_is_a_picture(tmp_path: Path) -> None:
    for alpha in (noise(320, 320, bands=1), np.full((1, 320, 320), 255, np.uint8)):
        alpha[:, :32] = 0
        hr = np.concatenate([noise(320, 320), alpha])
        scene = choose_scene(write(tmp_path / "hr.tif", hr, alpha="yes"), card(), 9)
        make_lr(scene, tmp_path / "lr.tif")
        a_picture = alpha[0, 100, 100] != 255
        assert any("alpha" in note for note in scene.notes) == a_picture
        with rasterio.open(tmp_path / "lr.tif") as lr:
            assert lr.count == (4 if a_picture else 3)
            # a picture hides nothing, a mask hides what it hid
            assert lr.dataset_mask().all() == a_picture


def test_no_geotiff_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_text("hello")
    with pytest.raises(DemoError, match="cannot be used"):
        choose_scene(tmp_path / "x.tif", card(), 24)
    with pytest.raises(DemoError, match="no file"):
        choose_scene(tmp_path / "y.tif", card(), 24)


@pytest.mark.parametrize("place", PLACES)
def test_a_cut_patch_holds_the_source_pixels_at_their_place_and_is_taken(tmp_path: Path, place: str) -> None:
    crs, at = PLACES[place]
    pixels = noise(420, 420)
    hr = write(tmp_path / "hr.tif", pixels, crs, at)
    scene = choose_scene(hr, card(), 24)
    make_lr(scene, tmp_path / "lr.tif")
    lr = inspect(tmp_path / "lr.tif")
    tiles = cut_tiles(lr, scene.tile_m)
    tile = max(tiles, key=lambda tile: tile.valid_fraction)
    assert tile.valid_fraction > 0.98
    cuts = cut_patches(hr, scene.info, [(tile, patch) for patch in range(16)], tmp_path)
    assert [cut.patch for cut in cuts] == list(range(16))
    bought = np.zeros(pixels.shape[1:], int)
    for cut in cuts:
        bought += _placed(cut.path, pixels, at)
        taken = [
            found
            for found in read_hr_patches(
                cut.path,
                inspect(cut.path, Limits()),
                tiles,
                lr.crs_wkt,
                128,
                Scaling("as_is", (1,) * 3, (0,) * 3),
            )
            if found.refusal is None
        ]
        assert [(found.tile, found.patch) for found in taken] == [(tile.index, cut.patch)]
    # rotated, a patch takes every pixel that it touches (four meet in a corner), else each pixel is cut once
    assert bought.max() == (4 if place == "rotated" else 1)
    assert bought.sum() == pytest.approx(_tile_pixels(tile, at), rel=0.1 if place == "rotated" else 0.02)


def test_patches_without_a_valid_pixel_are_not_cut_out(tmp_path: Path) -> None:
    pixels = noise(320, 320, "uint16")
    pixels[:, :200, :] = 0
    hr = write(tmp_path / "hr.tif", pixels, nodata=0)
    scene = choose_scene(hr, card(), 24)
    make_lr(scene, tmp_path / "lr.tif")
    tiles = cut_tiles(inspect(tmp_path / "lr.tif"), scene.tile_m)
    everything = [(tile, patch) for tile in tiles for patch in range(16)]
    cuts = cut_patches(hr, scene.info, everything, tmp_path)
    assert 0 < len(cuts) < len(everything)
    assert all(inspect(cut.path).valid_fraction > 0 for cut in cuts)


def _placed(path: Path, source: NDArray[Any], at: Affine) -> NDArray[np.int_]:
    """Where a patch's valid pixels lie in the source; fails unless they are the source's own."""
    with rasterio.open(path) as patch:
        col, row = ~at @ patch.transform @ (0, 0)
        assert (col, row) == pytest.approx((round(col), round(row)), abs=1e-4)
        found, wanted = patch.transform, at
        assert (found.a, found.b, found.d, found.e) == pytest.approx((wanted.a, wanted.b, wanted.d, wanted.e))
        left, top = round(col), round(row)
        there = source[:, top : top + patch.height, left : left + patch.width]
        valid = patch.dataset_mask() > 0
        assert (patch.read()[:, valid] == there[:, valid]).all()
        where = np.zeros(source.shape[1:], int)
        where[top : top + patch.height, left : left + patch.width] = valid
        return where


def _tile_pixels(tile: Tile, at: Affine) -> float:
    boxes = [patch_bounds(tile, patch) for patch in range(16)]
    return sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes) / abs(at.determinant) * tile.valid_fraction


def test_the_drawn_scene_is_the_same_every_time_and_lies_on_the_ground(tmp_path: Path) -> None:
    draw_scene(tmp_path / "drawn.tif")
    with rasterio.open(tmp_path / "drawn.tif") as file:
        assert (file.read() == np.moveaxis(town(), -1, 0)).all()
        assert (file.width, file.height, file.crs.to_epsg(), file.transform.a) == (1024, 768, 32617, 0.3)


def test_a_real_image_is_taken_from_the_cache_only_if_it_is_the_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    kept = tmp_path / "OSBS_029.tif"
    kept.write_bytes(b"something else")
    assert fetch.forest(tmp_path) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["OSBS_029.tif"]


# --- the whole of it --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def releases() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        tiny_release(Path(name) / "tiny", classes=["field", "forest", "harbor"], tile_m=76.8)
        yield Path(name)


def started(releases: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**child_environment(), "PATCHPLAN_RELEASES_DIR": str(releases), "COLUMNS": "120"}
    # named by its environment, a service in use must be left alone
    environment |= {"PATCHPLAN_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    return subprocess.Popen(
        [sys.executable, "-m", "patchplan", "demo", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def left_running(folder: Path) -> list[str]:
    """Command lines of processes that belong to a demo whose files lie in ``folder``."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(folder) in word for word in [*process.cmdline(), process.cwd()]):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def test_the_demo_does_the_main_job_and_leaves_nothing_but_its_files(releases: Path) -> None:
    with short_folder() as folder:
        out = folder / "demo"
        arguments = ["--drawn", "--tiles", "2", "--max-patches", "3", "--threshold", "0", "--out", str(out)]
        demo = started(releases, *arguments)
        said, _ = demo.communicate(timeout=110)
        assert demo.returncode == 0, said
        assert "Bought 6 of 32 patches" in said
        assert "a drawing" in said
        assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
        assert (out / "plan.png").read_bytes().startswith(b"\x89PNG")
        features = json.loads((out / "plan.geojson").read_text())["features"]
        assert sum(feature["properties"]["selected"] for feature in features) == 6
        classification = json.loads((out / "classification.json").read_text())
        for tile in classification["tiles"]:
            assert len(tile["patches_used"]) == 3
            assert tile["chosen_missing"] == []
        (group,) = json.loads((out / "savings.json").read_text())["groups"]
        assert (group["bought"]["patches"], group["every"]["patches"]) == (6, 32)
        assert [path.name for path in folder.iterdir()] == ["demo"]
        assert left_running(folder) == []


def test_the_demo_buys_what_a_second_look_says(tmp_path: Path) -> None:
    looks_twice(tmp_path / "releases" / "twice", ["field", "forest", "harbor"], ALL_AT_THE_SECOND, 76.8)
    with short_folder() as folder:
        out = folder / "demo"
        demo = started(tmp_path / "releases", "--drawn", "--tiles", "2", "--keep-patches", "--out", str(out))
        said, _ = demo.communicate(timeout=110)
        assert demo.returncode == 0, said
        assert "LR alone has to do" in said
        assert "Seen what came, 32 more patches in 2 tiles are worth buying" in said
        assert "Bought 32 of 32 patches" in said
        classification = json.loads((out / "classification.json").read_text())
        assert [tile["patches_used"] for tile in classification["tiles"]] == [list(range(16))] * 2
        assert len(list((out / "patches").iterdir())) == 32


def test_the_demo_stops_all_of_it_when_told_to(releases: Path) -> None:
    with short_folder() as folder:
        demo = started(releases, "--drawn", "--tiles", "1", "--out", str(folder / "demo"))
        assert demo.stdout is not None
        said = ""
        deadline = time.monotonic() + 90
        while not re.search("starting the API", said) and time.monotonic() < deadline:
            said += demo.stdout.readline()
        demo.send_signal(signal.SIGINT)
        rest, _ = demo.communicate(timeout=60)
        assert demo.returncode == 130, said + rest
        assert "Stopped" in rest
        assert [path.name for path in folder.iterdir()] == ["demo"]
        assert left_running(folder) == []


def test_the_demo_says_in_one_line_what_is_wrong(releases: Path, tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_text("hello")
    demo = started(releases, "--hr", str(tmp_path / "x.tif"), "--out", str(tmp_path / "demo"))
    said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("patchplan: ")
    assert "starting PostgreSQL" not in said


def test_the_demo_needs_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHPLAN_RELEASES_DIR", str(tmp_path / "none"))
    with pytest.raises(DemoError, match="No release"):
        main(["--drawn", "--out", str(tmp_path / "demo")])
