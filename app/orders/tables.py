"""What is kept of an order: its money, its polygons, the tiles it covers, its moves."""

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Numeric,
    String,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.db import Base
from app.core.work import uuid7
from app.orders.states import OrderState


class Order(Base):
    """One order of one product. What it costs is settled with the draft, or by the vendor's quote.

    A trigger refuses every state but ``draft`` on insert and every move that ``app.orders.states`` does not
    hold, and any change of the money of an order that is placed.
    """

    __tablename__ = "orders"
    __table_args__ = (
        CheckConstraint(
            "state IN ('draft', 'quoted', 'placed', 'received', 'cancelled')", name="known_state"
        ),
        CheckConstraint("(quote_total IS NULL) = (quoted_at IS NULL)", name="quote_has_time"),
        CheckConstraint("total >= 0 AND (quote_total IS NULL OR quote_total >= 0)", name="not_negative"),
        CheckConstraint(
            "cancellation_fee IS NULL OR (cancellation_fee >= 0 AND state = 'cancelled')",
            name="fee_of_a_cancelled",
        ),
        UniqueConstraint("org_id", "idempotency_key"),
        Index("ix_orders_page", "org_id", "created_at", "id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organisations.id"))
    state: Mapped[OrderState] = mapped_column(String(16), default=OrderState.DRAFT)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    placed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    budget_id: Mapped[uuid.UUID | None]

    product: Mapped[str] = mapped_column(String(300))
    vendor: Mapped[str] = mapped_column(String(500))
    terms: Mapped[dict[str, Any]] = mapped_column(JSONB)
    currency: Mapped[str] = mapped_column(String(3))

    area_km2: Mapped[Decimal] = mapped_column(Numeric)
    charged_km2: Mapped[Decimal] = mapped_column(Numeric)
    net: Mapped[Decimal] = mapped_column(Numeric)
    fee: Mapped[Decimal] = mapped_column(Numeric)
    unused_minimum: Mapped[Decimal] = mapped_column(Numeric)
    rounding: Mapped[Decimal] = mapped_column(Numeric)
    vat: Mapped[Decimal] = mapped_column(Numeric)
    total: Mapped[Decimal] = mapped_column(Numeric)
    nominal: Mapped[Decimal] = mapped_column(Numeric)
    full_area_km2: Mapped[Decimal] = mapped_column(Numeric)
    full_total: Mapped[Decimal] = mapped_column(Numeric)
    full_nominal: Mapped[Decimal] = mapped_column(Numeric)
    bound: Mapped[Decimal | None] = mapped_column(Numeric)
    optimal: Mapped[bool]
    dropped: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)

    quote_total: Mapped[Decimal | None] = mapped_column(Numeric)
    quoted_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    quote: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))

    cancellation_fee: Mapped[Decimal | None] = mapped_column(Numeric)

    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    fingerprint: Mapped[str | None] = mapped_column(String(64))

    @property
    def price(self) -> Decimal:
        """What the order costs: the vendor's quote, else the estimate."""
        return self.total if self.quote_total is None else self.quote_total


class OrderPlan(Base):
    """A plan that an order buys for."""

    __tablename__ = "order_plans"

    order_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True)
    plan_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("plans.id"), primary_key=True, index=True)


class OrderLine(Base):
    """One polygon: what is drawn, what is charged for it. ``amount`` is rounded to the minor unit."""

    __tablename__ = "order_lines"

    order_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    geometry: Mapped[dict[str, Any]] = mapped_column(JSONB)
    area_km2: Mapped[Decimal] = mapped_column(Numeric)
    charged_km2: Mapped[Decimal] = mapped_column(Numeric)
    amount: Mapped[Decimal] = mapped_column(Numeric)
    patch_count: Mapped[int]


class OrderTile(Base):
    """A tile of an ordered plan: what is bought of it (bit p of ``patches``), and what all of it would cost.

    Tiles of which nothing is bought are here too: full HR is the cost of them all. The shares of an order's
    tiles add up to its totals exactly. ``paid_before`` are those of ``patches`` that the order did not ask
    for and that had been received: its polygons cover them, but it is not what paid for them.
    ``left_out_received`` and ``left_out_ordered`` were to be bought and were not asked for: they had come, or
    a live order covered them.
    """

    __tablename__ = "order_tiles"
    __table_args__ = (Index("ix_order_tiles_tile", "plan_id", "tile"),)

    order_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True)
    plan_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("plans.id"), primary_key=True)
    tile: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    patches: Mapped[int]
    chosen: Mapped[int]
    paid_before: Mapped[int] = mapped_column(server_default=text("0"))
    left_out_received: Mapped[int] = mapped_column(server_default=text("0"))
    left_out_ordered: Mapped[int] = mapped_column(server_default=text("0"))
    area_km2: Mapped[Decimal] = mapped_column(Numeric)
    nominal: Mapped[Decimal] = mapped_column(Numeric)
    full_patches: Mapped[int]
    full_area_km2: Mapped[Decimal] = mapped_column(Numeric)
    full_total: Mapped[Decimal] = mapped_column(Numeric)
    full_nominal: Mapped[Decimal] = mapped_column(Numeric)
    lon: Mapped[float] = mapped_column(Double)
    lat: Mapped[float] = mapped_column(Double)


class OrderMove(Base):
    """One move of an order; rows are only ever added (a trigger refuses everything else)."""

    __tablename__ = "order_moves"
    __table_args__ = (UniqueConstraint("order_id", "idempotency_key"),)

    order_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    here: Mapped[str | None] = mapped_column(String(16))
    to: Mapped[str] = mapped_column(String(16))
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.clock_timestamp())
    key_id: Mapped[uuid.UUID]
    reason: Mapped[str | None] = mapped_column(Text)
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    fingerprint: Mapped[str | None] = mapped_column(String(64))
