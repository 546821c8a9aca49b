"""The cheapest single polygon over some patches that a product allows.

Tried in turn: the patches' own outline (holes filled where they must be), parts joined by corridors, the
convex hull, rectangles, and rectangles widened to the least width. A rectangle always passes, so every group
of patches has a polygon, unless it would touch ground that must not be bought.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray

from app.orderable.ground import Frame, Shapes, area_km2, areas_km2, shapes
from app.orderable.legal import SLACK_DEGREES, WORLD, is_convex, is_wide, rounded, vertices
from app.pricing.products import Product

# outlines lose corners that stand out by less than half a millimetre
_STRAIGHT_DEGREES: Final = 5e-9
# rectangles reach so far over what they hold that rounding never cuts it: 1 mm
_MARGIN_M: Final = 1e-3
_EPSILON: Final = 1e-12


@dataclass(frozen=True)
class Shape:
    """A polygon (WGS 84, as delivered), its area and what it is charged for, km²."""

    polygon: shapely.Geometry
    area: float
    charged: float


class ShapeMaker:
    """Makes shapes for one product; ``avoid`` is ground no polygon may lie on."""

    def __init__(self, product: Product, avoid: shapely.Geometry | None = None) -> None:
        self.product = product
        self.rules = product.rules
        self.minimum = float(product.min_polygon_km2)
        self.refused = product.small_polygons == "refused"
        self.width = float(product.rules.min_width_m or 0.0)
        self.avoid = avoid
        if avoid is not None:
            shapely.prepare(avoid)

    @property
    def cuts_free(self) -> bool:
        """Whether any patch may be ordered alone: ground costs the same in one polygon and in two."""
        return not (self.minimum or self.width or self.rules.convex or self.avoid is not None)

    def best(self, parts: Shapes, side_m: float, joined: shapely.Geometry | None = None) -> Shape | None:
        """The cheapest legal polygon over ``parts`` (polygons); ``joined`` is their union if it is known.

        ``side_m`` is the least width of a corridor. None where every one would touch ground to be avoided.
        """
        union = join(shapely.get_parts(parts)) if joined is None else joined
        least = area_km2(union)
        best: Shape | None = None
        for polygon in self._tries(union, side_m):
            shape = self._judge(polygon, best)
            if shape is not None and (best is None or shape.charged < best.charged - _EPSILON):
                best = shape
            if best is not None and best.charged <= max(self.minimum, least) * (1 + 1e-9):
                return best
        return best

    def _tries(self, union: shapely.Geometry, side_m: float) -> Iterator[shapely.Geometry]:
        single = union.geom_type == "Polygon"
        if single or not self.rules.single_part:
            yield tidy(union if self.rules.holes_allowed else fill(union))
        hull = rounded(shapely.convex_hull(union))
        frame = Frame.around([union])
        if not self.rules.convex:
            yield from self._closed(frame, union, side_m)
        yield hull
        yield from self._boxes(hull)

    def _closed(self, frame: Frame, union: shapely.Geometry, side_m: float) -> Iterator[shapely.Geometry]:
        """Parts joined by corridors, what is narrow widened, gaps closed."""
        flat = frame.plane(union)
        several = union.geom_type != "Polygon" and self.rules.single_part
        corridor, spare = max(self.width, side_m), max(self.width - side_m, 0.0) / 2
        tried = []
        if several:
            flat = bridge(flat, corridor)
            tried.append(flat)
        if several or spare:
            tried += [close(flat, max(radius, spare), spare) for radius in (side_m / 4, corridor)]
        for one in tried:
            yield tidy(rounded(frame.lonlat(one if self.rules.holes_allowed else fill(one))))

    def _boxes(self, hull: shapely.Geometry) -> Iterator[shapely.Geometry]:
        frame = Frame.around([hull])
        flat = frame.plane(hull)
        yield rounded(frame.lonlat(in_the_world(frame, _upright(flat, self.width))))
        yield rounded(frame.lonlat(_rotated(flat, self.width)))

    def over(self, outline: shapely.Geometry, parts: Shapes) -> Shape | None:
        """The cheapest legal of ``outline`` (over ``parts``) itself, its hull, and rectangles around it."""
        least = max(self.minimum, float(shapely.area(outline)) and area_km2(outline))
        best: Shape | None = None
        for polygon in self._around(outline):
            shape = self._judge(polygon, best)
            if shape is not None and covers(shape.polygon, parts).all():
                best = shape
            if best is not None and best.charged <= least * (1 + 1e-9):
                break
        return best

    def _around(self, outline: shapely.Geometry) -> Iterator[shapely.Geometry]:
        if not self.rules.convex and outline.geom_type == "Polygon":
            yield tidy(outline if self.rules.holes_allowed else fill(outline))
        hull = rounded(shapely.convex_hull(outline))
        yield hull
        yield from self._boxes(hull)

    def judged(self, polygon: shapely.Geometry) -> Shape | None:
        """A polygon as it is (grown where a smaller one is refused), None where it is not legal."""
        return self._judge(polygon, None)

    def _judge(self, polygon: shapely.Geometry, best: Shape | None) -> Shape | None:
        area = area_km2(polygon)
        if self.refused and area < self.minimum:
            polygon = enlarge(polygon, self.minimum)
            area = area_km2(polygon)
        charged = max(area, self.minimum)
        if best is not None and charged >= best.charged - _EPSILON:
            return None
        return Shape(polygon, area, charged) if self.allows(polygon) else None

    def allows(self, polygon: shapely.Geometry) -> bool:
        """Whether the polygon meets the product's rules (its area apart) and avoids what it must."""
        rules = self.rules
        parts = shapely.get_parts(polygon)
        return bool(
            polygon.geom_type in ("Polygon", "MultiPolygon")
            and (polygon.geom_type == "Polygon" or not rules.single_part)
            and (rules.max_vertices is None or vertices(polygon) <= rules.max_vertices)
            and (rules.holes_allowed or not any(len(part.interiors) for part in parts))
            and polygon.is_valid
            and (not rules.convex or all(is_convex(part) for part in parts))
            and all(is_wide(part, rules) for part in parts)
            and not self._touches(polygon)
        )

    def _touches(self, polygon: shapely.Geometry) -> bool:
        if self.avoid is None or not self.avoid.intersects(polygon):
            return False
        # sharing an edge is no touching
        return bool(shapely.area(self.avoid.intersection(polygon)) > 1e-6 * shapely.area(polygon))


