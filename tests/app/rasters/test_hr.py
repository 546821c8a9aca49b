"""Acquisitions land where they lie on the ground, and only there."""

import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.warp import Resampling, calculate_default_transform, reproject

from app.rasters import (
    PatchPixels,
    RasterInfo,
    Refusal,
    Scaling,
    Tile,
    cut_tiles,
    patch_bounds,
    patch_window,
    read_hr_patches,
    tile_grid,
)
from app.rasters.gdal import open_tiff
from app.rasters.lr import shown
from app.rasters.resample import Grid, resample
from tests.app.rasters.making import NORTH_UP, UTM, across, info_of, noise, write_tiff
from tests.app.rasters.places import PLACES, raster

AS_IS = Scaling("as_is", (1.0,) * 3, (0.0,) * 3)
BEYOND = (179.9968, -17.0064, 180.0032, -17.0)
PLAN = raster(PLACES[0], 64, 64)


def scene(x: Any, y: Any, info: RasterInfo = PLAN) -> NDArray[np.uint8]:
    """``(3, ...)`` uint8 that says where it is: red falls to the east, green to the south, blue is a wave."""
    xmin, ymin, xmax, ymax = info.bounds
    u, v = (x - xmin) / (xmax - xmin), (ymax - y) / (ymax - ymin)
    wave = 0.5 + 0.5 * np.sin(6 * np.pi * u) * np.cos(4 * np.pi * v)
    bands = np.stack([20 + 210 * u, 20 + 210 * v, 30 + 190 * wave])
    return np.asarray(np.rint(bands).clip(0, 255), np.uint8)


def drawn(transform: Affine, width: int, height: int, crs: str = UTM) -> NDArray[np.uint8]:
    """The scene as a sensor with this grid would have seen it."""
    col, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = transform @ (col, row)
    if crs != UTM:
        x, y = Transformer.from_crs(crs, UTM, always_xy=True).transform(x, y)
    return scene(x, y)


def cut_out(
    path: Path, box: tuple[float, float, float, float], px: int = 40, crs: str = UTM, **options: Any
) -> Path:
    """A rectangle of the plan's CRS as its own file, warped to ``crs`` with nodata 0 around it."""
    here = across(box, px, px)
    pixels = drawn(here, px, px)
    if crs == UTM:
        return write_tiff(path, pixels, transform=here, **options)
    with warnings.catch_warnings():
        # rasterio 1.4 with affine 3.1
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        there, width, height = calculate_default_transform(UTM, crs, px, px, *box)
    warped = np.zeros((3, height, width), np.uint8)
    how = {"src_crs": UTM, "dst_crs": crs, "src_nodata": 0, "dst_nodata": 0, "resampling": Resampling.cubic}
    reproject(pixels, warped, src_transform=here, dst_transform=there, **how)
    return write_tiff(path, warped, crs=crs, transform=there, nodata=0, **options)


def read(
    path: Path, tiles: list[Tile], hr_px: int = 128, info: RasterInfo = PLAN, **options: Any
) -> list[PatchPixels]:
    return list(read_hr_patches(path, info_of(path), tiles, info.crs_wkt, hr_px, AS_IS, **options))


def expected(tile: Tile, patch: int, hr_px: int) -> NDArray[np.uint8]:
    row0, row1, col0, col1 = patch_window(patch, hr_px)
    place = tile_grid(tile, hr_px) @ Affine.translation(col0, row0)
    return drawn(place, col1 - col0, row1 - row0)


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "EPSG:3857", "EPSG:32631", "EPSG:3035"])
@given(patch=st.integers(0, 15))
def test_a_patch_cut_out_comes_home_from_any_crs(
    tmp_path_factory: pytest.TempPathFactory, crs: str, patch: int
) -> None:
    (tile,) = cut_tiles(PLAN)
    path = cut_out(tmp_path_factory.mktemp("home") / "x.tif", patch_bounds(tile, patch), crs=crs)
    taken = [p for p in read(path, [tile]) if p.refusal is None]
    assert [(p.tile, p.patch) for p in taken] == [(0, patch)]
    assert taken[0].pixels is not None
    assert taken[0].pixels.shape == (3, 32, 32)
    assert taken[0].valid_fraction > 0.97
    error = np.abs(taken[0].pixels.astype(int) - expected(tile, patch, 128))
    # a pixel off would be 1.6 in red and green and up to 9 in blue
    assert error[:2, 2:-2, 2:-2].max() <= 2
    assert error[2].mean() < 2


