"""Taking datasets in and finding them again. They are read by a worker (``workers.datasets``)."""

import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from sqlalchemy import delete, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.core import queue
from app.core.auth import Principal
from app.core.db import session_scope
from app.core.errors import ArchiveRefused, Conflict, NotFound
from app.core.objects import session_with_objects
from app.core.paging import read_token
from app.core.store import get_store
from app.core.uploads import ReceivedFile, Upload
from app.core.work import WorkStatus, uuid7
from app.datasets.lost import is_lost
from app.datasets.schemas import DatasetForm, DatasetOptions, DatasetRequest
from app.datasets.sources import place_of
from app.datasets.tables import PREFIX, Dataset, upload_key
from app.datasets.tiles import choose_tiles
from app.plans.service import FINISHED, read_form

BLOCK: Final = 512


@dataclass(frozen=True)
class Accepted:
    """A dataset that a request made, or one that the same request had made before."""

    dataset_id: uuid.UUID
    existed: bool


def accept_upload(principal: Principal, upload: Upload) -> Accepted:
    """Keep an archive and queue its reading; the same archive with the same wishes is the same dataset.

    Raises ProblemErrors for what can be seen at once; then no row and no object is left.
    """
    form = read_form(DatasetForm, upload.fields)
    file = upload.only_file("archive")
    _must_be_archive(file)
    options = _options(form)
    wishes = json.dumps([file.sha256, options], sort_keys=True)
    fingerprint = hashlib.sha256(wishes.encode()).hexdigest()
    with session_scope() as session:
        known = session.scalar(
            select(Dataset)
            .where(
                Dataset.org_id == principal.org_id,
                Dataset.fingerprint == fingerprint,
                Dataset.status != WorkStatus.FAILED,
            )
            .order_by(Dataset.created_at)
            .limit(1)
        )
        kept = known if known is None or known.same_as is None else session.get(Dataset, known.same_as)
    # what the store has lost is read anew, and put back
    if known is not None and kept is not None and not is_lost(kept):
        return Accepted(known.id, existed=True)
    source = {"file": file.name, "bytes": file.size, "sha256": file.sha256}
    row = Dataset(
        id=uuid7(),
        org_id=principal.org_id,
        name=form.name or _name_of(file.name),
        origin="upload",
        request={"options": options, "source": source},
        fingerprint=fingerprint,
    )
    with session_with_objects({upload_key(row.id): file.path}) as session:
        session.add(row)
    queue.send(Dataset.__tablename__)
    return Accepted(row.id, existed=False)


def accept_request(principal: Principal, form: DatasetRequest) -> Accepted:
    """Queue the reading of an address or of labelled tiles; which tiles is settled now.

    Raises SourceNotAllowed, NotFound, Conflict, MissingPictures, OneClass.
    """
    row = Dataset(id=uuid7(), org_id=principal.org_id)
    options = _options(form)
    if form.uri is not None:
        place_of(form.uri)
        row.origin, row.name = "uri", form.name or _name_of(form.uri.rstrip("/"))
        row.request = {"options": options, "uri": form.uri, "source": {"uri": form.uri}}
        with session_scope() as session:
            session.add(row)
    else:
        assert form.from_ is not None
        row.origin, row.name = "tiles", form.name or "labelled-tiles"
        with session_scope() as session:
            chosen, source = choose_tiles(session, principal.org_id, form.from_)
            row.request = {"options": options, "chosen": chosen, "source": source}
            session.add(row)
    queue.send(Dataset.__tablename__)
    return Accepted(row.id, existed=False)


def get_dataset(session: Session, org_id: uuid.UUID, dataset_id: uuid.UUID) -> Dataset:
    """The organisation's dataset, for one that has an older one's content the older; raises NotFound."""
    row = session.scalar(select(Dataset).where(Dataset.id == dataset_id, Dataset.org_id == org_id))
    if row is not None and row.same_as is not None:
        row = session.get(Dataset, row.same_as)  # both may be deleted meanwhile
    if row is None:
        raise NotFound(f"There is no dataset {dataset_id}.")
    return row


def get_ready_dataset(session: Session, org_id: uuid.UUID, dataset_id: uuid.UUID) -> Dataset:
    """As ``get_dataset``; raises Conflict while it is not ready."""
    row = get_dataset(session, org_id, dataset_id)
    if row.status != WorkStatus.READY:
        raise Conflict(f"The dataset is {row.status}, not ready.", dataset_status=row.status)
    return row


def list_datasets(
    session: Session, org_id: uuid.UUID, limit: int, token: str | None, status: WorkStatus | None
) -> list[Dataset]:
    """Up to ``limit`` datasets, newest first; raises Unprocessable for a token that is none of ours."""
    query = select(Dataset).where(Dataset.org_id == org_id, Dataset.same_as.is_(None))
    if status is not None:
        query = query.where(Dataset.status == status)
    if token is not None:
        query = query.where(tuple_(Dataset.created_at, Dataset.id) < tuple_(*read_token(token)))
    query = query.order_by(Dataset.created_at.desc(), Dataset.id.desc()).limit(limit)
    return list(session.scalars(query))


def delete_dataset(org_id: uuid.UUID, dataset_id: uuid.UUID) -> None:
    """Delete a dataset that nothing refers to, its snapshot and all. Raises NotFound, Conflict."""
    try:
        with session_scope() as session:
            row = get_dataset(session, org_id, dataset_id)
            aliases = session.scalars(
                delete(Dataset).where(Dataset.same_as == row.id).returning(Dataset.id)
            ).all()
            session.execute(delete(Dataset).where(Dataset.id == row.id))
    except IntegrityError:
        raise Conflict("Training runs or releases were made from this dataset; it stays.") from None
    # a worker still reading it finds its row gone and clears up after itself
    for gone in (row.id, *aliases):
        for key in get_store().keys(f"{PREFIX}/{gone}"):
            get_store().delete(key)


def is_finished(dataset_id: uuid.UUID) -> bool | None:
    """True once the dataset is ready or failed, None before: the look of a waiting client."""
    with session_scope() as session:
        status = session.scalar(select(Dataset.status).where(Dataset.id == dataset_id))
    return True if status is None or status in FINISHED else None


def _options(form: DatasetOptions) -> dict[str, Any]:
    return form.model_dump(include={"classes", "max_unreadable", "max_leaks", "mixed_bands"})


def _must_be_archive(file: ReceivedFile) -> None:
    with file.path.open("rb") as content:
        head = content.read(BLOCK)
    if not head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08", b"\x1f\x8b")) and (
        head[257:262] != b"ustar"
    ):
        raise ArchiveRefused("What was sent is no tar, tar.gz or zip.")


def _name_of(path: str) -> str:
    """A name made of a file's or folder's."""
    stem = PurePosixPath(path).name
    for suffix in (".gz", ".tgz", ".tar", ".zip", ".csv", ".geojson"):
        stem = stem.removesuffix(suffix)
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-").rstrip("-")[:100]
    return plain or "dataset"
