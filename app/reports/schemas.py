"""What clients get of a savings report."""

from datetime import datetime

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
    """One group: the values it stands for, one currency, and its figures."""

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


class SavingsOut(BaseModel):
    """The savings of an organisation's ready plans posted in [from, to)."""

    model_config = ConfigDict(
        populate_by_name=True,
        json_schema_extra={
            "example": {
                "from": "2026-11-01T00:00:00Z",
                "to": "2026-12-01T00:00:00Z",
                "group_by": ["month", "tag:team"],
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
            }
        },
    )

    from_: datetime | None = Field(alias="from")
    to: datetime | None
    group_by: list[str]
    groups: list[SavingsGroup]
