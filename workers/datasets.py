"""The desk that reads datasets: one at a time, in a child with limited memory, into an immutable snapshot."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import rmtree
from typing import Any, ClassVar, Final

import structlog
from obstore.exceptions import BaseError as StoreError
from sqlalchemy import Select, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.core import errors, tracing
from app.core.db import session_scope
from app.core.errors import DatasetTooLarge, Internal, ProblemError, SourceUnreadable
from app.core.settings import get_settings
from app.core.store import get_store
from app.core.work import WorkStatus, finish
from app.datasets.lost import is_inventory_whole
from app.datasets.sources import TABLES, LocalPlace, place_of
from app.datasets.tables import PREFIX, Dataset, inventory_key, snapshot_key, upload_key
from app.rasters.sandbox import bare_environment
from workers.desk import ChildKilled, Desk, Piece
from workers.labelled import write_tiles
from workers.leases import Leases
from workers.metrics import WORK_DONE
from workers.objects import ARCHIVES, copy_url
from workers.reading.child import ANSWER, INVENTORY, JOB, SNAPSHOT, Job
from workers.sweeping import A_FEW, MOST_SHARE, OLD

log = structlog.get_logger(__name__)

CHECKOUT: Final = Path(__file__).resolve().parents[1]
POLL_S: Final = 0.05
CLEAR_EVERY_S: Final = 6 * 3600


class DatasetJob(Piece):
    """One queued dataset."""

    model: ClassVar = Dataset
    fills_disk: ClassVar = True

    def __init__(self, row: Dataset) -> None:
        self.row: Dataset = row
        self._child: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._found: dict[str, Any] = {}
        self._lost: dict[str | None, str] = {}

    def steps(self, scratch: Path) -> Iterator[None]:
        """The whole work, pausing often so that it can be stopped.

        Raises ProblemError, OSError, ChildKilled.
        """
        folder = self._folder = (scratch / f"dataset-{self.row.id}-{self.row.fence}").resolve()
        folder.mkdir()
        job = yield from self._fetched(folder)
        (folder / JOB).write_text(json.dumps(asdict(job)))
        memory = str(get_settings().dataset_memory_bytes)
        self._child = subprocess.Popen(
            [sys.executable, "-m", "workers.reading.child", str(folder), str(os.getpid()), memory],
            stdin=subprocess.DEVNULL,
            cwd=CHECKOUT,
            env=bare_environment(),
        )
        most, started = get_settings().dataset_time_s, time.monotonic()
        while self._child.poll() is None:
            if time.monotonic() - started > most:
                raise DatasetTooLarge(f"Reading this dataset takes longer than the {most:g} s it may take.")
            time.sleep(POLL_S)
            yield
        self._found = _answer(folder, self._child.returncode)
        get_store().put(snapshot_key(self.row.id, self.row.fence), folder / SNAPSHOT)
        get_store().put(inventory_key(self.row.id, self.row.fence), folder / INVENTORY)
        yield from self._compared()

    def values(self) -> dict[str, Any]:
        """The row's columns for a dataset whose content is new."""
        form = "tiles" if self.row.origin == "tiles" else self._found["form"]
        keys = {
            "snapshot_key": snapshot_key(self.row.id, self.row.fence),
            "inventory_key": inventory_key(self.row.id, self.row.fence),
        }
        return self._found | keys | {"form": form}

    def put_back(self, twin: Dataset) -> None:
        """Keep what was read for the dataset with the same content, where the store lost or damaged it."""
        assert self._folder is not None
        for key in (twin.snapshot_key, twin.inventory_key):
            if key is not None and key in self._lost:
                get_store().put(key, self._folder / self._lost[key])
                log.warning("dataset_put_back", dataset=str(twin.id), key=key)
        if twin.inventory_key in self._lost:
            # other files may have been unreadable this time
            twin.summary, twin.warnings = self._found["summary"], self._found["warnings"]

    def write(self, session: Session) -> None:
        """Nothing beside the row."""

    def close(self) -> None:
        """End the child and remove its folder."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.wait()
        if self._folder is not None:
            rmtree(self._folder, ignore_errors=True)

    def _compared(self) -> Iterator[None]:
        """See what the store has lost or damaged of the dataset with the same content.

        Before it is locked: to read a large snapshot takes minutes.
        """
        content = self._found["content_sha256"]
        with session_scope() as session:
            twin = session.scalar(_same(self.row.org_id, content))
        if twin is None:
            return
        whole = hashlib.sha256()
        with suppress(KeyError):  # what is not there has another hash
            for piece in get_store().pieces(str(twin.snapshot_key)):
                whole.update(piece)
                yield
        if whole.hexdigest() != content:
            self._lost[twin.snapshot_key] = SNAPSHOT
        if not is_inventory_whole(twin):
            self._lost[twin.inventory_key] = INVENTORY

    def _fetched(self, folder: Path) -> Generator[None, None, Job]:
        """Bring what is to be read onto this machine."""
        settings, request = get_settings(), self.row.request
        max_bytes, max_files = settings.max_dataset_bytes, settings.max_dataset_files
        archive = folder / "archive"
        place: LocalPlace | None = None
        if self.row.origin == "upload":
            _get(upload_key(self.row.id), archive)
        elif self.row.origin == "tiles":
            yield from write_tiles(archive, request["chosen"], folder)
        else:
            found = place_of(request["uri"])
            if isinstance(found, LocalPlace):
                place = _readable(found, archive)
            else:
                yield from copy_url(found.url, archive, max_bytes, max_files)
        table = place is not None and place.path.is_file()
        options = dict(request["options"])
        return Job(
            archive=str(archive) if place is None else None,
            folder=None if place is None else str(place.path.parent if table else place.path),
            allowed=None if place is None else str(place.allowed),
            table=str(place.path) if place is not None and table else None,
            classes=options.pop("classes", None),
            tolerance=options,
            max_bytes=max_bytes,
            max_files=max_files,
        )


class DatasetDesk(Desk):
    """Reads one dataset after the other; several workers read several at once."""

    def __init__(self, leases: Leases, scratch: Path) -> None:
        super().__init__(_no_network, Dataset, leases, scratch)
        self._cleared = 0.0

    def work(self) -> None:
        """Take rows and read them until there are none left (or the desk is stopped)."""
        if time.monotonic() - self._cleared > CLEAR_EVERY_S or not self._cleared:
            self._cleared = time.monotonic()
            _quietly(clear_orphans)
        while not self._stopping.is_set():
            self._bell.clear()
            rows = self._leases.take(Dataset, 1)
            if not rows:
                return
            with tracing.during(rows[0].id):
                self._read(DatasetJob(rows[0]))

    def _read(self, job: DatasetJob) -> None:
        try:
            for _ in job.steps(self._scratch):
                if self._stopping.is_set():
                    self._hand_back(job.row)
                    return
                if not self._leases.holds(job.row):
                    return
            self._write(job)
        except Exception as error:  # noqa: BLE001 - one dataset's trouble is that dataset's alone
            self._trouble(job, error)
        finally:
            job.close()
            self._leases.let_go(job.row)
            _quietly(lambda: tidy(job.row.id))

    def _write(self, job: Piece) -> None:
        assert isinstance(job, DatasetJob)
        row, values = job.row, job.values()
        with session_scope() as session:
            twin = _twin(session, row.org_id, values["content_sha256"])
            if twin is not None:
                job.put_back(twin)
                keys = {"snapshot_key": None, "inventory_key": None, "same_as": twin.id}
                values = values | keys
            if finish(session, Dataset, row.id, row.fence, **values):
                WORK_DONE.labels(self.kind, "ready").inc()
        self._leases.let_go(row)


def _no_network(_: Any) -> Any:
    raise Internal("Datasets are not read by networks.")


def _twin(session: Session, org_id: uuid.UUID, content_sha256: str) -> Dataset | None:
    """The organisation's dataset with this content; until the commit nobody else can make or delete one."""
    key = func.hashtextextended(f"{org_id}{content_sha256}", 0)
    session.execute(select(func.pg_advisory_xact_lock(key)))
    return session.scalar(_same(org_id, content_sha256).with_for_update(key_share=True, read=True))