@pytest.mark.parametrize("size", [None, 150.0])
def test_one_file_brings_every_patch_it_covers(tmp_path: Path, size: float | None) -> None:
    tiles = cut_tiles(PLAN, size)
    path = cut_out(tmp_path / "all.tif", PLAN.bounds, px=256)
    found = read(path, tiles)
    wanted = {(t.index, p) for t in tiles for p in range(16) if _inside(t, p)}
    assert {(f.tile, f.patch) for f in found if f.refusal is None} == wanted
    for f in found:
        assert f.pixels is not None
        tile = next(t for t in tiles if t.index == f.tile)
        assert f.patch is not None
        if _wholly_inside(tile, f.patch):
            error = np.abs(f.pixels.astype(int) - expected(tile, f.patch, 128))
            assert error.max() <= 6
    assert [(f.tile, f.patch) for f in found] == sorted((f.tile, f.patch) for f in found)


@pytest.mark.parametrize("px", [101, 301])
@pytest.mark.parametrize("seen", ["all", "three rows", "one patch"])
def test_patches_read_together_are_those_read_alone(tmp_path: Path, px: int, seen: str) -> None:
    (tile,) = cut_tiles(PLAN)
    xmin, ymin, xmax, ymax = tile.bounds
    right, low = {"all": (1.0, 1.0), "three rows": (0.9, 0.75), "one patch": (0.25, 0.25)}[seen]
    box = (xmin, ymax - low * (ymax - ymin), xmin + right * (xmax - xmin), ymax)
    path = cut_out(tmp_path / "a.tif", box, px=px)
    info = info_of(path)
    taken = [found for found in read(path, [tile]) if found.pixels is not None]
    assert taken
    with open_tiff(path) as dataset:
        for found in taken:
            assert found.patch is not None
            alone = Grid(tile_grid(tile, 128), 128, 128, PLAN.crs_wkt).part(*patch_window(found.patch, 128))
            values, cover = resample(dataset, info, (1, 2, 3), alone)
            error = shown(values, cover, AS_IS).astype(int) - found.pixels
            assert np.abs(error).max() <= 1
            assert (error != 0).mean() < 0.01


@pytest.mark.parametrize("hr_px", [4, 30, 63, 64, 65, 126])
def test_windows_tile_the_image_for_any_hr_px(tmp_path: Path, hr_px: int) -> None:
    seen = np.zeros((hr_px, hr_px), int)
    for patch in range(16):
        row0, row1, col0, col1 = patch_window(patch, hr_px)
        seen[row0:row1, col0:col1] += 1
    assert (seen == 1).all()
    (tile,) = cut_tiles(PLAN)
    for patch in (0, 6, 15):
        path = cut_out(tmp_path / f"{patch}.tif", patch_bounds(tile, patch), px=128)
        (found,) = read(path, [tile], hr_px)
        assert found.refusal is None
        assert found.pixels is not None
        assert found.pixels.shape == expected(tile, patch, hr_px).shape
        assert found.valid_fraction == pytest.approx(1, abs=1e-5)
        assert np.abs(found.pixels.astype(int) - expected(tile, patch, hr_px)).mean() < 3


def test_south_up_and_westing_plans_get_their_patches_too(tmp_path: Path) -> None:
    info = raster(PLACES[9], 64, 64)
    (tile,) = cut_tiles(info)
    for patch in (0, 3, 12):
        box = patch_bounds(tile, patch)
        pixels = np.full((3, 40, 40), 10 + patch * 10, np.uint8)
        path = write_tiff(tmp_path / "p.tif", pixels, crs="EPSG:2053", transform=across(box, 40, 40))
        (found,) = read(path, [tile], info=info)
        assert (found.patch, found.refusal) == (patch, None)
        assert found.pixels is not None
        assert (found.pixels == 10 + patch * 10).all()


