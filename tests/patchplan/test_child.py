"""Children do not outlive their parent, on Linux by the kernel's word and elsewhere by watching."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from patchplan.child import Child
from tests.patchplan.serving import running, wait_for

PARENT = """
    import sys, time
    from pathlib import Path
    from patchplan.child import Child
    child = Child("sleeper", ["sleep", "600"])
    child.start()
    print(child.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("guard", ["", "watch"])
def test_a_killed_parent_leaves_no_child(guard: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PATCHPLAN_GUARD": guard},
    )
    assert parent.stdout is not None
    with parent.stdout as output:
        child = int(output.readline())
    wait_for(lambda: sleeper(child) is not None, 10)
    sleeping = sleeper(child)
    assert sleeping is not None
    parent.kill()
    parent.wait()
    wait_for(lambda: running([child, sleeping]) == [], 10)


def sleeper(child: int) -> int | None:
    """The process that sleeps: the child itself, or the one it watches over."""
    family = [psutil.Process(child), *psutil.Process(child).children()]
    return next((process.pid for process in family if process.name() == "sleep"), None)


@pytest.mark.parametrize("guard", ["", "watch"])
def test_stop_asks_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guard: str) -> None:
    monkeypatch.setenv("PATCHPLAN_GUARD", guard)
    script = "trap 'echo asked; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    child = Child("polite", ["sh", "-c", script], log=tmp_path / "log")
    child.start()
    wait_for(lambda: "ready" in child.log_tail(), 10)
    child.stop()
    assert "asked" in child.log_tail()
    assert not child.alive()


def test_stop_kills_what_does_not_listen(tmp_path: Path) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    child = Child("deaf", ["sh", "-c", script], log=tmp_path / "log", grace_s=0.3)
    child.start()
    wait_for(lambda: "ready" in child.log_tail(), 10)
    pid = child.pid
    child.stop()
    assert pid is not None
    assert running([pid]) == []


def test_a_signal_to_our_group_does_not_reach_it() -> None:
    child = Child("apart", ["sleep", "600"])
    child.start()
    assert child.pid is not None
    try:
        assert os.getpgid(child.pid) != os.getpgid(0)
    finally:
        child.stop_signal = signal.SIGKILL
        child.stop()
