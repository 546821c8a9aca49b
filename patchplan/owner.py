"""Whose PostgreSQL it is when we run as root, which PostgreSQL refuses to be."""

import os
import pwd
import stat
from pathlib import Path

# the first of these that exists; nothing is added to the machine's users
CANDIDATES = ("postgres", "nobody")


def database_owner(cluster: Path) -> tuple[int, int] | None:
    """User and group id PostgreSQL is to run as; None means ours, because we are not root."""
    if os.geteuid() != 0:
        return None
    if cluster.exists() and (made_by := cluster.stat()).st_uid != 0:
        return made_by.st_uid, made_by.st_gid
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise RuntimeError(
        "PostgreSQL does not run as root and there is no user to run it as: add one named postgres"
    )


def make_reachable(owner: tuple[int, int], data_dir: Path, program: Path) -> None:
    """Let ``owner`` pass through to the data folder and read the program's files.

    Adds what is missing and no more: search (not read) on the folders above, read on the program's files.
    """
    for folder in {*data_dir.parents, data_dir, *program.parents, program}:
        _add(folder, owner, stat.S_IXOTH)
    probe = program / "bin" / "postgres"
    if probe.stat().st_mode & stat.S_IXOTH and probe.stat().st_mode & stat.S_IROTH:
        return
    for path in program.rglob("*"):
        if not path.is_symlink():
            wanted = stat.S_IROTH
            if path.is_dir() or path.stat().st_mode & stat.S_IXUSR:
                wanted |= stat.S_IXOTH
            _add(path, owner, wanted)


def _add(path: Path, owner: tuple[int, int], bits: int) -> None:
    status = path.stat()
    if status.st_uid != owner[0] and status.st_mode & bits != bits:
        path.chmod(stat.S_IMODE(status.st_mode) | bits)
