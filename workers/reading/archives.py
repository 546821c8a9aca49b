"""Tars and zips of strangers, read from front to end and never unpacked to paths.

Names, sizes and kinds are checked before bytes are taken, and what is declared is counted as well as what
comes out. Links, devices, sparse files and encrypted members refuse the whole archive.
"""

import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from app.core.errors import ArchiveBomb, ArchiveRefused, UnsafeNames
from workers.reading.heap import HARMLESS_BYTES, MOST_RATIO, Heap
from workers.reading.names import shown

PIECE: Final = 1024 * 1024
BLOCK: Final = 512
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, RuntimeError, OSError)


def read_archive(path: Path, heap: Heap) -> None:
    """Put the files of a tar, tar.gz or zip into the heap; the archive is removed while it is unpacked.

    Raises ArchiveRefused, UnsafeNames, ArchiveBomb, DatasetTooLarge.
    """
    kind = archive_kind(path)
    if kind == "gzip":
        plain = path.with_name(f"{path.name}.plain")
        _gunzip(path, plain, heap)
        path.unlink()
        path = plain
        kind = archive_kind(path)
    if kind == "tar":
        _read_tar(path, heap)
    elif kind == "zip":
        _read_zip(path, heap)
    else:
        raise ArchiveRefused("What was sent is no tar, tar.gz or zip.")
    path.unlink()


def archive_kind(path: Path) -> str:
    """``tar``, ``zip``, ``gzip`` or "" by the first bytes."""
    with path.open("rb") as file:
        head = file.read(BLOCK)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"):
        return "zip"
    if head[:2] == b"\x1f\x8b":
        return "gzip"
    return "tar" if head[257:262] == b"ustar" else ""


def _pieces(file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece


def _gunzip(path: Path, plain: Path, heap: Heap) -> None:
    packed_bytes = path.stat().st_size
    # headers and padding are no files' bytes: the heap counts those
    most = min(2 * heap.bounds.max_bytes, 2 * max(HARMLESS_BYTES, MOST_RATIO * packed_bytes))
    done = 0
    try:
        with gzip.open(path, "rb") as packed, plain.open("wb") as out:
            for piece in _pieces(packed):
                done += len(piece)
                if done > most:
                    raise ArchiveBomb(f"The archive unpacks to more than {most} bytes.")
                out.write(piece)
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ArchiveRefused(f"The gzip stream is damaged or cut short: {error}") from error


def _read_tar(path: Path, heap: Heap) -> None:
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                _take_member(tar, member, heap)
                # tarfile remembers every member; half a million of them are half a gigabyte
                tar.members.clear()  # type: ignore[attr-defined]
            end = tar.offset
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise ArchiveRefused(f"The tar is damaged or cut short: {error}") from error
    _check_end(path, end)


def _check_end(path: Path, end: int) -> None:
    # tarfile takes a header it cannot read for the end
    with path.open("rb") as file:
        for at in {end, max(0, end - BLOCK)}:
            file.seek(at)
            if file.read(BLOCK) == bytes(BLOCK):
                return
    raise ArchiveRefused("The tar is damaged or cut short: its end is missing.")


def _take_member(tar: tarfile.TarFile, member: tarfile.TarInfo, heap: Heap) -> None:
    if member.isdir():
        heap.folder(member.name)
        return
    if not member.isreg() or member.issparse():
        kind = "a link" if member.issym() or member.islnk() else "a device or a special file"
        raise UnsafeNames(
            f"{shown(member.name)} is {kind}; send plain files only.", names=[shown(member.name)]
        )
    name = heap.wants(member.name)
    if name is None:
        heap.spend(member.size)
        return
    file = tar.extractfile(member)
    assert file is not None
    heap.add(name, _pieces(file))


def _read_zip(path: Path, heap: Heap) -> None:
    try:
        archive = zipfile.ZipFile(path)
    except _BROKEN_ZIP as error:
        raise ArchiveRefused(f"The zip is damaged or cut short: {error}") from error
    with archive:
        members = archive.infolist()
        _check_declared(members, heap)
        for member in members:
            _take_zipped(archive, member, heap)


def _check_declared(members: list[zipfile.ZipInfo], heap: Heap) -> None:
    before = Heap(heap.path.with_name("declared"), heap.bounds)
    try:
        for member in members:
            if member.flag_bits & 1:
                raise ArchiveRefused(f"{shown(member.filename)} is encrypted: send it unencrypted.")
            if member.orig_filename != member.filename:
                raise UnsafeNames(
                    f"A file's name holds a NUL: {shown(member.orig_filename)}",
                    names=[shown(member.orig_filename)],
                )
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UnsafeNames(
                    f"{shown(member.filename)} is a link or a special file; send plain files only.",
                    names=[shown(member.filename)],
                )
            before.spend(member.file_size)
            if not member.is_dir():
                before.wants(member.filename)
    finally:
        before.close()
        before.path.unlink()


def _take_zipped(archive: zipfile.ZipFile, member: zipfile.ZipInfo, heap: Heap) -> None:
    if member.is_dir():
        heap.folder(member.filename)
        return
    name = heap.wants(member.filename)
    if name is None:
        return
    try:
        with archive.open(member) as file:
            heap.add(name, _pieces(file))
    except NotImplementedError as error:
        raise ArchiveRefused(f"{shown(name)} is packed in a way that is not read: {error}") from error
    except _BROKEN_ZIP as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        heap.is_damaged(name, f"damaged in the zip: {error}")
