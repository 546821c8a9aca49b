"""Which of many groups to order, so that every piece is in one or is given up: a set cover, by HiGHS."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import highspy
import numpy as np
from numpy.typing import NDArray

from app.orderable.ground import Floats
from app.orderable.pieces import Ints

GAP: Final = 1e-4


@dataclass(frozen=True)
class Choice:
    """The groups taken, the pieces given up, the least cost not ruled out, whether it is met."""

    taken: list[int]
    given_up: NDArray[np.bool_]
    cost: float
    bound: float
    optimal: bool


def choose(groups: Sequence[Ints], costs: Floats, loss: Floats, time_limit_s: float) -> Choice:
    """The cheapest choice of ``groups`` (numbers of pieces), each piece covered or lost for ``loss``.

    ``loss`` is inf where a piece must be covered; then some group must hold it. Costs in any one unit. When
    the time is over, the best choice so far (at worst a greedy one) with the bound reached.
    """
    start = _greedy(groups, costs, loss)
    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    for option, value in (
        ("output_flag", False),
        ("threads", 1),
        ("time_limit", max(time_limit_s, 0.05)),
        ("mip_rel_gap", GAP),
        ("random_seed", 1),
    ):
        solver.setOptionValue(option, value)
    droppable = np.flatnonzero(np.isfinite(loss))
    solver.passModel(_model(groups, costs, loss, droppable))
    first = highspy.HighsSolution()
    first.col_value = [*start.astype(float), *(_lost(groups, start, len(loss))[droppable]).astype(float)]
    solver.setSolution(first)
    solver.run()
    info = solver.getInfo()
    values = np.array(solver.getSolution().col_value)
    found = start
    if len(values) == len(costs) + len(droppable) and info.primal_solution_status == 2:
        found = values[: len(costs)] > 0.5
    if _cost(groups, costs, loss, found) > _cost(groups, costs, loss, start) + 1e-12:
        found = start
    cost = _cost(groups, costs, loss, found)
    optimal = solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    bound = min(max(float(info.mip_dual_bound), 0.0), cost)
    taken = [int(number) for number in np.flatnonzero(found)]
    return Choice(taken, _lost(groups, found, len(loss)), cost, cost if optimal else bound, optimal)


def _model(groups: Sequence[Ints], costs: Floats, loss: Floats, droppable: Ints) -> highspy.HighsLp:
    columns = [*groups, *droppable[:, None]]
    count = len(columns)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = count, len(loss)
    model.col_cost_ = np.concatenate([costs, loss[droppable]])
    model.col_lower_, model.col_upper_ = np.zeros(count), np.ones(count)
    model.row_lower_, model.row_upper_ = np.ones(len(loss)), np.full(len(loss), highspy.kHighsInf)
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lengths = np.array([len(column) for column in columns])
    model.a_matrix_.start_ = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    model.a_matrix_.index_ = np.concatenate(columns).astype(np.int32)
    model.a_matrix_.value_ = np.ones(int(lengths.sum()))
    model.integrality_ = [highspy.HighsVarType.kInteger] * count
    return model


def _greedy(groups: Sequence[Ints], costs: Floats, loss: Floats) -> NDArray[np.bool_]:
    """Always the group that costs least for each piece it adds, lost pieces counting what they are worth."""
    left = np.ones(len(loss), dtype=bool)
    taken = np.zeros(len(groups), dtype=bool)
    owner = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    piece = np.concatenate(groups)
    while left.any():
        fresh = np.bincount(owner[left[piece]], minlength=len(groups))
        if not fresh.any():
            break
        rate = np.where(fresh > 0, costs / np.maximum(fresh, 1), np.inf)
        best = int(np.argmin(rate))
        members = groups[best][left[groups[best]]]
        left[groups[best]] = False
        if loss[members].sum() <= costs[best]:
            continue
        taken[best] = True
    return taken


def _lost(groups: Sequence[Ints], taken: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    lost = np.ones(count, dtype=bool)
    for number in np.flatnonzero(taken).tolist():
        lost[groups[number]] = False
    return lost


def _cost(groups: Sequence[Ints], costs: Floats, loss: Floats, taken: NDArray[np.bool_]) -> float:
    lost = _lost(groups, taken, len(loss))
    return float(costs[taken].sum() + loss[lost].sum())
