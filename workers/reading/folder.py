"""Folders that the operator has opened for datasets. Nothing outside of them is read, whatever links say."""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from app.core.errors import SourceUnreadable, UnsafeNames
from workers.reading.heap import Heap
from workers.reading.names import shown

PIECE: Final = 1024 * 1024


def read_folder(root: Path, allowed: Path, heap: Heap, only: Sequence[str] | None = None) -> None:
    """Put a folder's files (or ``only`` those) into the heap; both paths are resolved ones.

    A link is followed where it ends inside ``allowed``, and not back into a folder it lies in.
    Raises SourceUnreadable, UnsafeNames, DatasetTooLarge.
    """
    if not root.is_dir():
        raise SourceUnreadable("There is no such folder, or the server may not read it.")
    for name in sorted(_walk(root, allowed, heap) if only is None else only):
        clean = heap.wants(name)
        if clean is not None:
            heap.add(clean, _pieces(root / name, allowed, clean))


def _walk(root: Path, allowed: Path, heap: Heap) -> Iterator[str]:
    waiting = [(root, frozenset({root}))]
    while waiting:
        folder, above = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise SourceUnreadable(f"A folder cannot be read: {error.strerror}") from error
        for entry in entries:
            path = folder / entry.name
            name = path.relative_to(root).as_posix()
            real = _inside(path, allowed)
            if not entry.is_dir():
                yield name
            elif real not in above:
                heap.folder(name)
                waiting.append((path, above | {real}))


def _inside(path: Path, allowed: Path) -> Path:
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise UnsafeNames(f"{shown(path.name)} is a link to nothing.", names=[shown(path.name)]) from error
    if not real.is_relative_to(allowed):
        raise UnsafeNames(f"{shown(path.name)} is a link out of the folder.", names=[shown(path.name)])
    return real


def _pieces(path: Path, allowed: Path, name: str) -> Iterator[bytes]:
    real = _inside(path, allowed)
    # not followed and not waited for: it may have become something else since
    try:
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise SourceUnreadable(f"{shown(name)} cannot be read: {error.strerror}") from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UnsafeNames(f"{shown(name)} is no plain file.", names=[shown(name)])
        while piece := file.read(PIECE):
            yield piece
