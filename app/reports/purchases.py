"""What was bought, from the ledger: added up in the database, so that a million entries are a few groups.

An event is a ledger entry of a tile, or a tile of a plan that something was bought of, but not of it: full HR
would have bought it too. A tile counts once, with the union of the patches that live purchases bought; money
and area of every purchase are added. What a tile counts changes at its events, and each change belongs to the
moment it happened: a second purchase adds only what is new, one that was taken back takes off what is then no
longer bought. So the groups of a period add up to the whole, and so do reports of one period after the other.
A product or an area by itself is what a report of only that would say: a tile of two counts in both.
"""

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.orm import Session

from app.core import money
from app.core.errors import NoExchangeRate
from app.reports import sql
from app.reports.question import Question
from app.reports.schemas import FullHrFigure, PurchaseGroup, SavingFigure

PATCHES: Final = 16

_COLUMNS: Final = (
    "plan_id, tile, order_id, product, currency, at, ends, sign, patches, area_km2, amount, alone"
)

# bought, taken back and corrected: each at its own time; what is taken back is what had been bought, with its
# corrections, which are no part of what patches alone cost. A correction and the fee of a cancelled order are
# money alone
_ENTRIES: Final = """
    SELECT e.plan_id, e.tile, e.order_id, e.product, e.currency, e.at, r.at AS ends,
        CASE WHEN e.kind IN ('correction', 'cancellation_fee') THEN 0 ELSE 1 END AS sign,
        e.patches, e.area_km2, e.amount, e.amount AS alone
    FROM ledger e LEFT JOIN ledger r ON r.corrects = e.id AND r.kind = 'reversal'
    WHERE e.org_id = :org AND e.tile IS NOT NULL AND e.kind <> 'reversal'
    UNION ALL
    SELECT r.plan_id, r.tile, r.order_id, r.product, r.currency, r.at, NULL, -1,
        r.patches, r.area_km2, r.amount, e.amount
    FROM ledger r JOIN ledger e ON e.id = r.corrects
    WHERE r.org_id = :org AND r.kind = 'reversal'"""

# of an ordered plan, the tiles that the order left out: with the order, and against it when it was cancelled
_LEFT_OUT: Final = """
    SELECT t.plan_id, t.tile, o.id, o.product, o.currency, m.at, c.at,
        CASE m."to" WHEN 'placed' THEN 1 ELSE -1 END, 0, 0, 0, 0
    FROM orders o
    JOIN order_moves m ON m.order_id = o.id
        AND (m."to" = 'placed' OR (m."to" = 'cancelled' AND m.here = 'placed'))
    LEFT JOIN order_moves c ON m."to" = 'placed' AND c.order_id = o.id AND c.here = 'placed'
        AND c."to" = 'cancelled'
    JOIN order_tiles t ON t.order_id = o.id AND t.patches = 0
    WHERE o.org_id = :org"""

# of a plan of which patches were bought by its own price, all tiles, those of which none came too: from when
# the first was bought until orders bought all that came. What comes later adds its patches then, and leaves
# what was said of the time before as it was
_BY_OWN_PRICE: Final = """
    SELECT t.plan_id, t.tile, NULL::uuid, a.product, a.currency, a.at, a.ends, a.sign, 0, 0, 0, 0
    FROM (
        SELECT plan_id, product, currency, at,
            CASE WHEN stand > 0 THEN lead(at) OVER in_time END AS ends,
            CASE WHEN stand > 0 THEN 1 ELSE -1 END AS sign
        FROM (
            SELECT *, lag(stand, 1, 0) OVER (PARTITION BY plan_id, product, currency ORDER BY at) AS stood
            FROM (
                SELECT plan_id, product, currency, at, sum(
                    sum(CASE kind WHEN 'acquisition' THEN 1 ELSE -1 END)
                ) OVER (PARTITION BY plan_id, product, currency ORDER BY at) AS stand
                FROM ledger
                WHERE org_id = :org AND (kind = 'acquisition' OR (kind = 'reversal' AND order_id IS NULL))
                GROUP BY plan_id, product, currency, at
            ) entries
        ) moments
        WHERE (stand > 0) <> (stood > 0)
        WINDOW in_time AS (PARTITION BY plan_id, product, currency ORDER BY at)
    ) a
    JOIN tiles t ON t.plan_id = a.plan_id"""


def purchases(session: Session, question: Question) -> list[PurchaseGroup]:
    """The groups of the ledger, ordered by their values; raises NoExchangeRate.

    ``sql.locate`` must have run where the question has areas.
    """
    values = sql.parameters(question)
    _check_rates(session, question, values)
    rows = session.execute(text(_statement(session, question)), values)
    groups = [_group(row, question) for row in rows]
    return sorted(groups, key=lambda group: _order(group.group, group.currency))