def test_a_rotated_file_is_laid_straight(tmp_path: Path) -> None:
    (tile,) = cut_tiles(PLAN)
    x, y = PLAN.centre
    rotated = (
        Affine.translation(x, y) @ Affine.rotation(33) @ Affine.scale(1, -1) @ Affine.translation(-300, -300)
    )
    path = write_tiff(tmp_path / "r.tif", drawn(rotated, 600, 600), transform=rotated)
    found = read(path, [tile])
    assert len(found) == 16
    for f in found:
        assert f.pixels is not None
        assert f.patch is not None
        assert np.abs(f.pixels.astype(int) - expected(tile, f.patch, 128)).max() <= 4


@pytest.mark.parametrize(
    ("share", "refusal"), [(0.97, None), (0.93, "insufficient_valid_pixels"), (0.0, "all_nodata")]
)
def test_ninety_five_percent(tmp_path: Path, share: float, refusal: str | None) -> None:
    (tile,) = cut_tiles(PLAN)
    box = patch_bounds(tile, 5)
    pixels = np.full((3, 100, 100), 50, np.uint8)
    pixels[:, int(share * 100) :] = 0
    path = write_tiff(tmp_path / "p.tif", pixels, transform=across(box, 100, 100), nodata=0)
    # the whole file nodata is refused before this by inspect
    info = replace(info_of(path) if share else PLAN, nodata=0.0)
    if not share:
        info = replace(info, width=100, height=100, transform=tuple(across(box, 100, 100))[:6], bounds=box)
    (found,) = read_hr_patches(path, info, [tile], PLAN.crs_wkt, 128, AS_IS)
    assert (found.tile, found.patch) == (0, 5)
    assert found.refusal == refusal
    assert found.valid_fraction == pytest.approx(share, abs=0.005)
    assert (found.pixels is None) == (refusal is not None)
    if found.pixels is not None:
        assert (found.pixels == 50).all()


def test_a_file_of_half_a_patch_is_not_enough(tmp_path: Path) -> None:
    (tile,) = cut_tiles(PLAN)
    xmin, ymin, xmax, ymax = patch_bounds(tile, 5)
    path = cut_out(tmp_path / "half.tif", (xmin, ymin, (xmin + xmax) / 2, ymax))
    (found,) = read(path, [tile])
    assert found.refusal is Refusal.INSUFFICIENT_VALID_PIXELS
    assert found.valid_fraction == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("times", "taken"), [(0.2, True), (1.0, True), (1.5, True), (1.55, False), (4.0, False)]
)
def test_pixels_that_are_too_coarse(tmp_path: Path, times: float, taken: bool) -> None:
    (tile,) = cut_tiles(PLAN)
    side = (tile.bounds[2] - tile.bounds[0]) / 128 * times
    box = patch_bounds(tile, 10)
    n = int(np.ceil((box[2] - box[0]) / side)) + 2
    place = Affine(side, 0, box[0] - side, 0, -side, box[3] + side)
    found = read(write_tiff(tmp_path / "c.tif", drawn(place, n, n), transform=place), [tile])
    of_patch = next(f for f in found if f.patch == 10)
    assert (of_patch.refusal is None) == taken
    if not taken:
        assert of_patch.refusal is Refusal.GSD_TOO_COARSE
    assert of_patch.gsd_m == pytest.approx(side / 0.9996, rel=1e-3)


def test_one_coarse_side_is_enough_to_be_too_coarse(tmp_path: Path) -> None:
    (tile,) = cut_tiles(PLAN)
    box = patch_bounds(tile, 10)
    path = write_tiff(tmp_path / "c.tif", noise(3, 8, 200), transform=across(box, 200, 8))
    (found,) = read(path, [tile])
    assert found.refusal is Refusal.GSD_TOO_COARSE


def test_somewhere_else(tmp_path: Path) -> None:
    (tile,) = cut_tiles(PLAN)
    _, ymin, xmax, _ = PLAN.bounds
    for crs, box in [
        (UTM, (xmax + 10, ymin, xmax + 90, ymin + 80)),
        ("EPSG:4326", (-70.0, -30.0, -69.9, -29.9)),
    ]:
        path = write_tiff(tmp_path / "e.tif", noise(3, 40, 40), crs=crs, transform=across(box, 40, 40))
        (found,) = read(path, [tile])
        assert (found.tile, found.patch, found.refusal) == (None, None, Refusal.OUTSIDE_EVERY_TILE)


