"""What is kept of a training run: the request, how far it is, and its curves."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ColumnElement,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    String,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.db import Base
from app.core.work import WorkRow
from app.training.states import RunStatus


class TrainingRun(WorkRow, Base):
    """One training. ``status`` holds a ``RunStatus``: two states more than other work has.

    ``recipe`` is whole, with the overrides in it and 0 epochs for stages that were not asked for.
    ``attempts`` counts the starts since the last checkpoint. ``progress`` is where the trainer is now.
    """

    __tablename__ = "training_runs"
    __table_args__ = (
        CheckConstraint(
            "status IN ('queued', 'running', 'cancelling', 'cancelled', 'ready', 'failed')", name="status"
        ),
        CheckConstraint(
            "(status IN ('running', 'cancelling')) = (lease_owner IS NOT NULL)"
            " AND (lease_owner IS NULL) = (lease_expires_at IS NULL)",
            name="lease",
        ),
        CheckConstraint(
            "(status IN ('ready', 'failed', 'cancelled')) = (finished_at IS NOT NULL)", name="finished"
        ),
        CheckConstraint("(status = 'ready') = (release_id IS NOT NULL)", name="ready_has_release"),
        UniqueConstraint("org_id", "idempotency_key"),
        Index(
            "ix_training_runs_open",
            "created_at",
            postgresql_where=text("status IN ('queued', 'running', 'cancelling')"),
        ),
        Index("ix_training_runs_page", "org_id", "created_at", "id"),
    )

    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organisations.id"))
    dataset_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("datasets.id"))
    name: Mapped[str] = mapped_column(String(100))
    recipe_name: Mapped[str] = mapped_column(String(100))
    overrides: Mapped[dict[str, Any]] = mapped_column(JSONB)
    recipe: Mapped[dict[str, Any]] = mapped_column(JSONB)
    stages: Mapped[list[str]] = mapped_column(ARRAY(String(8)))
    seed: Mapped[int] = mapped_column(BigInteger)
    device: Mapped[str] = mapped_column(String(8))
    processes: Mapped[int]
    # the key of a release: an id as text, or the name of an installed one
    parent: Mapped[str | None] = mapped_column(String(200))
    parent_weights_sha256: Mapped[str | None] = mapped_column(String(64))

    progress: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    notices: Mapped[list[str]] = mapped_column(ARRAY(String(500)), server_default=text("'{}'"))
    checkpoint_key: Mapped[str | None] = mapped_column(String(200))
    checkpoint: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    release_id: Mapped[uuid.UUID | None]

    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    fingerprint: Mapped[str] = mapped_column(String(64))

    @property
    def state(self) -> RunStatus:
        """The status with all the states a run may have."""
        return RunStatus(self.status)

    @property
    def prefix(self) -> str:
        """Below it lie the run's checkpoints in the object store."""
        return f"training/{self.id}"

    @classmethod
    def advanced_at(cls) -> ColumnElement[Any]:
        """When its last checkpoint was kept, or when this go was begun: runs may well take days."""
        kept_at = cls.checkpoint["at"].astext.cast(DateTime(timezone=True))
        return func.greatest(cls.started_at, kept_at)


class TrainingMetric(Base):
    """What one epoch of a stage came to. Epochs that were done again after a restart stand here once.

    ``member`` 0 is the classifier that will be released, others are shadows; ``step`` counts the steps of
    the stage; ``values`` has loss, reward, accuracy, s and seconds as far as the stage has them, None for
    what was not finite.
    """

    __tablename__ = "training_metrics"
    __table_args__ = (UniqueConstraint("run_id", "stage", "member", "epoch"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    run_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("training_runs.id", ondelete="CASCADE"))
    stage: Mapped[str] = mapped_column(String(8))
    member: Mapped[int]
    epoch: Mapped[int]
    step: Mapped[int]
    values: Mapped[dict[str, Any]] = mapped_column(JSONB)
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
