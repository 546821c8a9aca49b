"""A desk does one kind of work: it waits for its bell, takes rows, and joins them in one forward.

The bell is rung by a queue message; a desk that hears none looks by itself every few seconds, which is the
sweep that finds what a lost message, a killed worker or a wiped broker left behind. Rows that arrive while
others are being worked on join at the next forward, so a plan of 10,000 tiles does not hold up a plan of one,
and a thousand plans of one organisation do not hold up another's.
"""

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, TypeVar

import structlog
from obstore.exceptions import BaseError as StoreError
from rasterio.errors import RasterioError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.core import tracing
from app.core.db import DATABASE_LOST, session_scope
from app.core.errors import Internal, ProblemError
from app.core.settings import get_settings
from app.core.work import WorkRow, fail, finish
from models.disk import is_full
from models.release import Release
from workers.leases import Leases
from workers.looking import Looking
from workers.metrics import FORWARD_ITEMS, FORWARDS, WORK_DONE

log = structlog.get_logger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

# What passes by itself: the row is left to its lease and tried again when that has run out.
PASSING: Final = (OSError, StoreError, *DATABASE_LOST)


class ChildKilled(Exception):
    """The process that did the work was killed: the attempt counts, as if a worker had died on it."""


JOBS_AT_ONCE: Final = 32
AN_ORGANISATION: Final = 24
"""Of the jobs at a desk, how many may be one organisation's: the others find a place at once."""

OPENING_S: Final = 1.0
"""Seconds for opening rows between two forwards: small ones join, large ones do not hold up who is open."""


class Piece(ABC):
    """One row being worked on, and what becomes of it."""

    model: ClassVar[type[WorkRow]]
    fills_disk: ClassVar[bool] = False
    """Whether a full disk may be of its own making: then the attempt counts."""
    row: WorkRow

    @abstractmethod
    def values(self) -> dict[str, Any]:
        """The row's own columns once the work is done."""

    @abstractmethod
    def write(self, session: Session) -> None:
        """Write the answer's other rows, in the transaction that sets the row ready."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files, however far the work came."""


class Job(Piece, Generic[Item, Result]):
    """A piece of work for a network: a stream of items, and what becomes of its answers."""

    batch: ClassVar[int]
    release: Release

    @abstractmethod
    def open(self, scratch: Path) -> None:
        """Fetch what is needed; sets ``release``. Raises ProblemError where the work cannot be done."""

    @abstractmethod
    def items(self) -> Iterator[Item]:
        """The network's inputs, one a tile, read as they are asked for."""

    @staticmethod
    @abstractmethod
    def forward(release: Release, items: Sequence[Item]) -> Sequence[Result]:
        """One forward for items of any number of jobs."""

    @abstractmethod
    def take(self, results: Sequence[Result]) -> None:
        """Keep the next results, in the order of ``items``. Raises ProblemError for answers that are none."""


class _Open:
    """A job at the desk, with its items still to come."""

    def __init__(self, job: Job[Any, Any]) -> None:
        self.job = job
        self.items = iter(job.items())
        self.done = False

    def next_items(self, most: int) -> list[Any]:
        found = list(islice(self.items, most))
        self.done = len(found) < most
        return found


