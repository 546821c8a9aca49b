"""The desk for training runs: takes one, supervises its trainer, writes what it says, publishes the release.

The trainer is a child process that can be killed at any moment; this thread alone writes to the database,
always with the fence of its claim, so that one thought dead cannot write over its successor.
"""

import shutil
from pathlib import Path
from typing import Final

import structlog
import torch
from sqlalchemy import ColumnElement, func, select, update

from app.core.db import session_scope
from app.core.work import announce
from app.training.states import RunStatus
from app.training.tables import TrainingRun
from workers.leases import Leases
from workers.looking import Looking
from workers.supervision import FOLDER, Supervision

log = structlog.get_logger(__name__)

AFTER_TROUBLE_S: Final = 1.0


class TrainingDesk(Looking):
    """Works on one run after the other until told to stop."""

    kind = TrainingRun.__tablename__

    def __init__(self, leases: Leases, scratch: Path) -> None:
        super().__init__("desk-training")
        self._leases, self._scratch = leases, scratch

    def work(self) -> None:
        """Take runs and supervise them until there are none left, or the desk is stopped."""
        while not self._stopping.is_set():
            self._bell.clear()
            close_cancelled()
            clear_left(self._scratch)
            rows = self._leases.take(TrainingRun, 1, _fitting())
            if not rows:
                return
            row = rows[0]
            log.info("training_begins", run=str(row.id), fence=row.fence, attempt=row.attempts)
            outcome = Supervision(row, self._leases, self._scratch, self._stopping).run()
            log.info("training_ends", run=str(row.id), fence=row.fence, outcome=outcome)
            if outcome == "again":
                # a trainer that dies at once shall not keep the processor busy with starting it
                self._stopping.wait(AFTER_TROUBLE_S)


def close_cancelled() -> None:
    """Close runs that were told to stop and whose worker is silent for longer than its lease."""
    with session_scope() as session:
        closed = session.scalars(
            update(TrainingRun)
            .where(
                TrainingRun.status == RunStatus.CANCELLING,
                TrainingRun.lease_expires_at < func.clock_timestamp(),
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
        ).all()
        for run_id in closed:
            announce(session, TrainingRun, run_id)


def clear_left(scratch: Path) -> None:
    """Remove folders below ``scratch`` of runs that no longer wait or train; nobody may be training there.

    A run's folder stays where it is to go on here. Then it may be given up, cancelled while it waits, or
    brought to its end by another worker, and no supervisor sees that.
    """
    folders = {folder.name.removeprefix(FOLDER): folder for folder in scratch.glob(f"{FOLDER}*")}
    if not folders:
        return
    with session_scope() as session:
        going = session.scalars(
            select(TrainingRun.id).where(
                TrainingRun.id.in_(folders), TrainingRun.status.in_((RunStatus.QUEUED, RunStatus.RUNNING))
            )
        ).all()
    for run_id in folders.keys() - {str(each) for each in going}:
        shutil.rmtree(folders[run_id], ignore_errors=True)
        log.info("training_folder_cleared", run=run_id)


def _fitting() -> ColumnElement[bool] | None:
    """Which runs this machine can train."""
    return None if torch.cuda.is_available() else TrainingRun.device != "cuda"
