"""What clients say of tiles, and what they get."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.labels.names import printable

Text = Annotated[str, AfterValidator(printable)]

PLAN_ID: Final = "0199c0de-0000-7000-8000-000000000001"
LABEL: Final[dict[str, Any]] = {
    "number": 17,
    "tile": 0,
    "class": "harbor",
    "by": "R. Okafor",
    "key": "analysts",
    "at": "2026-11-22T12:00:00Z",
}


class LabelIn(BaseModel):
    """What one tile turned out to be."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    tile: int = Field(ge=0, le=2**31 - 1)
    class_: Text | None = Field(
        alias="class", min_length=1, max_length=200, description="null takes back what was said before."
    )


class LabelForm(BaseModel):
    """Labels of some of a plan's tiles; each tile at most once."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"labels": [{"tile": 0, "class": "harbor"}], "by": "R. Okafor"}},
    )

    labels: Annotated[list[LabelIn], Field(min_length=1, max_length=10_000)]
    by: Text | None = Field(
        None, min_length=1, max_length=200, description="Who looked, beside the name of the key."
    )
    new_classes: bool = Field(
        False, description="Whether classes may be new: neither the release's nor given to a tile before."
    )


class LabelOut(BaseModel):
    """A label: who said it and when."""

    model_config = ConfigDict(populate_by_name=True)

    number: int = Field(description="Grows with every label; of a tile's labels the highest counts.")
    tile: int
    class_: str | None = Field(alias="class")
    by: str | None
    key: str = Field(description="Name of the API key.")
    at: datetime


class LabelPage(BaseModel):
    """Labels of a plan by tile, or all that were ever given, newest first."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"plan_id": PLAN_ID, "labels": [LABEL], "next": None}}
    )

    plan_id: uuid.UUID
    labels: list[LabelOut]
    next: str | None
