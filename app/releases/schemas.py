"""What clients get of a release: its card."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.releases.finding import Found

RELEASE_EXAMPLE: dict[str, Any] = {
    "id": "ucmerced",
    "name": "ucmerced",
    "version": "2",
    "default": True,
    "streams": "hr+lr",
    "fusion": "log_pool",
    "fill": "lr",
    "grid": 4,
    "patches": 16,
    "classes": [{"name": "golfcourse", "fmow": "golf_course"}],
    "bands": ["red", "green", "blue"],
    "lr_px": 128,
    "hr_px": 256,
    "tile_m": {"nominal": 76.8, "min": 61.44, "max": 96.0},
    "lr_gsd_m": {"nominal": 3.394113, "min": 1.2, "max": 9.6},
    "hr_gsd_m": 0.3,
    "threshold": 0.5,
    "weights_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "figures": {"by_ds": {"4": {"fused": {"value": 0.97, "ci95": [0.96, 0.98]}}}},
    "training": {"recipe": "ucmerced", "seed": 0, "data_sha256": "a1e76c121292904d415ddb55c7948bf6"},
    "description": "Aerial scenes at 0.3 m",
    "licence": "Apache-2.0",
    "aliases": ["champion"],
    "created_at": None,
    "training_run": None,
    "dataset": None,
    "parent": None,
}


class RangeOut(BaseModel):
    """A measured quantity in metres: the nominal value and the range the release was trained on."""

    nominal: float
    min: float
    max: float


class ClassOut(BaseModel):
    """A class, and the functional Map of the World class nearest to it where there is one."""

    name: str
    fmow: str | None = None


class ReleaseOut(BaseModel):
    """What a release was trained on, at which scale, and what was measured of it."""

    model_config = ConfigDict(json_schema_extra={"example": RELEASE_EXAMPLE})

    id: str = Field(description="Its id; of a release installed with the service its name.")
    name: str
    version: str
    default: bool = Field(description="Whether plans that name no release are made with this one.")
    streams: Literal["hr", "hr+lr"]
    fusion: str = Field(description="How the two streams become one answer: eq7, or a named rule.")
    fill: str = Field(description="What fills a patch that was not bought: zeros or lr.")
    grid: int
    patches: int
    classes: list[ClassOut]
    bands: list[str]
    lr_px: int
    hr_px: int
    tile_m: RangeOut = Field(description="Side of a tile on the ground, metres.")
    lr_gsd_m: RangeOut
    hr_gsd_m: float
    threshold: float = Field(description="A patch is chosen where its probability is above this.")
    weights_sha256: str
    figures: dict[str, Any] = Field(
        description="By ds: accuracies and S with 95 % intervals, per class, accuracy against S, calibration."
    )
    training: dict[str, Any] = Field(description="Data and its hash, recipe, seed, commit, stages, versions.")
    description: str
    licence: str
    aliases: list[str] = Field(description="Your organisation's aliases that stand for it.")
    created_at: datetime | None = Field(description="Null for a release installed with the service.")
    training_run: uuid.UUID | None
    dataset: uuid.UUID | None
    parent: str | None = Field(description="The release whose weights its training started from.")

    @classmethod
    def of(cls, found: Found, *, default: bool, aliases: Sequence[str] = ()) -> "ReleaseOut":
        """The answer for a release."""
        card, row = found.card, found.row
        return cls(
            id=found.key,
            name=card.name,
            version=card.version,
            default=default,
            streams=card.streams,
            fusion=card.fusion,
            fill=card.fill,
            grid=card.grid,
            patches=card.patches,
            classes=[ClassOut(name=entry.name, fmow=entry.fmow) for entry in card.classes],
            bands=list(card.bands),
            lr_px=card.lr_px,
            hr_px=card.hr_px,
            tile_m=RangeOut.model_validate(card.tile_m, from_attributes=True),
            lr_gsd_m=RangeOut.model_validate(card.lr_gsd_m, from_attributes=True),
            hr_gsd_m=card.hr_gsd_m,
            threshold=card.threshold,
            weights_sha256=card.weights_sha256,
            figures=dict(card.figures),
            training=dict(card.training),
            description=card.description,
            licence=card.licence,
            aliases=list(aliases),
            created_at=None if row is None else row.created_at,
            training_run=None if row is None else row.training_run_id,
            dataset=None if row is None else row.dataset_id,
            parent=None if row is None else row.parent,
        )


class ReleaseList(BaseModel):
    """A page of releases: the installed ones on the first, then your organisation's, newest first."""

    model_config = ConfigDict(json_schema_extra={"example": {"releases": [RELEASE_EXAMPLE], "next": None}})

    releases: list[ReleaseOut]
    next: str | None = Field(None, description="`token` of the next page; null: there is none.")
