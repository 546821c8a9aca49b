"""What is kept of a plan: the request, the answer's totals, one row a tile."""

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    ColumnElement,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    String,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from app.core.db import Base
from app.core.work import WorkRow, work_constraints


class Plan(WorkRow, Base):
    """The answer for one LR raster. Totals are empty until the plan is ready, and never change after."""

    __tablename__ = "plans"
    __table_args__ = (
        *work_constraints("plans"),
        CheckConstraint("(price_per_km2 IS NULL) = (currency IS NULL)", name="price_has_currency"),
        Index("ix_plans_page", "org_id", "created_at", "id"),
    )

    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organisations.id"))

    release: Mapped[str] = mapped_column(String(200))
    # null: one of the releases installed as folders
    release_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("releases.id"))
    release_version: Mapped[str] = mapped_column(String(200))
    weights_sha256: Mapped[str] = mapped_column(String(64))
    streams: Mapped[str] = mapped_column(String(16))
    fusion: Mapped[str] = mapped_column(String(64))
    hr_px: Mapped[int]
    band_names: Mapped[list[str]] = mapped_column(ARRAY(String(64)))

    threshold: Mapped[float] = mapped_column(Double)
    max_patches: Mapped[int | None]
    tile_size_m: Mapped[float | None] = mapped_column(Double)
    price_per_km2: Mapped[Decimal | None] = mapped_column(Numeric)
    currency: Mapped[str | None] = mapped_column(String(3))
    tags: Mapped[dict[str, str]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    # the product as it was when the plan was priced (Product.to_json), and what was asked beside it: budget,
    # areas that must or must not be bought
    product: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    options: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))

    lr_sha256: Mapped[str] = mapped_column(String(64))
    lr_bytes: Mapped[int] = mapped_column(BigInteger)
    raster: Mapped[dict[str, Any]] = mapped_column(JSONB)
    bands: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    value_scale: Mapped[float | None] = mapped_column(Double)
    value_offset: Mapped[float | None] = mapped_column(Double)
    scaling: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    hr_scalings: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=text("'{}'::jsonb"))
    warnings: Mapped[list[str]] = mapped_column(ARRAY(String(64)), server_default=text("'{}'"))

    tile_count: Mapped[int]
    patch_count: Mapped[int | None]
    chosen_count: Mapped[int | None]
    area_km2: Mapped[Decimal | None] = mapped_column(Numeric)
    chosen_area_km2: Mapped[Decimal | None] = mapped_column(Numeric)
    cost: Mapped[Decimal | None] = mapped_column(Numeric)
    chosen_cost: Mapped[Decimal | None] = mapped_column(Numeric)

    # Raised by every acquisition under the row's lock: "the patches received as of revision r" has one
    # answer for ever, whatever arrives later.
    revision: Mapped[int] = mapped_column(default=0, server_default="0")

    @classmethod
    def tenant(cls) -> ColumnElement[uuid.UUID]:
        """The organisation that asked."""
        return cls.org_id.expression

    @property
    def lr_key(self) -> str:
        """Where the LR raster lies in the object store; made of ids alone, never of a client's names."""
        return f"plans/{self.id}/lr.tif"


class TileRow(Base):
    """One tile of a ready plan; the arrays have one element a patch, in the order of the patch ids."""

    __tablename__ = "tiles"
    __table_args__ = (
        CheckConstraint(
            "cardinality(probabilities) = cardinality(chosen)"
            " AND cardinality(probabilities) = cardinality(areas_km2)",
            name="one_a_patch",
        ),
    )

    plan_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("plans.id", ondelete="CASCADE"), primary_key=True)
    tile: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    row: Mapped[int]
    col: Mapped[int]
    bounds: Mapped[list[float]] = mapped_column(ARRAY(Double))
    clipped: Mapped[list[float]] = mapped_column(ARRAY(Double))
    north_up: Mapped[bool]
    east_right: Mapped[bool]
    valid_fraction: Mapped[float] = mapped_column(Double)
    # patches of which LR shows nothing; of plans made before this was kept, those of tiles without any valid
    # pixel alone
    unseen: Mapped[list[int]] = mapped_column(ARRAY(Integer), server_default=text("'{}'"))
    probabilities: Mapped[list[float]] = mapped_column(ARRAY(Double))
    chosen: Mapped[list[bool]] = mapped_column(ARRAY(Boolean))
    areas_km2: Mapped[list[Decimal]] = mapped_column(ARRAY(Numeric))
    prices: Mapped[list[Decimal] | None] = mapped_column(ARRAY(Numeric))
    # {"lr": chance, "hr": chance, "weights": [one a patch]} for the gain model of the release's card; null
    # where the release has none, and where all of the tile is unseen
    gain: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))


class IdempotencyKey(Base):
    """A client's promise that two requests are one. Without a plan it is a reservation that runs out."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        CheckConstraint("(plan_id IS NULL) = (reserved_until IS NOT NULL)", name="reserved_or_done"),
    )

    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organisations.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    token: Mapped[uuid.UUID]
    reserved_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    plan_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("plans.id", ondelete="CASCADE"))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