def join(parts: Shapes) -> shapely.Geometry:
    """The union of polygons in longitude and latitude, to a millimetre."""
    if len(parts) == 1:
        return parts[0]
    try:
        quick = shapely.coverage_union_all(parts)
    except shapely.errors.GEOSException:
        return shapely.union_all(parts, grid_size=1e-9)
    # right where cells share whole edges; overlaps and edges met in the middle need the thorough way
    whole = float(shapely.area(parts).sum())
    if abs(quick.area - whole) <= 1e-9 * whole and quick.is_valid:
        return quick
    return shapely.union_all(parts, grid_size=1e-9)


def join_each(polygons: Shapes, groups: Sequence[NDArray[np.int64]]) -> Shapes:
    """``join`` of each of many groups (numbers of polygons), those with equally many together."""
    found = shapes([None] * len(groups))
    sizes = np.array([len(group) for group in groups])
    for size in np.unique(sizes).tolist():
        which = np.flatnonzero(sizes == size)
        parts = polygons[np.stack([groups[i] for i in which.tolist()])]
        if size == 1:
            found[which] = parts[:, 0]
            continue
        try:
            quick = shapely.coverage_union_all(parts, axis=1)
        except shapely.errors.GEOSException:
            quick = shapes([None] * len(which))
        whole = shapely.area(parts).sum(axis=1)
        good = shapely.is_valid(quick) & (np.abs(shapely.area(quick) - whole) <= 1e-9 * whole)
        found[which[good]] = quick[good]
        for i in which[~good].tolist():
            found[i] = join(polygons[groups[i]])
    return found


def fill(geometry: shapely.Geometry) -> shapely.Geometry:
    """The geometry without its holes."""
    parts = [shapely.Polygon(part.exterior) for part in shapely.get_parts(geometry)]
    return parts[0] if len(parts) == 1 else shapely.union_all(parts)


def tidy(geometry: shapely.Geometry) -> shapely.Geometry:
    """Without corners on straight lines."""
    return straight(shapes([geometry]))[0]


def straight(geometries: Shapes) -> Shapes:
    """``tidy`` of many."""
    simple = shapely.simplify(geometries, _STRAIGHT_DEGREES)
    found: Shapes = np.where(shapely.is_valid(simple) & ~shapely.is_empty(simple), simple, geometries)
    return found


def close(flat: shapely.Geometry, radius_m: float, spare_m: float) -> shapely.Geometry:
    """Widened by ``radius_m`` and narrowed again by ``spare_m`` less: gaps of two radii are closed."""
    wide = shapely.buffer(flat, radius_m, join_style="mitre")
    return narrowed(wide, radius_m - spare_m)


def narrowed(wide: shapely.Geometry, by_m: float) -> shapely.Geometry:
    """Without the outermost ``by_m``."""
    return shapely.buffer(wide, -by_m, join_style="mitre") if by_m > 0 else wide


