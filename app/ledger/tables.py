"""The ledger's one table: rows are added, never changed and never deleted."""

import uuid
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from sqlalchemy import (
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Numeric,
    String,
    Text,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.core.db import Base
from app.core.work import uuid7

AD_HOC = "ad-hoc"
"""The product of a plan that was given a bare price per km²."""


class EntryKind(StrEnum):
    """What an entry tells of."""

    PURCHASE = "purchase"
    ACQUISITION = "acquisition"
    DELIVERY = "delivery"
    REVERSAL = "reversal"
    CORRECTION = "correction"
    CANCELLATION_FEE = "cancellation_fee"


class LedgerEntry(Base):
    """One purchase of patches of one tile, its reversal, or a correction. A trigger keeps rows as they are.

    Only a ``delivery`` is of no tile: it says that an order's imagery for a plan came, and costs nothing. A
    ``cancellation_fee`` is a tile's share of what was charged for cancelling its order, and buys no patch.
    ``amount`` has the currency's full precision and more: the entries of an order add up to the order's
    rounded total exactly, or to its cancellation fee. ``patches`` has bit p set for patch p.
    """

    __tablename__ = "ledger"
    __table_args__ = (
        CheckConstraint(
            "kind IN ('purchase', 'acquisition', 'delivery', 'reversal', 'correction', 'cancellation_fee')",
            name="known_kind",
        ),
        CheckConstraint("(corrects IS NOT NULL) = (kind IN ('reversal', 'correction'))", name="corrects"),
        CheckConstraint("(kind = 'acquisition') = (acquisition_id IS NOT NULL)", name="acquisition"),
        CheckConstraint(
            "kind NOT IN ('purchase', 'delivery', 'cancellation_fee') OR order_id IS NOT NULL",
            name="of_an_order",
        ),
        # what makes an entry happen once, however often it is asked for; what was received may be entered,
        # taken back and entered again, and is held to once by its plan's lock
        Index(
            "uq_ledger_order",
            "order_id",
            "plan_id",
            "tile",
            "kind",
            unique=True,
            postgresql_where=text("kind IN ('purchase', 'delivery', 'cancellation_fee')"),
            postgresql_nulls_not_distinct=True,
        ),
        Index("uq_ledger_reversal", "corrects", unique=True, postgresql_where=text("kind = 'reversal'")),
        Index("ix_ledger_page", "org_id", "at", "id"),
        # the unique ones above are of some kinds only: no query by order or acquisition alone can use them
        Index("ix_ledger_order", "order_id", "at", "id", postgresql_where=text("order_id IS NOT NULL")),
        Index("ix_ledger_acquisition", "acquisition_id", postgresql_where=text("acquisition_id IS NOT NULL")),
        Index("ix_ledger_tile", "plan_id", "tile"),
        Index("ix_ledger_corrects", "corrects"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organisations.id"))
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    kind: Mapped[str] = mapped_column(String(16))
    order_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("orders.id"))
    acquisition_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("acquisitions.id"))
    corrects: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("ledger.id"))
    plan_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("plans.id"))
    tile: Mapped[int | None]
    lon: Mapped[float | None] = mapped_column(Double)
    lat: Mapped[float | None] = mapped_column(Double)
    release: Mapped[str] = mapped_column(String(200))
    release_version: Mapped[str] = mapped_column(String(200))
    product: Mapped[str] = mapped_column(String(300))
    vendor: Mapped[str] = mapped_column(String(500))
    patches: Mapped[int]
    area_km2: Mapped[Decimal] = mapped_column(Numeric)
    currency: Mapped[str] = mapped_column(String(3))
    amount: Mapped[Decimal] = mapped_column(Numeric)
    reason: Mapped[str | None] = mapped_column(Text)
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
