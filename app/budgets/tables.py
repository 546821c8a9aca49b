"""What is kept of a budget: the request, the curve, one row a tile."""

import uuid
from decimal import Decimal
from typing import Any

from sqlalchemy import ARRAY, Double, ForeignKey, Index, Integer, Numeric, String, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.db import Base
from app.core.work import WorkRow, work_constraints


class Budget(WorkRow, Base):
    """What to buy for a sum, worked out in the background. ``product`` is the product as it was priced."""

    __tablename__ = "budgets"
    __table_args__ = (
        *work_constraints("budgets"),
        UniqueConstraint("org_id", "idempotency_key"),
        Index("ix_budgets_page", "org_id", "created_at", "id"),
    )

    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organisations.id"))
    budget: Mapped[Decimal] = mapped_column(Numeric)
    currency: Mapped[str] = mapped_column(String(3))
    product: Mapped[dict[str, Any]] = mapped_column(JSONB)
    request: Mapped[dict[str, Any]] = mapped_column(JSONB)
    fingerprint: Mapped[str] = mapped_column(String(64))
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    # totals, the curve, the order's polygons; null until ready
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))


class BudgetTile(Base):
    """What a budget says of one tile: ``chosen`` were wanted, ``bought`` is what the polygons cover."""

    __tablename__ = "budget_tiles"

    budget_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("budgets.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    plan_id: Mapped[uuid.UUID]
    tile: Mapped[int]
    verdict: Mapped[str] = mapped_column(String(16))
    chosen: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    bought: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    expected_before: Mapped[float | None] = mapped_column(Double)
    expected_after: Mapped[float | None] = mapped_column(Double)
