"""Datasets whose objects the store no longer has, told to whoever needs them."""

import uuid

import structlog

from app.core.errors import DatasetLost
from app.core.store import get_store
from app.datasets.tables import Dataset

log = structlog.get_logger(__name__)


def is_whole(key: str | None, size: int | None = None) -> bool:
    """Whether the store has the object, of ``size`` bytes where that is known; True where none was kept."""
    if key is None:
        return True
    try:
        _, found = get_store().get_from(key, 0, 0)
    except KeyError:
        return False
    return size in (None, found)


def is_lost(row: Dataset) -> bool:
    """Whether the store no longer has the objects of a dataset that is ready and has its own."""
    return not (is_whole(row.snapshot_key, row.snapshot_bytes) and is_whole(row.inventory_key))


def dataset_lost(dataset_id: uuid.UUID, key: str, content_sha256: str | None, how: str) -> DatasetLost:
    """The problem to raise for an object of a dataset; ``how``: what is wrong with it."""
    log.error("object_missing", key=key, how=how)
    return DatasetLost(
        f"The object store {how} of dataset {dataset_id}. Send the same pictures again as a dataset: they "
        "are put back under this one.",
        dataset_id=str(dataset_id),
        content_sha256=content_sha256,
    )
