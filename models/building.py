"""A folder that several processes may want to build: by one at a time, and there when it is whole."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def built(folder: Path) -> Iterator[Path | None]:
    """An empty folder to fill, which takes the name `folder` at the end; None where another process has
    built it meanwhile.

    Waits for a living process that builds it. What a dead one left is removed: its lock is gone with it,
    where a process number may come again (in a container it always does). Raises OSError.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _lock(folder, wait=True) as alone:
        if alone:
            _remove_leftovers(folder)
        if folder.is_dir():
            yield None
            return
        building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{folder.name}."))
        try:
            yield building
            building.chmod(0o755)  # mkdtemp leaves it to the owner alone
            _rename(building, folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def swept(folder: Path) -> None:
    """Remove what dead processes left of `folder`; nothing while a living one builds it."""
    if any(_leftovers(folder)):
        with _lock(folder, wait=False) as alone:
            if alone:
                _remove_leftovers(folder)


@contextlib.contextmanager
def _lock(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Whether no other process builds `folder` until the end; also False on a file system without locks."""
    lock = os.open(folder.with_name(f".{folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            alone = True
        except OSError:
            alone = False
        yield alone
    finally:
        os.close(lock)


def _leftovers(folder: Path) -> Iterator[Path]:
    return (path for path in folder.parent.iterdir() if path.name.startswith(f"{folder.name}."))


def _remove_leftovers(folder: Path) -> None:
    for path in _leftovers(folder):
        shutil.rmtree(path, ignore_errors=True)


def _rename(building: Path, folder: Path) -> None:
    try:
        building.rename(folder)
    except OSError:
        # without locks another may have been first: what it built is the same
        if not folder.is_dir():
            raise
