"""What clients send and get of the ledger."""

import re
import uuid
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from app.ledger.tables import EntryKind
from app.plans.schemas import AreaKm2, Money

_SIGNED = re.compile(r"-?\d{1,12}(\.\d{1,12})?", re.ASCII)

ENTRY: Final[dict[str, Any]] = {
    "id": "0199c0de-0000-7000-8000-000000000041",
    "at": "2026-11-22T15:10:00Z",
    "kind": "purchase",
    "order_id": "0199c0de-0000-7000-8000-000000000021",
    "acquisition_id": None,
    "corrects": None,
    "plan_id": "0199c0de-0000-7000-8000-000000000001",
    "tile": 0,
    "lon": 8.1054321,
    "lat": 50.1054321,
    "release": "ucmerced",
    "release_version": "1",
    "product": "example-archive/archive-30cm@1",
    "vendor": "Example vendor",
    "patches": [5, 6, 9, 10],
    "area_km2": 0.001476,
    "currency": "EUR",
    "amount": "22.900000000000",
    "reason": None,
}


def _read_signed(value: object) -> object:
    if not isinstance(value, str) or not _SIGNED.fullmatch(value):
        raise ValueError("an amount is a decimal string such as -12.50")
    return Decimal(value)


class CorrectionForm(BaseModel):
    """By how much an entry was wrong."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"amount": "-1.90", "reason": "discount granted later"}]},
    )

    amount: Annotated[Decimal, BeforeValidator(_read_signed)] = Field(
        description="Added to the entry, in its currency and no finer than its minor unit; below 0 where "
        "less was paid, by no more than its order (or acquisition) stands at. Decimal string."
    )
    reason: str = Field(min_length=1, max_length=500)

    @field_validator("amount")
    @classmethod
    def _something(cls, amount: Decimal) -> Decimal:
        if amount == 0:
            raise ValueError("a correction by 0 corrects nothing")
        return amount

    @field_validator("reason")
    @classmethod
    def _readable(cls, reason: str) -> str:
        if not reason.isprintable():
            raise ValueError("printable characters only")
        return reason


class EntryOut(BaseModel):
    """One entry of the ledger."""

    model_config = ConfigDict(json_schema_extra={"example": ENTRY})

    id: uuid.UUID
    at: datetime
    kind: EntryKind
    order_id: uuid.UUID | None
    acquisition_id: uuid.UUID | None
    corrects: uuid.UUID | None
    plan_id: uuid.UUID
    tile: int | None
    lon: float | None = Field(description="The tile's middle, degrees; null where it was not kept.")
    lat: float | None
    release: str
    release_version: str
    product: str
    vendor: str
    patches: list[int]
    area_km2: AreaKm2
    currency: str
    amount: Money = Field(
        description="Unrounded; an order's entries add up to its price exactly, or to its cancellation fee."
    )
    reason: str | None


class EntryPage(BaseModel):
    """Entries, newest first, and the token of the next page (null on the last)."""

    model_config = ConfigDict(json_schema_extra={"example": {"entries": [ENTRY], "next": None}})

    entries: list[EntryOut]
    next: str | None
