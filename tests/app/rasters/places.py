"""Rasters without files: any CRS, any orientation, anywhere, for properties of the geometry."""

from dataclasses import dataclass

from affine import Affine
from hypothesis import strategies as st
from pyproj import CRS

from app.rasters import RasterInfo
from tests.app.rasters.making import place


@dataclass(frozen=True)
class Somewhere:
    """A CRS, a place it is made for, and a pixel's side there in its units."""

    crs: str
    lon: float
    lat: float
    pixel: float


PLACES = [
    Somewhere("EPSG:32632", 9.1, 48.7, 5),
    Somewhere("EPSG:32733", 15.2, -33.9, 5),
    Somewhere("EPSG:4326", -115.17, 36.24, 5e-5),
    Somewhere("EPSG:4326", 25.0, -71.5, 1e-4),
    Somewhere("EPSG:3857", 13.4, 52.5, 8),
    Somewhere("EPSG:2263", -73.98, 40.75, 16),  # US survey feet
    Somewhere("EPSG:3413", -45.0, 78.0, 10),  # polar stereographic
    Somewhere("EPSG:3413", 100.0, 75.0, 10),  # there north lies along y, downwards and aslant
    Somewhere("EPSG:3031", 60.0, -72.0, 10),
    Somewhere("EPSG:2053", 29.0, -26.0, 5),  # westing and southing
    Somewhere("EPSG:27700", -3.2, 55.95, 5),
    Somewhere("EPSG:4807", 2.35, 48.85, 6e-5),  # gradians from Paris
]


def raster(
    where: Somewhere, width: int, height: int, turn: float = 0, flip_x: bool = False, flip_y: bool = False
) -> RasterInfo:
    """A raster of good pixels around a place, turned by degrees and stored mirrored if asked."""
    x, y = place(where.lon, where.lat, where.crs)
    scale = Affine.scale(-where.pixel if flip_x else where.pixel, where.pixel if flip_y else -where.pixel)
    transform = (
        Affine.translation(x, y) @ Affine.rotation(turn) @ scale @ Affine.translation(-width / 2, -height / 2)
        if turn
        else Affine.translation(x, y) @ scale @ Affine.translation(-width / 2, -height / 2)
    )
    corners = [transform @ corner for corner in ((0, 0), (width, 0), (width, height), (0, height))]
    xs, ys = zip(*corners, strict=True)
    return RasterInfo(
        width=width,
        height=height,
        count=3,
        dtype="uint8",
        crs_wkt=_crs_of(where.crs),
        transform=tuple(transform)[:6],
        nodata=None,
        colorinterp=("red", "green", "blue"),
        scales=(1.0,) * 3,
        offsets=(0.0,) * 3,
        alpha=None,
        has_mask=False,
        bounds=(min(xs), min(ys), max(xs), max(ys)),
        gsd_m=5.0,
        valid_fraction=1.0,
    )


def _crs_of(code: str) -> str:
    return str(CRS.from_user_input(code).to_wkt())


places = st.sampled_from(PLACES)
rasters = st.builds(
    raster,
    places,
    width=st.integers(4, 90),
    height=st.integers(4, 90),
    turn=st.sampled_from([0.0, 0.0, 0.0, 17.0, 90.0, 123.0, 180.0]),
    flip_x=st.booleans(),
    flip_y=st.booleans(),
)
