"""Child processes: started under the guard, stopped in order, started again when they die."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

GUARD = Path(__file__).with_name("guard.py")


@dataclass
class Child:
    """One process of ours.

    ``stop_signal`` asks it to end, ``death_signal`` reaches it when this process dies; after ``grace_s``
    seconds it is killed. Start it from the main thread: on Linux a child dies with the thread that made it.
    """

    name: str
    command: Sequence[str]
    log: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGTERM
    grace_s: float = 15
    owner: tuple[int, int] | None = None
    cwd: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0

    def start(self) -> None:
        """Start it; its output is appended to ``log``, or goes where ours goes."""
        owner = "-" if self.owner is None else f"{self.owner[0]}:{self.owner[1]}"
        guard = [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), str(int(self.death_signal)), owner]
        if self.log:
            self.log.parent.mkdir(parents=True, exist_ok=True)
        output: IO[bytes] | None = self.log.open("ab") if self.log else None
        try:
            self.process = subprocess.Popen(
                [*guard, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                env={**os.environ, **self.env},
                cwd=self.cwd,
                # a Ctrl-C in the terminal reaches us alone, and we stop the children in order
                start_new_session=True,
            )
        finally:
            if output:
                output.close()
        self.started_at = time.monotonic()

    @property
    def pid(self) -> int | None:
        """The process id while it is known to run."""
        return self.process.pid if self.alive() and self.process else None

    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """Ask it to end and wait; kill it after the grace."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(self.grace_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        self.process = None

    def log_tail(self, lines: int = 15) -> str:
        """The last lines it wrote, for an error message."""
        if self.log is None or not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
