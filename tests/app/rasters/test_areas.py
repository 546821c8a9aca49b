"""Areas against another method, which shares no code with ours: geodesic polygons of many steps (Karney)."""

import time
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Geod

from app.rasters import (
    RasterInfo,
    Tile,
    cut_tiles,
    patch_areas_km2,
    patch_bounds,
    patch_footprints,
    plan_areas_km2,
)
from app.rasters.ground import lonlat
from tests.app.rasters.places import PLACES, raster, rasters

GEOD = Geod(ellps="WGS84")


def karney_m2(crs_wkt: str, ring: list[tuple[float, float]], steps: int = 400) -> float:
    corners = np.array([*ring, ring[0]])
    t = np.arange(steps) / steps
    path = np.concatenate([a + (b - a) * t[:, None] for a, b in pairwise(corners)])
    lon, lat = lonlat(crs_wkt, path[:, 0], path[:, 1])
    area, _ = GEOD.polygon_area_perimeter(lon, lat)
    return min(abs(area), 510_065_621_724_088.4 - abs(area))


def ring(box: tuple[float, float, float, float]) -> list[tuple[float, float]]:
    return [(box[0], box[1]), (box[2], box[1]), (box[2], box[3]), (box[0], box[3])]


@pytest.mark.parametrize("where", PLACES, ids=lambda w: f"{w.crs}@{w.lon},{w.lat}")
def test_patch_areas_are_those_on_the_ellipsoid(where: object) -> None:
    info = raster(where, 90, 70)  # type: ignore[arg-type]
    (tile,) = cut_tiles(info)
    areas = patch_areas_km2(tile, info.crs_wkt)
    for patch in (0, 5, 15):
        true = karney_m2(info.crs_wkt, ring(patch_bounds(tile, patch)))
        assert float(areas[patch]) * 1e6 == pytest.approx(true, rel=2e-7)


@pytest.mark.parametrize(
    ("crs", "box"),
    [
        ("EPSG:4326", (-180.0, -90.0, 180.0, 90.0)),
        ("EPSG:4326", (170.0, -20.0, 200.0, 45.0)),
        ("EPSG:4326", (0.0, 60.0, 90.0, 90.0)),
        ("EPSG:3857", (-20e6, -20e6, 20e6, 20e6)),
        ("EPSG:3413", (-1e6, -1e6, 1e6, 1e6)),
        ("EPSG:3413", (0, 0, 1e6, 1e6)),
        ("EPSG:3413", (-1e6, 2e4, 1e6, 1e6)),
        ("EPSG:3031", (-3e6, -2e6, 1e6, 3e6)),
        ("EPSG:6933", (-17e6, -7e6, 17e6, 7e6)),
    ],
)
def test_huge_polar_and_wrapping_cells(crs: str, box: tuple[float, float, float, float]) -> None:
    wkt = CRS.from_user_input(crs).to_wkt()
    tile = Tile(0, 0, 0, box, box)
    areas = patch_areas_km2(tile, wkt)
    some = (0, 3, 5, 10, 14)
    true = [karney_m2(wkt, ring(patch_bounds(tile, patch)), 8_000) for patch in some]
    assert [float(areas[patch]) * 1e6 for patch in some] == pytest.approx(true, rel=1e-4)


def test_the_whole_earth() -> None:
    box = (-180.0, -90.0, 180.0, 90.0)
    areas = patch_areas_km2(Tile(0, 0, 0, box, box), CRS.from_epsg(4326).to_wkt())
    assert float(sum(areas)) == pytest.approx(510_065_621.724_088, rel=1e-12)


@settings(max_examples=25)
@given(rasters, st.one_of(st.none(), st.floats(60, 900)))
def test_clipped_areas_sum_to_the_raster(info: RasterInfo, size: float | None) -> None:
    tiles = cut_tiles(info, size)
    total = sum((sum(areas, Decimal(0)) for areas in plan_areas_km2(tiles, info.crs_wkt)), Decimal(0))
    assert float(total) * 1e6 == pytest.approx(karney_m2(info.crs_wkt, list(info.outline)), rel=3e-6)


@settings(max_examples=25)
@given(rasters)
def test_patches_sum_to_their_tile(info: RasterInfo) -> None:
    (tile,) = cut_tiles(info)
    areas = patch_areas_km2(tile, info.crs_wkt, clip=False)
    assert float(sum(areas)) * 1e6 == pytest.approx(karney_m2(info.crs_wkt, ring(tile.bounds)), rel=1e-6)


def test_patches_beyond_the_edge_weigh_nothing() -> None:
    info = raster(PLACES[0], 40, 40)
    (tile,) = cut_tiles(info, 420)
    areas = patch_areas_km2(tile, info.crs_wkt)
    assert [patch for patch in range(16) if areas[patch]] == [0, 1, 4, 5]
    assert all(isinstance(area, Decimal) for area in areas)


def test_one_tile_and_many_give_the_same_numbers() -> None:
    info = raster(PLACES[0], 90, 90)
    tiles = cut_tiles(info, 60)
    alone = [patch_areas_km2(tile, info.crs_wkt) for tile in tiles]
    for a, b in zip(alone, plan_areas_km2(tiles, info.crs_wkt), strict=True):
        assert [float(x) for x in a] == pytest.approx([float(x) for x in b], rel=1e-8, abs=1e-14)


def test_ten_thousand_tiles_take_seconds() -> None:
    info = raster(PLACES[0], 400, 400)
    tiles = cut_tiles(info, 20.01)
    started = time.process_time()
    assert sum(1 for _ in plan_areas_km2(tiles, info.crs_wkt)) == 10_000
    assert time.process_time() - started < 20


@pytest.mark.parametrize("where", PLACES[:3], ids=lambda w: f"{w.crs}@{w.lon},{w.lat}")
def test_what_rounding_leaves_of_a_patch_is_nothing(where: object) -> None:
    info = raster(where, 90, 70)  # type: ignore[arg-type]
    (tile,) = cut_tiles(info)
    xmin, ymin, _, ymax = tile.bounds
    first, second = (patch_bounds(tile, patch) for patch in ((0, 1) if tile.east_right else (3, 2)))
    side = second[2] - second[0]
    for left, there in ((1e-12, False), (9e-7, False), (1e-5, True), (0.5, True)):
        cut = replace(tile, clipped=(xmin, ymin, first[2] + left * side, ymax))
        counted = sum(area > 0 for area in patch_areas_km2(cut, info.crs_wkt))
        assert counted == sum(shape is not None for shape in patch_footprints(cut, info.crs_wkt))
        assert counted == (8 if there else 4)


def test_a_corner_of_a_rotated_raster_that_grazes_a_patch_is_nothing() -> None:
    info = raster(PLACES[0], 90, 70)
    (tile,) = cut_tiles(info)
    x0, y0, x1, y1 = patch_bounds(tile, 5)
    middle = (y0 + y1) / 2
    for reach, there in ((1e-4, False), (1e-2, True)):
        tip = x0 + reach * (x1 - x0)
        outline = (
            (tip, middle),
            (tip - (x1 - x0), middle + (x1 - x0)),
            (tip - (x1 - x0), middle - (x1 - x0)),
        )
        area = patch_areas_km2(replace(tile, outline=outline), info.crs_wkt)[5]
        assert (area > 0) == there
