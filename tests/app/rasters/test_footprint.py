"""Footprints as RFC 7946 wants them, on both sides of 180 degrees and around the poles too."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS
from shapely.geometry import shape

from app.rasters import (
    RasterInfo,
    Tile,
    cut_tiles,
    footprint,
    patch_areas_km2,
    patch_footprints,
    plan_footprints,
)
from tests.app.rasters.places import PLACES, raster, rasters

WGS84 = CRS.from_epsg(4326).to_wkt()


def check(geometry: dict[str, Any]) -> shapely.Geometry:
    """Closed counter-clockwise rings within the world, no jump over the antimeridian, valid."""
    found = shape(geometry)
    assert found.is_valid, shapely.is_valid_reason(found)
    assert not found.is_empty
    for part in getattr(found, "geoms", [found]):
        assert part.exterior.is_ccw
        points = np.array(part.exterior.coords)
        assert (points[0] == points[-1]).all()
        assert (np.abs(points) <= [180, 90]).all()
        assert len(points) >= 4
    return found


@given(rasters, st.one_of(st.none(), st.floats(80, 900)))
def test_footprints_are_good_geojson(info: RasterInfo, size: float | None) -> None:
    for tile in cut_tiles(info, size)[:4]:
        for geometry in patch_footprints(tile, info.crs_wkt):
            if geometry is not None:
                check(geometry)


def test_a_field_across_the_antimeridian_is_cut_there() -> None:
    found = check(footprint((179.0, -17.0, 181.5, -16.0), WGS84))
    assert [part.bounds for part in found.geoms] == [(179, -17, 180, -16), (-180, -17, -178.5, -16)]


def test_a_field_that_ends_at_the_antimeridian_is_not_cut() -> None:
    assert check(footprint((179.0, -17.0, 180.0, -16.0), WGS84)).bounds == (179, -17, 180, -16)
    assert check(footprint((-180.0, -17.0, -179.0, -16.0), WGS84)).bounds == (-180, -17, -179, -16)


def test_longitudes_beyond_180_are_brought_home() -> None:
    assert check(footprint((190.0, 10.0, 191.0, 11.0), WGS84)).bounds == (-170, 10, -169, 11)
    assert check(footprint((-181.0, 10.0, -180.5, 11.0), WGS84)).bounds == pytest.approx((179, 10, 179.5, 11))


def test_utm_across_the_antimeridian() -> None:
    wkt = CRS.from_epsg(32601).to_wkt()
    found = check(footprint((300_000.0, 7_200_000.0, 420_000.0, 7_300_000.0), wkt))
    assert found.geom_type == "MultiPolygon"
    assert found.area < 10


@pytest.mark.parametrize(("epsg", "pole"), [(3413, 90.0), (3031, -90.0)])
def test_a_field_around_a_pole_holds_the_pole(epsg: int, pole: float) -> None:
    wkt = CRS.from_epsg(epsg).to_wkt()
    found = check(footprint((-1e6, -1e6, 1e6, 1e6), wkt))
    assert found.covers(shapely.Point(12.5, pole))
    assert found.covers(shapely.Point(-150, pole * 0.95))
    assert not found.covers(shapely.Point(0, pole * 0.8))
    assert found.bounds[0] == -180
    assert found.bounds[2] == 180


def test_patches_that_meet_at_the_pole() -> None:
    wkt = CRS.from_epsg(3413).to_wkt()
    box = (-1e6, -1e6, 1e6, 1e6)
    tile = Tile(0, 0, 0, box, box)
    shapes = [check(g) for g in patch_footprints(tile, wkt) if g is not None]
    assert len(shapes) == 16
    whole = check(footprint(box, wkt))
    assert sum(s.area for s in shapes) == pytest.approx(whole.area, rel=1e-3)
    for a, b in pairwise(shapes):
        assert a.intersection(b).area < 1e-3


def test_the_world_in_sixteen() -> None:
    box = (-180.0, -90.0, 180.0, 90.0)
    shapes = [check(g) for g in patch_footprints(Tile(0, 0, 0, box, box), WGS84) if g is not None]
    assert [s.bounds for s in shapes][:2] == [(-180, 45, -90, 90), (-90, 45, 0, 90)]
    assert check(footprint(box, WGS84)).area == pytest.approx(360 * 180)


def test_bowed_edges_are_followed() -> None:
    wkt = CRS.from_epsg(3035).to_wkt()
    ring = footprint((4e6, 3e6, 4.5e6, 3.5e6), wkt)["coordinates"][0]
    assert len(ring) > 40
    small = footprint((4e6, 3e6, 4e6 + 60, 3e6 + 60), wkt)["coordinates"][0]
    assert len(small) == 5


def test_patches_beyond_the_edge_have_no_footprint() -> None:
    info = raster(PLACES[0], 40, 40)
    (tile,) = cut_tiles(info, 420)
    areas = patch_areas_km2(tile, info.crs_wkt)
    assert [g is None for g in patch_footprints(tile, info.crs_wkt)] == [not a for a in areas]
    assert None not in patch_footprints(tile, info.crs_wkt, clip=False)


def test_a_rotated_raster_shows_only_what_it_holds() -> None:
    info = raster(PLACES[0], 60, 60, turn=45)
    (tile,) = cut_tiles(info)
    shapes = [g for g in patch_footprints(tile, info.crs_wkt) if g is not None]
    corners = [len(g["coordinates"][0]) - 1 for g in shapes]
    assert sorted(corners)[:4] == [3, 3, 3, 3]


def test_many_tiles_at_once_are_the_same() -> None:
    info = raster(PLACES[6], 80, 60)
    tiles = cut_tiles(info, 150)
    for tile, several in zip(tiles, plan_footprints(tiles, info.crs_wkt), strict=True):
        for a, b in zip(patch_footprints(tile, info.crs_wkt), several, strict=True):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                assert shape(a).symmetric_difference(shape(b)).area < 1e-3 * shape(b).area