def _order(group: dict[str, str | None], currency: str | None) -> list[tuple[bool, str]]:
    return [(value is not None, value or "") for value in (*group.values(), currency)]


def _check_rates(session: Session, question: Question, values: dict[str, Any]) -> None:
    """Without a rate an amount that the question takes in would silently count for nothing."""
    if question.currency is None:
        return
    ctes, joins, columns = _class_and_aoi(question, question.needs_class)
    # what a tile counted before tells what the first event since adds to it
    where = " AND ".join(sql.conditions(replace(question, since=None), "f.at"))
    last = "true" if question.since is None else "f.last >= :since"
    query = f"""
WITH {"".join(cte + "," for cte in ctes)}
events ({_COLUMNS}) AS ({_ENTRIES} UNION ALL {_LEFT_OUT} UNION ALL {_BY_OWN_PRICE})
SELECT f.currency, min(f.at) FROM (
    SELECT f.currency, f.at, max(f.at) OVER (PARTITION BY f.plan_id, f.tile) AS last
    FROM (SELECT x.*, {", ".join(columns)} FROM events x {" ".join(joins)}) f
    JOIN plans p ON p.id = f.plan_id WHERE {where}
) f LEFT JOIN {_rates(question)} ON r.currency = f.currency AND {_in_force("f.at")}
WHERE {last} AND r.rate IS NULL GROUP BY f.currency ORDER BY f.currency"""  # noqa: S608
    missing = session.execute(text(query), values).first()
    if missing is not None:
        day = missing[1].date().isoformat()
        raise NoExchangeRate(
            f"There is no rate from {missing[0]} to {question.currency} on {day}: give"
            f" rate={day}:{missing[0]}=..., or leave currency out.",
            errors=[{"loc": ["query", "rate"], "detail": f"{missing[0]} on {day}"}],
        )


def _rates(question: Question) -> str:
    """The rates as a table of periods; the report's own currency is always worth 1."""
    rows = [f"('{question.currency}', '-infinity'::timestamptz, 'infinity'::timestamptz, 1::numeric)"]
    for rate in question.rates:
        later = [
            other.since
            for other in question.rates
            if other.currency == rate.currency and other.since > rate.since
        ]
        until = f"{min(later)}T00:00:00Z" if later else "infinity"
        rows.append(
            f"('{rate.currency}', '{rate.since}T00:00:00Z'::timestamptz, '{until}'::timestamptz,"
            f" {money.plain(rate.rate)}::numeric)"
        )
    return f"(VALUES {', '.join(rows)}) r (currency, since, until, rate)"


def _in_force(at: str) -> str:
    return f"{at} >= r.since AND {at} < r.until"


def _class_and_aoi(question: Question, classed: bool) -> tuple[list[str], list[str], list[str]]:
    """What says of an event ``x`` its tile's class, where ``classed``, and its area: CTEs, joins, columns."""
    ctes, joins, columns = [], [], ["NULL::text AS class", "NULL::text AS aoi"]
    if classed:
        ctes.append(sql.CLASSES)
        joins.append("LEFT JOIN classed k ON k.plan_id = x.plan_id AND k.tile = x.tile")
        columns[0] = "k.class AS class"
    if question.aois:
        # asked by area a tile counts in each that it lies in, else once however many hold it
        areas = "in_aoi" if "aoi" in question.group_by else "(SELECT DISTINCT plan_id, tile FROM in_aoi)"
        joins.append(f"JOIN {areas} i ON i.plan_id = x.plan_id AND i.tile = x.tile")
        columns[1] = "i.aoi AS aoi" if "aoi" in question.group_by else columns[1]
    return ctes, joins, columns


