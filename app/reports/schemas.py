"""What clients get of a savings report."""

from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from app.plans.schemas import AreaKm2, Money


class Figure(BaseModel):
    """So many patches, so much ground, so much money."""

    patches: int
    area_km2: AreaKm2
    cost: Money | None = Field(None, description="Sum of the plans' totals, null without a price.")


class BoughtFigure(Figure):
    """What was received."""

    chosen: int = Field(description="Received patches that the plan had chosen.")


class Saving(BaseModel):
    """What was not bought of all there is: nominal, before any minimum area of a vendor."""

    area_km2: AreaKm2
    cost: Money | None = None
    area_share: float | None = Field(description="0..1 of every patch's area; null where there is none.")


class SavingsGroup(BaseModel):
    """One group of plans: the values it stands for, one currency, and its nominal figures."""

    group: dict[str, str | None] = Field(description="Value by name as asked for in `group_by`.")
    currency: str | None = Field(description="Currencies are never added; null: plans without a price.")
    plans: int
    plans_with_purchases: int
    tiles: int
    every: Figure = Field(description="Every patch of the plans, as if all were bought.")
    planned: Figure = Field(description="The patches the plans chose.")
    bought: BoughtFigure = Field(description="The patches received, chosen or not.")
    saving: Saving = Field(description="every - bought.")
    planned_saving: Saving = Field(description="every - planned.")


class FullHrFigure(BaseModel):
    """Every patch of the tiles, bought as one order of the same product by the same rules."""

    patches: int
    area_km2: AreaKm2
    cost: Money
    nominal_cost: Money = Field(description="The same area without minimum and fee.")


class SavingFigure(BaseModel):
    """What was not spent."""

    cost: Money
    share: float | None = Field(description="Of what full HR would have cost; null where that is nothing.")


class PurchaseGroup(BaseModel):
    """One group of the ledger: what was bought and spent, dated by the entries."""

    group: dict[str, str | None] = Field(description="Value by name as asked for in `group_by`.")
    currency: str
    tiles: int = Field(
        description="Tiles of the plans bought for, those with nothing bought too; in a period those that it "
        "adds, below 0 where more are taken back."
    )
    tiles_bought: int
    patches: int = Field(description="Patches bought, by choice or because a polygon covers them.")
    s_mean: float | None = Field(
        description="S: patches bought a tile, 0..16; null in a period that changes tiles of another."
    )
    s_histogram: list[int] = Field(
        description="Tiles by S, from 0 to 16; a tile of which a later period buys more moves up in it."
    )
    area_km2: AreaKm2 = Field(description="Area of the patches bought.")
    spent: Money = Field(description="Sum of the ledger's entries, rounded once.")
    nominal_cost: Money = Field(description="What the chosen patches cost alone, without minimum and fee.")
    full_hr: FullHrFigure
    nominal_saving: SavingFigure = Field(description="full_hr.nominal_cost - nominal_cost.")
    real_saving: SavingFigure = Field(description="full_hr.cost - spent.")
    labelled: int = Field(description="Tiles that were classified and have a label.")
    correct: int | None = Field(description="Of those, classified as labelled; null without labels.")
    accuracy: float | None
    cost_per_correct: Money | None = Field(description="Spent on labelled tiles / correct.")


EXAMPLE: Final[dict[str, Any]] = {
    "from": "2026-11-01T00:00:00Z",
    "to": "2026-12-01T00:00:00Z",
    "group_by": ["month", "tag:team"],
    "currency": None,
    "groups": [
        {
            "group": {"month": "2026-11", "tag:team": "forest"},
            "currency": "EUR",
            "plans": 2,
            "plans_with_purchases": 1,
            "tiles": 2,
            "every": {"patches": 32, "area_km2": 0.0117, "cost": "0.29"},
            "planned": {"patches": 9, "area_km2": 0.0033, "cost": "0.08"},
            "bought": {"patches": 4, "area_km2": 0.0015, "cost": "0.04", "chosen": 4},
            "saving": {"area_km2": 0.0102, "cost": "0.25", "area_share": 0.872},
            "planned_saving": {"area_km2": 0.0084, "cost": "0.21", "area_share": 0.718},
        }
    ],
    "purchases": [
        {
            "group": {"month": "2026-11", "tag:team": "forest"},
            "currency": "EUR",
            "tiles": 2,
            "tiles_bought": 1,
            "patches": 5,
            "s_mean": 2.5,
            "s_histogram": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            "area_km2": 0.0018,
            "spent": "1.75",
            "nominal_cost": "0.03",
            "full_hr": {"patches": 32, "area_km2": 0.0117, "cost": "3.50", "nominal_cost": "0.20"},
            "nominal_saving": {"cost": "0.17", "share": 0.85},
            "real_saving": {"cost": "1.75", "share": 0.5},
            "labelled": 2,
            "correct": 2,
            "accuracy": 1.0,
            "cost_per_correct": "0.88",
        }
    ],
}


class SavingsOut(BaseModel):
    """Two halves: ``groups``, plans by the day they were posted, and ``purchases``, the ledger's entries."""

    model_config = ConfigDict(populate_by_name=True, json_schema_extra={"example": EXAMPLE})

    from_: datetime | None = Field(alias="from")
    to: datetime | None
    group_by: list[str]
    currency: str | None = Field(None, description="The one that everything was converted to, if asked for.")
    groups: list[SavingsGroup]
    purchases: list[PurchaseGroup]
