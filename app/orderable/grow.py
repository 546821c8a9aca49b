"""Ground for nothing: a polygon under the minimum is paid for as the minimum, so let it hold more patches."""

from collections.abc import Sequence

import numpy as np
import shapely

from app.orderable.ground import Frame, Shapes, area_km2, shapes
from app.orderable.legal import rounded
from app.orderable.shapes import Shape, ShapeMaker, covers


def grow(order: Sequence[Shape], maker: ShapeMaker, candidates: Sequence[shapely.Geometry]) -> list[Shape]:
    """The polygons, each grown at no cost where it then covers more of ``candidates``."""
    if not candidates or maker.minimum <= 0 or maker.refused:
        return list(order)
    parts = shapely.get_parts(shapes(candidates))
    tree = shapely.STRtree(parts)
    return [_grown(shape, maker, tree, parts) for shape in order]


def _grown(shape: Shape, maker: ShapeMaker, tree: shapely.STRtree, parts: Shapes) -> Shape:
    if shape.area >= maker.minimum * 0.999:
        return shape
    frame = Frame.around([shape.polygon])
    reach = float(np.sqrt(maker.minimum * 1e6)) * 2
    west, south, east, north = frame.plane(shape.polygon).bounds
    window = frame.lonlat(shapely.box(west - reach, south - reach, east + reach, north + reach))
    near = parts[tree.query(window)]
    if not len(near):
        return shape
    # no further than there are patches to be had
    limits = shapely.total_bounds(frame.plane(near))
    low = (min(limits[0], west) - 0.01, min(limits[1], south) - 0.01)
    high = (max(limits[2], east) + 0.01, max(limits[3], north) + 0.01)

    def box(by_m: float) -> shapely.Geometry:
        corners = (
            max(west - by_m, low[0]),
            max(south - by_m, low[1]),
            min(east + by_m, high[0]),
            min(north + by_m, high[1]),
        )
        return rounded(frame.lonlat(shapely.box(*corners)))

    most = maker.minimum
    if area_km2(box(0.002)) > most:
        return shape
    least, by_m = 0.002, reach
    for _ in range(40):
        middle = (least + by_m) / 2
        least, by_m = (middle, by_m) if area_km2(box(middle)) <= most else (least, middle)
    flat = frame.plane(near)
    outwards = _by_patches(frame, box(0.002), flat, most, reach / 64)
    tried = [(int(covers(found, near).sum()), found) for found in (outwards, box(least))]
    count, found = max(tried, key=lambda one: one[0])
    before = int(covers(shape.polygon, near).sum())
    if count <= before or not maker.allows(found):
        return shape
    if not covers(found, shapes([shape.polygon])).all():
        return shape
    return Shape(found, area_km2(found), shape.charged)


def _by_patches(
    frame: Frame, start: shapely.Geometry, flat: Shapes, most: float, step_m: float
) -> shapely.Geometry:
    """A box grown from side to side, always to the next patches' edges where it gains most for its ground."""
    best = np.array(frame.plane(start).bounds)
    found = start
    bounds = shapely.bounds(flat)
    sign = np.array([-1, -1, 1, 1])
    while True:
        options = []
        for side in range(4):
            further = (bounds[:, side] - best[side]) * sign[side]
            further = further[further > 0]
            if not len(further):
                continue
            tried = best.copy()
            tried[side] += sign[side] * (further[further <= further.min() + step_m].max() + 2e-3)
            polygon = rounded(frame.lonlat(shapely.box(*tried)))
            area = area_km2(polygon)
            if area <= most:
                inside = (bounds[:, :2] >= tried[:2]).all(axis=1) & (bounds[:, 2:] <= tried[2:]).all(axis=1)
                options.append((int(inside.sum()) / area, side, tried, polygon))
        if not options:
            return found
        _, _, best, found = max(options, key=lambda option: option[:2])
