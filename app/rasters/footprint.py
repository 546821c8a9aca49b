"""Where things lie, as GeoJSON a map can draw (RFC 7946): WGS 84, counter-clockwise, cut at the antimeridian.

Edges that are straight in the CRS are curves in longitude and latitude; points are added until a curve is
followed to ``TOLERANCE_DEGREES``. A ring around a pole is closed along the pole's parallel.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import shapely
from shapely.affinity import translate

from app.rasters.areas import BATCH, Ring, box_ring, patch_rings
from app.rasters.ground import Floats, lonlat
from app.rasters.info import Bounds
from app.rasters.tiles import GRID, Tile

Geometry = dict[str, Any]

TOLERANCE_DEGREES = 1e-6
DIGITS = 9
_MOST_POINTS = 64


def footprint(bounds: Bounds, crs_wkt: str) -> Geometry:
    """A rectangle of the CRS as a GeoJSON Polygon or MultiPolygon. Raises BadGeotransform off the Earth."""
    return footprints([box_ring(bounds)], crs_wkt)[0]


def patch_footprints(
    tile: Tile, crs_wkt: str, clip: bool = True, grid: int = GRID
) -> tuple[Geometry | None, ...]:
    """Each patch's footprint by id: the ground its area and price are for; None where nothing is left."""
    return next(plan_footprints([tile], crs_wkt, clip, grid))


def plan_footprints(
    tiles: Sequence[Tile], crs_wkt: str, clip: bool = True, grid: int = GRID
) -> Iterator[tuple[Geometry | None, ...]]:
    """``patch_footprints`` of many tiles in their order, hundreds at a time."""
    n = grid * grid
    for start in range(0, len(tiles), BATCH):
        rings = [ring for tile in tiles[start : start + BATCH] for ring in patch_rings(tile, clip, grid)]
        shapes = iter(footprints([ring for ring in rings if ring is not None], crs_wkt))
        found = [None if ring is None else next(shapes) for ring in rings]
        for first in range(0, len(found), n):
            yield tuple(found[first : first + n])


def footprints(rings: Sequence[Ring], crs_wkt: str) -> list[Geometry]:
    """Rings of CRS corners (not closed) as GeoJSON geometries, in their order."""
    found: dict[int, Geometry] = {}
    by_corners: dict[int, list[int]] = {}
    for i, ring in enumerate(rings):
        by_corners.setdefault(len(ring), []).append(i)
    for members in by_corners.values():
        corners = np.array([rings[i] for i in members], float)
        lon, lat = _path(crs_wkt, corners, _points_needed(crs_wkt, corners))
        plain = (np.ptp(lon, axis=1) < 180) & (np.abs(lat).max(axis=1) < 89.999999)
        plain &= np.abs(lon).max(axis=1) <= 180
        polygons = _polygons(lon, lat)
        for k, i in enumerate(members):
            found[i] = polygons[k] if plain[k] else _wrapped(lon[k], lat[k])
    return [found[i] for i in range(len(rings))]


def _path(crs_wkt: str, corners: Floats, points: int) -> tuple[Floats, Floats]:
    t = np.arange(points) / points
    ends = np.roll(corners, -1, axis=1)
    path = corners[:, :, None, :] + (ends - corners)[:, :, None, :] * t[None, None, :, None]
    flat = path.reshape(len(corners), -1, 2)
    return lonlat(crs_wkt, flat[..., 0], flat[..., 1])


def _points_needed(crs_wkt: str, corners: Floats) -> int:
    """Points an edge: the bow of a parabola falls with the square of the number of pieces."""
    lon, lat = _path(crs_wkt, corners, 2)
    lon = np.unwrap(lon, axis=1, period=360)
    if np.ptp(lon, axis=1).max() > 90 or np.abs(lat).max() > 85:
        return _MOST_POINTS
    bow = max(_bow(lon), _bow(lat))
    return int(np.clip(np.ceil(np.sqrt(bow / TOLERANCE_DEGREES)), 1, _MOST_POINTS))


