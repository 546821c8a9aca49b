"""The parent's side of ``app.rasters.child``: hand over a file, get an answer or a problem back."""

import atexit
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.core import errors
from app.core.errors import DecompressionBomb, ProblemError, ServiceUnavailable
from app.rasters.info import Limits

_GRACE_S = 2.0
WAIT_FACTOR = 4
"""Seconds on the clock for each second on the processor, before a job is given up."""

_PASSED = (
    "PATH",
    "PYTHON",
    "VIRTUAL_ENV",
    "LD_",
    "DYLD_",
    "PROJ_DATA",
    "PROJ_LIB",
    "GDAL_DATA",
    "LANG",
    "LC_",
    "TMPDIR",
)
_CHECKOUT = Path(__file__).resolve().parents[2]


def longest_s(limits: Limits) -> float:
    """How long a job may take at most before it is given up, in seconds on the clock."""
    return limits.timeout_s * WAIT_FACTOR + _GRACE_S


class Sandbox:
    """One waiting child process, started at the first call and anew when it is gone. Safe across threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._owner = 0

    def call(self, job: str, path: Path, limits: Limits, **arguments: Any) -> Any:
        """The job's answer. Raises the ProblemError it met, DecompressionBomb where the limits ended it."""
        request = {"job": job, "path": str(path.resolve()), "limits": asdict(limits)} | arguments
        ours, theirs = socket.socketpair()
        with ours:
            try:
                self._send(json.dumps(request).encode(), theirs)
            finally:
                theirs.close()
            answer = _receive(ours, time.monotonic() + longest_s(limits))
        if not answer:
            raise DecompressionBomb(
                "The raster took too much memory or time to unpack, or broke the decoder."
            )
        found = json.loads(answer)
        if "problem" in found:
            raise _problem(found)
        return found["result"]

    def start(self) -> None:
        """Starts the child now, so that the first upload need not wait for it."""
        with self._lock:
            if self._socket is None or self._owner != os.getpid():
                self._start()

    @property
    def started(self) -> bool:
        """Whether the child runs (it may still be importing)."""
        return self._process is not None and self._owner == os.getpid() and self._process.poll() is None

    def close(self) -> None:
        """Ends the child; the next call starts another."""
        with self._lock:
            self._stop()

    def _send(self, message: bytes, descriptor: socket.socket) -> None:
        with self._lock:
            for _ in range(2):
                if self._socket is None or self._process is None or self._owner != os.getpid():
                    self._start()
                assert self._socket is not None
                try:
                    socket.send_fds(self._socket, [message], [descriptor.fileno()])
                except OSError:
                    self._stop()
                else:
                    return
        raise ServiceUnavailable("The process that checks rasters cannot be started.")

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, _MESSAGES)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app.rasters.child", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=_CHECKOUT,
                env=bare_environment(),
            )
        self._socket, self._owner = ours, os.getpid()

    def _stop(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            self._process.wait()
        self._socket = self._process = None


def bare_environment() -> dict[str, str]:
    """What Python, GDAL and PROJ need to start; the database's and the store's secrets stay out."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(_PASSED)}
    return passed | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PROJ_NETWORK": "OFF"}


# messages keep their borders, so one request is one read; macOS has no SEQPACKET, its DGRAM pairs do the same
_MESSAGES = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM


def _receive(end: socket.socket, deadline: float) -> bytes:
    parts: list[bytes] = []
    with selectors.DefaultSelector() as selector:
        selector.register(end, selectors.EVENT_READ)
        while selector.select(max(0.0, deadline - time.monotonic())):
            part = end.recv(1 << 16)
            if not part:
                return b"".join(parts)
            parts.append(part)
    return b""


def _problem(found: dict[str, Any]) -> ProblemError:
    kind: type[ProblemError] = getattr(errors, found["problem"])
    return kind(found["detail"], **found["extra"])


sandbox = Sandbox()
atexit.register(sandbox.close)