def _same(org_id: uuid.UUID, content_sha256: str) -> Select[Dataset]:
    return select(Dataset).where(
        Dataset.org_id == org_id, Dataset.content_sha256 == content_sha256, Dataset.same_as.is_(None)
    )


def _get(key: str, path: Path) -> None:
    try:
        get_store().get_to_file(key, path)
    except KeyError:
        raise SourceUnreadable("What was uploaded is no longer in the object store.") from None


def _readable(place: LocalPlace, archive: Path) -> LocalPlace | None:
    """A folder or a list to be read where it lies; None for an archive, which is linked to ``archive``."""
    path = place.path
    if path.is_dir() or (path.is_file() and path.suffix.lower() in TABLES):
        return place
    if not path.is_file():
        raise SourceUnreadable("There is no such file or folder, or the server may not read it.")
    if not path.name.lower().endswith(ARCHIVES):
        raise SourceUnreadable("It is neither a folder, nor a tar or zip, nor a CSV or GeoJSON.")
    # the child removes its archive as soon as it is unpacked: this link, not the file
    archive.symlink_to(path)
    return None


def _answer(folder: Path, status: int) -> dict[str, Any]:
    if not (folder / ANSWER).exists():
        if status < 0:
            raise ChildKilled(f"The process that reads datasets was ended by signal {-status}.")
        raise Internal("Reading this dataset broke off; the service's log says more.")
    answer = json.loads((folder / ANSWER).read_text())
    if "problem" in answer:
        kind: type[ProblemError] = getattr(errors, answer["problem"]["kind"])
        raise kind(answer["problem"]["detail"], **answer["problem"]["extra"])
    if "passing" in answer:
        raise OSError(answer["passing"]["errno"], answer["passing"]["reason"])
    found: dict[str, Any] = answer["found"]
    return found


