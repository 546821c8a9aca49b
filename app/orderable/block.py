"""One block of neighbouring groups: polygons worth considering, and which of them to order, by the solver."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely

from app.orderable import cover, pool
from app.orderable.ground import Floats, Frame, Shapes, shapes
from app.orderable.pieces import Group, Ints
from app.orderable.shapes import Shape, ShapeMaker

# polygons made for one block beside its pieces
_MOST_COLUMNS: Final = 600
# the solver's choice is changed here and there, and solved again, so often; polygons made for that each time
_ROUNDS: Final = 3
_MOST_CHANGES: Final = 400
DEFICIT: Final = 1 + 1e-9
# for a block of few outlines, also when time is over
_LEAST_S: Final = 0.02


@dataclass(frozen=True)
class Block:
    """Groups to be joined or not, and the sets of them (numbers) that merging passed by."""

    leaves: list[Group]
    steps: list[list[int]]


def solve(
    maker: ShapeMaker, block: Block, lossy: Sequence[Group], sides: Floats, loss: Floats, limit_s: float
) -> tuple[list[Group], Ints, float, bool]:
    """The cheapest groups of a block found in ``limit_s``, the pieces given up, a bound, whether it is met.

    ``loss`` is as ``group_pieces`` has it; the bound is over the polygons that were looked at.
    """
    leaves = block.leaves
    row_loss = np.array([loss[leaf.members].sum() for leaf in leaves])
    least = np.array([leaf.shape.charged for leaf in leaves])
    perfect = all(leaf.shape.charged <= leaf.area * DEFICIT for leaf in leaves)
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
        return merged_group(self.leaves, shape)

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
                self.groups.append(merged_group(parts, shape))

    def choose(self, row_loss: Floats, stop: float) -> cover.Choice:
        """The cheapest of them, as far as the solver gets until ``stop``."""
        costs = np.array([group.shape.charged for group in self.groups])
        return cover.choose(self.rows, costs, row_loss, stop - time.monotonic())


def merged_group(parts: Sequence[Group], shape: Shape) -> Group:
    """Groups as one, in the polygon ``shape``."""
    ground = shapely.multipolygons([one for part in parts for one in shapely.get_parts(part.ground)])
    members = np.sort(np.concatenate([part.members for part in parts]))
    return Group(members, shape, ground, sum(part.area for part in parts))


def _wanted(maker: ShapeMaker, block: Block, outline: Shapes) -> Iterable[Ints]:
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
            group = merged_group(parts, shape)
        found.append(group)
    return found
