"""The savings report as one HTML page that needs nothing else: numbers, four plots, the groups."""

import html
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final

from shapely import Point
from shapely.geometry import shape
from sqlalchemy.orm import Session

from app.core.money import plain
from app.reports import plots
from app.reports.purchases import points, polygons, purchases
from app.reports.question import Question
from app.reports.schemas import PurchaseGroup, SavingFigure, SavingsGroup, SavingsOut

MOST_SHAPES: Final = 2000
MOST_DAYS: Final = 62
MOST_ROWS: Final = 500

STYLE: Final = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1380px; margin: 0 auto; padding: 1.5rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.05rem; margin: 0 0 .5rem }
p.sub { color: #666; margin: .2rem 0 1.4rem }
.cards, .plots { display: grid; gap: 1rem; margin-bottom: 1.6rem }
.cards { grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)) }
.plots { grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)) }
.card, section { border: 1px solid #ddd; border-radius: 8px; padding: .9rem .8rem; min-width: 0 }
section { display: flex; flex-direction: column } section > .none { margin: auto }
.card b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums }
.card span { color: #666; font-size: .85rem }
svg { width: 100%; height: auto; display: block } svg text { font-size: 12px; fill: #444 }
svg .n { font-size: 12.5px; fill: #222 } svg .g { stroke: #e4e4e4 } svg .f { fill: #fafafa; stroke: #ccc }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .4rem 0 0; padding: 0;
  font-size: .85rem } .legend span { display: inline-block; width: .8em; height: .8em; margin-right: .4em }
.wide { overflow-x: auto; margin-bottom: 1.6rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; min-width: 100% }
th, td { padding: .3rem .4rem; text-align: right; border-bottom: 1px solid #eee }
th { border-bottom: 1px solid #bbb; vertical-align: bottom }
th.t, td.t { text-align: left } td.t { overflow-wrap: anywhere; min-width: 3.5em }
.none { color: #666; margin: 2rem 0; text-align: center }
footer { color: #666; font-size: .85rem }
"""

Column = tuple[str, Callable[[PurchaseGroup], str]]
PURCHASES: Final[tuple[Column, ...]] = (
    ("tiles", lambda group: str(group.tiles)),
    ("patches", lambda group: str(group.patches)),
    ("S", lambda group: "" if group.s_mean is None else f"{group.s_mean:.2f}"),
    ("km²", lambda group: f"{group.area_km2:.4f}"),
    ("spent", lambda group: plain(group.spent)),
    ("full HR", lambda group: plain(group.full_hr.cost)),
    ("real saving", lambda group: saving(group.real_saving)),
    ("nominal saving", lambda group: saving(group.nominal_saving)),
    ("accuracy", lambda group: percent(group.accuracy)),
    ("labelled", lambda group: str(group.labelled or "")),
    ("per correct", lambda group: "" if group.cost_per_correct is None else plain(group.cost_per_correct)),
)


def render(session: Session, question: Question, report: SavingsOut) -> str:
    """The page of a report; the plots are asked for with the report's own filters."""
    whole = purchases(session, replace(question, group_by=()))
    parts = [f"<h1>Savings</h1><p class=sub>{_e(_subtitle(question))}</p>"]
    parts += [_cards(group) for group in whole] or [
        "<p class=none>The ledger holds nothing for this question.</p>"
    ]
    parts.append(f'<div class="plots">{"".join(_plots(session, question, whole))}</div>')
    parts.append(_purchases(report.purchases, question))
    parts.append(_plans(report.groups, question))
    parts.append(
        "<footer>Spent: the ledger's entries, by their own date. Full HR: every patch of the same tiles as "
        "one order of the same product, by the same vendor's rules. Nominal: as if patches could be bought "
        "alone, without minimum and fee. Amounts are rounded half to even, once, to the minor unit."
        f"<br>Made {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.</footer>"
    )
    head = f"<meta charset=utf-8><title>Savings</title><style>{STYLE}</style>"
    head += '<meta name="viewport" content="width=device-width">'
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>"


def _subtitle(question: Question) -> str:
    since = "the beginning" if question.since is None else f"{question.since:%Y-%m-%d %H:%M} UTC"
    until = "now" if question.until is None else f"{question.until:%Y-%m-%d %H:%M} UTC"
    filters = [f"{key} = {value}" for key, value in question.tags]
    filters += [*question.products, *question.releases, *question.classes]
    filters += [f"area {aoi.name}" for aoi in question.aois]
    only = f"; only {', '.join(filters)}" if filters else ""
    into = f"; converted to {question.currency}" if question.currency else ""
    return f"From {since} to {until}{only}{into}."


def _cards(group: PurchaseGroup) -> str:
    money = group.currency
    cards = [
        ("spent", f"{plain(group.spent)} {money}"),
        ("full HR, same rules", f"{plain(group.full_hr.cost)} {money}"),
        (f"real saving, {percent(group.real_saving.share)}", f"{plain(group.real_saving.cost)} {money}"),
        (
            f"nominal saving, {percent(group.nominal_saving.share)}",
            f"{plain(group.nominal_saving.cost)} {money}",
        ),
        ("patches bought", f"{group.patches} of {group.full_hr.patches}"),
        ("S, patches a tile", "" if group.s_mean is None else f"{group.s_mean:.2f}"),
    ]
    if group.accuracy is not None:
        cards.append((f"accuracy on {group.labelled} labelled tiles", percent(group.accuracy)))
    if group.cost_per_correct is not None:
        cards.append(("per correct class", f"{plain(group.cost_per_correct)} {money}"))
    shown = "".join(f'<div class="card"><b>{_e(b)}</b><span>{_e(a)}</span></div>' for a, b in cards)
    return f'<div class="cards">{shown}</div>'


def _plots(session: Session, question: Question, whole: Sequence[PurchaseGroup]) -> list[str]:
    found = [_over_time(session, question)] if whole else []
    if whole:
        found.append(_accuracy(session, question))
        counts = [sum(group.s_histogram[n] for group in whole) for n in range(17)]
        bars = plots.bar_plot(
            "Tiles by patches bought",
            [str(n) for n in range(17)],
            counts,
            "S: patches bought a tile",
            "tiles",
        )
        found.append(_box("S histogram", bars))
    areas = [aoi.geometry for aoi in question.aois]
    shapes = [
        geometry
        for geometry in polygons(session, question, MOST_SHAPES)
        if not areas or any(area.intersects(shape(geometry)) for area in areas)
    ]
    alone = [
        place
        for place in points(session, question, MOST_SHAPES)
        if not areas or any(area.intersects(Point(place)) for area in areas)
    ]
    if shapes or alone:
        drawn = plots.map_plot("Map of the area bought", shapes, alone)
        most = f"<p class=sub>The {MOST_SHAPES} largest are drawn.</p>" if len(shapes) == MOST_SHAPES else ""
        found.append(_box("Area bought", drawn + most))
    return found


def _over_time(session: Session, question: Question) -> str:
    period = "day"
    groups = purchases(session, replace(question, group_by=(period,)))
    if len({group.group[period] for group in groups}) > MOST_DAYS:
        period = "month"
        groups = purchases(session, replace(question, group_by=(period,)))
    found = []
    for currency in sorted({group.currency for group in groups}):
        own = [group for group in groups if group.currency == currency]
        nominal = accumulate(float(group.nominal_saving.cost) for group in own)
        real = accumulate(float(group.real_saving.cost) for group in own)
        series = [plots.Series("real saving", list(real)), plots.Series("nominal saving", list(nominal))]
        labels = [group.group[period] or "" for group in own]
        found.append(
            plots.line_plot(f"Saving over time, {currency}", labels, series, f"{currency}, added up")
        )
    return _box(f"Saving over time, by {period}", "".join(found))


def _accuracy(session: Session, question: Question) -> str:
    groups = purchases(session, replace(question, group_by=("product", "release")))
    known = [group for group in groups if group.accuracy is not None and group.tiles > 0]
    if not known:
        empty = "<p class=none>No tile that was classified has a label yet.</p>"
        return _box("Accuracy against cost", empty)
    found = []
    for currency in sorted({group.currency for group in known}):
        dots = [
            plots.Dot(
                f"{group.group['product']}, {group.group['release']} ({group.labelled} labelled)",
                float(group.spent) / group.tiles,
                100 * (group.accuracy or 0),
            )
            for group in known
            if group.currency == currency
        ]
        name = f"spent a tile, {currency}"
        found.append(plots.scatter_plot(f"Accuracy against cost, {currency}", dots, name, "accuracy, %"))
    return _box("Accuracy against cost", "".join(found))


def _box(title: str, content: str) -> str:
    return f"<section><h2>{_e(title)}</h2>{content}</section>"


def _purchases(groups: Sequence[PurchaseGroup], question: Question) -> str:
    heads = [*question.group_by, "currency"]
    rows = [
        [*_values(group.group, question), group.currency, *(show(group) for _, show in PURCHASES)]
        for group in groups
    ]
    return _table("Bought, from the ledger", heads, [name for name, _ in PURCHASES], rows)


def _plans(groups: Sequence[SavingsGroup], question: Question) -> str:
    heads = [*question.group_by, "currency"]
    names = ["plans", "tiles", "patches", "planned", "received", "all cost", "planned cost", "received cost"]
    rows = [
        [
            *_values(group.group, question),
            group.currency or "",
            *(str(n) for n in (group.plans, group.tiles, group.every.patches)),
            *(str(figure.patches) for figure in (group.planned, group.bought)),
            *(
                "" if figure.cost is None else plain(figure.cost)
                for figure in (group.every, group.planned, group.bought)
            ),
        ]
        for group in groups
    ]
    return _table("Plans, nominal", heads, names, rows)


def _values(group: dict[str, str | None], question: Question) -> list[str]:
    return [group[name] or "-" for name in question.group_by]


def _table(title: str, texts: Sequence[str], numbers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table without the columns of numbers that are empty in every row."""
    if not rows:
        return ""
    first = len(texts)
    kept = [column for column in range(first, first + len(numbers)) if any(row[column] for row in rows)]
    numbers = [numbers[column - first] for column in kept]
    rows = [[*row[:first], *(row[column] for column in kept)] for row in rows]
    head = "".join(f"<th class=t>{_e(name)}</th>" for name in texts)
    head += "".join(f"<th>{_e(name)}</th>" for name in numbers)
    body = "".join(
        "<tr>"
        + "".join(f"<td class=t>{_e(cell)}</td>" for cell in row[:first])
        + "".join(f"<td>{_e(cell)}</td>" for cell in row[first:])
        + "</tr>"
        for row in rows[:MOST_ROWS]
    )
    more = (
        f"<p class=sub>{len(rows) - MOST_ROWS} more rows are in the CSV.</p>" if len(rows) > MOST_ROWS else ""
    )
    return f"<h2>{_e(title)}</h2><div class=wide><table><tr>{head}</tr>{body}</table>{more}</div>"


def saving(figure: SavingFigure) -> str:
    """A saving with its share."""
    share = percent(figure.share)
    return f"{plain(figure.cost)} ({share})" if share else plain(figure.cost)


def percent(share: float | None) -> str:
    """A share as people read it."""
    return "" if share is None else f"{100 * share:.1f}\u00a0%"


def _e(value: object) -> str:
    return html.escape(str(value))
