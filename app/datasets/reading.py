"""A dataset as clients read it."""

from app.core.errors import DatasetLost
from app.core.paging import read_number, token_of_number, unknown_token
from app.core.store import get_store
from app.core.work import WorkStatus
from app.datasets.lost import dataset_lost, is_inventory_whole, read_line
from app.datasets.schemas import DatasetOut, DatasetSummary, Inventory, PictureOut, PicturePage
from app.datasets.tables import Dataset
from app.plans.schemas import ProblemOut

MOST_BYTES_A_LINE = 4096
DAMAGED = "has a damaged inventory"


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
    before = min(start, 1)
    assert row.inventory_key is not None
    try:
        data, size = get_store().get_from(
            row.inventory_key, start - before, limit * MOST_BYTES_A_LINE + before
        )
    except KeyError:
        raise _lost(row, "no longer has the inventory") from None
    if data[:before] != b"\n"[:before]:
        # a token of ours is the end of a line
        raise unknown_token() if is_inventory_whole(row) else _lost(row, DAMAGED)
    *lines, _ = data[before:].split(b"\n")
    page = lines[:limit]
    end = start + sum(len(line) + 1 for line in page)
    try:
        said = [read_line(line) for line in page]
    except ValueError:
        raise _lost(row, DAMAGED) from None
    # one cut at a line's end has too few of them
    if (not is_inventory_whole(row)) if end == size else not page:
        raise _lost(row, DAMAGED)
    found = [PictureOut.model_validate(line) for line in said]
    return PicturePage(pictures=found, next=token_of_number(end) if end < size else None)


def _lost(row: Dataset, how: str) -> DatasetLost:
    return dataset_lost(row.id, str(row.inventory_key), row.content_sha256, how)
