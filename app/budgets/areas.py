"""Areas that must or must not be bought: GeoJSON in, one checked shape out."""

from typing import Any, Final

import numpy as np
import shapely

from app.core.errors import AreaRefused

MAX_POINTS: Final = 20_000
"""Of all polygons of an area together, the positions that close their rings included."""
_MAX_POLYGONS: Final = 1000


def read_area(value: Any, loc: tuple[str | int, ...]) -> shapely.Geometry | None:
    """The polygons of a GeoJSON Polygon, MultiPolygon, Feature or FeatureCollection as one shape (WGS 84).

    None for None. Raises AreaRefused for other geometries, more than 1,000 polygons, more than ``MAX_POINTS``
    points, rings that cross themselves, places that are none, and polygons over the antimeridian that are not
    cut there as RFC 7946 (3.1.9) has it.
    """
    return None if value is None else shapely.union_all(_read(value, loc))


def kept_area(value: Any, loc: tuple[str | int, ...]) -> dict[str, Any] | None:
    """What is kept of a client's GeoJSON: its polygons as a MultiPolygon, for ``read_area`` the same.

    Other members may hold what the database cannot. None for None. Raises AreaRefused as ``read_area``.
    """
    if value is None:
        return None
    parts = [shapely.geometry.mapping(polygon)["coordinates"] for polygon in _read(value, loc)]
    return {"type": "MultiPolygon", "coordinates": parts}


def _read(value: Any, loc: tuple[str | int, ...]) -> list[shapely.Polygon]:
    try:
        parts = _polygons(value)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise _refused(loc, f"This is no GeoJSON polygon: {why}"[:300]) from None
    if not parts or len(parts) > _MAX_POLYGONS:
        raise _refused(loc, f"An area has 1 to {_MAX_POLYGONS} polygons.")
    polygons: list[shapely.Polygon] = []
    left = MAX_POINTS
    for part in parts:
        polygons.append(_polygon(part, left, loc))
        left -= shapely.get_num_coordinates(polygons[-1])
    return polygons


def _polygons(value: Any) -> list[list[list[list[float]]]]:
    # a Feature has a geometry and a FeatureCollection Features: nothing lies deeper
    kind = value["type"]
    if kind == "FeatureCollection":
        return [part for feature in value["features"] for part in _of_geometry(feature["geometry"])]
    return _of_geometry(value["geometry"] if kind == "Feature" else value)


def _of_geometry(value: Any) -> list[list[list[list[float]]]]:
    kind = value["type"]
    if kind == "Polygon":
        return [value["coordinates"]]
    if kind == "MultiPolygon":
        return list(value["coordinates"])
    raise ValueError(f"type {kind[:40]!r}" if isinstance(kind, str) else "its type is no text")


def _polygon(part: list[list[list[float]]], most: int, loc: tuple[str | int, ...]) -> shapely.Polygon:
    try:
        rings = [np.array([[float(x) for x in point[:2]] for point in ring], float) for ring in part]
        points = np.concatenate(rings)
        if points.shape[1] != 2 or not np.isfinite(points).all():
            raise ValueError("a position is a longitude and a latitude")
    except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
        raise _refused(loc, f"The coordinates cannot be read: {error}"[:300]) from None
    if len(points) > most:
        raise _refused(loc, f"An area has at most {MAX_POINTS} points, those of all its polygons together.")
    west, south = points.min(axis=0)
    east, north = points.max(axis=0)
    if south < -90 or north > 90 or west < -360 or east > 360:
        raise _refused(loc, "Positions are longitude (-180 to 180), latitude (-90 to 90), in this order.")
    if west < -180 or east > 180 or east - west > 180:
        raise _refused(
            loc,
            "The area crosses the antimeridian; cut it there into a MultiPolygon (RFC 7946, section 3.1.9). "
            "An area wider than 180 degrees is sent as several polygons.",
        )
    if any(len(ring) < 4 or (ring[0] != ring[-1]).any() for ring in rings):
        raise _refused(loc, "A ring has four positions or more, the last the same as the first.")
    polygon = shapely.Polygon(rings[0], rings[1:])
    if not polygon.is_valid:
        raise _refused(loc, f"The polygon crosses or touches itself: {shapely.is_valid_reason(polygon)}.")
    return polygon


def _refused(loc: tuple[str | int, ...], detail: str) -> AreaRefused:
    return AreaRefused(detail, errors=[{"loc": list(loc), "detail": detail}])