class Desk(Looking):
    """Works on the rows of one table until told to stop."""

    def __init__(
        self, make_job: Callable[[Any], Job[Any, Any]], model: type[WorkRow], leases: Leases, scratch: Path
    ) -> None:
        super().__init__(f"desk-{model.__tablename__}")
        self.kind = model.__tablename__
        self._make_job = make_job
        self._model = model
        self._leases = leases
        self._scratch = scratch

    def work(self) -> None:
        """Take rows and work on them until there are none left (or the desk is stopped)."""
        table: list[_Open] = []
        rows: deque[WorkRow] = deque()
        nothing_for, look_at = 0, 0.0
        try:
            while not self._stopping.is_set():
                rang = self._bell.is_set()
                self._bell.clear()
                free = JOBS_AT_ONCE - len(table) - len(rows)
                # a long queue of an organisation that has its share is not read before every forward
                if free > 0 and (rang or free != nothing_for or time.monotonic() >= look_at):
                    taken = self._leases.take(self._model, free, share=AN_ORGANISATION)
                    rows.extend(taken)
                    nothing_for, look_at = 0 if taken else free, time.monotonic() + get_settings().sweep_s
                if not rows and not table:
                    return
                self._open_some(rows, table)
                if table:
                    served = table[0].job.release
                    self._forward_once(table)
                    # releases take turns; an open job keeps its own in memory, so that a turn costs nothing
                    table.sort(key=lambda entry: entry.job.release is served)
                table = [entry for entry in table if not self._close_if_done(entry)]
        finally:
            for row in [*rows, *(entry.job.row for entry in table)]:
                self._hand_back(row)
            for entry in table:
                entry.job.close()

    def _hand_back(self, row: WorkRow) -> None:
        try:
            self._leases.hand_back(row)
        except SQLAlchemyError as error:
            log.warning("work_left_to_its_lease", kind=self.kind, id=str(row.id), error=repr(error))

    def _put_off(self, row: WorkRow) -> None:
        try:
            self._leases.put_off(row)
        except SQLAlchemyError as error:
            log.warning("attempt_stays_counted", kind=self.kind, id=str(row.id), error=repr(error))

    def _open_some(self, rows: deque[WorkRow], table: list[_Open]) -> None:
        """Open the first of ``rows``, and those after it until ``OPENING_S`` are over."""
        until = time.monotonic() + OPENING_S
        while rows:
            opened = self._open(rows[0])
            rows.popleft()
            table += [opened] if opened is not None else []
            if time.monotonic() >= until:
                return

    def _open(self, row: WorkRow) -> _Open | None:
        job = self._make_job(row)
        try:
            with tracing.during(row.id):
                job.open(self._scratch)
            return _Open(job)
        except Exception as error:  # noqa: BLE001 - one row's trouble is that row's alone
            self._trouble(job, error)
            return None

    def _forward_once(self, table: list[_Open]) -> None:
        """One forward for the first job's release, shared fairly by all jobs of that release."""
        release = table[0].job.release
        sharers = [entry for entry in table if entry.job.release is release]
        most = table[0].job.batch
        share = max(1, most // len(sharers))
        drawn: list[tuple[_Open, list[Any]]] = []
        for entry in sharers:
            try:
                drawn.append((entry, entry.next_items(share)))
            except Exception as error:  # noqa: BLE001
                self._drop(table, entry, error)
        items = [item for _, part in drawn for item in part]
        if not items:
            return
        try:
            results = list(self._forward(release, drawn, items))
        except Exception:
            log.warning("joined_forward_failed", kind=self.kind, jobs=len(drawn), exc_info=True)
            self._forward_apart(table, drawn)
            return
        for entry, part in drawn:
            answers, results = results[: len(part)], results[len(part) :]
            self._take(table, entry, answers)

    def _forward(
        self, release: Release, drawn: list[tuple[_Open, list[Any]]], items: list[Any]
    ) -> Sequence[Any]:
        FORWARDS.labels(self.kind).inc()
        FORWARD_ITEMS.labels(self.kind).observe(len(items))
        for entry, part in drawn:
            if part:
                tracing.forwarded(entry.job.row.id, len(drawn), len(items))
        log.info("forward", kind=self.kind, jobs=sum(1 for _, part in drawn if part), tiles=len(items))
        results = drawn[0][0].job.forward(release, items)
        if len(results) != len(items):
            raise Internal("The release gave another number of answers than it was asked for.")
        return results

    def _forward_apart(self, table: list[_Open], drawn: list[tuple[_Open, list[Any]]]) -> None:
        for entry, part in drawn:
            if not part:
                continue
            try:
                results = self._forward(entry.job.release, [(entry, part)], part)
            except Exception as error:  # noqa: BLE001
                self._drop(table, entry, error)
            else:
                self._take(table, entry, results)

    def _take(self, table: list[_Open], entry: _Open, results: Sequence[Any]) -> None:
        try:
            entry.job.take(results)
        except Exception as error:  # noqa: BLE001
            self._drop(table, entry, error)

    def _close_if_done(self, entry: _Open) -> bool:
        row = entry.job.row
        if not self._leases.holds(row):
            entry.job.close()
            return True
        if not entry.done:
            return False
        try:
            self._write(entry.job)
        except Exception as error:  # noqa: BLE001
            self._trouble(entry.job, error)
        finally:
            entry.job.close()
        return True

    def _write(self, job: Piece) -> None:
        row = job.row
        values = job.values()
        with tracing.during(row.id), session_scope() as session:
            # first, so that the row is locked and nothing else is written once fenced out
            if finish(session, self._model, row.id, row.fence, **values):
                job.write(session)
                WORK_DONE.labels(self.kind, "ready").inc()
        self._leases.let_go(row)

    def _drop(self, table: list[_Open], entry: _Open, error: Exception) -> None:
        table.remove(entry)
        self._trouble(entry.job, error)

    def _trouble(self, job: Piece, error: Exception) -> None:
        row = job.row
        job.close()
        passing = isinstance(error, (*PASSING, ChildKilled)) and not isinstance(error, RasterioError)
        tracing.outcome(row.id, "left to its lease" if passing else "failed", error)
        self._leases.let_go(row)
        if passing:
            log.warning("work_left_to_its_lease", kind=self.kind, id=str(row.id), error=repr(error))
            if not isinstance(error, ChildKilled) and not (job.fills_disk and is_full(error)):
                self._put_off(row)
            return
        if isinstance(error, ProblemError):
            problem = error
        else:
            log.error("work_failed", kind=self.kind, id=str(row.id), exc_info=error)
            problem = Internal("The work on this broke off; the service's log says more.", work=str(row.id))
        with session_scope() as session:
            fail(session, self._model, row.id, row.fence, problem.document())
        WORK_DONE.labels(self.kind, "failed").inc()
