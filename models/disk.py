"""Running out of disk: found out before a file is mapped, and recognised when it is said."""

import errno
import os
from pathlib import Path

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def reserve(path: Path) -> None:
    """Take the blocks of a file that was made with holes. Raises OSError where there is no room.

    Writing into a hole of a mapped file on a full disk ends the process by SIGBUS, which nobody can catch.
    """
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def is_full(error: BaseException | None) -> bool:
    """Whether an exception, or one behind it, says that a disk, a quota or a file's limit is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False
