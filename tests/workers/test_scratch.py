"""Scratch folders go with their worker, whatever its host and process id were."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workers.leases import owner_name
from workers.scratch import SILENT_S, Scratch, clear_scratch

HOST = owner_name().rpartition(":")[0]

WORKER = """
import sys, time
from pathlib import Path
from workers import scratch
scratch.owner_name = lambda: "3f2a9c:1"
mine = scratch.Scratch(Path(sys.argv[1]))
mine.open()
(mine.path / "train-x").mkdir()
print(mine.path, flush=True)
time.sleep(600)
"""


def test_what_a_killed_container_left_is_cleared_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], stdout=subprocess.PIPE) as worker:
        try:
            assert worker.stdout is not None
            folder = Path(worker.stdout.readline().decode().strip())
            assert folder.name.startswith("3f2a9c-1.")
            clear_scratch(tmp_path)
            assert (folder / "train-x").exists()
        finally:
            worker.kill()
    clear_scratch(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_has_a_folder_of_its_own_and_leaves_nothing(tmp_path: Path) -> None:
    first, second = Scratch(tmp_path / "scratch"), Scratch(tmp_path / "scratch")
    first.open()
    second.open()
    assert first.path.exists()
    assert first.path != second.path
    first.close()
    assert list((tmp_path / "scratch").iterdir()) == [second.path]
    second.close()


def test_a_file_system_without_locks_does_not_stop_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody there can tell a dead worker's folder from a living one's."""

    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    first, second = Scratch(tmp_path), Scratch(tmp_path)
    first.open()
    second.open()
    assert first.path.exists()
    second.close()
    assert list(tmp_path.iterdir()) == [first.path]


def test_a_folder_cleared_before_its_lock_was_held_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, lock = Scratch(tmp_path), fcntl.flock
    cleared: list[Path] = []

    def too_late(file: int, how: int) -> None:
        if not cleared:
            cleared.append(mine.path)
            shutil.rmtree(mine.path)
        lock(file, how)

    monkeypatch.setattr("fcntl.flock", too_late)
    mine.open()
    clear_scratch(tmp_path)
    assert cleared
    assert mine.path.exists()
    mine.close()


def test_folders_of_older_versions_have_no_lock(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    cleared, kept = (
        [f"{HOST}-{gone.pid}", f"{HOST}-{os.getpid()}", "old-1"],
        [f"{HOST}-{os.getppid()}", "new-1"],
    )
    for name in (*cleared, *kept):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lr.tif").touch()
    (tmp_path / "idle-1").mkdir()
    then = time.time() - SILENT_S - 60
    for path in (tmp_path / "old-1" / "lr.tif", tmp_path / "old-1", tmp_path / "idle-1"):
        os.utime(path, (then, then))
    clear_scratch(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "idle-1"])
