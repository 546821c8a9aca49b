"""Snapshots of datasets on this machine: fetched once, known by their content.

A snapshot is a tar of one canonical form, and ``content_sha256`` is the SHA-256
of its bytes, so what was fetched can be proved to be what was read.
"""

import hashlib
import uuid
from pathlib import Path
from typing import Final

from app.core.db import session_scope
from app.core.errors import Conflict, DatasetLost, NotFound
from app.core.store import get_store
from app.core.work import WorkStatus
from app.datasets.lost import dataset_lost
from app.datasets.tables import Dataset

PIECE: Final = 4 * 1024 * 1024


def fetch(dataset: Dataset | uuid.UUID, folder: Path) -> Path:
    """The snapshot of a ready dataset as a tar in ``folder``, fetched unless it is there already.

    ``models.data.sources.open_source`` and ``models.train --data`` read it, splits and all. The file lies in
    a folder named by its content and is called after the dataset. Raises NotFound, Conflict for one that
    is not ready, DatasetLost where the store has lost or damaged it.
    """
    row = canonical(dataset if isinstance(dataset, uuid.UUID) else dataset.id)
    assert row.content_sha256 is not None
    assert row.snapshot_key is not None
    place = folder / row.content_sha256
    path = place / f"{row.name}.tar"
    if path.exists() and path.stat().st_size == row.snapshot_bytes:
        return path
    place.mkdir(parents=True, exist_ok=True)
    part = place / f".{uuid.uuid4().hex}.part"
    try:
        found = _bring(row.snapshot_key, part)
        # once more: what was damaged on its way only is not lost
        if found != row.content_sha256 and (again := _bring(row.snapshot_key, part)) != row.content_sha256:
            if again == found:
                # by its size it would count as kept, and never be put back
                get_store().delete(row.snapshot_key)
            raise _lost(row, "has a damaged snapshot")
        part.replace(path)
    except KeyError:
        raise _lost(row, "no longer has the snapshot") from None
    finally:
        part.unlink(missing_ok=True)
    return path


def _bring(key: str, part: Path) -> str:
    """Fetch an object; the SHA-256 of what came."""
    get_store().get_to_file(key, part)
    return _sha256(part)


def canonical(dataset_id: uuid.UUID) -> Dataset:
    """The ready row that holds this dataset's content: itself, or the one it is the same as."""
    with session_scope() as session:
        row = session.get(Dataset, dataset_id)
        if row is not None and row.same_as is not None:
            row = session.get(Dataset, row.same_as)
    if row is None:
        raise NotFound(f"There is no dataset {dataset_id}.")
    if row.status != WorkStatus.READY:
        raise Conflict(f"The dataset is {row.status}, not ready.", dataset_status=row.status)
    return row


def _lost(row: Dataset, how: str) -> DatasetLost:
    return dataset_lost(row.id, str(row.snapshot_key), row.content_sha256, how)


def _sha256(path: Path) -> str:
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            whole.update(piece)
    return whole.hexdigest()
