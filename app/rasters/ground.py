"""CRS coordinates and the ground: longitudes, metres, areas. All on the WGS 84 ellipsoid.

One ellipsoid for every plan, so that the same field costs the same whatever CRS it came in, and the areas can
be recomputed from a plan's GeoJSON. pyproj alone does the transforming; GDAL brings a PROJ of its own, which
could choose another operation.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyproj import CRS, Geod, Transformer

from app.core.errors import BadGeotransform

Floats = NDArray[np.float64]

GEOD = Geod(ellps="WGS84")
_A = float(GEOD.a)
_E = float(np.sqrt(GEOD.es))

# integrals over [0, 1] of phi_i * phi_j' for quadratics through 0, 1/2, 1: exact where an edge is a parabola
_LINE = np.array([[-1 / 2, 2 / 3, -1 / 6], [-2 / 3, 0, 2 / 3], [1 / 6, -2 / 3, 1 / 2]])


@lru_cache(maxsize=256)
def parsed(crs_wkt: str) -> CRS:
    return CRS.from_wkt(crs_wkt)


@lru_cache(maxsize=256)
def transformer(source_wkt: str, target_wkt: str) -> Transformer:
    """x before y on both sides, no grids fetched. pyproj keeps one context a thread, so sharing is safe."""
    return Transformer.from_crs(parsed(source_wkt), parsed(target_wkt), always_xy=True)


@lru_cache(maxsize=1024)
def same_crs(one_wkt: str, other_wkt: str) -> bool:
    """True where two texts mean one CRS: writers differ in names and codes."""
    one, other = parsed(one_wkt), parsed(other_wkt)
    # here x always comes before y
    return bool(one_wkt == other_wkt or one.equals(other, ignore_axis_order=True))


WGS84_WKT: str = CRS.from_epsg(4326).to_wkt()


def lonlat(crs_wkt: str, x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    """Degrees on WGS 84. Raises BadGeotransform where a place is not on the Earth."""
    lon, lat = transformer(crs_wkt, WGS84_WKT).transform(np.asarray(x, float), np.asarray(y, float))
    lon, lat = np.asarray(lon, float), np.asarray(lat, float)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()) or (np.abs(lat) > 90 + 1e-9).any():
        raise BadGeotransform("Part of the raster lies outside the area its CRS can describe.")
    return lon, np.clip(lat, -90, 90)


@lru_cache(maxsize=256)
def turn(crs_wkt: str) -> float | None:
    """A full turn of longitude in the CRS's units (360 for degrees), None where x does not wrap around."""
    crs = parsed(crs_wkt)
    if not crs.is_geographic:
        return None
    return float(2 * np.pi / crs.axis_info[0].unit_conversion_factor)


def project(
    source_wkt: str, target_wkt: str, x: ArrayLike, y: ArrayLike, near_x: float
) -> tuple[Floats, Floats]:
    """Coordinates from one CRS to another; longitudes come out within half a turn of ``near_x``."""
    if same_crs(source_wkt, target_wkt):
        px, py = np.array(x, float), np.array(y, float)
    else:
        px, py = (
            np.asarray(v, float)
            for v in transformer(source_wkt, target_wkt).transform(np.asarray(x, float), np.asarray(y, float))
        )
    full = turn(target_wkt)
    if full is not None:
        with np.errstate(invalid="ignore"):
            px = px - np.round((px - near_x) / full) * full
    return px, py


def metres_per_unit(crs_wkt: str, x: float, y: float) -> tuple[float, float]:
    """Ellipsoidal metres of one CRS unit along x and along y at a place."""
    full = turn(crs_wkt)
    step = 5.0 if full is None else full / 3.6e6
    lon, lat = lonlat(crs_wkt, [x - step, x + step, x, x], [y, y, y - step, y + step])
    _, _, metres = GEOD.inv(lon[::2], lat[::2], lon[1::2], lat[1::2])
    return float(metres[0] / (2 * step)), float(metres[1] / (2 * step))


def handedness(crs_wkt: str, x: float, y: float) -> bool:
    """True where the CRS's y lies 90 degrees counter-clockwise of x on the ground, as a map is drawn."""
    full = turn(crs_wkt)
    step = 5.0 if full is None else full / 3.6e6
    lon, lat = lonlat(crs_wkt, [x, x + step, x], [y, y, y + step])
    azimuth, _, _ = GEOD.inv(lon[[0, 0]], lat[[0, 0]], lon[1:], lat[1:])
    return bool(np.sin(np.radians(azimuth[0] - azimuth[1])) >= 0)


def _authalic(lat: Floats) -> Floats:
    """Snyder (1987) eq. 3-12: area between equator and a latitude is pi * a^2 * q."""
    s = np.sin(np.radians(lat))
    q: Floats = (1 - _E**2) * (s / (1 - (_E * s) ** 2) + np.arctanh(_E * s) / _E)
    return q


def ring_areas_m2(crs_wkt: str, rings: ArrayLike) -> Floats:
    """Ellipsoidal areas of polygons whose edges are straight in the CRS.

    ``rings`` is ``(N, V, 2)``, not closed, in CRS units; the answer is ``(N,)`` in m2. Each edge is
    followed by parabolas in equal-area coordinates (cylindrical; polar around a pole), which is exact for
    meridians and parallels and good to 1e-9 for cells under 100 km elsewhere.
    """
    corners = np.asarray(rings, float)
    if corners.shape[0] == 0:
        return np.zeros(0)
    pieces = int(np.clip(4_000 // corners.shape[0], 1, 64))
    t = np.arange(2 * pieces) / (2 * pieces)
    ends = np.roll(corners, -1, axis=1)
    path = corners[:, :, None, :] + (ends - corners)[:, :, None, :] * t[None, None, :, None]
    path = path.reshape(corners.shape[0], -1, 2)
    lon, lat = lonlat(crs_wkt, path[..., 0], path[..., 1])
    u, v = _equal_area(lon, lat, straight=turn(crs_wkt) is not None)
    u, v = u - u[:, :1], v - v[:, :1]
    return np.abs(_enclosed(u, v)) * _A**2


def _equal_area(lon: Floats, lat: Floats, *, straight: bool) -> tuple[Floats, Floats]:
    """Coordinates on the unit sphere's terms in which a square unit is a^2 square metres."""
    radians = np.unwrap(np.radians(lon), axis=1)
    q = _authalic(lat)
    u, v = radians, q / 2
    if straight:
        return u, v
    near_pole = (np.abs(lat).max(axis=1) > 60) & (np.ptp(radians, axis=1) > np.pi / 6)
    one_side = lat.min(axis=1) * lat.max(axis=1) > 0
    chosen = near_pole & one_side
    if chosen.any():
        pole = np.sign(lat[chosen].mean(axis=1, keepdims=True)) * _authalic(np.array(90.0))
        rho = np.sqrt(np.abs(pole - q[chosen]))
        u, v = u.copy(), v.copy()
        u[chosen], v[chosen] = rho * np.sin(radians[chosen]), rho * np.cos(radians[chosen])
    return u, v


def _enclosed(u: Floats, v: Floats) -> Floats:
    def pieces(w: Floats) -> Floats:
        closed = np.concatenate([w, w[:, :1]], axis=1)
        return np.stack([closed[:, 0:-1:2], closed[:, 1::2], closed[:, 2::2]], axis=-1)

    pu, pv = pieces(u), pieces(v)
    area: Any = np.einsum("npi,ij,npj->n", pu, _LINE, pv) - np.einsum("npi,ij,npj->n", pv, _LINE, pu)
    return np.asarray(area / 2, float)
