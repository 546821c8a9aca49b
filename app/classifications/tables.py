"""What is kept of a classification: the request and one row a tile."""

import uuid

from sqlalchemy import ARRAY, REAL, ColumnElement, ForeignKey, Index, Integer, String, select
from sqlalchemy.orm import Mapped, mapped_column

from app.core.db import Base
from app.core.work import WorkRow, work_constraints
from app.plans.tables import Plan


class Classification(WorkRow, Base):
    """The two-stream answer for every tile of a plan, with the patches received as of one revision."""

    __tablename__ = "classifications"
    __table_args__ = (*work_constraints("classifications"), Index("ix_classifications_plan", "plan_id", "id"))

    plan_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("plans.id", ondelete="CASCADE"))
    revision: Mapped[int]
    top_k: Mapped[int]
    release: Mapped[str] = mapped_column(String(200))
    # null: one of the releases installed as folders
    release_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("releases.id"))
    release_version: Mapped[str] = mapped_column(String(200))
    weights_sha256: Mapped[str] = mapped_column(String(64))
    streams: Mapped[str] = mapped_column(String(16))
    fusion: Mapped[str] = mapped_column(String(64))
    classes: Mapped[list[str]] = mapped_column(ARRAY(String(200)))
    fmow: Mapped[list[str | None]] = mapped_column(ARRAY(String(200)))

    @classmethod
    def tenant(cls) -> ColumnElement[uuid.UUID]:
        """The organisation of the plan."""
        return select(Plan.org_id).where(Plan.id == cls.plan_id).scalar_subquery()


class ClassifiedTile(Base):
    """The answer for one tile: probabilities in the order of the classification's ``classes``.

    ``fused`` is null where nothing can be said (one-stream release and no patch received), ``lr`` where
    the release has no LR stream. ``buy_next`` is null where the release looks once
    and where the plan has a budget.
    """

    __tablename__ = "classified_tiles"

    classification_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("classifications.id", ondelete="CASCADE"), primary_key=True
    )
    tile: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    used: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    missing: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    fused: Mapped[list[float] | None] = mapped_column(ARRAY(REAL))
    hr: Mapped[list[float] | None] = mapped_column(ARRAY(REAL))
    lr: Mapped[list[float] | None] = mapped_column(ARRAY(REAL))
    weight_hr: Mapped[float] = mapped_column(REAL)
    weight_lr: Mapped[float] = mapped_column(REAL)
    buy_next: Mapped[list[int] | None] = mapped_column(ARRAY(Integer))
