"""Objects that no row names: left where a process was killed between writing one and committing its row."""

import re
import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

import structlog
from obstore.exceptions import BaseError as StoreError
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.acquisitions.tables import Acquisition
from app.core.db import session_scope
from app.core.store import Store, get_store
from app.plans.tables import Plan
from app.releases.tables import ReleaseRow

log = structlog.get_logger(__name__)

# a request or a worker's turn between an object and its row is over long before
OLD: Final = timedelta(days=1)
EVERY_S: Final = 24 * 3600
FIRST_AFTER_S: Final = 600
KEYS_A_LOOK: Final = 1000
MOST_SHARE: Final = 0.1
"""More orphans than this share of the old objects (and than ``A_FEW``) are no accident."""

A_FEW: Final = 10

_ID = r"(?P<id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
NAMED_BY: Final[tuple[tuple[re.Pattern[str], Any], ...]] = (
    (re.compile(rf"plans/{_ID}/lr\.tif"), Plan),
    (re.compile(rf"plans/[0-9a-f-]+/acquisitions/{_ID}\.u8"), Acquisition),
    (re.compile(rf"releases/{_ID}/.+"), ReleaseRow),
)
"""Which row an object belongs to; keys of no such form are left alone (datasets tidy up after themselves)."""


@dataclass(frozen=True)
class Swept:
    """How many old objects have a row and how many had none; ``removed`` is False where they were kept."""

    known: int
    orphans: int
    removed: bool


def sweep_store(store: Store, older: timedelta = OLD) -> Swept:
    """Remove objects older than ``older`` whose row does not exist.

    Nothing is removed where no object has a row, or too many have none: then this database is not the one
    that the store belongs to (a new one, an old backup, another service's store), and a person has to look.
    """
    before = datetime.now(UTC) - older
    known, orphans = 0, list[str]()
    keys = (key for key in store.keys_before(before) if _owner(key) is not None)
    while some := list(islice(keys, KEYS_A_LOOK)):
        lost = _without_row(some)
        known += len(some) - len(lost)
        orphans += lost
    few = len(orphans) <= max(A_FEW, MOST_SHARE * (known + len(orphans)))
    removed = bool(orphans) and known > 0 and few
    if removed:
        for key in orphans:
            store.delete(key)
        log.info("orphans_removed", objects=len(orphans), kept=known)
    elif orphans:
        log.warning("store_and_database_differ", objects_without_row=len(orphans), objects_with_row=known)
    return Swept(known, len(orphans), removed)


def _owner(key: str) -> tuple[Any, uuid.UUID] | None:
    for form, model in NAMED_BY:
        found = form.fullmatch(key)
        if found is not None:
            return model, uuid.UUID(found["id"])
    return None


def _without_row(keys: Iterable[str]) -> list[str]:
    owners = {key: owner for key in keys if (owner := _owner(key)) is not None}
    there = set(_rows(owners.values()))
    return [key for key, owner in owners.items() if owner not in there]


def _rows(owners: Iterable[tuple[Any, uuid.UUID]]) -> Iterator[tuple[Any, uuid.UUID]]:
    wanted: dict[Any, set[uuid.UUID]] = {}
    for model, row_id in owners:
        wanted.setdefault(model, set()).add(row_id)
    with session_scope() as session:
        for model, ids in wanted.items():
            for row_id in session.scalars(select(model.id).where(model.id.in_(ids))):
                yield model, row_id


class StoreSweeper(threading.Thread):
    """Sweeps once a day while a worker runs; that several workers do so at once does no harm."""

    def __init__(self) -> None:
        super().__init__(name="store-sweeper", daemon=True)
        self._stop_now = threading.Event()

    def run(self) -> None:
        """Sweep, and sleep, until told to stop."""
        wait = float(FIRST_AFTER_S)
        while not self._stop_now.wait(wait):
            wait = EVERY_S
            try:
                sweep_store(get_store())
            except (SQLAlchemyError, StoreError, OSError) as error:
                log.warning("store_not_swept", error=str(error))

    def stop(self) -> None:
        """Tell the thread to end."""
        self._stop_now.set()
