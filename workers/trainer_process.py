"""The process that trains: started, listened to, ended with all that it started."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import psutil

from workers.trainer import Spec

TERM_S: Final = 2.0


class TrainerProcess:
    """`python -m workers.trainer` in a session of its own; `folder` holds its spec and its log."""

    def __init__(self, spec: Spec, folder: Path) -> None:
        self._spec, self._folder = spec, folder
        self._child: subprocess.Popen[bytes] | None = None
        self._offset = 0

    def start(self) -> None:
        self._spec.events.unlink(missing_ok=True)
        spec = self._folder / "spec.json"
        spec.write_text(json.dumps(asdict(self._spec)))
        with (self._folder / "log").open("ab") as output:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "workers.trainer", str(spec)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        assert self._child is not None
        return self._child.poll()

    def said(self) -> Iterator[dict[str, Any]]:
        """What it said since; a line it is still writing is left for next time.

        Numbers that are not finite, as the loss of a training that diverged, are None: JSONB takes no NaN.
        """
        if not self._spec.events.exists():
            return
        with self._spec.events.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield json.loads(line, parse_constant=lambda _name: None)

    def end(self) -> None:
        """End it and all it started, if it runs; returns when they are gone, so the device is free."""
        child = self._child
        if child is None:
            return
        self._child = None
        if child.stdin is not None:
            child.stdin.close()
        if child.poll() is None:
            below: list[psutil.Process] = []
            with contextlib.suppress(psutil.Error):
                below = psutil.Process(child.pid).children(recursive=True)
            child.terminate()
            try:
                child.wait(TERM_S)
            except subprocess.TimeoutExpired:
                child.kill()
            child.wait()
            for process in below:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(below, TERM_S)

    def log_tail(self) -> str:
        path = self._folder / "log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-15:]) if path.exists() else ""
