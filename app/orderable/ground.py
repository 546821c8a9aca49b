"""Areas and metres of polygons in longitude and latitude.

GeoJSON's edges are straight lines in longitude and latitude (RFC 7946, section 3.1.1), so that is the polygon
whose ellipsoidal area is charged; a geodesic between the same two corners would bow by a metre on 5 km.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import shapely
from numpy.typing import NDArray

from app.rasters.ground import GEOD

Floats = NDArray[np.float64]
Shapes = NDArray[np.object_]

_A = float(GEOD.a)
_E2 = float(GEOD.es)
_E = float(np.sqrt(_E2))
# Simpson's rule along an edge is exact to 1e-12 up to here
_LONGEST_DEGREES: Final = 0.25


def shapes(geometries: Sequence[Any] | Shapes) -> Shapes:
    """An object array of geometries, also of one or none."""
    found = np.empty(len(geometries), dtype=object)
    found[:] = list(geometries)
    return found


def areas_km2(geometries: Sequence[shapely.Geometry] | Shapes) -> Floats:
    """Ellipsoidal areas (WGS 84, km²) of polygons and multipolygons, holes taken out."""
    whole = shapes(geometries)
    if not len(whole):
        return np.zeros(0)
    large = np.ptp(shapely.bounds(whole).reshape(-1, 2, 2), axis=1).max(axis=1) > _LONGEST_DEGREES
    if large.any():
        whole[large] = shapely.segmentize(whole[large], _LONGEST_DEGREES)
    parts, of_geometry = shapely.get_parts(whole, return_index=True)
    rings, of_part = shapely.get_rings(parts, return_index=True)
    outer = np.ones(len(rings), dtype=bool)
    outer[1:] = of_part[1:] != of_part[:-1]
    signed = np.where(outer, 1.0, -1.0) * np.abs(_ring_areas(rings))
    signed *= _A**2 / 1e6
    return np.asarray(np.bincount(of_geometry[of_part], signed, minlength=len(whole)), float)


def area_km2(geometry: shapely.Geometry) -> float:
    """``areas_km2`` of one."""
    return float(areas_km2([geometry])[0])


def _ring_areas(rings: Shapes) -> Floats:
    """Signed areas of closed rings on the ellipsoid with a half axis of 1."""
    points, ring = shapely.get_coordinates(rings, return_index=True)
    inside = ring[1:] == ring[:-1]
    first = np.concatenate([[True], ~inside])
    reference = np.maximum.accumulate(np.where(first, np.arange(len(ring)), 0))
    lam, phi = np.radians(points[:, 0]), np.radians(points[:, 1])
    level = _authalic(phi[reference])[1:]
    middle = _authalic((phi[1:] + phi[:-1]) / 2) - level
    q = _authalic(phi)
    mean = (q[1:] - level + 4 * middle + q[:-1] - level) / 6
    edges = np.where(inside, (lam[1:] - lam[:-1]) * mean / 2, 0.0)
    return np.asarray(np.bincount(ring[1:], edges, minlength=len(rings)), float)


def _authalic(phi: Floats) -> Floats:
    """Snyder (1987), eq. 3-12."""
    s = np.sin(phi)
    found: Floats = (1 - _E2) * (s / (1 - _E2 * s * s) + np.arctanh(_E * s) / _E)
    return found


@dataclass(frozen=True)
class Frame:
    """Metres east and north of a place, as a linear image of longitude and latitude: lines stay lines."""

    lon: float
    lat: float
    east_m: float
    north_m: float

    @classmethod
    def at(cls, lon: float, lat: float) -> Self:
        """The frame around a place; near a pole a degree of longitude counts as much as 6 km from it."""
        s = np.sin(np.radians(lat))
        root = np.sqrt(1 - _E2 * s * s)
        degree = np.pi / 180 * _A
        east = degree / root * max(float(np.cos(np.radians(lat))), 1e-3)
        return cls(lon, lat, float(east), float(degree * (1 - _E2) / root**3))

    @classmethod
    def around(cls, geometries: Sequence[shapely.Geometry] | Shapes) -> Self:
        """The frame around the middle of some shapes."""
        west, south, east, north = shapely.total_bounds(shapes(geometries))
        return cls.at(float(west + east) / 2, float(south + north) / 2)

    def plane(self, geometry: Any) -> Any:
        """Longitudes and latitudes to metres; one geometry or an array of them."""
        origin, scale = np.array([self.lon, self.lat]), np.array([self.east_m, self.north_m])
        return shapely.transform(geometry, lambda points: (points - origin) * scale)

    def lonlat(self, geometry: Any) -> Any:
        """Metres to longitudes and latitudes."""
        origin, scale = np.array([self.lon, self.lat]), np.array([self.east_m, self.north_m])
        return shapely.transform(geometry, lambda points: points / scale + origin)
