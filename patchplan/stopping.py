"""Being told to stop, without the word getting lost.

A signal's handler raises ``Stopped`` wherever Python happens to be, which is prompt; but Python swallows what
is raised inside a destructor or a weak reference's callback. So the handler also notes the word, and whoever
waits in a loop calls ``check_stop``.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_told = threading.Event()


class Stopped(BaseException):
    """We were told to stop."""


def check_stop() -> None:
    """Raise Stopped when we were told to stop; call it in loops that wait, not on the way out."""
    if _told.is_set():
        raise Stopped


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Leave the block when told to stop; further signals do not disturb the way out. Main thread only."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        if not _told.is_set():
            _told.set()
            raise Stopped

    _told.clear()
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    except Stopped:
        return
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _told.clear()
