"""What the policy sees of a raster."""

from pathlib import Path

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.rasters import Scaling, cut_tiles, read_lr_tiles, unseen_patches
from tests.app.rasters.making import NORTH_UP, info_of, noise, write_tiff

AS_IS = Scaling("as_is", (1.0,) * 3, (0.0,) * 3)


def read_all(
    path: Path, size: float | None, lr_px: int, batch: int = 64
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    info = info_of(path)
    batches = list(read_lr_tiles(path, info, cut_tiles(info, size), (1, 2, 3), AS_IS, lr_px, batch))
    return np.concatenate([p for p, _ in batches]), np.concatenate([v for _, v in batches]).mean(axis=1)


def test_tiles_of_the_rasters_own_pixels_are_the_raster(tmp_path: Path) -> None:
    pixels = noise(3, 48, 64)
    # at this place a pixel of 5 m in the grid is 5.002 m on the ground
    path = write_tiff(tmp_path / "a.tif", pixels)
    info = info_of(path)
    tiles = cut_tiles(info, 16 * info.gsd_m)
    found, valid = read_all(path, 16 * info.gsd_m, 16)
    assert found.shape == (12, 3, 16, 16)
    for tile, image in zip(tiles, found, strict=True):
        there = pixels[:, tile.row * 16 : tile.row * 16 + 16, tile.col * 16 : tile.col * 16 + 16]
        assert np.abs(image.astype(int) - there).max() <= 2
    assert valid == pytest.approx(1, abs=1e-3)


@given(st.integers(1, 9))
def test_batches_change_nothing(tmp_path_factory: pytest.TempPathFactory, batch: int) -> None:
    path = write_tiff(tmp_path_factory.mktemp("lr") / "a.tif", noise(3, 30, 40))
    a, b = read_all(path, 60, 8, batch), read_all(path, 60, 8)
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])


