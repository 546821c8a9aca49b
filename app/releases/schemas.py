"""What clients get of a release: its card."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from models.card import Card

RELEASE_EXAMPLE: dict[str, Any] = {
    "name": "ucmerced",
    "version": "1",
    "default": True,
    "streams": "hr+lr",
    "fusion": "by_s",
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
    figures: dict[str, Any]

    @classmethod
    def of(cls, card: Card, *, default: bool) -> "ReleaseOut":
        """The answer for a card."""
        return cls(
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
        )


class ReleaseList(BaseModel):
    """All releases, by name."""

    model_config = ConfigDict(json_schema_extra={"example": {"releases": [RELEASE_EXAMPLE]}})

    releases: list[ReleaseOut]