def test_a_neighbour_that_is_only_touched_is_not_mentioned(tmp_path: Path) -> None:
    (tile,) = cut_tiles(PLAN)
    path = cut_out(tmp_path / "p.tif", patch_bounds(tile, 6), crs="EPSG:3035")
    assert [(p.patch, p.refusal) for p in read(path, [tile])] == [(6, None)]


def test_wrong_bands(tmp_path: Path) -> None:
    (tile,) = cut_tiles(PLAN)
    box = patch_bounds(tile, 6)
    path = write_tiff(tmp_path / "pan.tif", noise(1, 40, 40), transform=across(box, 40, 40))
    (found,) = read(path, [tile])
    assert (found.patch, found.refusal) == (6, Refusal.WRONG_BANDS)
    (grey,) = read(path, [tile], bands=[1, 1, 1])
    assert grey.refusal is None


def test_an_edge_patch_counts_only_within_the_raster(tmp_path: Path) -> None:
    """A tile that reaches over the edge: HR of the raster's part fills its patch, the rest is continued."""
    (tile,) = cut_tiles(PLAN, 420.0)
    path = cut_out(tmp_path / "part.tif", PLAN.bounds, px=256)
    found = {f.patch: f for f in read(path, [tile])}
    cut_through = [p for p in found if p is not None and not _wholly_inside(tile, p)]
    assert cut_through
    for patch in cut_through:
        assert found[patch].refusal is None
        assert found[patch].valid_fraction == pytest.approx(1, abs=0.01)
    assert set(found) == {p for p in range(16) if _inside(tile, p)}


def test_deep_rasters_use_the_plans_scaling(tmp_path: Path) -> None:
    (tile,) = cut_tiles(PLAN)
    box = patch_bounds(tile, 0)
    path = write_tiff(
        tmp_path / "deep.tif", np.full((3, 64, 64), 1000, np.uint16), transform=across(box, 64, 64)
    )
    scaling = Scaling("stretch", (0.1, 0.2, 0.05), (0.0, -10.0, 5.0))
    (found,) = read_hr_patches(path, info_of(path), [tile], PLAN.crs_wkt, 64, scaling)
    assert found.pixels is not None
    assert found.pixels[:, 3, 3].tolist() == [100, 190, 55]


def test_longitudes_on_either_side_of_180_meet(tmp_path: Path) -> None:
    info = replace(raster(PLACES[2], 64, 64), transform=(1e-4, 0, 179.9968, 0, -1e-4, -17), bounds=BEYOND)
    (tile,) = cut_tiles(info)
    west, south, east, north = patch_bounds(tile, 3)
    path = write_tiff(
        tmp_path / "e.tif",
        noise(3, 64, 64),
        crs="EPSG:4326",
        transform=across((west - 360, south, east - 360, north), 64, 64),
    )
    (found,) = read(path, [tile], info=info)
    assert (found.tile, found.patch, found.refusal) == (0, 3, None)


def test_many_tiles_are_searched_quickly(tmp_path: Path) -> None:
    info = raster(PLACES[0], 400, 400)
    tiles = cut_tiles(info, 20.01)
    tile = tiles[5050]
    path = write_tiff(tmp_path / "t.tif", noise(3, 64, 64), transform=across(tile.bounds, 64, 64))
    found = list(read_hr_patches(path, info_of(path), tiles, info.crs_wkt, 64, AS_IS))
    assert {(f.tile, f.patch) for f in found} == set(product([5050], range(16)))


def _inside(tile: Tile, patch: int) -> bool:
    p, c = patch_bounds(tile, patch), tile.clipped
    return max(p[0], c[0]) < min(p[2], c[2]) - 1e-6 and max(p[1], c[1]) < min(p[3], c[3]) - 1e-6


def _wholly_inside(tile: Tile, patch: int) -> bool:
    p, c = patch_bounds(tile, patch), tile.clipped
    return p[0] >= c[0] and p[1] >= c[1] and p[2] <= c[2] and p[3] <= c[3]


assert NORTH_UP.a == 5  # the scale the numbers above were worked out for
