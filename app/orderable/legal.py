"""Whether a polygon is one that a vendor takes: checked on its coordinates as they are delivered.

Width: eroded by half of ``min_width_m`` (in metres, less a thousandth) a polygon must stay one piece, and no
point of it may lie further than ``min_width_m`` from that piece: no necks, no spikes; corners down to 60
degrees pass.
"""

from typing import Any, Final

import numpy as np
import shapely

from app.orderable.ground import Frame, area_km2
from app.pricing.products import Product, Rules

# coordinates are delivered with so many digits: a tenth of a millimetre
DIGITS: Final = 9
# what counts as covered: 2 mm
SLACK_DEGREES: Final = 2e-8
_WIDTH_SLACK: Final = 0.999

_FURTHEST: Final = np.array([180.0, 90.0, 180.0, 90.0])
WORLD: Final = shapely.box(*-_FURTHEST[:2], *_FURTHEST[2:])
"""All longitudes and latitudes there are: a polygon to order ends at the antimeridian."""


def vertices(polygon: shapely.Geometry) -> int:
    """Corners of all rings, the points that close them apart."""
    rings = shapely.get_rings(polygon)
    return int(shapely.get_num_coordinates(polygon) - len(rings))


def violations(polygon: shapely.Geometry, product: Product) -> list[str]:
    """Which of the product's rules a polygon (WGS 84) breaks; none if it can be ordered."""
    rules = product.rules
    if polygon.is_empty or polygon.geom_type not in ("Polygon", "MultiPolygon"):
        return ["no polygon"]
    found = []
    if (np.abs(polygon.bounds) > _FURTHEST).any():
        found.append("beyond the antimeridian or a pole")
    if not polygon.is_valid:
        found.append("not valid")
    if polygon.geom_type == "MultiPolygon" and rules.single_part:
        found.append("several parts")
    parts = list(shapely.get_parts(polygon))
    if not rules.holes_allowed and any(len(part.interiors) for part in parts):
        found.append("holes")
    if rules.convex and not all(is_convex(part) for part in parts):
        found.append("not convex")
    if rules.max_vertices is not None and vertices(polygon) > rules.max_vertices:
        found.append("too many vertices")
    if not all(is_wide(part, rules) for part in parts):
        found.append("too narrow")
    if product.small_polygons == "refused" and area_km2(polygon) < float(product.min_polygon_km2):
        found.append("too small")
    return found


def is_convex(polygon: shapely.Geometry) -> bool:
    """Whether no corner of the ring, as its coordinates are written, turns inward."""
    if len(polygon.interiors):
        return False
    ring = shapely.get_coordinates(polygon.exterior)[:-1]
    along = np.roll(ring, -1, axis=0) - ring
    turn = along[:, 0] * np.roll(along[:, 1], -1) - along[:, 1] * np.roll(along[:, 0], -1)
    # rounded corners on a straight edge may turn by a hair
    hair = 10.0**-DIGITS * (np.abs(along).max(axis=1) + np.abs(np.roll(along, -1, axis=0)).max(axis=1))
    return bool((turn >= -hair).all() or (turn <= hair).all())


def is_wide(polygon: shapely.Geometry, rules: Rules) -> bool:
    """Whether the polygon is nowhere narrower than ``min_width_m``."""
    if not rules.min_width_m:
        return True
    width = rules.min_width_m
    flat = Frame.around([polygon]).plane(polygon)
    core = flat.buffer(-width / 2 * _WIDTH_SLACK, join_style="mitre")
    return bool(core.geom_type == "Polygon" and not core.is_empty and core.buffer(width).covers(flat))


def rounded(geometry: Any) -> Any:
    """The geometry (or an array of them) with coordinates as they are delivered, and without what reaches
    over the antimeridian or a pole.
    """
    found = shapely.transform(geometry, lambda points: np.round(points, DIGITS))
    beyond = (np.abs(shapely.bounds(found)) > _FURTHEST).any(axis=-1)
    if not beyond.any():
        return found
    inside = shapely.transform(shapely.intersection(found, WORLD), lambda points: np.round(points, DIGITS))
    return np.where(beyond, inside, found) if np.ndim(beyond) else inside
