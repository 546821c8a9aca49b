"""One process at a time trains a unit; others that need it wait, and find it trained."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from models.reproduce.slices import Slice

_EVERY_S = 2.0


@contextlib.contextmanager
def alone(place: Path, work: Slice) -> Iterator[None]:
    """Until the end no other process of this machine trains what `place` keeps. Raises SliceOver where the
    slice ends while another does.

    A process that dies leaves nothing locked. On a file system without locks, and in a folder that can only
    be read, everybody is alone.
    """
    try:
        lock = os.open(place.with_name(f".{place.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        yield
        return
    try:
        told = False
        while not _taken(lock):
            if not told:
                print(f"{place.stem}: another process trains it; waiting", flush=True)
                told = True
            work.room_for(_EVERY_S)
            time.sleep(_EVERY_S)
        yield
    finally:
        os.close(lock)


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