def _statement(session: Session, question: Question) -> str:
    """The whole question as one statement; values are bound, names are of closed lists."""
    labels = session.scalar(
        text(
            "SELECT EXISTS (SELECT FROM labels l JOIN plans p ON p.id = l.plan_id"
            " WHERE p.org_id = :org AND l.class_name IS NOT NULL)"
        ),
        {"org": question.org_id},
    )
    known = "NULL::boolean"
    ctes, joins, columns = _class_and_aoi(question, question.needs_class or bool(labels))
    if labels:
        ctes.append(sql.LABELS)
        joins.append("LEFT JOIN labelled b ON b.plan_id = x.plan_id AND b.tile = x.tile")
        known = "(k.class = b.class_name)"
    rate, currency = "1", "f.currency"
    if question.currency is not None:
        rate, currency = "r.rate", f"'{question.currency}'::text"
    keys = [sql.key_of(name, number, "f.at") for number, name in enumerate(question.group_by)]
    named = [f"{key} AS g{number}" for number, key in enumerate(keys)]
    groups = [f"g{number}" for number in range(len(keys))]
    rates = "" if question.currency is None else f"JOIN {_rates(question)} ON r.currency = f.currency AND "
    rates += "" if question.currency is None else _in_force("f.at")
    # what came before the question's time says what its first events add
    where = " AND ".join(sql.conditions(replace(question, since=None), "f.at"))
    since = "true" if question.since is None else "at >= :since"
    apart = [f"g{number}" for number, name in enumerate(question.group_by) if name in ("product", "aoi")]
    tile = ", ".join(["currency", "plan_id", "tile", *apart])
    moment = ", ".join(dict.fromkeys(["currency", "plan_id", "tile", *groups, "at"]))
    # the purchases that are live from a moment on for ever; those that end are looked up for each moment
    stays = "FILTER (WHERE sign = 1 AND ends IS NULL)"
    # only names of closed lists, checked currencies and numbers are written into the statement
    return f"""
WITH {"".join(cte + "," for cte in ctes)}
events ({_COLUMNS}) AS (
    {_ENTRIES} UNION ALL {_LEFT_OUT} UNION ALL {_BY_OWN_PRICE}
),
facts AS (
    SELECT x.*, {", ".join(columns)}, {known} AS correct FROM events x {" ".join(joins)}
),
priced AS (
    SELECT {", ".join([*named, f"{currency} AS currency"])}, f.plan_id, f.tile, f.at, f.ends, f.sign,
        f.patches, f.correct, f.area_km2, f.amount * {rate} AS amount,
        coalesce(t.full_total, s.price) * {rate} AS full_cost,
        coalesce(t.full_nominal, s.price) * {rate} AS full_nominal,
        coalesce(t.full_area_km2, s.area) AS full_area,
        coalesce(t.full_patches, s.patches) AS full_patches,
        CASE WHEN f.order_id IS NULL THEN f.alone ELSE t.nominal END * {rate} AS nominal
    FROM facts f
    JOIN plans p ON p.id = f.plan_id
    {rates}
    LEFT JOIN order_tiles t ON t.order_id = f.order_id AND t.plan_id = f.plan_id AND t.tile = f.tile
    LEFT JOIN tiles c ON f.order_id IS NULL AND c.plan_id = f.plan_id AND c.tile = f.tile
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE u.a > 0) AS patches, sum(u.a) AS area, sum(u.m) AS price
        FROM unnest(c.areas_km2, c.prices) u(a, m)
    ) s
    WHERE {where}
),
moments AS (
    SELECT {moment}, bool_and(correct) AS correct,
        sum(area_km2) AS area, sum(amount) AS amount, sum(nominal * sign) AS nominal,
        bit_or(patches) {stays} AS mask,
        min(full_cost) {stays} AS full_cost, min(full_nominal) {stays} AS full_nominal,
        max(full_area) {stays} AS full_area, max(full_patches) {stays} AS full_patches
    FROM priced GROUP BY {moment}
),
passing AS (
    SELECT {tile}, m.at, bit_or(o.patches) AS mask,
        min(o.full_cost) AS full_cost, min(o.full_nominal) AS full_nominal,
        max(o.full_area) AS full_area, max(o.full_patches) AS full_patches
    FROM moments m JOIN priced o USING ({tile})
    WHERE o.sign = 1 AND o.ends IS NOT NULL AND o.at <= m.at AND m.at < o.ends
    GROUP BY {tile}, m.at
),
states AS (
    SELECT {moment}, m.correct, m.area, m.amount, m.nominal,
        bit_count(int4send(
            coalesce(bit_or(m.mask) OVER so_far | p.mask, bit_or(m.mask) OVER so_far, p.mask)
        )) AS s,
        coalesce(least(min(m.full_cost) OVER so_far, p.full_cost), 0) AS full_cost,
        coalesce(least(min(m.full_nominal) OVER so_far, p.full_nominal), 0) AS full_nominal,
        coalesce(greatest(max(m.full_area) OVER so_far, p.full_area), 0) AS full_area,
        coalesce(greatest(max(m.full_patches) OVER so_far, p.full_patches), 0) AS full_patches
    FROM moments m LEFT JOIN passing p USING ({tile}, at)
    WINDOW so_far AS (PARTITION BY {tile} ORDER BY at)
),
changes AS (
    SELECT states.*, lag(s) OVER so_far AS s_was,
        full_cost - lag(full_cost, 1, 0) OVER so_far AS more_cost,
        full_nominal - lag(full_nominal, 1, 0) OVER so_far AS more_nominal,
        full_area - lag(full_area, 1, 0) OVER so_far AS more_area,
        full_patches - lag(full_patches, 1, 0) OVER so_far AS more_patches
    FROM states WINDOW so_far AS (PARTITION BY {tile} ORDER BY at)
)
SELECT {", ".join([*groups, "currency"])},
    {_change("s IS NOT NULL")} AS tiles, {_change("s > 0")} AS tiles_bought,
    coalesce(sum(s), 0) - coalesce(sum(s_was), 0) AS patches,
    sum(area) AS area, sum(amount) AS spent, sum(nominal) AS nominal,
    sum(more_cost) AS full_cost, sum(more_nominal) AS full_nominal,
    sum(more_area) AS full_area, sum(more_patches) AS full_patches,
    {_change("s IS NOT NULL", "correct IS NOT NULL")} AS labelled,
    {_change("s IS NOT NULL", "correct")} AS correct,
    sum(amount) FILTER (WHERE correct IS NOT NULL) AS spent_on_labelled,
    {", ".join(f"{_change(f's = {n}')} AS s{n}" for n in range(PATCHES + 1))}
FROM changes WHERE {since} GROUP BY {", ".join([*groups, "currency"])}
"""  # noqa: S608


