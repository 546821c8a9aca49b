"""From pieces to groups: joined where they touch, or window by window, then by the solver, block by block.

What the solver chooses from is made in two ways: outlines of pieces that touch (few pieces, or a product that
sells each alone), and polygons of about the right size from ``clusters``. Groups that are far apart never
share a polygon, so the ground falls into regions, and large regions into blocks of neighbouring groups. What
the blocks' borders cut is mended at the end by merging across them. The cheaper of both ways is taken.
"""

import dataclasses
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely

from app.orderable import cover, pool
from app.orderable.block import DEFICIT, Block, merged_group, solve
from app.orderable.clusters import clusters
from app.orderable.ground import Floats, Shapes, area_km2, shapes
from app.orderable.pieces import Group, Ints, components, members_of, outlines
from app.orderable.shapes import ShapeMaker, covers, join, tidy

# rows of one set cover: HiGHS proves most of these within a second
BLOCK: Final = 160
# up to so many patches are grouped outline by outline as well as window by window
_OUTLINED: Final = 600
# the share of the time for the windows
_FOR_CLUSTERS: Final = 0.7
# more outlines than that are never all right as they are
_FEW: Final = 100
# without corners that stand out by less than half a millimetre an outline holds so much more, at most
_STRAIGHTENED: Final = 1 + 1e-6


@dataclass(frozen=True)
class Grouping:
    """Groups over all pieces but those given up; km², with what was given up counted at its loss."""

    groups: list[Group]
    given_up: Ints
    bound: float
    optimal: bool


def group_pieces(
    maker: ShapeMaker, polygons: Shapes, sides: Floats, loss: Floats, deadline: float
) -> Grouping:
    """The cheapest groups found for ``polygons`` until ``deadline`` (``time.monotonic()``).

    ``loss`` (km²) is what giving up a piece counts for, inf where it may not be. A piece with no legal
    polygon is given up whatever it is worth.
    """
    all_held = bool(np.isinf(loss).all())
    if maker.cuts_free:
        leaves, _ = outlines(maker, polygons, sides)
        if all_held:
            held = np.concatenate([np.zeros(0, np.int64), *(leaf.members for leaf in leaves)])
            cost = sum(leaf.shape.charged for leaf in leaves)
            return Grouping(leaves, np.setdiff1d(np.arange(len(polygons)), held), cost, True)
        return _grouped(maker, leaves, [], sides, loss, deadline)
    whole = join(polygons)
    found = _as_they_lie(maker, polygons, whole) if all_held else []
    if found:
        return found[0]
    held = np.isinf(loss)
    # whatever is looked at: no order costs less than the ground that must be in it
    ground = area_km2(whole if all_held else join(polygons[held])) if held.any() else 0.0
    least = max(ground, maker.minimum) if held.any() else 0.0
    if len(polygons) > 1:
        now = time.monotonic()
        share = _FOR_CLUSTERS if len(polygons) > _OUTLINED else _FOR_CLUSTERS / 2
        leaves, _ = clusters(maker, polygons, sides, now + (deadline - now) * share)
        found.append(_grouped(maker, leaves, [], np.maximum(sides, maker.width), loss, deadline))
        if all_held and not len(found[0].given_up) and _cost(found[0], loss) <= least * (1 + cover.GAP):
            return dataclasses.replace(found[0], bound=min(least, _cost(found[0], loss)), optimal=True)
    outlined = len(polygons) <= _OUTLINED
    if outlined:
        found.append(_grouped(maker, *outlines(maker, polygons, sides), sides, loss, deadline))
    best = min(found, key=lambda one: (np.isinf(loss[one.given_up]).sum(), _cost(one, loss)))
    cost = _cost(best, loss)
    # what no polygon can hold is not in the order, and what it would cost not in the bound
    proven = least if not np.isinf(loss[best.given_up]).any() else 0.0
    bound = min(max(proven, found[-1].bound if outlined else 0.0), cost)
    return Grouping(best.groups, best.given_up, bound, bound >= cost * (1 - cover.GAP))


def _as_they_lie(maker: ShapeMaker, polygons: Shapes, whole: shapely.Geometry) -> list[Grouping]:
    """What touches joined, if every outline is legal and costs its ground only: nothing is cheaper.

    Its ground but for what ``tidy`` adds: a raster's edge is a curve in longitude and latitude.
    """
    parts = shapely.get_parts(whole)
    if len(parts) > _FEW:
        return []
    cell, part = shapely.STRtree(parts).query(shapely.point_on_surface(polygons), predicate="intersects")
    owner = np.full(len(polygons), -1)
    owner[cell] = part
    groups, bound = [], 0.0
    for number, outline in enumerate(parts):
        area, members = area_km2(outline), np.flatnonzero(owner == number)
        shape = maker.judged(tidy(outline))
        # several polygons under the least size may be cheaper as one
        least = maker.minimum if len(parts) == 1 else 0.0
        if shape is None or shape.charged > max(area, least) * _STRAIGHTENED:
            return []
        if not covers(shape.polygon, polygons[members]).all():
            return []
        groups.append(Group(members, shape, outline, area))
        bound += min(max(area, least), shape.charged)
    if (owner < 0).any():
        return []
    return [Grouping(groups, np.zeros(0, np.int64), bound, True)]


def _cost(found: Grouping, loss: Floats) -> float:
    lost = loss[found.given_up]
    return sum(group.shape.charged for group in found.groups) + float(lost[np.isfinite(lost)].sum())


