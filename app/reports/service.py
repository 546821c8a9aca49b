"""The savings report: sums of plans' totals, so that every figure can be worked out again from the rows.

A plan's three totals are: ``every`` and ``planned`` as kept with the plan, and ``bought``, the sum of its
received patches' unrounded prices, rounded like the other two (half to even, minor unit). Groups add totals
of plans and round nothing.
"""

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from app.acquisitions.tables import ReceivedPatch
from app.core import money
from app.core.errors import Unprocessable
from app.core.work import WorkStatus
from app.plans.tables import Plan
from app.reports.schemas import BoughtFigure, Figure, Saving, SavingsGroup

PERIODS: Final = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}
MAX_GROUPINGS: Final = 4
PLANS_A_FETCH: Final = 2000

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def read_moment(name: str, text: str | None) -> datetime | None:
    """A date (its midnight in UTC) or a date and time (UTC unless it says so); raises Unprocessable."""
    if text is None:
        return None
    try:
        if _DATE.fullmatch(text):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _refused(name, f"{name} must be a date such as 2026-11-01, or a date and time.") from None


def read_groupings(values: Iterable[str]) -> list[str]:
    """``group_by`` once or several times, with commas or without: day, week, month, release, tag:KEY.

    Raises Unprocessable for other words, more than one period, or more than four groupings.
    """
    names: list[str] = []
    for value in values:
        for part in value.split(","):
            name = part.strip().removeprefix("period:")
            known = (
                name in PERIODS or name in ("release", "currency") or (name[:4] == "tag:" and len(name) > 4)
            )
            if not known:
                raise _refused("group_by", "group_by takes day, week, month, release, currency and tag:KEY.")
            # groups are separated by currency anyway
            if name != "currency" and name not in names:
                names.append(name)
    if sum(name in PERIODS for name in names) > 1 or len(names) > MAX_GROUPINGS:
        raise _refused("group_by", f"group_by takes one period, and {MAX_GROUPINGS} groupings at most.")
    return names


def _refused(name: str, detail: str) -> Unprocessable:
    return Unprocessable(detail, errors=[{"loc": ["query", name], "detail": detail}])


@dataclass
class _Sum:
    patches: int = 0
    area: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)

    def add(self, patches: int, area: Decimal, cost: Decimal | None) -> None:
        self.patches += patches
        self.area = money.EXACT.add(self.area, area)
        # 0.00 is false too, but has the digits of its currency
        self.cost = money.EXACT.add(self.cost, Decimal(0) if cost is None else cost)


class _Group:
    def __init__(self) -> None:
        self.plans = self.plans_with_purchases = self.tiles = self.chosen_bought = 0
        self.every, self.planned, self.bought = _Sum(), _Sum(), _Sum()

    def add(self, plan: Row[Any]) -> None:
        self.plans += 1
        self.plans_with_purchases += plan.bought_count > 0
        self.tiles += plan.tile_count
        self.chosen_bought += plan.bought_chosen
        self.every.add(plan.patch_count, plan.area_km2, plan.cost)
        self.planned.add(plan.chosen_count, plan.chosen_area_km2, plan.chosen_cost)
        cost = None if plan.currency is None else money.total_of(plan.bought_price, plan.currency)
        self.bought.add(plan.bought_count, plan.bought_area, cost)

    def out(self, group: dict[str, str | None], currency: str | None) -> SavingsGroup:
        def cost(of: _Sum) -> Decimal | None:
            return None if currency is None else of.cost

        def figure(of: _Sum) -> Figure:
            return Figure(patches=of.patches, area_km2=of.area, cost=cost(of))

        def saving(of: _Sum) -> Saving:
            area = money.EXACT.subtract(self.every.area, of.area)
            spared = None if currency is None else money.EXACT.subtract(self.every.cost, of.cost)
            share = float(area / self.every.area) if self.every.area else None
            return Saving(area_km2=area, cost=spared, area_share=share)

        return SavingsGroup(
            group=group,
            currency=currency,
            plans=self.plans,
            plans_with_purchases=self.plans_with_purchases,
            tiles=self.tiles,
            every=figure(self.every),
            planned=figure(self.planned),
            bought=BoughtFigure(**figure(self.bought).model_dump(), chosen=self.chosen_bought),
            saving=saving(self.bought),
            planned_saving=saving(self.planned),
        )


def savings(
    session: Session,
    org_id: uuid.UUID,
    since: datetime | None,
    until: datetime | None,
    group_by: Sequence[str],
) -> list[SavingsGroup]:
    """The groups of an organisation's ready plans posted in [since, until), ordered by their values.

    Raises Unprocessable when the end is before the beginning.
    """
    if since is not None and until is not None and until < since:
        raise _refused("to", "to is before from.")
    groups: dict[tuple[str | None, ...], _Group] = {}
    for plan in _plans(session, org_id, since, until):
        key = (*(_value(plan, name) for name in group_by), plan.currency)
        groups.setdefault(key, _Group()).add(plan)
    ordered = sorted(groups, key=lambda key: [(value is not None, value or "") for value in key])
    return [groups[key].out(dict(zip(group_by, key[:-1], strict=True)), key[-1]) for key in ordered]


def _value(plan: Row[Any], name: str) -> str | None:
    if name in PERIODS:
        posted: datetime = plan.created_at
        return posted.astimezone(UTC).strftime(PERIODS[name])
    if name == "release":
        return str(plan.release)
    found = plan.tags.get(name[4:])
    return None if found is None else str(found)


def _plans(
    session: Session, org_id: uuid.UUID, since: datetime | None, until: datetime | None
) -> Iterator[Row[Any]]:
    wanted = [Plan.org_id == org_id, Plan.status == WorkStatus.READY]
    if since is not None:
        wanted.append(Plan.created_at >= since)
    if until is not None:
        wanted.append(Plan.created_at < until)
    bought = (
        select(
            ReceivedPatch.plan_id,
            func.count().label("patches"),
            func.count().filter(ReceivedPatch.chosen).label("chosen"),
            func.sum(ReceivedPatch.area_km2).label("area"),
            func.sum(ReceivedPatch.price).label("price"),
        )
        .where(ReceivedPatch.superseded_in.is_(None))
        .where(ReceivedPatch.plan_id.in_(select(Plan.id).where(*wanted)))
        .group_by(ReceivedPatch.plan_id)
        .subquery()
    )
    query = (
        select(
            *(Plan.created_at, Plan.release, Plan.tags, Plan.currency, Plan.tile_count),
            *(Plan.patch_count, Plan.area_km2, Plan.cost),
            *(Plan.chosen_count, Plan.chosen_area_km2, Plan.chosen_cost),
            func.coalesce(bought.c.patches, 0).label("bought_count"),
            func.coalesce(bought.c.chosen, 0).label("bought_chosen"),
            func.coalesce(bought.c.area, Decimal(0)).label("bought_area"),
            func.coalesce(bought.c.price, Decimal(0)).label("bought_price"),
        )
        .outerjoin(bought, bought.c.plan_id == Plan.id)
        .where(*wanted)
    )
    rows: Iterable[Row[Any]] = session.execute(query.execution_options(yield_per=PLANS_A_FETCH))
    yield from rows
