"""Named bytes in a folder, a tar or a zip, read at random and never unpacked."""

from __future__ import annotations

import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

from models.data.pixels import MAX_BYTES
from models.data.source import DataError, UnreadableImageError

_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError, ValueError)
"""What reading a member of a damaged or exotic zip raises, NotImplementedError among them."""


class Files(Protocol):
    """`names` are sorted relative POSIX paths. `read` gives a file's bytes, from many threads at once too.

    `stamp` changes when the file does.
    """

    names: tuple[str, ...]

    def read(self, name: str) -> bytes: ...

    def stamp(self, name: str) -> str: ...


def open_files(path: Path) -> Files:
    """A folder, an uncompressed tar or a zip as Files. Raises DataError."""
    if not path.exists():
        raise DataError(f"{path} does not exist")
    if path.is_dir():
        return FolderFiles(path)
    with path.open("rb") as file:
        start = file.read(6)
    for magic, kind, undo in (
        (b"\x1f\x8b", "gzip", "gunzip"),
        (b"BZh", "bzip2", "bunzip2"),
        (b"\xfd7zXZ", "xz", "unxz"),
    ):
        if start.startswith(magic):
            raise DataError(
                f"{path.name} is compressed with {kind}, so not read at random: run `{undo} {path.name}`"
            )
    if zipfile.is_zipfile(path):
        return ZipFiles(path)
    if tarfile.is_tarfile(path):
        return TarFiles(path)
    raise DataError(f"{path.name} is neither a folder nor a tar or zip")


def wanted(name: str) -> bool:
    """False for hidden files, macOS resource forks (`._x`, `__MACOSX`) and paths that climb out."""
    path = PurePosixPath(name)
    return not path.is_absolute() and not any(
        part.startswith(".") or part == "__MACOSX" for part in path.parts
    )


def _checked(name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise UnreadableImageError(f"{name} has {size} bytes, more than {MAX_BYTES}")


class FolderFiles:
    """Every file under a folder; linked folders are followed, but not back into what they lie in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.names = tuple(sorted(self._walk()))

    def _walk(self) -> Iterator[str]:
        for folder, subfolders, files in os.walk(self.root, followlinks=True):
            here = Path(folder)
            subfolders[:] = [name for name in subfolders if not self._loops(here / name)]
            prefix = here.relative_to(self.root)
            for file in files:
                name = (prefix / file).as_posix()
                if wanted(name):
                    yield name

    def _loops(self, folder: Path) -> bool:
        if not folder.is_symlink():
            return False
        above = folder.relative_to(self.root).parents
        return folder.resolve() in {(self.root / path).resolve() for path in above}

    def stamp(self, name: str) -> str:
        try:
            found = (self.root / name).stat()
        except OSError as error:  # a link to nowhere: reading it is what fails
            return error.strerror or str(error)
        return f"{found.st_size} {found.st_mtime_ns}"

    def read(self, name: str) -> bytes:
        try:
            _checked(name, (self.root / name).stat().st_size)
            return (self.root / name).read_bytes()
        except OSError as error:
            raise UnreadableImageError(error.strerror or str(error)) from error


class TarFiles:
    """Plain files of an uncompressed tar, read by offset; links, devices and sparse files are left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._where: dict[str, tuple[int, int]] = {}
        self._fd: int | None = None
        self._changed = path.stat().st_mtime_ns
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    name = PurePosixPath(member.name).as_posix()
                    if member.isreg() and not member.issparse() and wanted(name):
                        # A name that comes twice means the later file, as in unpacking.
                        self._where[name] = (member.offset_data, member.size)
        except (tarfile.TarError, RecursionError) as error:
            raise DataError(f"{path.name} is a damaged tar: {error}") from error
        self.names = tuple(sorted(self._where))

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_fd": None}

    def __del__(self) -> None:
        if getattr(self, "_fd", None) is not None:
            os.close(self._fd)  # type: ignore[arg-type]

    def stamp(self, name: str) -> str:
        return f"{self._where[name]} {self._changed}"

    def read(self, name: str) -> bytes:
        offset, size = self._where[name]
        _checked(name, size)
        if self._fd is None:
            self._fd = os.open(self.path, os.O_RDONLY)
        data = os.pread(self._fd, size, offset)
        if len(data) != size:
            raise UnreadableImageError("the tar ends inside this file")
        return data


class ZipFiles:
    """Files of a zip; encrypted ones are refused."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        try:
            with zipfile.ZipFile(path) as archive:
                members = [i for i in archive.infolist() if not i.is_dir()]
        except (zipfile.BadZipFile, NotImplementedError) as error:
            raise DataError(f"{path.name} is a damaged zip: {error}") from error
        if any(i.flag_bits & 1 for i in members):
            raise DataError(f"{path.name} is encrypted")
        self._sizes = {i.filename: i.file_size for i in members if wanted(i.filename)}
        self._sums = {i.filename: i.CRC for i in members}
        self.names = tuple(sorted(self._sizes))

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_zip": None}

    def __del__(self) -> None:
        if getattr(self, "_zip", None) is not None:
            self._zip.close()  # type: ignore[union-attr]

    def stamp(self, name: str) -> str:
        return f"{self._sizes[name]} {self._sums[name]}"

    def read(self, name: str) -> bytes:
        _checked(name, self._sizes[name])
        if self._zip is None:
            self._zip = zipfile.ZipFile(self.path)
        try:
            with self._zip.open(name) as file:
                # Not read(): a forged header may declare less than the stream holds.
                return file.read(self._sizes[name])
        except _DAMAGED as error:
            raise UnreadableImageError(str(error)) from error
