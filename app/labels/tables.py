"""What is kept of labels: every one that was ever given; the newest of a tile counts."""

import uuid
from datetime import datetime

from sqlalchemy import BigInteger, DateTime, ForeignKey, ForeignKeyConstraint, Identity, Index, String, func
from sqlalchemy.orm import Mapped, mapped_column

from app.core.db import Base


class Label(Base):
    """What a tile turned out to be. A row without a class takes back the ones before it.

    ``number`` grows with every label: of several labels of a tile the one with the highest counts.
    """

    __tablename__ = "labels"
    __table_args__ = (
        ForeignKeyConstraint(["plan_id", "tile"], ["tiles.plan_id", "tiles.tile"], ondelete="CASCADE"),
        Index("ix_labels_newest", "plan_id", "tile", "number"),
    )

    number: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    plan_id: Mapped[uuid.UUID]
    tile: Mapped[int]
    class_name: Mapped[str | None] = mapped_column(String(200))
    key_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("api_keys.id"))
    key_name: Mapped[str] = mapped_column(String(200))
    by: Mapped[str | None] = mapped_column(String(200))
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