def _bow(path: Floats) -> float:
    closed = np.concatenate([path, path[:, :1]], axis=1)
    return float(np.abs(closed[:, 1::2] - (closed[:, 0:-1:2] + closed[:, 2::2]) / 2).max())


def _wrapped(lon: Floats, lat: Floats) -> Geometry:
    """A ring that meets a pole or the antimeridian."""
    ring = _continuous(lon, lat)
    turn = ring[-1, 0] + _step(ring[-1, 0], ring[0, 0]) - ring[0, 0]
    if abs(turn) < 180:
        shape = shapely.Polygon(ring)
        return _cut_at_antimeridian(shape if shape.is_valid else shape.buffer(0))
    return _cut_at_antimeridian(_cap(ring, turn))


def _continuous(lon: Floats, lat: Floats) -> Floats:
    """The ring ``(K, 2)`` with longitudes that do not jump."""
    at_pole = np.abs(lat) > 90 - 1e-9
    points: list[tuple[float, float]] = []
    n = len(lon)
    for i in range(n):
        if at_pole[i]:
            # a pole has every longitude: take those of the neighbours
            points += [(lon[k], lat[i]) for k in (i - 1, (i + 1) % n) if not at_pole[k]] or [(lon[i], lat[i])]
        else:
            points.append((lon[i], lat[i]))
    ring = np.array(points)
    ring[:, 0] = np.unwrap(ring[:, 0], period=360)
    return ring


def _cap(ring: Floats, turn: float) -> shapely.Geometry:
    """All between a ring once around a pole and that pole, from -180 to 180.

    The ring is gone around twice, so that the cut at 180 falls within it and not beside its own seam.
    """
    pole = 90.0 if ring[:, 1].mean() > 0 else -90.0
    once = np.array([turn, 0.0])
    twice = np.vstack([ring, ring + once, ring[0] + 2 * once])
    twice[:, 0] -= 360 * (np.floor((twice[:, 0].min() + 180) / 360) + 1)
    around = np.vstack([twice, [(twice[-1, 0], pole), (twice[0, 0], pole)]])
    return shapely.Polygon(around).intersection(shapely.box(-180, -90, 180, 90))


def _step(a: float, b: float) -> float:
    return (b - a + 180) % 360 - 180


def _cut_at_antimeridian(shape: shapely.Geometry) -> Geometry:
    west, _, east, _ = shape.bounds
    parts: list[Geometry] = []
    for world in range(int((west + 180) // 360), int((east + 180) // 360) + 1):
        strip = shapely.box(-180 + 360 * world, -90, 180 + 360 * world, 90)
        inside = translate(shape.intersection(strip), -360 * world)
        for part in getattr(inside, "geoms", [inside]):
            if part.geom_type == "Polygon" and part.area > 0:
                lon, lat = np.array(part.exterior.coords[:-1]).T
                parts += _polygons(lon[None], lat[None])
    if len(parts) == 1:
        return parts[0]
    return {"type": "MultiPolygon", "coordinates": [part["coordinates"] for part in parts]}


def _polygons(lon: Floats, lat: Floats) -> list[Geometry]:
    """Rings ``(N, K)``, not closed, as closed counter-clockwise polygons."""
    # far from 0, 0 the products of a small ring would cancel
    x, y = lon - lon[:, :1], lat - lat[:, :1]
    clockwise = np.sum(x * np.roll(y, -1, axis=1) - np.roll(x, -1, axis=1) * y, axis=1) < 0
    ring = np.stack([np.clip(lon, -180, 180), np.clip(lat, -90, 90)], axis=-1)
    ring[clockwise] = ring[clockwise][:, ::-1]
    points = np.round(np.concatenate([ring, ring[:, :1]], axis=1), DIGITS).tolist()
    return [{"type": "Polygon", "coordinates": [of_ring]} for of_ring in points]
