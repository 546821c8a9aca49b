"""A process that does not outlive the one that started it; free of torch, to be called before loading it."""

import ctypes
import os
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1

LAUNCHER = "PATCHPLAN_LAUNCHER_PID"
"""The variable that names the process which ranks are to end with."""


def die_with_parent(parent: int, lifeline: int | None = None) -> None:
    """End at the death of the process `parent`, even one by SIGKILL; at once if it is dead already.

    Linux sends us SIGKILL itself. Elsewhere `lifeline` tells: the descriptor of a pipe whose other end the
    parent alone holds.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    if lifeline is not None:
        threading.Thread(target=_watch, args=(lifeline,), name="lifeline", daemon=True).start()


def _watch(lifeline: int) -> None:
    # not through a buffered reader: its lock would be held when the interpreter shuts down
    while os.read(lifeline, 1):
        pass
    os._exit(1)
