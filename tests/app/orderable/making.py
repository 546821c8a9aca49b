"""Patches on the ground for tests, made without the code they test."""

import uuid
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pyproj
import shapely

from app.orderable import Cell

PLAN = uuid.UUID(int=1)


def lattice(
    rows: int,
    cols: int,
    side_m: float = 20.0,
    *,
    epsg: int = 32617,
    west: float = 404_000,
    south: float = 3_285_000,
) -> list[shapely.Geometry]:
    """Squares row by row, each with the corners its neighbours have, in longitude and latitude."""
    x, y = np.meshgrid(west + np.arange(cols + 1) * side_m, south + np.arange(rows + 1) * side_m)
    lon, lat = pyproj.Transformer.from_crs(epsg, 4326, always_xy=True).transform(x, y)
    points = np.round(np.stack([lon, lat], axis=-1), 9)
    a, b, c, d = points[:-1, :-1], points[:-1, 1:], points[1:, 1:], points[1:, :-1]
    found = shapely.polygons(np.stack([a, b, c, d, a], axis=2).reshape(-1, 5, 2))
    return list(found)


def geodesic_km2(polygon: shapely.Geometry, step: float = 1e-4) -> float:
    """The area by pyproj, edges cut so short (degrees) that a geodesic is a straight line."""
    cut = shapely.segmentize(polygon, step)
    return abs(float(pyproj.Geod(ellps="WGS84").geometry_area_perimeter(cut)[0])) / 1e6


def cells(
    polygons: Sequence[shapely.Geometry], numbers: Sequence[int] | None = None, worth: Decimal | None = None
) -> list[Cell]:
    """Cells of one plan, 16 a tile in the order they come; ``numbers`` picks some of them."""
    chosen = range(len(polygons)) if numbers is None else numbers
    return [
        Cell(PLAN, n // 16, n % 16, polygons[n], Decimal(repr(geodesic_km2(polygons[n]))), worth)
        for n in chosen
    ]
