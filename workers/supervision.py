"""One run's trainer: started, listened to, its checkpoints carried to the object store, ended."""

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Literal

import structlog
from obstore.exceptions import BaseError as StoreError
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.core import errors
from app.core.db import DATABASE_LOST, session_scope
from app.core.errors import ProblemError
from app.core.settings import get_settings
from app.core.store import get_store
from app.core.work import announce, fail, finish, give_back, put_off
from app.training.states import RunStatus
from app.training.tables import TrainingMetric, TrainingRun
from models.card import CardError
from models.disk import is_full
from models.train import FULL
from workers.leases import Leases
from workers.publishing import publish
from workers.trackers import Story, open_tracker
from workers.trainer import AWAY, Spec
from workers.trainer_process import TrainerProcess

log = structlog.get_logger(__name__)

Outcome = Literal["ready", "failed", "cancelled", "lost", "stopped", "again", "away"]

FOLDER: Final = "train-"
"""What a run's folder in the scratch is called, before the run's id."""

POLL_S: Final = 0.1
LOOK_S: Final = 0.5
# carrying checkpoints takes at most about a third of the time
UPLOAD_EVERY: Final = 2.0

NO_ROOM: Final = "There is no room left on the disk where the trainer writes."
NO_ROOM_IN_STORE: Final = "There is no room left where checkpoints and releases are kept."
BROKE_OFF: Final = "The trainer broke off; the worker's log says more."

PROBLEMS: Final[dict[str, type[ProblemError]]] = {
    "disk-full": errors.DiskFull,
    "out-of-memory": errors.TrainingFailed,
    "recipe-refused": errors.RecipeRefused,
    "training-data-refused": errors.TrainingDataRefused,
    "training-failed": errors.TrainingFailed,
}


# what trackers call an end; a run that goes on elsewhere has none yet
TRACKED: Final = {"ready": "finished", "failed": "failed", "cancelled": "killed"}


class _Over(Exception):
    """The run is no longer ours to go on with: it was cancelled, or another worker has it."""


