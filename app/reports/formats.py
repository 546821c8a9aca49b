"""A savings report as JSON, CSV or Parquet: the same groups, one a row."""

import csv
import io
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from app.core.money import plain
from app.core.texts import unrun
from app.plans.accept import JSON
from app.reports.schemas import PurchaseGroup, SavingsGroup, SavingsOut

CSV: Final = "text/csv"
PARQUET: Final = "application/vnd.apache.parquet"
HTML: Final = "text/html"
OFFERED: Final = (JSON, CSV, PARQUET, HTML)
CSV_EXAMPLE: Final = (
    "half,by:month,currency,plans,tiles,...,spent,...\npurchases,2026-11,EUR,,2,...,1.75,...\n"
)

NUMBERS: Final = ("plans", "plans_with_purchases", "tiles", "tiles_bought", "patches", "labelled", "correct")
SHARES: Final = ("s_mean", "accuracy")

FIGURES: Final = (
    *("plans", "tiles", "plans_with_purchases"),
    *(
        f"{name}_{part}"
        for name in ("every", "planned", "bought")
        for part in ("patches", "area_km2", "cost")
    ),
    *("bought_chosen", "saving_cost", "planned_saving_cost"),
    *(f"{name}_area_{part}" for name in ("saving", "planned_saving") for part in ("km2", "share")),
    *("tiles_bought", "patches", "s_mean", "area_km2", "spent", "nominal_cost"),
    *("labelled", "correct", "accuracy", "cost_per_correct"),
    *(f"full_hr_{part}" for part in ("patches", "area_km2", "cost", "nominal_cost")),
    *("nominal_saving", "nominal_saving_share", "real_saving", "real_saving_share"),
    *(f"s{n}" for n in range(17)),
)
"""The columns after the keys, the same in every report: a program finds them in an empty month too."""

Row = dict[str, Any]


def write(report: SavingsOut, kind: str) -> bytes:
    """The report in one of the formats that are no page."""
    if kind == JSON:
        return report.model_dump_json(by_alias=True).encode()
    rows = rows_of(report)
    return _csv(report, rows) if kind == CSV else _parquet(report, rows)


def rows_of(report: SavingsOut) -> list[Row]:
    """Both halves as flat rows; what a half does not know is None. Amounts are Decimal."""
    return [*(_plans(group) for group in report.groups), *(_bought(group) for group in report.purchases)]


def _plans(group: SavingsGroup) -> Row:
    row: Row = {"half": "groups", **_keys(group), "plans": group.plans, "tiles": group.tiles}
    row["plans_with_purchases"] = group.plans_with_purchases
    for name in ("every", "planned", "bought"):
        figure = getattr(group, name)
        row |= {f"{name}_{part}": getattr(figure, part) for part in ("patches", "area_km2", "cost")}
    row["bought_chosen"] = group.bought.chosen
    for name in ("saving", "planned_saving"):
        saving = getattr(group, name)
        row |= {f"{name}_{part}": getattr(saving, part) for part in ("cost", "area_km2", "area_share")}
    return row


def _bought(group: PurchaseGroup) -> Row:
    names = (
        *("tiles", "tiles_bought", "patches", "s_mean", "area_km2", "spent", "nominal_cost"),
        *("labelled", "correct", "accuracy", "cost_per_correct"),
    )
    row: Row = {"half": "purchases", **_keys(group), **{name: getattr(group, name) for name in names}}
    row |= {f"full_hr_{name}": value for name, value in group.full_hr}
    for name in ("nominal", "real"):
        saving = getattr(group, f"{name}_saving")
        row |= {f"{name}_saving": saving.cost, f"{name}_saving_share": saving.share}
    return row | {f"s{n}": count for n, count in enumerate(group.s_histogram)}


def _keys(group: SavingsGroup | PurchaseGroup) -> Row:
    # by: in front, so that a tag's name cannot be that of a figure
    return {f"by:{name}": value for name, value in group.group.items()} | {"currency": group.currency}


def columns(report: SavingsOut) -> list[str]:
    """Every column, also those of a half that has no row."""
    return ["half", *(f"by:{name}" for name in report.group_by), "currency", *FIGURES]


def _csv(report: SavingsOut, rows: Sequence[Row]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = columns(report)
    writer.writerow(names)
    writer.writerows([_cell(name, row.get(name)) for name in names] for row in rows)
    return out.getvalue().encode()


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return plain(value)
    return unrun(str(value)) if name.startswith("by:") else str(value)  # a tag is a stranger's text


def _parquet(report: SavingsOut, rows: Sequence[Row]) -> bytes:
    names = columns(report)
    table = pa.table({name: _column(name, [row.get(name) for row in rows]) for name in names})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())


def _column(name: str, values: list[Any]) -> pa.Array:
    """A column of the type that its name has, so that a report without a value has the same schema."""
    if name == "half" or name == "currency" or name.startswith("by:"):
        return pa.array(values, pa.string())
    if name in NUMBERS or name.endswith(("_patches", "_chosen")) or (name[:1] == "s" and name[1:].isdigit()):
        return pa.array(values, pa.int64())
    if name in SHARES or name.endswith("_share"):
        return pa.array(values, pa.float64())
    if name.endswith("area_km2"):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    # money stays exact: 38 digits, 6 of them after the point, more than any minor unit has
    return pa.array(values, pa.decimal128(38, 6))
