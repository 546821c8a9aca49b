"""What clients send for a classification and what they get."""

import uuid
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.core.work import WorkStatus
from app.plans.schemas import ProblemOut, ReleaseRef
from app.releases.schemas import ClassOut


class ClassificationForm(BaseModel):
    """How to classify; everything has a default, so the body may be left out."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"top_k": 3}})

    release: str | None = Field(
        None,
        max_length=100,
        description="Default: the plan's own. Another must have the same hr_px, grid and bands.",
    )
    top_k: int = Field(5, ge=1, le=1000, description="How many classes `top` holds.")


class Scored(BaseModel):
    """A class and its probability."""

    model_config = ConfigDict(populate_by_name=True)

    class_: str = Field(alias="class")
    fmow: str | None = Field(description="Nearest class of functional Map of the World, if any.")
    probability: float


class StreamAnswer(Scored):
    """What one stream says by itself."""

    probabilities: dict[str, float]


class Streams(BaseModel):
    """Each stream's own answer; null for a stream that the release lacks or that saw no patch."""

    hr: StreamAnswer | None
    lr: StreamAnswer | None


class Weights(BaseModel):
    """What each stream counted for."""

    hr: float
    lr: float


class ClassifiedTileOut(BaseModel):
    """The answer for one tile."""

    model_config = ConfigDict(populate_by_name=True)

    tile: int
    status: Literal["classified", "unclassifiable"] = Field(
        description="unclassifiable: the release has no LR stream and no patch was received."
    )
    class_: str | None = Field(alias="class")
    fmow: str | None
    probability: float | None
    top: list[Scored]
    probabilities: dict[str, float] | None = Field(description="Of every class.")
    streams: Streams
    fusion: str
    weights: Weights
    patches_used: list[int] = Field(description="S patches: received, chosen or not.")
    chosen_missing: list[int] = Field(description="Chosen patches that were not received.")
    buy_next: list[int] | None = Field(
        description="Patches that pay now, seen what the received ones show: once all chosen ones were "
        "received, buy these, send them as the others, and classify again. Null where the release looks "
        "once, and where the plan has a budget.",
    )


class ClassificationSummary(BaseModel):
    """A classification without its tiles."""

    id: uuid.UUID
    plan_id: uuid.UUID
    status: WorkStatus
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    release: ReleaseRef
    fusion: str
    top_k: int
    classes: list[ClassOut]
    error: ProblemOut | None
    links: dict[str, str]


class ClassificationOut(ClassificationSummary):
    """A classification and its tiles; ``tiles`` is empty until it is ready."""

    tiles: list[ClassifiedTileOut]


class ClassificationList(BaseModel):
    """A plan's classifications, newest first, and the token of the next page (null on the last)."""

    classifications: list[ClassificationSummary]
    next: str | None
