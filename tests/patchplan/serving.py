"""A real ``patchplan up`` in a process of its own, and what can be seen of its children."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from patchplan.child import GUARD
from tests.conftest import child_environment, free_port

GUARDED = (sys.executable, "-I", "-S", str(GUARD))


class Up:
    """One running ``patchplan up``."""

    def __init__(self, data_dir: Path, **variables: str) -> None:
        self.port = free_port()
        self.data_dir = data_dir
        self.lines: list[str] = []
        releases = data_dir.parent / "releases"
        releases.mkdir(exist_ok=True)
        self.environment = {
            **child_environment(),
            "PATCHPLAN_DATA_DIR": str(data_dir),
            "PATCHPLAN_RELEASES_DIR": str(releases),
            "PATCHPLAN_PORT": str(self.port),
            **variables,
        }
        self.process = subprocess.Popen(
            # under the guard, so that a test run that is killed leaves nothing either
            [
                *GUARDED,
                str(os.getpid()),
                str(int(signal.SIGTERM)),
                "-",
                sys.executable,
                "-m",
                "patchplan",
                "up",
            ],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self.lines.append(line)

    @property
    def said(self) -> str:
        """All it printed so far."""
        return "".join(self.lines)

    @property
    def url(self) -> str:
        """Where its API answers."""
        return f"http://127.0.0.1:{self.port}"

    def wait_ready(self) -> None:
        """Wait until it says that it serves."""
        wait_for(lambda: "Ctrl-C stops it" in self.said or self.process.poll() is not None, 330, self)
        assert self.process.poll() is None, self.said

    def ready(self) -> bool:
        """Whether every part answers right now."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=10, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def key(self) -> str:
        """The key whose location it printed at some start."""
        found = re.search(r"key: (\S+)", self.said)
        assert found, self.said
        return Path(found[1]).read_text().strip()

    def authorised(self, key: str) -> bool:
        """Whether ``key`` opens the API."""
        answer = httpx.get(
            f"{self.url}/v1/releases", headers={"Authorization": f"Bearer {key}"}, timeout=10, trust_env=False
        )
        assert answer.status_code in (200, 401), answer.text
        return answer.status_code == 200

    def children(self) -> dict[int, str]:
        """All processes below it, by id."""
        found = {}
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                found[process.pid] = " ".join(process.cmdline())
            except psutil.NoSuchProcess:
                continue
        return found

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        self.process.send_signal(number)
        code = self.process.wait(60)
        self._reader.join(10)
        return code

    def run(self, *arguments: str) -> str:
        """Run another ``patchplan`` command on the same data folder; returns what it printed."""
        return subprocess.run(
            [sys.executable, "-m", "patchplan", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=90,
        ).stdout


@contextmanager
def serving_up(data_dir: Path, **variables: str) -> Iterator[Up]:
    """``patchplan up``, ready; nothing of it is left after the block, whatever happens."""
    up = Up(data_dir, **variables)
    known: dict[int, str] = {}
    try:
        up.wait_ready()
        known = up.children()
        yield up
    finally:
        if up.process.poll() is None:
            known |= up.children()
            up.end(signal.SIGTERM)
        for pid in known:
            if running([pid]):
                os.kill(pid, signal.SIGKILL)


def running(pids: list[int] | dict[int, str]) -> list[int]:
    """Those of ``pids`` that still run (a zombie does not)."""
    alive = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                alive.append(pid)
        except psutil.NoSuchProcess:
            continue
    return alive


def wait_for(condition: Callable[[], bool], seconds: float, up: "Up | None" = None) -> None:
    """Wait until the condition holds; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain; said so far: {up.said if up else None}"
        time.sleep(0.05)