def tidy(dataset_id: uuid.UUID) -> None:
    """Delete the objects that a finished (or deleted) dataset does not need."""
    with session_scope() as session:
        row = session.get(Dataset, dataset_id)
    if row is not None and row.status in (WorkStatus.QUEUED, WorkStatus.RUNNING):
        return
    needed = set() if row is None else {row.snapshot_key, row.inventory_key}
    for key in get_store().keys(f"{PREFIX}/{dataset_id}"):
        if key not in needed:
            get_store().delete(key)


def clear_orphans(older: timedelta = OLD) -> None:
    """Delete objects that processes left which died between putting them and committing their row.

    Where no object has a row, or too many have none, the database is not the one that the store belongs to
    (as in ``workers.sweeping``); then objects without a row stay.
    """
    before = datetime.now(UTC) - older
    old = {uuid.UUID(key.split("/")[1]) for key in get_store().keys_before(before, PREFIX)}
    with session_scope() as session:
        known = set(session.scalars(select(Dataset.id).where(Dataset.id.in_(old))))
    lost = old - known
    if lost and (not known or len(lost) > max(A_FEW, MOST_SHARE * len(old))):
        log.warning("store_and_database_differ", datasets_without_row=len(lost), datasets_with_row=len(known))
        lost = set()
    for dataset_id in sorted(known | lost):
        tidy(dataset_id)


def _quietly(do: Callable[[], None]) -> None:
    try:
        do()
    except (SQLAlchemyError, StoreError, OSError, ValueError) as error:
        log.warning("objects_left_for_later", thread=threading.current_thread().name, error=repr(error))
