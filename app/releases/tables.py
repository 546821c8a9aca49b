"""What is kept of releases: themselves, the aliases that point at them, and what was measured."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    ColumnElement,
    DateTime,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.db import Base
from app.core.work import WorkRow, uuid7, work_constraints

# One release runs on one plan once, and a pair is compared on a data set once, unless it failed.
NOT_FAILED = text("status <> 'failed'")


class ReleaseRow(Base):
    """A release of an organisation; its weights lie in the object store. A row never changes.

    The releases that were installed as folders have no row: they belong to everybody.
    """

    __tablename__ = "releases"
    __table_args__ = (
        UniqueConstraint("org_id", "name", "version"),
        Index("ix_releases_page", "org_id", "created_at", "id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organisations.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(100))
    version: Mapped[int]
    weights_sha256: Mapped[str] = mapped_column(String(64))
    weights_bytes: Mapped[int] = mapped_column(BigInteger)
    # the card's own text: JSONB would put its members in another order
    card: Mapped[str] = mapped_column(Text)
    card_sha256: Mapped[str] = mapped_column(String(64))
    training_run_id: Mapped[uuid.UUID | None] = mapped_column(unique=True)
    dataset_id: Mapped[uuid.UUID | None]
    parent: Mapped[str | None] = mapped_column(String(200))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    @property
    def folder_key(self) -> str:
        """Where the release lies in the object store; made of its id alone."""
        return f"releases/{self.id}"


class AliasMove(Base):
    """One step in an alias's history. ``below_id`` is what a rollback of this step goes back to."""

    __tablename__ = "alias_moves"
    __table_args__ = (
        CheckConstraint("kind IN ('move', 'rollback', 'remove')", name="kind"),
        CheckConstraint("(kind = 'remove') = (release IS NULL)", name="points_somewhere"),
        CheckConstraint("NOT forced OR reason IS NOT NULL", name="forced_for_a_reason"),
        UniqueConstraint("org_id", "alias", "version"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organisations.id", ondelete="CASCADE"))
    alias: Mapped[str] = mapped_column(String(100))
    version: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    # a release's id as text, or the name of an installed one
    release: Mapped[str | None] = mapped_column(String(200))
    below_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("alias_moves.id", ondelete="CASCADE"))
    key_id: Mapped[uuid.UUID]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
    forced: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    reason: Mapped[str | None] = mapped_column(String(1000))
    gate: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))


class Alias(Base):
    """A name an organisation gives to one of its releases; null ``move_id``: it was removed.

    ``version`` counts its moves, and is what ``If-Match`` is held against.
    """

    __tablename__ = "release_aliases"

    org_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("organisations.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    version: Mapped[int] = mapped_column(default=0, server_default="0")
    release: Mapped[str | None] = mapped_column(String(200))
    move_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("alias_moves.id", ondelete="CASCADE"))
    moved_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())


class Comparison(WorkRow, Base):
    """Two releases on the same held-out images; ``result`` is there once it is ready.

    The cards' hashes are part of what was compared: an installed release may be replaced under its name.
    """

    __tablename__ = "comparisons"
    __table_args__ = (
        *work_constraints("comparisons"),
        Index(
            "uq_comparisons_pair",
            "org_id",
            "release",
            "card_sha256",
            "other",
            "other_card_sha256",
            "dataset_id",
            unique=True,
            postgresql_where=NOT_FAILED,
        ),
        Index("ix_comparisons_dataset", "dataset_id"),
    )

    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organisations.id", ondelete="CASCADE"))
    release: Mapped[str] = mapped_column(String(200))
    card_sha256: Mapped[str] = mapped_column(String(64))
    other: Mapped[str] = mapped_column(String(200))
    other_card_sha256: Mapped[str] = mapped_column(String(64))
    dataset_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))


class ShadowPlan(WorkRow, Base):
    """What the organisation's shadow release would have planned for a live plan."""

    __tablename__ = "shadow_plans"
    __table_args__ = (
        *work_constraints("shadow_plans"),
        Index("uq_shadow_plans_once", "plan_id", "release", "card_sha256", unique=True),
        Index("ix_shadow_plans_release", "org_id", "release"),
    )

    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organisations.id", ondelete="CASCADE"))
    plan_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("plans.id", ondelete="CASCADE"))
    release: Mapped[str] = mapped_column(String(200))
    card_sha256: Mapped[str] = mapped_column(String(64))
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))

    @classmethod
    def tenant(cls) -> ColumnElement[uuid.UUID]:
        """The organisation whose shadow it is."""
        return cls.org_id.expression


class ShadowClassification(WorkRow, Base):
    """What the organisation's shadow release would have answered to a live classification."""

    __tablename__ = "shadow_classifications"
    __table_args__ = (
        *work_constraints("shadow_classifications"),
        Index("uq_shadow_classifications_once", "classification_id", "release", "card_sha256", unique=True),
        Index("ix_shadow_classifications_release", "org_id", "release"),
    )

    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organisations.id", ondelete="CASCADE"))
    classification_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("classifications.id", ondelete="CASCADE"))
    release: Mapped[str] = mapped_column(String(200))
    card_sha256: Mapped[str] = mapped_column(String(64))
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))

    @classmethod
    def tenant(cls) -> ColumnElement[uuid.UUID]:
        """The organisation whose shadow it is."""
        return cls.org_id.expression
