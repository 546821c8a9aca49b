"""Files of a dataset on this machine: one file with their bytes end to end, and a table of where each lies.

Half a million small files in a folder would cost more than their bytes; names of strangers never become
paths.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

from app.core.errors import ArchiveBomb, DatasetTooLarge, UnsafeNames
from models.data.files import wanted
from models.data.pixels import EXTENSIONS, MAX_BYTES
from models.data.source import UnreadableImageError
from workers.reading.names import clean_name, shown

TABLES: Final = frozenset({".csv", ".geojson"})
KEPT: Final = EXTENSIONS | TABLES | {".json"}
ARCHIVES: Final = frozenset({".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar"})

# Pictures are packed already; drawn ones and empty masks shrink more. What is small cannot harm.
MOST_RATIO: Final = 200
HARMLESS_BYTES: Final = 256 * 1024 * 1024


@dataclass(frozen=True)
class Bounds:
    """How much a dataset may hold. ``packed_bytes``: size of the archive it comes from, None for none."""

    max_bytes: int
    max_files: int
    packed_bytes: int | None = None


@dataclass
class Heap:
    """Written once from some source, then read at random: a ``models.data.files.Files``."""

    path: Path
    bounds: Bounds
    folders: set[str] = field(default_factory=set)
    ignored: dict[str, int] = field(default_factory=dict)
    damaged: list[tuple[str, str]] = field(default_factory=list)
    where: dict[str, tuple[int, int]] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._out = self.path.open("wb")
        self._end = 0
        self._files = 0
        self._bytes = 0
        self._seen: set[str] = set()
        self._fd: int | None = None

    def folder(self, name: str) -> None:
        """There is a folder of this name."""
        if name.strip("/") not in ("", "."):
            self.folders.add(clean_name(name))
            self._count()

    def wants(self, name: str) -> str | None:
        """The clean name of a file whose bytes are to be added, None for one that is passed over.

        Raises UnsafeNames (also for a name that came before), DatasetTooLarge for too many files.
        """
        clean = clean_name(name)
        self._count()
        if clean in self._seen:
            raise UnsafeNames(f"A file is there twice: {shown(clean)}", names=[shown(clean)])
        self._seen.add(clean)
        suffix = PurePosixPath(clean).suffix.lower()
        if not wanted(clean):
            self._ignore("hidden files")
        elif suffix in ARCHIVES:
            self._ignore("archives within, not opened")
        elif suffix not in KEPT:
            self._ignore("files that are no pictures")
        else:
            return clean
        # a folder of nothing but these is a class without pictures
        self.folders.add(str(PurePosixPath(clean).parent))
        return None

    def spend(self, size: int) -> None:
        """So many more bytes were unpacked, or are declared; raises DatasetTooLarge, ArchiveBomb."""
        self._bytes += size
        packed = self.bounds.packed_bytes
        if packed is not None and self._bytes > max(HARMLESS_BYTES, MOST_RATIO * packed):
            raise ArchiveBomb(
                f"The archive has {packed} bytes and unpacks to more than {MOST_RATIO} times as many."
            )
        if self._bytes > self.bounds.max_bytes:
            raise DatasetTooLarge(
                f"The files are over {self.bounds.max_bytes} bytes together.",
                limit_bytes=self.bounds.max_bytes,
            )

    def add(self, name: str, pieces: Iterable[bytes]) -> None:
        """Keep a file under a clean name. When its pieces break off with an error nothing of it is kept."""
        start = self._end
        try:
            for piece in pieces:
                self.spend(len(piece))
                self._out.write(piece)
                self._end += len(piece)
                if self._end - start > MAX_BYTES:
                    raise DatasetTooLarge(f"{shown(name)} has more than {MAX_BYTES} bytes.")
        except BaseException:
            self._out.seek(start)
            self._out.truncate()
            self._end = start
            raise
        self.where[name] = (start, self._end - start)

    def is_damaged(self, name: str, reason: str) -> None:
        """A file could not be unpacked: it counts as an unreadable picture."""
        self.damaged.append((name, reason))

    def close(self) -> None:
        """No more files come; from now on it is read."""
        self._out.close()
        self.names = tuple(sorted(self.where))
        self._seen.clear()

    def read(self, name: str) -> bytes:
        """A file's bytes, from many threads at once too."""
        if self._fd is None:
            self._fd = os.open(self.path, os.O_RDONLY)
        start, size = self.where[name]
        data = os.pread(self._fd, size, start)
        if len(data) != size:
            raise UnreadableImageError("the copy of this file is cut short")
        return data

    def stamp(self, name: str) -> str:
        """Where it lies: a heap never changes."""
        return f"{self.where[name]}"

    def _count(self) -> None:
        self._files += 1
        if self._files > self.bounds.max_files:
            raise DatasetTooLarge(
                f"There are more than {self.bounds.max_files} files.", limit_files=self.bounds.max_files
            )

    def _ignore(self, reason: str) -> None:
        self.ignored[reason] = self.ignored.get(reason, 0) + 1
