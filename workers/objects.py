"""Objects of a store that datasets may be read from, copied into one tar on this machine."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import obstore
from obstore.exceptions import BaseError as StoreError
from obstore.store import ObjectStore, from_url

from app.core.errors import DatasetTooLarge, SourceUnreadable

ARCHIVES: Final = (".tar", ".tar.gz", ".tgz", ".zip")
PIECE: Final = 4 * 1024 * 1024


def copy_url(url: str, path: Path, max_bytes: int, max_files: int) -> Iterator[None]:
    """Write to ``path`` the archive at ``url``, or a tar of all objects below it; pauses between pieces.

    Raises SourceUnreadable, DatasetTooLarge.
    """
    try:
        if url.lower().endswith(ARCHIVES):
            folder, _, name = url.rpartition("/")
            yield from copy_object(from_url(folder), name, path, max_bytes)
        else:
            yield from copy_objects(from_url(url.rstrip("/")), path, max_bytes, max_files)
    except (StoreError, ValueError, FileNotFoundError) as error:
        # the store's own words name hosts and accounts
        raise SourceUnreadable(f"The object store refused: {type(error).__name__}.") from error


def copy_object(store: ObjectStore, key: str, path: Path, max_bytes: int) -> Iterator[None]:
    """One object into a file."""
    found = obstore.get(store, key)
    _must_fit(found.meta["size"], max_bytes)
    with path.open("wb") as file:
        for piece in found.stream(min_chunk_size=PIECE):
            file.write(piece)
            yield


def copy_objects(store: ObjectStore, path: Path, max_bytes: int, max_files: int) -> Iterator[None]:
    """All objects of a store into a tar, in the order of their keys."""
    listed: list[tuple[str, int]] = []
    size = 0
    for batch in obstore.list(store):
        listed += [(item["path"], item["size"]) for item in batch]
        size += sum(item["size"] for item in batch)
        _must_fit(size, max_bytes)
        if len(listed) > max_files:
            raise DatasetTooLarge(f"There are more than {max_files} objects.", limit_files=max_files)
        yield
    if not listed:
        raise SourceUnreadable("There is no object below this address.")
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for key, declared in sorted(listed):
            entry = tarfile.TarInfo(key)
            entry.size = declared
            try:
                tar.addfile(entry, _Stream(obstore.get(store, key)))
            except OSError as error:
                raise SourceUnreadable(f"An object changed while it was read: {key[:120]}") from error
            yield


def _must_fit(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise DatasetTooLarge(f"The objects are over {max_bytes} bytes together.", limit_bytes=max_bytes)


class _Stream(io.RawIOBase):
    """An object as a file to read from once."""

    def __init__(self, found: Any) -> None:
        self._pieces = iter(found.stream(min_chunk_size=PIECE))
        self._left = b""

    def read(self, size: int = -1) -> bytes:
        while size > len(self._left) and (piece := next(self._pieces, None)) is not None:
            self._left += bytes(piece)
        taken, self._left = self._left[:size], self._left[size:]
        return taken
