"""What is kept of a dataset: the request, and what was found when it was read."""

import uuid
from typing import Any

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.db import Base
from app.core.work import WorkRow, work_constraints


class Dataset(WorkRow, Base):
    """Labelled pictures. Once ready nothing of it changes: the same content is the same dataset.

    A row whose content an older ready row of the organisation has already is ready too, with ``same_as``:
    whoever asks for it gets the older one, and only that has objects. Counts, keys and ``summary`` are null
    until the row is ready.
    """

    __tablename__ = "datasets"
    __table_args__ = (
        *work_constraints("datasets"),
        CheckConstraint("(status = 'ready') = (content_sha256 IS NOT NULL)", name="ready_has_content"),
        CheckConstraint("origin IN ('upload', 'uri', 'tiles')", name="origin"),
        Index("ix_datasets_page", "org_id", "created_at", "id"),
        Index("ix_datasets_fingerprint", "org_id", "fingerprint"),
        Index(
            "uq_datasets_content",
            "org_id",
            "content_sha256",
            unique=True,
            postgresql_where=text("same_as IS NULL"),
        ),
    )

    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organisations.id"))
    name: Mapped[str] = mapped_column(String(200))
    origin: Mapped[str] = mapped_column(String(16))
    # options as the client gave them, and what is to be read: upload's digest, address, or tiles
    request: Mapped[dict[str, Any]] = mapped_column(JSONB)
    # of an upload and its options: the same request again is the same row, before anything is read
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    same_as: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("datasets.id"))

    content_sha256: Mapped[str | None] = mapped_column(String(64))
    snapshot_key: Mapped[str | None] = mapped_column(String(200))
    snapshot_bytes: Mapped[int | None] = mapped_column(BigInteger)
    inventory_key: Mapped[str | None] = mapped_column(String(200))
    form: Mapped[str | None] = mapped_column(String(16))
    classes: Mapped[list[str]] = mapped_column(ARRAY(String(200)), server_default=text("'{}'"))
    n_pictures: Mapped[int | None]
    n_train: Mapped[int | None]
    n_val: Mapped[int | None]
    n_test: Mapped[int | None]
    summary: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    warnings: Mapped[list[str]] = mapped_column(ARRAY(String(64)), server_default=text("'{}'"))


PREFIX = "datasets"
"""Every object of datasets lies below it, as ``datasets/ROW ID/...``: made of ids, never of names."""


def upload_key(dataset_id: uuid.UUID) -> str:
    """Where the archive of a dataset lies until it has been read."""
    return f"{PREFIX}/{dataset_id}/upload"


def snapshot_key(dataset_id: uuid.UUID, fence: int) -> str:
    """Where a reading puts its snapshot; each claim of the row has its own, so none writes over another's."""
    return f"{PREFIX}/{dataset_id}/{fence}/snapshot.tar"


def inventory_key(dataset_id: uuid.UUID, fence: int) -> str:
    """Where a reading puts the list of its pictures."""
    return f"{PREFIX}/{dataset_id}/{fence}/inventory.jsonl"