def bridge(flat: shapely.Geometry, width_m: float) -> shapely.Geometry:
    """The parts of a multipolygon (metres) joined along their shortest gaps by corridors."""
    parts = list(shapely.get_parts(flat))
    found = parts.pop(0)
    while parts:
        gaps = shapely.distance(np.array(parts, dtype=object), found)
        part = parts.pop(int(np.argmin(gaps)))
        found = shapely.union_all([found, part, _corridor(found, part, width_m)])
        if found.geom_type != "Polygon":
            found = shapely.union_all([found, shapely.convex_hull(_corridor(found, part, width_m * 1.5))])
    return found


def _corridor(one: shapely.Geometry, other: shapely.Geometry, width_m: float) -> shapely.Geometry:
    (ax, ay), (bx, by) = shapely.get_coordinates(shapely.shortest_line(one, other))
    length = float(np.hypot(bx - ax, by - ay))
    if length < 1e-9:
        return shapely.box(ax - width_m / 2, ay - width_m / 2, ax + width_m / 2, ay + width_m / 2)
    # into both parts, so that no neck is left where the corridor meets them
    ux, uy = (bx - ax) / length * width_m / 2, (by - ay) / length * width_m / 2
    return shapely.LineString([(ax - ux, ay - uy), (bx + ux, by + uy)]).buffer(width_m / 2, cap_style="flat")


def _upright(flat: shapely.Geometry, width_m: float) -> shapely.Geometry:
    west, south, east, north = flat.bounds
    dx, dy = (max(width_m - (high - low), 0) / 2 + _MARGIN_M for low, high in ((west, east), (south, north)))
    return shapely.box(west - dx, south - dy, east + dx, north + dy)


def in_the_world(frame: Frame, box: shapely.Geometry) -> shapely.Geometry:
    """A box moved back, as wide as it is, where it reaches over the antimeridian or a pole: what it is around
    does not, so that it stays inside.
    """
    limits, bounds = np.array(frame.plane(WORLD).bounds), np.array(box.bounds)
    by = np.maximum(limits[:2] - bounds[:2], 0) - np.maximum(bounds[2:] - limits[2:], 0)
    return shapely.box(*(bounds + np.tile(by, 2))) if by.any() else box


def _rotated(flat: shapely.Geometry, width_m: float) -> shapely.Geometry:
    rectangle = shapely.minimum_rotated_rectangle(flat)
    if rectangle.geom_type != "Polygon":
        return _upright(flat, width_m)
    a, b, c = shapely.get_coordinates(rectangle)[:3]
    angle = float(np.degrees(np.arctan2(b[1] - a[1], b[0] - a[0])))
    centre = ((a[0] + c[0]) / 2, (a[1] + c[1]) / 2)
    level = shapely.affinity.rotate(rectangle, -angle, origin=centre)
    return shapely.affinity.rotate(_upright(level, width_m), angle, origin=centre)


def enlarge(polygon: shapely.Geometry, area: float) -> shapely.Geometry:
    """A polygon of at least ``area`` km² around the hull of ``polygon``: a rectangle."""
    hull = shapely.convex_hull(polygon)
    frame = Frame.around([hull])
    flat = _upright(frame.plane(hull), 0.0)

    def grown(by_m: float) -> shapely.Geometry:
        west, south, east, north = flat.bounds
        box = shapely.box(west - by_m, south - by_m, east + by_m, north + by_m)
        return rounded(frame.lonlat(in_the_world(frame, box)))

    if area_km2(grown(0.0)) >= area:
        return grown(0.0)
    west, south, east, north = flat.bounds
    half, short = (east - west + north - south) / 4, (east - west - north + south) / 4
    goal = area
    for step in range(60):
        found = grown(max(float(np.sqrt(goal * 1e6 / 4 + short * short)) - half, 0.0))
        of_found = area_km2(found)
        if step >= 3 and of_found >= area:
            break
        # the plane is nearly the ellipsoid: three corrections, then up by what the rounding takes
        goal *= area / of_found if step < 3 else 1 + 1e-9 * 2.0**step
    return found


def covers(polygon: shapely.Geometry, cells: Shapes) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Which cells lie wholly under the polygon, to 2 mm."""
    wide = shapely.buffer(polygon, SLACK_DEGREES, join_style="mitre")
    shapely.prepare(wide)
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = shapely.covers(wide, cells)
    return found


def covers_pairs(
    polygons: Shapes, cells: Shapes, one: NDArray[np.int64], other: NDArray[np.int64]
) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """``covers`` for pairs of polygons and cells (their numbers)."""
    wide = shapely.buffer(polygons, SLACK_DEGREES, join_style="mitre")
    shapely.prepare(wide)
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = shapely.covers(wide[one], cells[other])
    return found


__all__ = [
    "Shape",
    "ShapeMaker",
    "areas_km2",
    "bridge",
    "covers",
    "enlarge",
    "fill",
    "in_the_world",
    "join",
    "tidy",
]
