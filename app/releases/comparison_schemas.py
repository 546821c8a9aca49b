"""What clients get of a comparison of two releases."""

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from app.core import money
from app.core.work import WorkStatus
from app.plans.schemas import ProblemOut
from app.releases.alias_schemas import RELEASE_ID
from app.releases.finding import Found
from app.releases.tables import Comparison

Money = Annotated[Decimal, PlainSerializer(money.plain, return_type=str, when_used="json")]

_SIDE: dict[str, Any] = {
    "accuracy": {"value": 0.975, "ci95": [0.953, 0.987]},
    "hr": {"value": 0.981, "ci95": [0.96, 0.99]},
    "lr": {"value": 0.94, "ci95": [0.91, 0.96]},
    "s_mean": {"value": 2.1, "ci95": [1.7, 2.5]},
    "share": 0.13125,
    "ece": 0.012,
    "cost_per_tile": "0.009676800",
}

COMPARISON_EXAMPLE: dict[str, Any] = {
    "id": "0199c0de-0000-7000-8000-00000000000c",
    "status": "ready",
    "created_at": "2026-11-22T12:00:00Z",
    "finished_at": "2026-11-22T12:01:00Z",
    "release": {"id": RELEASE_ID, "name": "harbours", "version": "3"},
    "other": {"id": "ucmerced", "name": "ucmerced", "version": "1"},
    "dataset": "0199c0de-0000-7000-8000-00000000000d",
    "held_out": {"n": 336, "how": "a stratified fifth held out, seed 0"},
    "seen": {"release": "no", "other": "yes", "release_images": 0, "other_images": 269},
    "price_per_km2": "12.50",
    "currency": "EUR",
    "tile_km2": 0.005898,
    "by_ds": {
        "4": {
            "n": 336,
            "release": _SIDE,
            "other": _SIDE,
            "accuracy": {"value": 0.0, "ci95": [-0.01, 0.01], "only_release": 4, "only_other": 4, "p": 1.0},
            "share": {"value": -0.02, "ci95": [-0.04, 0.0], "p": 0.06},
            "per_class": [
                {
                    "class": "harbor",
                    "n": 16,
                    "release": {"accuracy": 1.0, "s_mean": 0.5},
                    "other": {"accuracy": 0.9375, "s_mean": 0.75},
                    "p": 1.0,
                }
            ],
        }
    },
    "verdict": {"level": 0.05, "less_accurate": [], "more_expensive": []},
    "error": None,
}


class Named(BaseModel):
    """A release by its id (or, installed, its name), its name and version."""

    id: str
    name: str
    version: str

    @classmethod
    def of(cls, found: Found) -> "Named":
        """The answer for a release."""
        return cls(id=found.key, name=found.card.name, version=found.card.version)


class Estimate(BaseModel):
    """A figure and its 95 % interval."""

    value: float
    ci95: list[float]


class SideOut(BaseModel):
    """One of the two: accuracies of the fused answer and of each stream, and what it buys."""

    accuracy: Estimate
    hr: Estimate = Field(description="With all patches.")
    lr: Estimate = Field(description="Without any.")
    s_mean: Estimate = Field(description="Patches bought a tile.")
    share: float = Field(description="Share of a tile's patches bought.")
    ece: float | None = Field(description="Expected calibration error.")
    cost_per_tile: Money | None = Field(
        None, description="Unrounded: share x tile_km2 x price_per_km2; null without a price."
    )


class AccuracyDifference(Estimate):
    """Accuracy of the first less that of the second, with McNemar's exact test."""

    only_release: int = Field(description="Images only the first got right.")
    only_other: int = Field(description="Images only the second got right.")
    p: float


class ShareDifference(Estimate):
    """Share of patches bought by the first less that of the second, with the paired bootstrap."""

    p: float


class ClassSide(BaseModel):
    """One of the two on one class."""

    accuracy: float
    s_mean: float


class ClassDifference(BaseModel):
    """Both on one class; ``p`` is McNemar's, for that class alone."""

    model_config = ConfigDict(populate_by_name=True)

    class_: str = Field(alias="class")
    n: int
    release: ClassSide
    other: ClassSide
    p: float


class DsComparison(BaseModel):
    """Both on the same LR images, coarser than HR by ds."""

    n: int
    release: SideOut
    other: SideOut
    accuracy: AccuracyDifference
    share: ShareDifference
    per_class: list[ClassDifference]


class Verdict(BaseModel):
    """At which ds the first is significantly worse, all ds looked at together (Holm)."""

    level: float
    less_accurate: list[int]
    more_expensive: list[int]


class HeldOut(BaseModel):
    """The images both were asked about."""

    n: int
    how: str


class Seen(BaseModel):
    """Whether the weights learned from these images: `no`, `yes`, or `unknown` (other training data)."""

    release: str
    other: str
    release_images: int | None = Field(None, description="Of the held-out images, known to be learned from.")
    other_images: int | None = None


class ComparisonOut(BaseModel):
    """Two releases on the same held-out images; figures are null until ``status`` is ready."""

    model_config = ConfigDict(json_schema_extra={"example": COMPARISON_EXAMPLE})

    id: uuid.UUID
    status: WorkStatus
    created_at: datetime
    finished_at: datetime | None
    release: Named
    other: Named
    dataset: uuid.UUID
    held_out: HeldOut | None
    seen: Seen | None
    price_per_km2: Money | None
    currency: str | None
    tile_km2: float | None
    by_ds: dict[str, DsComparison] | None
    verdict: Verdict | None
    error: ProblemOut | None


def comparison_out(
    row: Comparison, release: Found, other: Found, price_per_km2: Decimal | None, currency: str | None
) -> ComparisonOut:
    """A comparison as clients get it, its costs at a price."""
    result = row.result or {}
    by_ds = None
    if row.result is not None:
        by_ds = {
            ds: _priced(found, result["tile_km2"], price_per_km2) for ds, found in result["by_ds"].items()
        }
    return ComparisonOut.model_validate(
        {
            "id": row.id,
            "status": row.status,
            "created_at": row.created_at,
            "finished_at": row.finished_at,
            "release": Named.of(release),
            "other": Named.of(other),
            "dataset": row.dataset_id,
            "held_out": result.get("held_out"),
            "seen": result.get("seen"),
            "price_per_km2": price_per_km2,
            "currency": currency,
            "tile_km2": result.get("tile_km2"),
            "by_ds": by_ds,
            "verdict": result.get("verdict"),
            "error": row.error,
        }
    )


def _priced(found: dict[str, Any], tile_km2: float, price: Decimal | None) -> dict[str, Any]:
    if price is None:
        return found
    area = money.measured(Decimal(repr(tile_km2)))

    def cost(side: dict[str, Any]) -> Decimal:
        return money.price_of(money.EXACT.multiply(Decimal(repr(side["share"])), area), price)

    return found | {side: found[side] | {"cost_per_tile": cost(found[side])} for side in ("release", "other")}
