"""Tiles and patches cover a raster once, exactly, north first, wherever it lies and however it is stored."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from app.core.errors import BadValues, RasterTooLarge
from app.rasters import RasterInfo, Tile, cut_tiles, patch_bounds, tile_grid, tile_sides_m
from app.rasters.ground import lonlat
from app.rasters.tiles import clip_patch
from tests.app.rasters.places import PLACES, raster, rasters

sizes = st.one_of(st.none(), st.floats(40, 900))


@given(rasters, sizes)
def test_patches_partition_their_tile_exactly(info: RasterInfo, size: float | None) -> None:
    for tile in cut_tiles(info, size)[:5]:
        cells = [patch_bounds(tile, patch) for patch in range(16)]
        xs = sorted({x for c in cells for x in (c[0], c[2])})
        ys = sorted({y for c in cells for y in (c[1], c[3])})
        assert (xs[0], ys[0], xs[-1], ys[-1]) == tile.bounds
        assert len(xs) == len(ys) == 5
        assert {(c[0], c[1], c[2], c[3]) for c in cells} == {
            (xs[i], ys[j], xs[i + 1], ys[j + 1]) for i in range(4) for j in range(4)
        }
        np.testing.assert_allclose(np.diff(xs), (xs[-1] - xs[0]) / 4, rtol=1e-6)


@given(rasters, sizes)
def test_patch_rows_go_from_north_to_south(info: RasterInfo, size: float | None) -> None:
    for tile in cut_tiles(info, size)[:5]:
        centres = np.array([_centre(patch_bounds(tile, patch)) for patch in range(16)])
        _, lat = lonlat(info.crs_wkt, centres[:, 0], centres[:, 1])
        rows = lat.reshape(4, 4).mean(axis=1)
        assert (np.diff(rows) <= 1e-7).all()


@given(rasters, sizes)
def test_the_tiles_image_is_turned_never_mirrored(info: RasterInfo, size: float | None) -> None:
    """Right of the image is clockwise of its top on the ground."""
    geod = Geod(ellps="WGS84")
    for tile in cut_tiles(info, size)[:3]:
        grid = tile_grid(tile, 8)
        assert patch_bounds(tile, 0) == pytest.approx(_box(grid @ (0, 0), grid @ (2, 2)))
        assert patch_bounds(tile, 7) == pytest.approx(_box(grid @ (6, 2), grid @ (8, 4)))
        x, y = zip(grid @ (4, 4), grid @ (4, 3.9), grid @ (4.1, 4), strict=True)
        lon, lat = lonlat(info.crs_wkt, x, y)
        up, right = geod.inv(lon[[0, 0]], lat[[0, 0]], lon[1:], lat[1:])[0]
        assert 45 < (right - up) % 360 < 135


@given(rasters, sizes)
def test_tiles_cover_the_raster_once(info: RasterInfo, size: float | None) -> None:
    tiles = cut_tiles(info, size)
    assert [tile.index for tile in tiles] == list(range(len(tiles)))
    inside = sum(tile.valid_fraction * _area(tile.bounds) for tile in tiles)
    a, b, _, d, e, _ = info.transform
    assert inside == pytest.approx(abs(a * e - b * d) * info.width * info.height, rel=1e-5)
    for one, other in pairwise(tiles):
        if one.row == other.row and other.col == one.col + 1:
            assert one.bounds[2] == other.bounds[0] or one.bounds[0] == other.bounds[2]


@pytest.mark.parametrize("where", PLACES, ids=lambda w: w.crs)
def test_tile_sides_are_metres_on_the_ground(where: object) -> None:
    info = raster(where, 90, 70)  # type: ignore[arg-type]
    tiles = cut_tiles(info, 100)
    geod = Geod(ellps="WGS84")
    middle = min(tiles, key=lambda tile: np.hypot(*np.subtract(_centre(tile.bounds), info.centre)))
    assert tile_sides_m(middle, info.crs_wkt) == pytest.approx((100, 100), rel=2e-4)
    xmin, ymin, xmax, ymax = middle.bounds
    lon, lat = lonlat(info.crs_wkt, [xmin, xmax, xmin], [ymin, ymin, ymax])
    _, _, sides = geod.inv(lon[[0, 0]], lat[[0, 0]], lon[1:], lat[1:])
    assert sides == pytest.approx([100, 100], rel=1e-3)


def test_south_up_and_north_up_rasters_of_one_place_are_cut_alike() -> None:
    plain, south_up = raster(PLACES[0], 64, 64), raster(PLACES[0], 64, 64, flip_y=True)
    assert [replace(t) for t in cut_tiles(plain, 100)] == cut_tiles(south_up, 100)


def test_a_whole_number_of_tiles_is_not_one_more() -> None:
    info = raster(PLACES[0], 80, 80)
    side = tile_sides_m(cut_tiles(info)[0], info.crs_wkt)
    tiles = cut_tiles(info, side[0] / 5)
    assert len(tiles) == 25 if abs(side[0] - side[1]) < 1e-6 else len(tiles) <= 30
    assert max(tile.col for tile in tiles) == 4


def test_a_tile_larger_than_the_raster_holds_it_all() -> None:
    info = raster(PLACES[2], 40, 40)
    (tile,) = cut_tiles(info, 5000)
    assert tile.clipped == info.bounds
    assert tile.valid_fraction < 0.01
    assert clip_patch(tile, 15) is None
    assert clip_patch(tile, 0) == info.bounds


@pytest.mark.parametrize("size", [0, -5, float("nan"), float("inf"), 1e9, 3.0])
def test_sizes_that_make_no_sense_are_refused(size: float) -> None:
    with pytest.raises(BadValues):
        cut_tiles(raster(PLACES[0], 40, 40), size)


def test_ten_thousand_tiles_and_not_one_more() -> None:
    info = replace(raster(PLACES[0], 400, 400), gsd_m=5.0)
    assert len(cut_tiles(info, 20.01)) == 10_000
    with pytest.raises(RasterTooLarge):
        cut_tiles(info, 19.99)


@pytest.mark.parametrize("patch", [-1, 16])
def test_patches_that_do_not_exist(patch: int) -> None:
    with pytest.raises(ValueError, match="patch"):
        patch_bounds(cut_tiles(raster(PLACES[0], 8, 8))[0], patch)


@given(rasters)
def test_tiles_survive_json(info: RasterInfo) -> None:
    tile = cut_tiles(info)[0]
    assert Tile.from_json(tile.to_json()) == tile


def _centre(box: tuple[float, float, float, float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _box(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float, float, float]:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1])
