"""The ledger as CSV, row by row out of the database: a million rows are never held together."""

import csv
import io
import uuid
from collections.abc import Iterator
from typing import Final

from sqlalchemy import select

from app.core.db import session_scope
from app.core.money import plain
from app.ledger.tables import LedgerEntry
from app.orders.reading import patches_of

COLUMNS: Final = (
    *("id", "at", "kind", "order_id", "acquisition_id", "corrects", "plan_id", "tile", "lon", "lat"),
    *(
        "release",
        "release_version",
        "product",
        "vendor",
        "patches",
        "area_km2",
        "currency",
        "amount",
        "reason",
    ),
)
ROWS_A_FETCH: Final = 2000


def stream_csv(org_id: uuid.UUID, order_id: uuid.UUID | None, plan_id: uuid.UUID | None) -> Iterator[str]:
    """All entries, oldest first, by a cursor of the server."""
    query = select(*(getattr(LedgerEntry, name) for name in COLUMNS)).where(LedgerEntry.org_id == org_id)
    if order_id is not None:
        query = query.where(LedgerEntry.order_id == order_id)
    if plan_id is not None:
        query = query.where(LedgerEntry.plan_id == plan_id)
    query = query.order_by(LedgerEntry.at, LedgerEntry.id)
    yield _line(COLUMNS)
    with session_scope() as session:
        for rows in session.execute(query.execution_options(yield_per=ROWS_A_FETCH)).partitions():
            yield "".join(_line([_cell(name, getattr(row, name)) for name in COLUMNS]) for row in rows)


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    if name == "patches" and isinstance(value, int):
        return " ".join(str(patch) for patch in patches_of(value))
    if name in ("amount", "area_km2"):
        return plain(value)  # type: ignore[arg-type]
    if name == "at":
        return value.isoformat()  # type: ignore[attr-defined, no-any-return]
    text = str(value)
    # a spreadsheet would run these
    return "'" + text if text[:1] in "=+-@\t\r" and name == "reason" else text


def _line(cells: tuple[str, ...] | list[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()
