"""The ledger as CSV, page by page out of the database: a million rows are never held together."""

import csv
import io
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Row, select, tuple_

from app.core.db import session_scope
from app.core.money import plain
from app.core.texts import unrun, utc
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
ROWS_A_PAGE: Final = 2000


def stream_csv(org_id: uuid.UUID, order_id: uuid.UUID | None, plan_id: uuid.UUID | None) -> Iterator[str]:
    """All entries that there are when it is first read, oldest first."""
    yield _line(COLUMNS)
    for rows in _pages(org_id, order_id, plan_id):
        yield "".join(_line([_cell(name, getattr(row, name)) for name in COLUMNS]) for row in rows)


def _pages(
    org_id: uuid.UUID, order_id: uuid.UUID | None, plan_id: uuid.UUID | None
) -> Iterator[Sequence[Row[Any]]]:
    """The entries in pages with a short session each: a slow reader holds no connection."""
    place = tuple_(LedgerEntry.at, LedgerEntry.id)
    wanted = [LedgerEntry.org_id == org_id]
    if order_id is not None:
        wanted.append(LedgerEntry.order_id == order_id)
    if plan_id is not None:
        wanted.append(LedgerEntry.plan_id == plan_id)
    newest = select(LedgerEntry.at, LedgerEntry.id).where(*wanted)
    newest = newest.order_by(LedgerEntry.at.desc(), LedgerEntry.id.desc()).limit(1)
    with session_scope() as session:
        end = session.execute(newest).first()
    if end is None:
        return
    # without an end, what is entered meanwhile could keep a slow reader for ever
    wanted.append(place <= (end.at, end.id))
    entries = select(*(getattr(LedgerEntry, name) for name in COLUMNS)).where(*wanted)
    entries = entries.order_by(LedgerEntry.at, LedgerEntry.id).limit(ROWS_A_PAGE)
    page = entries
    while True:
        with session_scope() as session:
            rows = session.execute(page).all()
        yield rows
        if len(rows) < ROWS_A_PAGE:
            return
        page = entries.where(place > (rows[-1].at, rows[-1].id))


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    if name == "patches" and isinstance(value, int):
        return " ".join(str(patch) for patch in patches_of(value))
    if name in ("amount", "area_km2"):
        return plain(value)  # type: ignore[arg-type]
    if name == "at":
        return utc(value)  # type: ignore[arg-type]
    return unrun(str(value)) if name in ("reason", "vendor") else str(value)  # strangers' texts


def _line(cells: tuple[str, ...] | list[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()
