"""Run a command that does not outlive its parent, even when the parent is killed with SIGKILL.

Started as a script by ``patchplan.child`` (``python -I -S guard.py PARENT SIGNAL UID:GID|- COMMAND``), so it
imports little. On Linux the kernel is asked to send SIGNAL at the parent's death and the command takes
this process's place. Elsewhere (``PATCHPLAN_GUARD=watch`` forces it) this process stays, watches its parent
and passes signals on.
"""

import ctypes
import os
import signal
import sys
import time
from types import FrameType

PR_SET_PDEATHSIG = 1
POLL_S = 0.2


def main(arguments: list[str]) -> None:
    """Become the command, or watch over it; exits with its status."""
    parent, death_signal, owner = int(arguments[0]), int(arguments[1]), arguments[2]
    command = arguments[3:]
    if owner != "-":
        uid, gid = (int(part) for part in owner.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux" and os.environ.get("PATCHPLAN_GUARD") != "watch":
        # after setuid: a change of user clears the wish
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:
            raise SystemExit(1)
        os.execvp(command[0], command)  # noqa: S606 - the command comes from patchplan itself
    raise SystemExit(_watch(parent, death_signal, command))


def _watch(parent: int, death_signal: int, command: list[str]) -> int:
    child = os.fork()
    if child == 0:
        os.execvp(command[0], command)  # noqa: S606

    def pass_on(number: int, _frame: FrameType | None) -> None:
        os.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, pass_on)
    told = False
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if os.getppid() != parent and not told:
            os.kill(child, death_signal)
            told = True
        time.sleep(POLL_S)


if __name__ == "__main__":
    main(sys.argv[1:])
