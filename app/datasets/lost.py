"""Datasets whose objects the store no longer has, told to whoever needs them."""

import json
import uuid
from typing import Any

import structlog

from app.core.errors import DatasetLost
from app.core.settings import get_settings
from app.core.store import get_store
from app.datasets.tables import Dataset

log = structlog.get_logger(__name__)


def is_whole(key: str | None, size: int | None = None, sha256: str | None = None) -> bool:
    """Whether the store has the object, of ``size`` bytes and with this hash where they are known.

    True where none was kept. With a hash all of it is read.
    """
    if key is None:
        return True
    try:
        _, found = get_store().get_from(key, 0, 0)
        return size in (None, found) and (sha256 is None or get_store().sha256(key) == sha256)
    except KeyError:
        return False


def is_inventory_whole(row: Dataset) -> bool:
    """Whether the store has a ready dataset's inventory with all lines, each of them JSON. All of it is read.

    True where none was kept.
    """
    if row.inventory_key is None:
        return True
    lines, rest = 0, b""
    try:
        for piece in get_store().pieces(row.inventory_key):
            *found, rest = (rest + piece).split(b"\n")
            for line in found:
                read_line(line)
            lines += len(found)
    except (KeyError, ValueError):
        return False
    unreadable = 0 if row.summary is None else row.summary["unreadable"]["pictures"]
    # every line has an end, the last one too
    return not rest and lines >= (row.n_pictures or 0) + unreadable


def read_line(line: bytes) -> dict[str, Any]:
    """What a line of an inventory says; raises ValueError for one that is no JSON object."""
    said = json.loads(line)
    if not isinstance(said, dict):
        raise ValueError("no object")
    return said


def is_lost(row: Dataset) -> bool:
    """Whether the store no longer has the objects of a dataset that is ready and has its own.

    Damage that keeps the size is seen in what is no larger than an upload: to read that once more costs no
    more than the upload did.
    """
    small = (row.snapshot_bytes or 0) <= get_settings().max_upload_bytes
    snapshot = is_whole(row.snapshot_key, row.snapshot_bytes, row.content_sha256 if small else None)
    return not (snapshot and is_inventory_whole(row))


def dataset_lost(dataset_id: uuid.UUID, key: str, content_sha256: str | None, how: str) -> DatasetLost:
    """The problem to raise for an object of a dataset; ``how``: what is wrong with it."""
    log.error("object_missing", key=key, how=how)
    return DatasetLost(
        f"The object store {how} of dataset {dataset_id}. Send the same pictures again as a dataset: they "
        "are put back under this one.",
        dataset_id=str(dataset_id),
        content_sha256=content_sha256,
    )
