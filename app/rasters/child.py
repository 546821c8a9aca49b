"""``python -m app.rasters.child``: a process that has GDAL loaded and forks once for every file.

Unpacking a stranger's file may take any memory or time, or crash. It happens in a fork that has limits, a
deadline and nothing but this one file, and that ends with it; forking costs milliseconds where starting
Python and GDAL anew costs half a second. The process waits on the socket it inherits (its number is the
argument) and ends when its parent does.
"""

import ctypes
import json
import logging
import os
import resource
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

from app.core.errors import DecompressionBomb, Internal, ProblemError
from app.rasters.checks import examine
from app.rasters.info import Limits, RasterInfo
from app.rasters.percentiles import percentiles
from app.rasters.sandbox import WAIT_FACTOR

MOST_BYTES = 256 * 1024
"""Of one request; a CRS may take some kilobytes."""

_PR_SET_PDEATHSIG = 1


def main(descriptor: int) -> None:
    """Serves requests until the other end of the socket is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = socket.socket(fileno=descriptor)
    while True:
        message, passed, _, _ = socket.recv_fds(requests, MOST_BYTES, 1)
        if not message:
            return
        if os.fork() == 0:
            requests.close()
            _answer(json.loads(message), passed[0])
            os._exit(0)
        os.close(passed[0])


def _answer(request: dict[str, Any], descriptor: int) -> None:
    limits = Limits(**request["limits"])
    log = _confine(limits)
    try:
        answer = {"result": _JOBS[request["job"]](request, limits)}
    except ProblemError as problem:
        answer = {"problem": type(problem).__name__, "detail": problem.detail, "extra": problem.extra}
    except MemoryError:
        bomb = DecompressionBomb("The raster needs too much memory to unpack.")
        answer = {"problem": type(bomb).__name__, "detail": bomb.detail, "extra": {}}
    except Exception:  # noqa: BLE001
        # a mistake of ours and not the file's: told apart from a decoder that was killed
        with os.fdopen(log, "w") as out:
            traceback.print_exc(file=out)
        answer = {"problem": Internal.__name__, "detail": "The check of the raster broke.", "extra": {}}
    with os.fdopen(descriptor, "w") as out:
        json.dump(answer, out)


def _examine(request: dict[str, Any], limits: Limits) -> dict[str, Any]:
    return examine(Path(request["path"]), limits).to_json()


def _percentiles(request: dict[str, Any], _: Limits) -> list[list[float]]:
    info = RasterInfo.from_json(request["info"])
    return percentiles(Path(request["path"]), info, tuple(request["bands"]), tuple(request["quantiles"]))


_JOBS = {"examine": _examine, "percentiles": _percentiles}


def _confine(limits: Limits) -> int:
    """A deadline that no library can catch, no core files, memory above what is mapped already, and silence.

    Returns the descriptor of what standard error was.
    """
    # time on the processor, as a busy machine is not the file's fault
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, limits.timeout_s)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limits.timeout_s * WAIT_FACTOR)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        allowed = pages * resource.getpagesize() + limits.max_memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    # GDAL, its codecs and rasterio's log all complain of a bad file; it is the sender who is told
    logging.disable()
    kept = os.dup(2)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)
    return kept


if __name__ == "__main__":
    main(int(sys.argv[1]))
