"""A dataset as clients read it."""

import json

from app.core.errors import DatasetLost
from app.core.paging import read_number, token_of_number, unknown_token
from app.core.store import get_store
from app.core.work import WorkStatus
from app.datasets.lost import dataset_lost
from app.datasets.schemas import DatasetOut, DatasetSummary, Inventory, PictureOut, PicturePage
from app.datasets.tables import Dataset
from app.plans.schemas import ProblemOut

MOST_BYTES_A_LINE = 4096


def summarise(row: Dataset) -> DatasetSummary:
    """A dataset without its inventory."""
    base = f"/v1/datasets/{row.id}"
    return DatasetSummary.model_validate(
        {
            "id": row.id,
            "name": row.name,
            "status": row.status,
            "created_at": row.created_at,
            "started_at": row.started_at,
            "finished_at": row.finished_at,
            "origin": row.origin,
            "source": row.request["source"],
            "form": row.form,
            "content_sha256": row.content_sha256,
            "snapshot_bytes": row.snapshot_bytes,
            "classes": row.classes,
            "pictures": row.n_pictures,
            "train": row.n_train,
            "val": row.n_val,
            "test": row.n_test,
            "warnings": row.warnings,
            "error": None if row.error is None else ProblemOut.model_validate(row.error),
            "links": {"self": base, "pictures": f"{base}/pictures"},
        }
    )


def dataset_out(row: Dataset) -> DatasetOut:
    """A dataset with its inventory."""
    # a row that was read before it was finished is shown without, not half
    ready = row.status == WorkStatus.READY and row.summary is not None
    inventory = Inventory.model_validate(row.summary) if ready else None
    return DatasetOut(**summarise(row).model_dump(), inventory=inventory)


def pictures(row: Dataset, limit: int, token: str | None) -> PicturePage:
    """A page of a ready dataset's pictures; the token is the place in the inventory's object.

    Raises Unprocessable for a token that is none of ours, DatasetLost where the store has lost or damaged it.
    """
    start = 0 if token is None else read_number(token)
    assert row.inventory_key is not None
    try:
        data, size = get_store().get_from(row.inventory_key, start, limit * MOST_BYTES_A_LINE)
    except KeyError:
        raise dataset_lost(
            row.id, row.inventory_key, row.content_sha256, "no longer has the inventory"
        ) from None
    lines = data.splitlines(keepends=True)
    page = [line for line in lines[:limit] if line.endswith(b"\n")]
    end = start + sum(len(line) for line in page)
    try:
        found = [PictureOut.model_validate(json.loads(line)) for line in page]
    except ValueError:
        if start:
            raise unknown_token() from None
        raise _damaged(row, row.inventory_key) from None
    # every line has an end, the last one too
    if start < size == start + len(data) and not page:
        raise _damaged(row, row.inventory_key)
    return PicturePage(pictures=found, next=token_of_number(end) if page and end < size else None)


def _damaged(row: Dataset, key: str) -> DatasetLost:
    # by being there it would count as kept, and never be put back
    get_store().delete(key)
    return dataset_lost(row.id, key, row.content_sha256, "has a damaged inventory")
