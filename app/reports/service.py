"""The nominal half of the savings report, from plans: every figure can be worked out again from the rows.

A plan's three totals are: ``every`` and ``planned`` as kept with the plan, and ``bought``, the sum of its
received patches' unrounded prices, rounded like the other two (half to even, minor unit). Groups add totals
of plans and round nothing. Where a group is a part of plans (by class, by area) the part is rounded like a
plan; where amounts are converted, the group's sum is rounded at the end.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from app.core import money
from app.core.errors import NoExchangeRate
from app.ledger.tables import AD_HOC
from app.reports import sql
from app.reports.question import Question, refused
from app.reports.schemas import BoughtFigure, Figure, Saving, SavingsGroup

PLANS_A_FETCH = 2000
STRFTIME = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}


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

    def add(self, plan: Row[Any], rate: Decimal | None) -> None:
        """A plan, or the part of one that belongs to the group; ``rate`` converts its amounts."""
        self.plans += 1
        self.plans_with_purchases += plan.bought_count > 0
        self.tiles += plan.tile_count
        self.chosen_bought += plan.bought_chosen

        def cost(unrounded: Decimal | None) -> Decimal | None:
            if unrounded is None or plan.currency is None:
                return None
            return money.EXACT.multiply(money.total_of(unrounded, plan.currency), rate or Decimal(1))

        self.every.add(plan.patch_count, plan.area_km2, cost(plan.cost))
        self.planned.add(plan.chosen_count, plan.chosen_area_km2, cost(plan.chosen_cost))
        self.bought.add(plan.bought_count, plan.bought_area, cost(plan.bought_price))

    def out(self, group: dict[str, str | None], currency: str | None) -> SavingsGroup:
        def cost(of: _Sum) -> Decimal | None:
            # the sum of totals is one already, unless they were converted
            return None if currency is None else money.total_of(of.cost, currency)

        def figure(of: _Sum) -> Figure:
            return Figure(patches=of.patches, area_km2=of.area, cost=cost(of))

        def saving(of: _Sum) -> Saving:
            area = money.EXACT.subtract(self.every.area, of.area)
            every, paid = cost(self.every), cost(of)
            spared = None if every is None or paid is None else money.EXACT.subtract(every, paid)
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


def savings(session: Session, question: Question) -> list[SavingsGroup]:
    """The groups of an organisation's ready plans posted in [since, until), ordered by their values.

    ``sql.locate`` must have run where the question has areas. Raises NoExchangeRate.
    """
    groups: dict[tuple[str | None, ...], _Group] = {}
    for plan in _plans(session, question):
        currency, rate = plan.currency, None
        if currency is not None and question.currency is not None:
            rate = rate_on(question, currency, plan.created_at.astimezone(UTC).date())
            currency = question.currency
        key = (*(_value(plan, name) for name in question.group_by), currency)
        groups.setdefault(key, _Group()).add(plan, rate)
    ordered = sorted(groups, key=lambda key: [(value is not None, value or "") for value in key])
    return [groups[key].out(dict(zip(question.group_by, key[:-1], strict=True)), key[-1]) for key in ordered]


def check_order(question: Question) -> None:
    """Raises Unprocessable when the end is before the beginning."""
    if question.since is not None and question.until is not None and question.until < question.since:
        raise refused("to", "to is before from.")


def rate_on(question: Question, currency: str, day: date) -> Decimal:
    """What one unit of a currency was worth on that day; raises NoExchangeRate."""
    if currency == question.currency:
        return Decimal(1)
    given = [rate for rate in question.rates if rate.currency == currency and rate.since <= day]
    if not given:
        raise NoExchangeRate(
            f"There is no rate from {currency} to {question.currency} on {day}: give"
            f" rate={day}:{currency}=..., or leave currency out.",
            errors=[{"loc": ["query", "rate"], "detail": f"{currency} on {day}"}],
        )
    return max(given, key=lambda rate: rate.since).rate


def _value(plan: Row[Any], name: str) -> str | None:
    if name in STRFTIME:
        posted: datetime = plan.created_at
        return posted.astimezone(UTC).strftime(STRFTIME[name])
    if name.startswith("tag:"):
        found = plan.tags.get(name[4:])
        return None if found is None else str(found)
    found = getattr(plan, "class" if name == "class" else name)
    return None if found is None else str(found)


# what a plan was priced with: NULL where it has no price
_PRODUCT = """coalesce(
        (p.product ->> 'price_list') || '/' || (p.product ->> 'key') || '@' || (p.product ->> 'version'),
        CASE WHEN p.currency IS NOT NULL THEN :ad_hoc END
    )"""

# a plan as it was totalled
_OF_PLANS = """
SELECT p.created_at, p.release, p.tags, p.currency, f.product, NULL AS class, NULL AS aoi,
    p.tile_count, p.patch_count, p.area_km2, p.cost, p.chosen_count, p.chosen_area_km2, p.chosen_cost,
    coalesce(b.patches, 0) AS bought_count, coalesce(b.chosen, 0) AS bought_chosen,
    coalesce(b.area, 0) AS bought_area, coalesce(b.price, 0) AS bought_price