class Supervision:
    """Supervises one claim of a run; ``run`` returns how it ended."""

    def __init__(self, row: TrainingRun, leases: Leases, scratch: Path, stopping: threading.Event) -> None:
        self._row, self._leases, self._stopping = row, leases, stopping
        self._folder = scratch / f"{FOLDER}{row.id}"
        self._spec = Spec(os.getpid(), str(row.id), str(self._folder))
        self._trainer = TrainerProcess(self._spec, self._folder)
        self._metrics: list[dict[str, Any]] = []
        self._notices: list[str] = list(row.notices)
        self._progress: dict[str, Any] | None = None
        self._changed = True
        self._failed: dict[str, Any] | None = None
        self._done = False
        self._saved: dict[str, Any] | None = None
        self._uploads = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._upload: Future[str] | None = None
        self._carried: dict[str, Any] = {}
        self._next_upload = 0.0
        self._number = 0
        self._key = row.checkpoint_key
        self._heard = time.monotonic()

    def run(self) -> Outcome:
        """Train until the run is over, lost, or the worker is told to stop."""
        outcome: Outcome = "again"
        self._tracker = open_tracker(_story(self._row))
        try:
            self._start()
            code = self._watch()
            outcome = "stopped" if code is None else self._end(code)
        except _Over:
            self._trainer.end()
            outcome = self._close_if_cancelled()
        except (OSError, StoreError) as error:
            self._trainer.end()
            outcome = self._broken(error)
        finally:
            self._trainer.end()
            self._uploads.shutdown(wait=True)
            self._drop_untold()
            outcome = self._let_go(outcome)
            self._tracker.close(TRACKED.get(outcome, "running"))
        return outcome

    def _start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # objects that a dead worker carried there and never told of
        self._tidy()
        self._trainer.start()

    def _watch(self) -> int | None:
        """Listen until the trainer ends (its exit status) or the worker shall stop (None). Raises _Over."""
        looked = 0.0
        while True:
            code = self._trainer.poll()
            for event in self._trainer.said():
                self._hear(event)
            if code is not None or time.monotonic() - looked > LOOK_S:
                looked = time.monotonic()
                self._write()
            self._carry(last=code is not None)
            if code is not None:
                return code
            if self._stopping.wait(POLL_S):
                return None

    def _hear(self, event: dict[str, Any]) -> None:
        kind = event.pop("kind")
        self._changed = True
        if kind in ("progress", "doing"):
            self._progress = event
        elif kind == "metric":
            self._metrics.append(event)
        elif kind == "checkpoint":
            self._saved = event
        elif kind == "notice":
            self._notices.append(event["text"][:500])
        elif kind == "failed":
            self._failed = event
        elif kind == "done":
            self._done = True

    def _write(self) -> None:
        """Look whether the run is still ours, and write what was heard.

        Raises _Over, and SQLAlchemyErrors for what the database will never take.
        """
        try:
            with session_scope() as session:
                self._lock(session)
                if self._changed:
                    self._tell(session)
        except DATABASE_LOST as error:
            log.warning("training_waits_for_database", run=str(self._row.id), error=str(error))
            if time.monotonic() - self._heard > get_settings().lease_s:
                # by now another worker may have it: one device for one run
                raise _Over from error
            return
        self._heard = time.monotonic()
        for metric in self._metrics:
            self._tracker.log(**metric)
        self._metrics.clear()
        self._changed = False

    def _lock(self, session: Session) -> None:
        """Hold the row until the transaction ends; raises _Over where it is no longer ours."""
        found = session.execute(
            select(TrainingRun.status, TrainingRun.fence)
            .where(TrainingRun.id == self._row.id)
            .with_for_update()
        ).one()
        if (found.status, found.fence) != (RunStatus.RUNNING, self._row.fence):
            raise _Over

    def _tell(self, session: Session) -> None:
        self._tell_metrics(session)
        session.execute(
            update(TrainingRun)
            .where(TrainingRun.id == self._row.id)
            .values(progress=self._progress, notices=list(dict.fromkeys(self._notices)))
        )
        announce(session, TrainingRun, self._row.id)

    def _tell_metrics(self, session: Session) -> None:
        if self._metrics:
            rows = [{"run_id": self._row.id, **metric} for metric in self._metrics]
            session.execute(insert(TrainingMetric).on_conflict_do_nothing(), rows)

    def _carry(self, *, last: bool) -> None:
        """Bring the newest checkpoint to the store, one at a time, without waiting for it but at the end."""
        if self._upload is not None and (last or self._upload.done()):
            self._note_upload(self._upload)
            self._upload = None
        if self._saved is None or self._upload is not None or self._done:
            return
        if not last and time.monotonic() < self._next_upload:
            return
        self._carried, self._saved = self._saved, None
        # the trainer replaces its file; the link keeps this one as it is
        held = self._folder / "carried.checkpoint"
        held.unlink(missing_ok=True)
        os.link(self._carried["path"], held)
        self._number += 1
        key = f"{self._row.prefix}/{self._row.fence:06}-{self._number:06}.checkpoint"
        self._upload = self._uploads.submit(self._put, key, held)
        if last:
            self._carry(last=True)

    def _put(self, key: str, path: Path) -> str:
        started = time.monotonic()
        get_store().put(key, path)
        self._next_upload = started + max(0.5, (1 + UPLOAD_EVERY) * (time.monotonic() - started))
        return key

    def _note_upload(self, upload: "Future[str]") -> None:
        """Write where the checkpoint lies, then drop the one before; the attempts count from here."""
        try:
            key = upload.result()
        except (StoreError, OSError) as error:
            if _store_is_full(error):
                raise
            log.warning("checkpoint_not_kept", run=str(self._row.id), error=str(error))
            return
        told = {name: self._carried[name] for name in ("stage", "member", "epochs")}
        try:
            with session_scope() as session:
                self._lock(session)
                at = session.scalar(select(func.clock_timestamp()))
                assert at is not None
                # whoever goes on from this checkpoint will not tell its epochs again
                self._tell_metrics(session)
                session.execute(
                    update(TrainingRun)
                    .where(TrainingRun.id == self._row.id)
                    .values(checkpoint_key=key, checkpoint={**told, "at": at.isoformat()}, attempts=1)
                )
                announce(session, TrainingRun, self._row.id)
        except _Over:
            get_store().delete(key)
            raise
        except DATABASE_LOST as error:
            log.warning("training_waits_for_database", run=str(self._row.id), error=str(error))
            return
        before, self._key = self._key, key
        if before is not None:
            get_store().delete(before)

    def _drop_untold(self) -> None:
        """Remove what was being carried when the run was over: no row names it, and nobody would look."""
        if self._upload is None:
            return
        try:
            key = self._upload.result()
            if key != self._key:
                get_store().delete(key)
        except (StoreError, OSError) as error:
            log.warning("checkpoint_left_behind", run=str(self._row.id), error=str(error))

    def _end(self, code: int) -> Outcome:
        """The trainer ended by itself, or was killed."""
        if self._failed is not None:
            return self._fail(_problem(self._failed))
        if code == FULL or code == -signal.SIGBUS:
            return self._fail(errors.DiskFull(NO_ROOM).document())
        if code == 0 and self._done:
            return self._publish()
        if code == AWAY:
            log.warning("training_left_to_its_lease", run=str(self._row.id), log=self._trainer.log_tail())
            return "away"
        log.warning("trainer_died", run=str(self._row.id), code=code, log=self._trainer.log_tail())
        if code > 0:
            return self._fail(errors.TrainingFailed(BROKE_OFF, exit_status=code).document())
        return "again"

    def _publish(self) -> Outcome:
        """The release and the run's last move, in one transaction: one run is one release."""
        row = self._row
        try:
            with session_scope() as session:
                self._lock(session)
                release = publish(
                    session,
                    org_id=row.org_id,
                    name=row.name,
                    folder=self._spec.out / row.name,
                    training_run_id=row.id,
                    dataset_id=row.dataset_id,
                    parent=row.parent,
                )
                closing = {"release_id": release.id, "progress": None, "checkpoint_key": None}
                finish(session, TrainingRun, row.id, row.fence, **closing)
        except (CardError, ValueError) as error:
            problem = errors.TrainingFailed(f"The release could not be published: {error}")
            return self._fail(problem.document())
        except SQLAlchemyError as error:
            log.warning("release_not_published_yet", run=str(row.id), error=str(error))
            return "again"
        self._key = None
        self._tidy()
        return "ready"

    def _broken(self, error: Exception) -> Outcome:
        if _store_is_full(error):
            return self._fail(errors.DiskFull(NO_ROOM_IN_STORE).document())
        log.warning("training_left_to_its_lease", run=str(self._row.id), error=repr(error))
        return "away" if isinstance(error, (StoreError, ConnectionError, TimeoutError)) else "again"

    def _fail(self, problem: dict[str, Any]) -> Outcome:
        with session_scope() as session:
            mine = fail(session, TrainingRun, self._row.id, self._row.fence, problem, progress=None)
        return "failed" if mine else self._close_if_cancelled()

    def _close_if_cancelled(self) -> Outcome:
        """The trainer is dead: a run that was being cancelled is cancelled now."""
        with contextlib.suppress(SQLAlchemyError), session_scope() as session:
            closed = session.execute(
                update(TrainingRun)
                .where(
                    TrainingRun.id == self._row.id,
                    TrainingRun.fence == self._row.fence,
                    TrainingRun.status == RunStatus.CANCELLING,
                )
                .values(
                    status=RunStatus.CANCELLED,
                    finished_at=func.clock_timestamp(),
                    lease_owner=None,
                    lease_expires_at=None,
                    progress=None,
                )
                .returning(TrainingRun.id)
                .execution_options(synchronize_session=False)
            ).first()
            if closed is not None:
                announce(session, TrainingRun, self._row.id)
                return "cancelled"
        return "lost"

    def _let_go(self, outcome: Outcome) -> Outcome:
        """Give the run back where it is to go on; clear the folder unless it goes on right here.

        Where the store is away ("away") its lease is the pause before the next try, which is not counted.
        """
        self._leases.let_go(self._row)
        if outcome in ("again", "stopped", "away"):
            which = (TrainingRun, self._row.id, self._row.fence)
            try:
                with session_scope() as session:
                    if outcome == "away":
                        given = put_off(session, *which)
                    else:
                        given = give_back(session, *which, counted=outcome == "again")
                    announce(session, TrainingRun, self._row.id)
                if not given:
                    outcome = self._close_if_cancelled()
            except SQLAlchemyError as error:
                log.warning("work_left_to_its_lease", run=str(self._row.id), error=repr(error))
        if outcome not in ("again", "away"):
            shutil.rmtree(self._folder, ignore_errors=True)
        return outcome

    def _tidy(self) -> None:
        """Remove the run's objects but for the checkpoint it would go on from."""
        for key in get_store().keys(self._row.prefix):
            if key != self._key:
                get_store().delete(key)


def _problem(event: dict[str, Any]) -> dict[str, Any]:
    """The problem document of what the trainer said: its own, or one of ours."""
    if "document" in event:
        document: dict[str, Any] = event["document"]
        return document
    kind = PROBLEMS.get(event["problem"], errors.TrainingFailed)
    return kind(str(event["detail"])[:1000]).document()


def _store_is_full(error: Exception) -> bool:
    said = str(error).lower()
    return is_full(error) or "no space left" in said or "os error 28" in said or "quota exceeded" in said


def _story(row: TrainingRun) -> Story:
    """What trackers are told of a run besides its metrics."""
    told = {
        "recipe": row.recipe_name,
        "stages": ",".join(row.stages),
        "seed": row.seed,
        "device": row.device,
        "processes": row.processes,
        "dataset": row.dataset_id,
        "parent": row.parent,
        **{f"overrides.{key}": json.dumps(value) for key, value in row.overrides.items()},
    }
    return Story(row.id, row.name, {key: str(value) for key, value in told.items() if value is not None})