def test_beyond_the_edge_the_image_goes_on(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", np.full((3, 20, 20), 90, np.uint8))
    found, valid = read_all(path, 150, 24)
    assert (found == 90).all()
    assert valid[0] == pytest.approx(100.04**2 / 150**2, rel=1e-3)


def test_nodata_lowers_valid_and_is_filled(tmp_path: Path) -> None:
    pixels = np.full((3, 20, 20), 90, np.uint8)
    pixels[:, :, :10] = 0
    path = write_tiff(tmp_path / "a.tif", pixels, nodata=0)
    found, valid = read_all(path, None, 20)
    assert valid[0] == 0.5
    assert (found == 90).all()


def test_a_tile_without_pixels_is_grey(tmp_path: Path) -> None:
    pixels = np.full((3, 20, 40), 90, np.uint8)
    pixels[:, :, 20:] = 0
    path = write_tiff(tmp_path / "a.tif", pixels, nodata=0)
    found, valid = read_all(path, 100.0, 16)
    assert valid[0] > 0.99
    assert valid[1] < 0.01
    assert len(set(found[1].ravel().tolist())) == 1


def test_north_is_up_however_the_raster_is_stored(tmp_path: Path) -> None:
    ramp = np.repeat(np.linspace(0, 255, 40)[None, :, None], 40, axis=2).repeat(3, axis=0).astype(np.uint8)
    plain = read_all(write_tiff(tmp_path / "a.tif", ramp), None, 20)[0]
    south_up = Affine(5, 0, 500_000, 0, 5, 5_600_000 - 200)
    stored = read_all(write_tiff(tmp_path / "b.tif", ramp[:, ::-1], transform=south_up), None, 20)[0]
    np.testing.assert_array_equal(plain, stored)
    assert (np.diff(plain[0, 0, :, 0].astype(int)) > 0).all()


def test_a_raster_stored_with_south_and_west_growing_is_turned(tmp_path: Path) -> None:
    """EPSG:2053 counts westing and southing; its image as drawn on a map has row 0 at the smallest y."""
    ramp = (
        np.add.outer(np.linspace(0, 90, 40), np.linspace(0, 150, 40))[None].repeat(3, axis=0).astype(np.uint8)
    )
    turned = Affine(-5, 0, 100, 0, 5, 2_876_000)
    found = read_all(write_tiff(tmp_path / "a.tif", ramp, crs="EPSG:2053", transform=turned), None, 40)[0]
    assert np.abs(found[0].astype(int) - ramp).max() <= 1


def unseen(path: Path, size: float | None, lr_px: int) -> list[tuple[int, ...]]:
    info = info_of(path)
    tiles = cut_tiles(info, size)
    batches = read_lr_tiles(path, info, tiles, (1, 2, 3), AS_IS, lr_px)
    valid = np.concatenate([of_batch for _, of_batch in batches])
    return [unseen_patches(tile, of_tile, lr_px) for tile, of_tile in zip(tiles, valid, strict=True)]


@pytest.mark.parametrize("lr_px", [4, 16, 18, 128])
def test_patches_without_valid_pixels_are_named(tmp_path: Path, lr_px: int) -> None:
    pixels = noise(3, 40, 40)
    pixels[:, :, 20:] = 0
    # a single pixel of 100 is hardly anything, a fifth of a patch is something
    pixels[:, 0, 20] = 9
    pixels[:, 30:32, 30:] = 9
    path = write_tiff(tmp_path / "a.tif", pixels, nodata=0)
    assert unseen(path, None, lr_px) == [(2, 3, 6, 7, 10, 11, 14)]


def test_what_lies_beyond_the_edge_is_not_unseen(tmp_path: Path) -> None:
    # of the second tile a strip of 20 m is left, and of that half a patch's height has no pixels
    pixels = noise(3, 20, 24)
    pixels[:, :, 20:] = 0
    whole = write_tiff(tmp_path / "a.tif", noise(3, 20, 24))
    assert unseen(whole, 100.04, 32) == [(), ()]
    assert unseen(write_tiff(tmp_path / "b.tif", pixels, nodata=0), 100.04, 32) == [(), (0, 4, 8, 12)]


@pytest.mark.parametrize("angle", [30, 45])
def test_corners_of_a_rotated_raster_are_not_unseen(tmp_path: Path, angle: float) -> None:
    transform = Affine.translation(5e5, 5.6e6) @ Affine.rotation(angle) @ Affine.scale(5, -5)
    path = write_tiff(tmp_path / "a.tif", noise(3, 60, 60), transform=transform)
    assert unseen(path, None, 64) == [()]


@pytest.mark.parametrize(("angle", "lr_px"), [(7, 16), (7, 56), (20, 18), (33, 56)])
def test_slivers_at_the_edge_of_a_rotated_raster_are_not_unseen(
    tmp_path: Path, angle: float, lr_px: int
) -> None:
    transform = Affine.translation(5e5, 5.6e6) @ Affine.rotation(angle) @ Affine.scale(5, -5)
    pixels = noise(3, 200, 200)
    path = write_tiff(tmp_path / "a.tif", pixels, transform=transform)
    found = unseen(path, 100.0, lr_px)
    assert set(found) == {()}
    # what LR could show of is named all the same
    pixels[:, 80:160, 80:160] = 0
    holed = unseen(write_tiff(tmp_path / "b.tif", pixels, transform=transform, nodata=0), 100.0, lr_px)
    assert 100 < sum(map(len, holed)) <= 16 * 16


def test_slivers_of_a_tile_that_shows_nothing_else_are_unseen(tmp_path: Path) -> None:
    # the network is shown grey there: of the tiles at the right a strip of 0.4 m is in the raster
    transform = Affine.translation(5e5, 5.6e6) @ Affine.rotation(90) @ Affine.scale(5, -5)
    path = write_tiff(tmp_path / "a.tif", noise(3, 20, 20), transform=transform)
    found = unseen(path, 99.6, 16)
    assert [len(of_tile) for of_tile in found] == [0, 4, 4, 1]


@pytest.mark.parametrize("angle", [30, 90, 180])
def test_a_rotated_raster_is_seen_with_north_up(tmp_path: Path, angle: float) -> None:
    transform = Affine.translation(5e5, 5.6e6) @ Affine.rotation(angle) @ Affine.scale(5, -5)
    n = 60
    col, row = np.meshgrid(np.arange(n) + 0.5, np.arange(n) + 0.5)
    y = transform.d * col + transform.e * row
    north = ((y - y.min()) / np.ptp(y) * 200 + 20)[None].repeat(3, axis=0).astype(np.uint8)
    found, _ = read_all(write_tiff(tmp_path / "a.tif", north, transform=transform), None, 30)
    middle = found[0, 0, :, 15].astype(int)
    assert (np.diff(middle) <= 1).all()
    assert middle[3] > middle[-4] + 100


def test_float_rasters_with_holes_are_scaled(tmp_path: Path) -> None:
    pixels = noise(3, 20, 20).astype(np.float32) / 255
    pixels[:, 5:9] = np.nan
    path = write_tiff(tmp_path / "a.tif", pixels, transform=NORTH_UP)
    info = info_of(path)
    scaling = Scaling("request", (255.0,) * 3, (0.0,) * 3)
    ((found, valid),) = read_lr_tiles(path, info, cut_tiles(info), (1, 2, 3), scaling, 20)
    assert valid[0].mean() == pytest.approx(0.8)
    known = [r for r in range(20) if not 5 <= r < 9]
    assert np.abs(found[0][:, known].astype(int) - pixels[:, known] * 255).max() <= 1
