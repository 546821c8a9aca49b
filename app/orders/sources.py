"""What an order is drafted from: what plans chose, a budget buys, or classifications say to buy next."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.budgets.service import MAX_TILES
from app.budgets.tables import Budget, BudgetTile
from app.classifications.tables import Classification, ClassifiedTile
from app.core.errors import Conflict, NotFound, Unprocessable
from app.core.work import WorkStatus
from app.orders.had import Tile
from app.orders.schemas import OrderForm
from app.plans.service import get_ready_plan
from app.plans.tables import Plan


@dataclass(frozen=True)
class Source:
    """Ready plans, and what to buy of their tiles: ``bought`` is None where that is what the plans chose.

    What is there already is still in it. A budget may be about some tiles of a plan; then only those are in
    ``bought``.
    """

    plans: list[Plan]
    bought: dict[Tile, frozenset[int]] | None
    budget: Budget | None = None


def source_of(session: Session, org_id: uuid.UUID, form: OrderForm) -> Source:
    """Raises NotFound, Conflict for what is not ready, and Unprocessable for what says no patches or is about
    more tiles than an order may be.
    """
    budget, bought = None, None
    if form.budget is not None:
        budget, bought = _budget(session, org_id, form.budget)
    elif form.classifications is not None:
        bought = _next(session, org_id, form.classifications)
    plan_ids = form.plans if bought is None else dict.fromkeys(plan_id for plan_id, _ in bought)
    plans = [get_ready_plan(session, org_id, each) for each in plan_ids or ()]
    if bought is None:
        _check_tiles("plans", sum(plan.tile_count for plan in plans))
    return Source(plans, bought, budget)


def _check_tiles(name: str, count: int) -> None:
    # a budget has no more by itself
    if count > MAX_TILES:
        raise _refused(f"An order is over {MAX_TILES} tiles at most, not {count}.", name)


def _budget(
    session: Session, org_id: uuid.UUID, budget_id: uuid.UUID
) -> tuple[Budget, dict[Tile, frozenset[int]]]:
    budget = session.scalar(select(Budget).where(Budget.id == budget_id, Budget.org_id == org_id))
    if budget is None:
        raise NotFound(f"There is no budget {budget_id}.")
    if budget.status != WorkStatus.READY:
        raise Conflict(f"The budget is {budget.status}, not ready.", budget_status=budget.status)
    rows = session.execute(
        select(BudgetTile.plan_id, BudgetTile.tile, BudgetTile.bought)
        .where(BudgetTile.budget_id == budget_id)
        .order_by(BudgetTile.position)
    )
    return budget, {(plan_id, tile): frozenset(patches) for plan_id, tile, patches in rows}


def _next(session: Session, org_id: uuid.UUID, ids: Sequence[uuid.UUID]) -> dict[Tile, frozenset[int]]:
    """What to buy of every tile."""
    rows: dict[uuid.UUID, Classification] = {}
    count = 0
    for row_id in ids:
        known = session.execute(
            select(Classification, Plan.tile_count)
            .join(Plan, Plan.id == Classification.plan_id)
            .where(Classification.id == row_id, Plan.org_id == org_id)
        ).first()
        if known is None:
            raise NotFound(f"There is no classification {row_id}.")
        row = known.Classification
        if row.status != WorkStatus.READY:
            raise Conflict(f"The classification {row_id} is {row.status}, not ready.")
        if row.plan_id in rows:
            raise _refused(f"The plan {row.plan_id} has two classifications here: name the newer one.")
        rows[row.plan_id] = row
        count += known.tile_count
    _check_tiles("classifications", count)
    found: dict[Tile, frozenset[int]] = {}
    for row in rows.values():
        found |= _of_one(session, row)
    return found


def _of_one(session: Session, row: Classification) -> dict[Tile, frozenset[int]]:
    told = session.execute(
        select(ClassifiedTile.tile, ClassifiedTile.buy_next)
        .where(ClassifiedTile.classification_id == row.id)
        .order_by(ClassifiedTile.tile)
    )
    found = {}
    for tile, patches in told:
        if patches is None:
            raise _refused(
                f"The classification {row.id} does not say what to buy next: its release looks once, or its "
                "plan has a budget."
            )
        found[row.plan_id, tile] = frozenset(patches)
    return found


def _refused(detail: str, name: str = "classifications") -> Unprocessable:
    return Unprocessable(detail, errors=[{"loc": ["body", name], "detail": detail}])
