"""Pixels and files: a local folder by default, S3, GCS or Azure by URL."""

import os
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import obstore
from obstore.exceptions import NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from app.core.settings import get_settings

CHUNK = 4 * 1024 * 1024


class Store:
    """Keys are relative, ``/``-separated names made by the service, never by a client.

    ``put`` is atomic: a reader sees the whole object or none. A missing key raises ``KeyError``.
    """

    def __init__(self, backend: ObjectStore) -> None:
        self._backend = backend

    def put(self, key: str, source: Path | bytes) -> None:
        """Keep the bytes, or the file's content, under ``key``; an object already there is replaced."""
        obstore.put(self._backend, key, source, chunk_size=CHUNK)

    def get(self, key: str) -> bytes:
        """The whole object."""
        try:
            return bytes(obstore.get(self._backend, key).bytes())
        except (NotFoundError, FileNotFoundError) as error:
            raise KeyError(key) from error

    def get_from(self, key: str, start: int, length: int) -> tuple[bytes, int]:
        """At most ``length`` bytes from ``start`` on (none beyond the end), and the whole object's size."""
        try:
            size = obstore.head(self._backend, key)["size"]
            end = min(size, start + length)
            if start >= end:
                return b"", size
            return bytes(obstore.get_range(self._backend, key, start=start, end=end)), size
        except (NotFoundError, FileNotFoundError) as error:
            raise KeyError(key) from error

    def get_to_file(self, key: str, path: Path) -> None:
        """Write the object to ``path`` in pieces; the file appears whole or not at all."""
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                for chunk in obstore.get(self._backend, key).stream(min_chunk_size=CHUNK):
                    file.write(chunk)
            part.replace(path)
        except (NotFoundError, FileNotFoundError) as error:
            raise KeyError(key) from error
        finally:
            part.unlink(missing_ok=True)

    def exists(self, key: str) -> bool:
        """Whether there is an object under ``key``."""
        try:
            obstore.head(self._backend, key)
        except (NotFoundError, FileNotFoundError):
            return False
        return True

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens when there is none."""
        try:
            obstore.delete(self._backend, key)
        except (NotFoundError, FileNotFoundError):
            return

    def keys(self, prefix: str = "") -> list[str]:
        """All keys below ``prefix`` (whole path segments), sorted."""
        listing = obstore.list(self._backend, prefix or None)
        return sorted(item["path"] for batch in listing for item in batch)

    def keys_before(self, moment: datetime, prefix: str = "") -> Iterator[str]:
        """The keys below ``prefix`` of objects last written before ``moment`` (zoned), in any order."""
        for batch in obstore.list(self._backend, prefix or None):
            yield from (item["path"] for item in batch if item["last_modified"] < moment)


@lru_cache
def get_store() -> Store:
    """The store of this process, from ``store_url`` or the data folder."""
    settings = get_settings()
    if settings.store_url:
        return Store(from_url(settings.store_url))
    folder = (settings.data_dir / "store").absolute()
    return Store(LocalStore(folder, automatic_cleanup=True, mkdir=True))
