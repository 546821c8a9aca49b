"""What is kept of HR imagery: one row a file, one row a patch it brought."""

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
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
from app.core.work import uuid7


class Acquisition(Base):
    """One GeoTIFF that brought at least one patch; its pixels, on the tiles' own grid, are one object.

    ``form`` holds the fields that said how its values are read (bands, scale, offset), as far as they were
    given; null where that was not noted, before revision 0015.
    """

    __tablename__ = "acquisitions"
    __table_args__ = (Index("ix_acquisitions_digest", "plan_id", "digest"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    plan_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("plans.id", ondelete="CASCADE"))
    revision: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))
    file_sha256: Mapped[str] = mapped_column(String(64))
    file_bytes: Mapped[int] = mapped_column(BigInteger)
    raster: Mapped[dict[str, Any]] = mapped_column(JSONB)
    form: Mapped[dict[str, str] | None] = mapped_column(JSONB(none_as_null=True))
    bands: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    scaling: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    warnings: Mapped[list[str]] = mapped_column(ARRAY(String(64)), server_default=text("'{}'"))
    refused: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    received_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


def pixels_key(plan_id: uuid.UUID, acquisition_id: uuid.UUID) -> str:
    """The object with a file's patches, bare uint8 (slots, 3, side, side): ``app.acquisitions.pixels``."""
    return f"plans/{plan_id}/acquisitions/{acquisition_id}.u8"


class ReceivedPatch(Base):
    """A patch that was bought. Replacing one ends its row and adds another, so history stays readable."""

    __tablename__ = "received_patches"
    __table_args__ = (
        Index(
            "uq_received_patches_current",
            "plan_id",
            "tile",
            "patch",
            unique=True,
            postgresql_where=text("superseded_in IS NULL"),
        ),
    )

    acquisition_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("acquisitions.id", ondelete="CASCADE"), primary_key=True
    )
    tile: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    patch: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    plan_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("plans.id", ondelete="CASCADE"))
    slot: Mapped[int]
    chosen: Mapped[bool]
    valid_fraction: Mapped[float] = mapped_column(Double)
    gsd_m: Mapped[float] = mapped_column(Double)
    area_km2: Mapped[Decimal] = mapped_column(Numeric)
    price: Mapped[Decimal | None] = mapped_column(Numeric)
    received_in: Mapped[int]
    superseded_in: Mapped[int | None]
