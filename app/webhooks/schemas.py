"""What clients send and get of webhooks."""

import uuid
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.webhooks.tables import DeliveryState


class Event(StrEnum):
    """What webhooks tell of."""

    DRAFTED = "order.drafted"
    QUOTED = "order.quoted"
    PLACED = "order.placed"
    RECEIVED = "order.received"
    CANCELLED = "order.cancelled"


def _some(events: list[Event]) -> list[Event]:
    return list(dict.fromkeys(events))


ENDPOINT_EXAMPLE: Final[dict[str, Any]] = {
    "id": "0199c0de-0000-7000-8000-000000000031",
    "url": "https://example.com/hooks/patchplan",
    "events": ["order.placed", "order.received"],
    "description": "purchasing",
    "created_at": "2026-11-22T15:00:00Z",
}
DELIVERY_EXAMPLE: Final[dict[str, Any]] = {
    "id": "0199c0de-0000-7000-8000-000000000032",
    "event": "order.placed",
    "subject_id": "0199c0de-0000-7000-8000-000000000021",
    "state": "waiting",
    "attempts": 1,
    "status": 503,
    "error": "It answered 503.",
    "created_at": "2026-11-22T15:00:00Z",
    "next_try_at": "2026-11-22T15:00:05Z",
    "finished_at": None,
}


class WebhookForm(BaseModel):
    """A webhook to be registered."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {key: ENDPOINT_EXAMPLE[key] for key in ("url", "events", "description")}
        },
    )

    url: str = Field(max_length=2000, description="https://, to a public address or an allowed network.")
    events: Annotated[list[Event], Field(min_length=1, max_length=50), AfterValidator(_some)] = Field(
        default_factory=lambda: list(Event), description="What to tell of; default: everything."
    )
    description: str = Field("", max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")


class WebhookOut(BaseModel):
    """A registered webhook, without its secret."""

    model_config = ConfigDict(json_schema_extra={"example": ENDPOINT_EXAMPLE})

    id: uuid.UUID
    url: str
    events: list[Event]
    description: str
    created_at: datetime


class WebhookMade(WebhookOut):
    """A webhook just registered, with its secret, which is not shown again."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {**ENDPOINT_EXAMPLE, "secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}
        }
    )

    secret: str = Field(description="Verify messages with it, as https://www.standardwebhooks.com has it.")


class WebhookPage(BaseModel):
    """Webhooks, newest first, and the token of the next page (null on the last)."""

    model_config = ConfigDict(json_schema_extra={"example": {"webhooks": [ENDPOINT_EXAMPLE], "next": None}})

    webhooks: list[WebhookOut]
    next: str | None


class DeliveryOut(BaseModel):
    """One message to one webhook, and how often it was tried."""

    model_config = ConfigDict(json_schema_extra={"example": DELIVERY_EXAMPLE})

    id: uuid.UUID = Field(description="The message's `webhook-id`: the same at every try.")
    event: Event
    subject_id: uuid.UUID = Field(description="The order it tells of.")
    state: DeliveryState
    attempts: int
    status: int | None = Field(description="HTTP status of the last try, null when there was no answer.")
    error: str | None = Field(description="Why the last try failed.")
    created_at: datetime
    next_try_at: datetime
    finished_at: datetime | None


class DeliveryPage(BaseModel):
    """A webhook's deliveries, newest first, and the token of the next page (null on the last)."""

    model_config = ConfigDict(json_schema_extra={"example": {"deliveries": [DELIVERY_EXAMPLE], "next": None}})

    deliveries: list[DeliveryOut]
    next: str | None
