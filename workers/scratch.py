"""The folder a worker unpacks into, and those that killed workers left.

A worker holds a lock on a file in its folder for as long as it lives, so a folder whose lock can be taken is
nobody's. Host and process id do not tell: in a container every worker is process 1, on a host gone with it.
"""

import fcntl
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Final

import psutil
import structlog

from workers.leases import owner_name

log = structlog.get_logger(__name__)

LOCK: Final = ".lock"
SILENT_S: Final = 24 * 3600
"""Folders without a lock are of older versions: they go when nothing in them has changed for so long."""


class Scratch:
    """A folder of this process's own below ``parent``; ``host-pid`` is for people who look at it."""

    def __init__(self, parent: Path) -> None:
        name = f"{owner_name().replace(':', '-')}.{uuid.uuid4().hex[:8]}"
        self.path = parent / name
        self._lock: int | None = None

    def open(self) -> None:
        """Remove what dead workers left, then make the folder."""
        clear_scratch(self.path.parent)
        while self._lock is None:
            self.path.mkdir(parents=True, exist_ok=True)
            # a clearing worker may have taken the folder for a dead one's before its lock was held
            try:
                self._lock = _locked(self.path, make=True)
            except OSError as error:
                log.warning("scratch_without_lock", folder=str(self.path), error=str(error))
                return

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def clear_scratch(parent: Path) -> None:
    """Remove the folders below ``parent`` whose worker no longer lives, on whatever host it ran."""
    for folder in parent.glob("*/"):
        if (folder / LOCK).exists():
            try:
                lock = _locked(folder, make=False)
            except OSError:
                continue  # a file system without locks: nobody can tell
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)
                log.info("scratch_cleared", folder=folder.name)
        elif _of_the_dead(folder):
            shutil.rmtree(folder, ignore_errors=True)
            log.info("scratch_cleared", folder=folder.name)


def _locked(folder: Path, *, make: bool) -> int | None:
    """The open, locked file in ``folder``; None where another holds it or has removed the folder.

    Raises OSError where the file system has no locks.
    """
    path = folder / LOCK
    try:
        lock = os.open(path, os.O_RDWR | (os.O_CREAT if make else 0), 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), path.stat()):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _of_the_dead(folder: Path) -> bool:
    """Whether a folder without a lock was left by a worker of an older version, named ``host-pid``."""
    host, _, pid = folder.name.rpartition("-")
    own_host, _, own_pid = owner_name().rpartition(":")
    if host == own_host and pid.isdigit():
        return pid == own_pid or not psutil.pid_exists(int(pid))
    try:
        changed = [path.stat().st_mtime for path in folder.iterdir()]
        # an idle worker's folder is empty, however long it has been so
        return bool(changed) and max(*changed, folder.stat().st_mtime) < time.time() - SILENT_S
    except OSError:
        return False