FROM plans p
CROSS JOIN LATERAL (
    SELECT {product} AS product, NULL::text AS class
) f
LEFT JOIN (
    SELECT r.plan_id, count(*) AS patches, count(*) FILTER (WHERE r.chosen) AS chosen,
        sum(r.area_km2) AS area, sum(r.price) AS price
    FROM received_patches r JOIN plans q ON q.id = r.plan_id
    WHERE q.org_id = :org AND r.superseded_in IS NULL GROUP BY r.plan_id
) b ON b.plan_id = p.id
WHERE p.status = 'ready' AND {where}"""

# the part of a plan that is of one class, or in one area
_OF_TILES = """
WITH {classes} facts AS (
    SELECT t.plan_id, t.tile, {class_} AS class, {aoi} AS aoi, t.areas_km2, t.prices, t.chosen
    FROM tiles t {joins}
),
bought AS (
    SELECT r.plan_id, r.tile, count(*) AS patches, count(*) FILTER (WHERE r.chosen) AS chosen,
        sum(r.area_km2) AS area, sum(r.price) AS price
    FROM received_patches r JOIN plans q ON q.id = r.plan_id
    WHERE q.org_id = :org AND r.superseded_in IS NULL GROUP BY r.plan_id, r.tile
)
SELECT p.created_at, p.release, p.tags, p.currency, f.product, f.class, f.aoi,
    count(*) AS tile_count, sum(s.patches) AS patch_count, sum(s.area) AS area_km2, sum(s.price) AS cost,
    sum(s.chosen) AS chosen_count, coalesce(sum(s.chosen_area), 0) AS chosen_area_km2,
    coalesce(sum(s.chosen_price), 0) AS chosen_cost,
    coalesce(sum(b.patches), 0) AS bought_count, coalesce(sum(b.chosen), 0) AS bought_chosen,
    coalesce(sum(b.area), 0) AS bought_area, coalesce(sum(b.price), 0) AS bought_price
FROM plans p
JOIN (
    SELECT g.*, {product} AS product FROM facts g JOIN plans p ON p.id = g.plan_id
) f ON f.plan_id = p.id
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE u.a > 0) AS patches, sum(u.a) AS area, sum(u.m) AS price,
        count(*) FILTER (WHERE u.c) AS chosen, sum(u.a) FILTER (WHERE u.c) AS chosen_area,
        sum(u.m) FILTER (WHERE u.c) AS chosen_price
    FROM unnest(f.areas_km2, f.prices, f.chosen) u(a, m, c)
) s
LEFT JOIN bought b ON b.plan_id = f.plan_id AND b.tile = f.tile
WHERE p.status = 'ready' AND {where}
GROUP BY p.id, f.product, f.class, f.aoi"""


def _plans(session: Session, question: Question) -> Iterator[Row[Any]]:
    where = " AND ".join(sql.conditions(question, "p.created_at"))
    if question.needs_class or question.aois:
        joins, named = [], "aoi" in question.group_by
        if question.needs_class:
            joins.append("LEFT JOIN classed k ON k.plan_id = t.plan_id AND k.tile = t.tile")
        if question.aois:
            areas = "in_aoi" if named else "(SELECT DISTINCT plan_id, tile FROM in_aoi)"
            joins.append(f"JOIN {areas} i ON i.plan_id = t.plan_id AND i.tile = t.tile")
        statement = _OF_TILES.format(
            classes=f"{sql.CLASSES}," if question.needs_class else "",
            class_="k.class" if question.needs_class else "NULL::text",
            aoi="i.aoi" if question.aois and named else "NULL::text",
            joins=" ".join(joins),
            product=_PRODUCT,
            where=where,
        )
    else:
        statement = _OF_PLANS.format(product=_PRODUCT, where=where)
    values = {**sql.parameters(question), "ad_hoc": AD_HOC}
    rows: Iterable[Row[Any]] = session.execute(
        text(statement), values, execution_options={"yield_per": PLANS_A_FETCH}
    )
    yield from rows