def _change(of_s: str, and_of: str = "true") -> str:
    """By how many more tiles a condition on S holds after the changes than before them."""
    was = of_s.replace("s ", "s_was ", 1)
    return f"count(*) FILTER (WHERE {of_s} AND {and_of}) - count(*) FILTER (WHERE {was} AND {and_of})"


def _group(row: Row[Any], question: Question) -> PurchaseGroup:
    currency: str = row.currency
    values = {name: getattr(row, f"g{number}") for number, name in enumerate(question.group_by)}

    def total(amount: Decimal | None) -> Decimal:
        return money.total_of(amount or Decimal(0), currency)

    tiles, labelled, correct = int(row.tiles), int(row.labelled), int(row.correct)
    spent, full, full_alone, alone = (
        total(amount) for amount in (row.spent, row.full_cost, row.full_nominal, row.nominal)
    )
    histogram = [int(getattr(row, f"s{n}")) for n in range(PATCHES + 1)]
    # what is taken off tiles that another period counted leaves no tiles to take a mean of
    own = min(histogram) >= 0 and 0 <= correct <= labelled
    return PurchaseGroup(
        group=values,
        currency=currency,
        tiles=tiles,
        tiles_bought=int(row.tiles_bought),
        patches=int(row.patches),
        s_mean=round(int(row.patches) / tiles, 6) if tiles > 0 and own else None,
        s_histogram=histogram,
        area_km2=row.area,
        spent=spent,
        nominal_cost=alone,
        full_hr=FullHrFigure(
            patches=int(row.full_patches),
            area_km2=row.full_area,
            cost=full,
            nominal_cost=full_alone,
        ),
        nominal_saving=_saving(full_alone, alone),
        real_saving=_saving(full, spent),
        labelled=labelled,
        correct=correct if labelled else None,
        accuracy=round(correct / labelled, 6) if labelled > 0 and own else None,
        cost_per_correct=total(row.spent_on_labelled / correct) if correct > 0 and own else None,
    )


def _saving(full: Decimal, paid: Decimal) -> SavingFigure:
    saved = full - paid
    return SavingFigure(cost=saved, share=round(float(saved / full), 6) if full > 0 else None)


def polygons(session: Session, question: Question, most: int) -> Iterator[dict[str, Any]]:
    """Up to ``most`` polygons of orders that were bought, the largest first, for the map."""
    values = sql.parameters(question) | {"most": most}
    where = " AND ".join(sql.conditions(question, "f.placed_at"))
    query = f"""
SELECT DISTINCT l.order_id, l.line, l.geometry, l.area_km2 FROM (
    SELECT o.id, o.placed_at, o.product, NULL::text AS class FROM orders o
    WHERE o.org_id = :org AND o.state IN ('placed', 'received')
) f
JOIN order_plans q ON q.order_id = f.id
JOIN plans p ON p.id = q.plan_id
JOIN order_lines l ON l.order_id = f.id
WHERE {where}
ORDER BY l.area_km2 DESC LIMIT :most"""  # noqa: S608
    for row in session.execute(text(query), values):
        yield row.geometry


def points(session: Session, question: Question, most: int) -> list[tuple[float, float]]:
    """Up to ``most`` middles of tiles that were bought without an order."""
    values = sql.parameters(question) | {"most": most}
    where = " AND ".join(sql.conditions(question, "f.at"))
    query = f"""
SELECT DISTINCT f.lon, f.lat FROM (
    SELECT e.*, NULL::text AS class FROM ledger e
    WHERE e.org_id = :org AND e.kind = 'acquisition' AND e.lon IS NOT NULL
        AND NOT EXISTS (SELECT FROM ledger r WHERE r.corrects = e.id AND r.kind = 'reversal')
) f JOIN plans p ON p.id = f.plan_id WHERE {where} LIMIT :most"""  # noqa: S608
    return [(row.lon, row.lat) for row in session.execute(text(query), values)]
