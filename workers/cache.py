"""Releases of the object store on this machine: fetched once, verified, bounded, shared by its processes."""

import hashlib
import os
import shutil
import time
import uuid
from pathlib import Path
from typing import Final

import structlog
import torch
from sqlalchemy import select

from app.core.db import session_scope
from app.core.errors import ServiceUnavailable
from app.core.settings import get_settings
from app.core.store import get_store
from app.releases.lost import release_lost
from app.releases.tables import ReleaseRow
from models.card import CARD_FILE, WEIGHTS_FILE, CardError
from models.release import Release

log = structlog.get_logger(__name__)

FETCH_S: Final = 3600
"""A fetch that has written nothing for so long was killed."""


class ReleaseCache:
    """One folder a release, named by the hash of its card, which names the hash of its weights.

    A folder appears whole; what is in it is checked at every load, and fetched anew where it is damaged.
    """

    def load(self, release_id: uuid.UUID, device: str) -> Release:
        """The organisation's release; raises ReleaseLost where the store has lost or damaged it."""
        with session_scope() as session:
            row = session.scalar(select(ReleaseRow).where(ReleaseRow.id == release_id))
        if row is None:
            raise ServiceUnavailable(f"The release {release_id} is gone.")
        folder = get_settings().release_cache_dir / row.card_sha256
        for attempt in range(2):
            if not folder.is_dir():
                self._fetch(row, folder)
            try:
                release = Release.load(folder, device=device)
            except torch.OutOfMemoryError:
                # a RuntimeError as well, and of the device: what lies here is as good as before
                raise
            except (CardError, OSError, ValueError, KeyError, RuntimeError) as error:
                # OSError: another process made room just now; the others: a disk that does not keep its word
                log.warning("cached_release_unusable", release=str(release_id), error=str(error))
                as_published = _weights_sha256(folder) in (None, row.weights_sha256)
                shutil.rmtree(folder, ignore_errors=True)
                if attempt and as_published:
                    # whatever is wrong with it here, the store has kept it
                    raise
                if attempt:
                    raise release_lost(row, "has damaged weights") from error
            else:
                _touch(folder)
                self._make_room(folder)
                return release
        raise AssertionError("two attempts end in a return or a raise")

    def _fetch(self, row: ReleaseRow, folder: Path) -> None:
        part = folder.with_name(f".{folder.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
        part.mkdir(parents=True)
        try:
            get_store().get_to_file(f"{row.folder_key}/{WEIGHTS_FILE}", part / WEIGHTS_FILE)
            # the database's card, not the store's: it is the one that plans were checked against
            (part / CARD_FILE).write_text(row.card, encoding="utf-8")
            if not folder.is_dir():
                part.rename(folder)
        except KeyError:
            raise release_lost(row, "no longer has the weights") from None
        except OSError:
            # another process was faster and its folder stands there by now
            if not folder.is_dir():
                raise
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _make_room(self, keep: Path) -> None:
        """Remove the folders used longest ago until the rest fits; never the one just used.

        What a fetch that was killed left goes first.
        """
        for part in keep.parent.glob(".*.*.*/"):
            if _changed_at(part) < time.time() - FETCH_S:
                shutil.rmtree(part, ignore_errors=True)
        known = [path for path in keep.parent.iterdir() if not path.name.startswith(".") and path.is_dir()]
        sizes = {path: sum(map(_size, path.glob("*"))) for path in known}
        over = sum(sizes.values()) - get_settings().release_cache_bytes
        for path in sorted(known, key=_used_at):
            if over <= 0:
                return
            if path != keep:
                shutil.rmtree(path, ignore_errors=True)
                over -= sizes[path]


def _changed_at(part: Path) -> float:
    """When a fetch last wrote there: a file that grows does not change the folder it is in."""
    return max(map(_used_at, [part, *part.glob("*")]))


def _used_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _size(file: Path) -> int:
    """Its bytes; 0 once another process has made room."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _weights_sha256(folder: Path) -> str | None:
    """Of the weights that lie there; None where none can be read."""
    try:
        with (folder / WEIGHTS_FILE).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _touch(folder: Path) -> None:
    if folder.is_dir():
        os.utime(folder)
