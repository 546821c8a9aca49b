"""From pieces to groups: joined for free where they touch, then by the solver, block by block.

Groups that are far apart never share a polygon, so the ground falls into regions, and large regions into
blocks of neighbouring groups. What the blocks' borders cut is mended at the end by merging across them.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely

from app.orderable import cover, pool
from app.orderable.clusters import clusters
from app.orderable.ground import Floats, Frame, Shapes, area_km2, shapes
from app.orderable.pieces import Group, Ints, components, members_of, outlines
from app.orderable.shapes import Shape, ShapeMaker, covers, join, tidy

# rows of one set cover: HiGHS proves most of these within a second
BLOCK: Final = 160
# polygons made for one block beside its pieces
_MOST_COLUMNS: Final = 600
# the solver's choice is changed here and there, and solved again, so often; polygons made for that each time
_ROUNDS: Final = 3
_MOST_CHANGES: Final = 400
_DEFICIT: Final = 1 + 1e-9
# up to so many patches are grouped outline by outline as well as window by window
_OUTLINED: Final = 600
# the share of the time for the windows
_FOR_CLUSTERS: Final = 0.7
# more outlines than that are never all right as they are
_FEW: Final = 100
# for a block of few outlines, also when time is over
_LEAST_S: Final = 0.02


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
    alone = maker.cuts_free
    found = [] if alone else _as_they_lie(maker, polygons)
    if found:
        return found[0]
    if not alone and len(polygons) > 1:
        now = time.monotonic()
        share = _FOR_CLUSTERS if len(polygons) > _OUTLINED else _FOR_CLUSTERS / 2
        leaves, _ = clusters(maker, polygons, sides, now + (deadline - now) * share)
        found.append(_grouped(maker, leaves, [], np.maximum(sides, maker.width), loss, deadline))
    if alone or len(polygons) <= _OUTLINED:
        found.append(_grouped(maker, *outlines(maker, polygons, sides), sides, loss, deadline))
    best = min(found, key=lambda one: _cost(one, loss))
    # whatever was looked at: no order costs less than the ground that must be in it
    held = np.isinf(loss)
    held[best.given_up] = False
    ground = area_km2(join(polygons[held])) if held.any() else 0.0
    least = max(ground, maker.minimum) if held.any() else 0.0
    cost = _cost(best, loss)
    proven = found[-1].bound if alone or len(polygons) <= _OUTLINED else 0.0
    bound = min(max(least, proven), cost)
    return Grouping(best.groups, best.given_up, bound, bound >= cost * (1 - cover.GAP))


def _as_they_lie(maker: ShapeMaker, polygons: Shapes) -> list[Grouping]:
    """What touches joined, if every outline is legal and costs its ground only: nothing is cheaper."""
    parts = shapely.get_parts(join(polygons))
    if len(parts) > _FEW:
        return []
    cell, part = shapely.STRtree(parts).query(shapely.point_on_surface(polygons), predicate="intersects")
    owner = np.full(len(polygons), -1)
    owner[cell] = part
    groups = []
    for number, outline in enumerate(parts):
        area, members = area_km2(outline), np.flatnonzero(owner == number)
        shape = maker.judged(tidy(outline))
        # several polygons under the least size may be cheaper as one
        least = maker.minimum if len(parts) == 1 else 0.0
        if shape is None or shape.charged > max(area, least) * _DEFICIT:
            return []
        if not covers(shape.polygon, polygons[members]).all():
            return []
        groups.append(Group(members, shape, outline, area))
    if (owner < 0).any():
        return []
    cost = sum(group.shape.charged for group in groups)
    return [Grouping(groups, np.zeros(0, np.int64), cost, True)]


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
        taken, lost, part, proven = _solve(maker, block, lossy, sides, loss, limit)
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
    short = np.array([leaf.shape.charged > leaf.area * _DEFICIT for leaf in leaves])
    keep = (one < other) & (short[one] | short[other])
    label = components(len(leaves), np.stack([one[keep], other[keep]], axis=1))
    return [[leaves[i] for i in members] for members in members_of(label)]


def _blocks(maker: ShapeMaker, region: list[Group], sides: Floats) -> list["_Block"]:
    if len(region) == 1:
        return [_Block(region, [])]
    flat = pool.flattened(region)
    pairs, gaps = pool.neighbours(flat)
    merging = _merged(maker, region, flat, pairs, gaps, sides)
    if len(region) <= BLOCK:
        return [_Block(region, merging.steps)]
    tops = [np.array(sorted(members)) for members in merging.members.values()]
    middle = shapely.get_coordinates(shapely.centroid(flat))
    found = []
    for part in _cut(tops, np.array([middle[top].mean(axis=0) for top in tops])):
        rows = np.concatenate([tops[i] for i in part])
        place = {int(row): at for at, row in enumerate(rows.tolist())}
        steps = [[place[i] for i in step] for step in merging.steps if step[0] in place]
        found.append(_Block([region[i] for i in rows.tolist()], steps))
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


@dataclass(frozen=True)
class _Block:
    leaves: list[Group]
    steps: list[list[int]]


def _solve(
    maker: ShapeMaker, block: _Block, lossy: Sequence[Group], sides: Floats, loss: Floats, limit_s: float
) -> tuple[list[Group], Ints, float, bool]:
    leaves = block.leaves
    row_loss = np.array([loss[leaf.members].sum() for leaf in leaves])
    least = np.array([leaf.shape.charged for leaf in leaves])
    perfect = all(leaf.shape.charged <= leaf.area * _DEFICIT for leaf in leaves)
    if (len(leaves) == 1 or perfect) and (row_loss >= least).all():
        return leaves, np.zeros(0, np.int64), float(least.sum()), True
    if limit_s <= 0 and len(leaves) > pool.EXHAUSTIVE:
        # too late to look: each by itself, or given up
        lost = [leaf.members for leaf, less in zip(leaves, row_loss < least, strict=True) if less]
        kept = [leaf for leaf, less in zip(leaves, row_loss < least, strict=True) if not less]
        return kept, np.concatenate([np.zeros(0, np.int64), *lost]), 0.0, False
    stop = time.monotonic() + max(limit_s, _LEAST_S)
    columns = _Columns(maker, leaves, sides)
    single = columns.everything()
    if single is not None and not np.isfinite(row_loss).all():
        # nothing is cheaper than one polygon of the least size
        return [single], np.zeros(0, np.int64), single.shape.charged, True
    columns.add_lossy(lossy)
    columns.add(_wanted(maker, block, columns.outline), _MOST_COLUMNS, stop - max(limit_s, _LEAST_S) / 2)
    choice = columns.choose(row_loss, stop)
    for _ in range(_ROUNDS if len(leaves) > pool.EXHAUSTIVE else 0):
        taken = [columns.rows[i] for i in choice.taken]
        if time.monotonic() > stop or len(taken) < 2:
            break
        columns.add(pool.changes(taken, columns.flat), _MOST_CHANGES, stop)
        better = columns.choose(row_loss, stop)
        saved, choice = choice.cost - better.cost, better
        if saved <= choice.cost * cover.GAP:
            break
    lost = [leaves[row].members for row in np.flatnonzero(choice.given_up)]
    rows, groups = [columns.rows[i] for i in choice.taken], [columns.groups[i] for i in choice.taken]
    taken_groups = _once(maker, rows, groups, leaves, sides)
    return taken_groups, np.concatenate([np.zeros(0, np.int64), *lost]), choice.bound, choice.optimal


class _Columns:
    """The groups of a block that the solver chooses from; first come its leaves, each by itself."""

    def __init__(self, maker: ShapeMaker, leaves: list[Group], sides: Floats) -> None:
        self.maker, self.leaves, self.sides = maker, leaves, sides
        self.rows: list[Ints] = [np.array([i]) for i in range(len(leaves))]
        self.groups = list(leaves)
        self.outline = shapes([leaf.ground for leaf in leaves])
        self.flat = Frame.around(self.outline).plane(self.outline)
        self._known: set[tuple[int, ...]] = {(i,) for i in range(len(leaves))}

    def everything(self) -> Group | None:
        """All leaves in one polygon, if that is charged for as the least size."""
        west, south, east, north = shapely.total_bounds(self.flat)
        if (east - west) * (north - south) / 1e6 > 3 * self.maker.minimum:
            return None
        side = min(float(self.sides[leaf.members].min()) for leaf in self.leaves)
        shape = self.maker.best(self.outline, side)
        if shape is None or shape.charged > self.maker.minimum * (1 + 1e-6):
            return None
        return _merged_group(self.leaves, shape)

    def add_lossy(self, lossy: Sequence[Group]) -> None:
        """Outlines that stayed whole beside their halves."""
        owner = {int(piece): row for row, leaf in enumerate(self.leaves) for piece in leaf.members}
        for group in lossy:
            rows = {owner[int(piece)] for piece in group.members if int(piece) in owner}
            if rows and sum(len(self.leaves[row].members) for row in rows) == len(group.members):
                self._known.add(tuple(sorted(rows)))
                self.rows.append(np.array(sorted(rows)))
                self.groups.append(group)

    def add(self, wanted: Iterable[Ints], most: int, stop: float) -> None:
        """Those of ``wanted`` that cost less than their leaves, until ``stop`` or so many were added."""
        before = len(self.rows)
        for rows in wanted:
            # HiGHS crashes on a row that a column names twice
            key = tuple(sorted({int(row) for row in rows}))
            if not key or key in self._known:
                continue
            if len(self.rows) - before >= most or time.monotonic() > stop:
                return
            self._known.add(key)
            parts = [self.leaves[row] for row in key]
            side = min(float(self.sides[part.members].min()) for part in parts)
            shape = self.maker.best(self.outline[list(key)], side)
            if shape is not None and shape.charged < sum(part.shape.charged for part in parts):
                self.rows.append(np.array(key))
                self.groups.append(_merged_group(parts, shape))

    def choose(self, row_loss: Floats, stop: float) -> cover.Choice:
        """The cheapest of them, as far as the solver gets until ``stop``."""
        costs = np.array([group.shape.charged for group in self.groups])
        return cover.choose(self.rows, costs, row_loss, stop - time.monotonic())


def _merged_group(parts: Sequence[Group], shape: Shape) -> Group:
    ground = shapely.multipolygons([one for part in parts for one in shapely.get_parts(part.ground)])
    members = np.sort(np.concatenate([part.members for part in parts]))
    return Group(members, shape, ground, sum(part.area for part in parts))


def _wanted(maker: ShapeMaker, block: _Block, outline: Shapes) -> Iterable[Ints]:
    if len(outline) <= pool.EXHAUSTIVE:
        yield from pool.subsets(len(outline))
        return
    yield from (np.array(step) for step in reversed(block.steps))
    if maker.minimum > 0:
        flat = Frame.around(outline).plane(outline)
        areas = np.array([leaf.area for leaf in block.leaves])
        side = float(np.sqrt(areas.min() * 1e6))
        yield from pool.growths(flat, areas, maker.minimum, max(maker.width, side))
        yield from pool.circles(flat)
        found = {tuple(group.tolist()) for group in pool.windows(flat, maker.minimum, _MOST_COLUMNS // 4)}
        yield from (np.array(key) for key in sorted(found, key=len, reverse=True))


def _once(
    maker: ShapeMaker, columns: list[Ints], groups: list[Group], leaves: list[Group], sides: Floats
) -> list[Group]:
    """The groups with every row in one of them only: smaller where that is cheaper."""
    order = sorted(range(len(columns)), key=lambda i: -len(columns[i]))
    seen: set[int] = set()
    found = []
    for i in order:
        rows = [int(row) for row in columns[i] if int(row) not in seen]
        seen.update(rows)
        if not rows:
            continue
        group = groups[i]
        if len(rows) < len(columns[i]):
            parts = [leaves[row] for row in rows]
            side = min(float(sides[part.members].min()) for part in parts)
            shape = maker.best(shapes([part.ground for part in parts]), side)
            if shape is None or shape.charged > group.shape.charged:
                shape = group.shape
            group = _merged_group(parts, shape)
        found.append(group)
    return found


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
            found.append(_merged_group(parts, shape))
        else:
            found += parts
    return found, saved


__all__ = ["Grouping", "group_pieces", "reach_m"]
