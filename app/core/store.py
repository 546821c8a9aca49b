"""Pixels and files: a local folder by default, S3, GCS or Azure by URL."""

import hashlib
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import obstore
from obstore.exceptions import NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from app.core.marker import MARKER, StoreMarker
from app.core.settings import get_settings

CHUNK = 4 * 1024 * 1024

Found = TypeVar("Found")


class Store:
    """Keys are relative, ``/``-separated names made by the service, never by a client.

    ``put`` is atomic: a reader sees the whole object or none. A missing key raises ``KeyError``.

    With a ``marker`` every method raises StoreAway where the backend is not the database's store: before
    anything is written, listed or deleted, and before an object that is not found is called missing.
    """

    def __init__(self, backend: ObjectStore, marker: StoreMarker | None = None) -> None:
        self._backend = backend
        self._marker = marker

    def check(self) -> None:
        """Raise StoreAway, or what the backend raises, unless the store is there now."""
        if self._marker is not None:
            self._marker.check(anew=True)

    def put(self, key: str, source: Path | bytes) -> None:
        """Keep the bytes, or the file's content, under ``key``; an object already there is replaced."""
        self._must_be_there()
        obstore.put(self._backend, key, source, chunk_size=CHUNK)

    def get(self, key: str) -> bytes:
        """The whole object."""
        return self._found(key, lambda: bytes(obstore.get(self._backend, key).bytes()))

    def get_from(self, key: str, start: int, length: int) -> tuple[bytes, int]:
        """At most ``length`` bytes from ``start`` on (none beyond the end), and the whole object's size."""

        def read() -> tuple[bytes, int]:
            size = obstore.head(self._backend, key)["size"]
            end = min(size, start + length)
            if start >= end:
                return b"", size
            return bytes(obstore.get_range(self._backend, key, start=start, end=end)), size

        return self._found(key, read)

    def get_to_file(self, key: str, path: Path) -> None:
        """Write the object to ``path`` in pieces; the file appears whole or not at all."""
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        found: Any = self._found(key, lambda: obstore.get(self._backend, key))
        try:
            with part.open("wb") as file:
                for chunk in found.stream(min_chunk_size=CHUNK):
                    file.write(chunk)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def sha256(self, key: str) -> str:
        """The SHA-256 of the object's bytes, read in pieces."""
        whole = hashlib.sha256()
        for piece in self.pieces(key):
            whole.update(piece)
        return whole.hexdigest()

    def pieces(self, key: str) -> Iterator[bytes]:
        """The object's bytes, some MiB at a time."""
        found: Any = self._found(key, lambda: obstore.get(self._backend, key))
        for chunk in found.stream(min_chunk_size=CHUNK):
            yield bytes(chunk)

    def exists(self, key: str) -> bool:
        """Whether there is an object under ``key``."""
        try:
            self._found(key, lambda: obstore.head(self._backend, key))
        except KeyError:
            return False
        return True

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens when there is none."""
        self._must_be_there()
        try:
            obstore.delete(self._backend, key)
        except (NotFoundError, FileNotFoundError):
            return

    def keys(self, prefix: str = "") -> list[str]:
        """All keys below ``prefix`` (whole path segments), sorted."""
        return sorted(item["path"] for item in self._listed(prefix))

    def keys_before(self, moment: datetime, prefix: str = "") -> Iterator[str]:
        """The keys below ``prefix`` of objects last written before ``moment`` (zoned), in any order."""
        yield from (item["path"] for item in self._listed(prefix) if item["last_modified"] < moment)

    def _listed(self, prefix: str) -> Iterator[Any]:
        self._must_be_there()
        for batch in obstore.list(self._backend, prefix or None):
            yield from (item for item in batch if item["path"] != MARKER)

    def _must_be_there(self) -> None:
        if self._marker is not None:
            self._marker.check()

    def _found(self, key: str, read: Callable[[], Found]) -> Found:
        """What ``read`` finds; KeyError once it is known that the store is there and the object is not."""
        try:
            return read()
        except (NotFoundError, FileNotFoundError):
            self.check()
        # the store may have come between the look for the object and that for the marker
        try:
            return read()
        except (NotFoundError, FileNotFoundError) as error:
            raise KeyError(key) from error


def backend_here() -> ObjectStore:
    """What ``store_url`` or the data folder names, whatever store that is."""
    settings = get_settings()
    if settings.store_url:
        return from_url(settings.store_url)
    folder = (settings.data_dir / "store").absolute()
    return LocalStore(folder, automatic_cleanup=True, mkdir=True)


@lru_cache
def get_store() -> Store:
    """The store of this process, which is its database's or raises StoreAway."""
    backend = backend_here()
    return Store(backend, StoreMarker(backend))
