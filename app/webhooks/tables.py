"""What is kept of webhooks: where to, and one row for each thing told to each."""

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ARRAY, CheckConstraint, DateTime, ForeignKey, Index, String, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from app.core import tracing
from app.core.db import Base
from app.core.work import uuid7


class DeliveryState(StrEnum):
    """Where a delivery is: waiting for its next try, heard, or given up."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


class WebhookEndpoint(Base):
    """Somebody who is told. The secret is kept as it is, for it signs every message."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (Index("ix_webhook_endpoints_page", "org_id", "created_at", "id"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organisations.id"))
    url: Mapped[str] = mapped_column(Text)
    events: Mapped[list[str]] = mapped_column(ARRAY(String(64)))
    description: Mapped[str] = mapped_column(String(200), server_default="")
    secret: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    removed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class WebhookDelivery(Base):
    """One message for one endpoint, written in the transaction that made the move it tells of.

    ``next_try_at`` is when a worker may take it; taking it moves that on by the lease, so that the message of
    a worker that died is sent again. ``fence`` is raised by every taking: only the last taker writes.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'delivered', 'given_up')", name="known_state"),
        CheckConstraint("(state = 'waiting') = (finished_at IS NULL)", name="finished"),
        Index(
            "ix_webhook_deliveries_waiting",
            "endpoint_id",
            "next_try_at",
            "id",
            postgresql_where=text("state = 'waiting'"),
        ),
        Index("ix_webhook_deliveries_page", "endpoint_id", "id"),
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    endpoint_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    event: Mapped[str] = mapped_column(String(64))
    subject_id: Mapped[uuid.UUID]
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[DeliveryState] = mapped_column(String(16), default=DeliveryState.WAITING)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    next_try_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    finished_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    fence: Mapped[int] = mapped_column(default=0, server_default="0")
    status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(Text)
    # where the trace of what it tells of goes on; null unless that was traced
    traceparent: Mapped[str | None] = mapped_column(String(55), default=tracing.traceparent)