def _grouped(
    maker: ShapeMaker, leaves: list[Group], lossy: list[Group], sides: Floats, loss: Floats, deadline: float
) -> Grouping:
    """The cheapest groups found that are made of ``leaves``, or of ``lossy`` ones that stand for several."""
    done: list[Group] = []
    bound, optimal = 0.0, True
    given_up = np.ones(len(loss), dtype=bool)
    for leaf in leaves:
        given_up[leaf.members] = False
    regions = _regions(leaves, maker) if leaves else []
    blocks = [block for region in regions for block in _blocks(maker, region, sides)]
    for number, block in enumerate(blocks):
        limit = (deadline - time.monotonic()) / (len(blocks) - number)
        taken, lost, part, proven = solve(maker, block, lossy, sides, loss, limit)
        done += taken
        given_up[lost] = True
        bound += part
        optimal = optimal and proven
    if len(blocks) > len(regions):
        done, saved = _mend(maker, done, sides, deadline)
        optimal = optimal and saved == 0
        bound = min(bound, sum(group.shape.charged for group in done) + _finite_loss(loss, given_up))
    return Grouping(done, np.flatnonzero(given_up), bound, optimal)


def _finite_loss(loss: Floats, lost: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> float:
    return float(loss[lost & np.isfinite(loss)].sum())


def reach_m(maker: ShapeMaker, side_m: float) -> float:
    """Further apart than this (metres) two groups never save by sharing a polygon."""
    minimum = maker.minimum * 1e6
    # at a pole a patch may be all edge and no ground
    corridor = max(maker.width, side_m, 0.1)
    return min(minimum / corridor, 3 * float(np.sqrt(minimum))) + 2 * corridor


def _regions(leaves: Sequence[Group], maker: ShapeMaker) -> list[list[Group]]:
    """Groups within reach of each other, directly or over others; those without a deficit stay alone."""
    outlines_ = shapes([leaf.ground for leaf in leaves])
    boxes = shapely.bounds(outlines_)
    side = float(np.sqrt(max(min(leaf.area for leaf in leaves), 0.0) * 1e6))
    reach = reach_m(maker, side)
    lat = np.radians(np.clip(np.abs(boxes[:, [1, 3]]).max(axis=1), 0, 89.9))
    north = reach / 110_000 / 2
    east = north / np.cos(lat)
    wide = shapely.box(boxes[:, 0] - east, boxes[:, 1] - north, boxes[:, 2] + east, boxes[:, 3] + north)
    one, other = shapely.STRtree(wide).query(wide, predicate="intersects")
    short = np.array([leaf.shape.charged > leaf.area * DEFICIT for leaf in leaves])
    keep = (one < other) & (short[one] | short[other])
    label = components(len(leaves), np.stack([one[keep], other[keep]], axis=1))
    return [[leaves[i] for i in members] for members in members_of(label)]


def _blocks(maker: ShapeMaker, region: list[Group], sides: Floats) -> list["Block"]:
    if len(region) == 1:
        return [Block(region, [])]
    flat = pool.flattened(region)
    pairs, gaps = pool.neighbours(flat)
    merging = _merged(maker, region, flat, pairs, gaps, sides)
    if len(region) <= BLOCK:
        return [Block(region, merging.steps)]
    tops = [np.array(sorted(members)) for members in merging.members.values()]
    middle = shapely.get_coordinates(shapely.centroid(flat))
    found = []
    for part in _cut(tops, np.array([middle[top].mean(axis=0) for top in tops])):
        rows = np.concatenate([tops[i] for i in part])
        place = {int(row): at for at, row in enumerate(rows.tolist())}
        steps = [[place[i] for i in step] for step in merging.steps if step[0] in place]
        found.append(Block([region[i] for i in rows.tolist()], steps))
    return found


def _merged(
    maker: ShapeMaker, groups: Sequence[Group], flat: Shapes, pairs: Ints, gaps: Floats, sides: Floats
) -> pool.Merging:
    width = max(maker.width, float(min(sides[group.members].min() for group in groups)))
    merging = pool.Merging(groups, flat, maker.minimum, width, convex=maker.rules.convex)
    merging.run(pairs, gaps)
    return merging


def _cut(tops: Sequence[Ints], places: Floats) -> Iterable[list[int]]:
    """Halve along the longer side until a part has at most ``BLOCK`` rows (or is one group)."""
    rows = np.array([len(top) for top in tops])
    waiting = [np.arange(len(tops))]
    while waiting:
        part = waiting.pop()
        if len(part) == 1 or rows[part].sum() <= BLOCK:
            yield part.tolist()
            continue
        axis = int(np.argmax(np.ptp(places[part], axis=0)))
        order = part[np.argsort(places[part, axis], kind="stable")]
        waiting += [order[: len(order) // 2], order[len(order) // 2 :]]


def _mend(
    maker: ShapeMaker, groups: list[Group], sides: Floats, deadline: float
) -> tuple[list[Group], float]:
    """Merge groups across blocks where that saves; the second value is how much (km²)."""
    flat = pool.flattened(groups)
    pairs, gaps = pool.neighbours(flat)
    near = gaps <= reach_m(maker, float(sides.min()))
    merging = _merged(maker, groups, flat, pairs[near], gaps[near], sides)
    found, saved = [], 0.0
    for members in merging.members.values():
        parts = [groups[i] for i in members]
        apart = sum(part.shape.charged for part in parts)
        shape = None
        if len(parts) > 1 and time.monotonic() < deadline:
            shape = maker.best(
                shapes([part.ground for part in parts]),
                float(min(sides[part.members].min() for part in parts)),
            )
        if shape is not None and shape.charged < apart:
            saved += apart - shape.charged
            found.append(merged_group(parts, shape))
        else:
            found += parts
    return found, saved


__all__ = ["Grouping", "group_pieces", "reach_m"]
