"""What a shadow release would have planned and said, against what the champion did: sums of what it saw."""

import uuid
from datetime import datetime
from decimal import Decimal
from math import sqrt
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core import money
from app.releases.comparison_schemas import Estimate, Named
from app.releases.finding import Found

Money = Annotated[Decimal, PlainSerializer(money.plain, return_type=str, when_used="json")]

_Z: Final = 1.959963984540054

SUMS: Final = text(
    """
    SELECT result->>'currency' AS currency,
           count(*) FILTER (WHERE status = 'ready') AS plans,
           count(*) FILTER (WHERE status = 'failed') AS failed,
           count(*) FILTER (WHERE status IN ('queued', 'running')) AS waiting,
           min(created_at) AS since, max(finished_at) AS until,
           coalesce(sum((result->>'tiles')::bigint), 0) AS tiles,
           coalesce(sum((result->>'patches')::bigint), 0) AS patches,
           coalesce(sum((result->>'both')::bigint), 0) AS both,
           coalesce(sum((result->>'champion_only')::bigint), 0) AS champion_only,
           coalesce(sum((result->>'shadow_only')::bigint), 0) AS shadow_only,
           coalesce(sum((result->>'squares')::bigint), 0) AS squares,
           coalesce(sum((result->>'champion_cost')::numeric), 0) AS champion_cost,
           coalesce(sum((result->>'shadow_cost')::numeric), 0) AS shadow_cost
    FROM shadow_plans WHERE org_id = :org AND release = :release AND card_sha256 = :card
    GROUP BY 1 ORDER BY 1
    """
)

SHADOW_EXAMPLE: Final[dict[str, Any]] = {
    "release": {"id": "0199c0de-0000-7000-8000-00000000000a", "name": "harbours", "version": "3"},
    "since": "2026-11-22T12:00:00Z",
    "until": "2026-11-22T18:00:00Z",
    "plans": 40,
    "waiting": 0,
    "failed": 0,
    "tiles": 480,
    "patches": 7680,
    "champion_s": 2.1,
    "shadow_s": 1.9,
    "difference": {"value": -0.2, "ci95": [-0.31, -0.09]},
    "same_decision": 0.97,
    "both": 880,
    "champion_only": 128,
    "shadow_only": 32,
    "costs": [{"currency": "EUR", "champion": "118.20", "shadow": "107.10", "difference": "-11.10"}],
    "classes": {
        "classifications": 24,
        "waiting": 0,
        "failed": 0,
        "tiles": 288,
        "same_class": 0.965278,
        "lr": {"tiles": 288, "same_class": 0.940972},
        "with_hr": {"tiles": 61, "same_class": 0.983607},
        "differences": [{"champion": "river", "shadow": "harbor", "tiles": 10}],
    },
}


CLASS_SUMS: Final = text(
    """
    SELECT count(*) FILTER (WHERE status = 'ready') AS classifications,
           count(*) FILTER (WHERE status = 'failed') AS failed,
           count(*) FILTER (WHERE status IN ('queued', 'running')) AS waiting,
           coalesce(sum((result->>'tiles')::bigint), 0) AS tiles,
           coalesce(sum((result->>'same')::bigint), 0) AS same,
           coalesce(sum((result->>'lr_tiles')::bigint), 0) AS lr_tiles,
           coalesce(sum((result->>'lr_same')::bigint), 0) AS lr_same,
           coalesce(sum((result->>'hr_tiles')::bigint), 0) AS hr_tiles,
           coalesce(sum((result->>'hr_same')::bigint), 0) AS hr_same
    FROM shadow_classifications WHERE org_id = :org AND release = :release AND card_sha256 = :card
    """
)

DIFFERENCES: Final = text(
    """
    SELECT each->>'champion' AS champion, each->>'shadow' AS shadow, sum((each->>'tiles')::bigint) AS tiles
    FROM shadow_classifications, jsonb_array_elements(result->'differences') AS each
    WHERE org_id = :org AND release = :release AND card_sha256 = :card
    GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT 50
    """
)


class ShadowCost(BaseModel):
    """What the chosen patches of all these plans cost, rounded to the minor unit."""

    currency: str
    champion: Money
    shadow: Money
    difference: Money = Field(description="Shadow less champion.")


class SameClass(BaseModel):
    """Tiles to which both gave a class, and the share to which both gave the same."""

    tiles: int
    same_class: float | None


class Apart(BaseModel):
    """Tiles to which the champion gave one class and the shadow another."""

    champion: str
    shadow: str
    tiles: int


class ShadowClasses(SameClass):
    """Live classifications answered again by the shadow, from the same patches."""

    classifications: int
    waiting: int
    failed: int
    lr: SameClass = Field(description="By the LR image alone.")
    with_hr: SameClass = Field(description="Tiles of which HR patches were there.")
    differences: list[Apart] = Field(description="The most frequent ones, at most 50.")


class ShadowOut(BaseModel):
    """A release that ran beside the champion on live plans, and how their choices differ."""

    model_config = ConfigDict(json_schema_extra={"example": SHADOW_EXAMPLE})

    release: Named
    since: datetime | None
    until: datetime | None
    plans: int = Field(description="Live plans it was run on.")
    waiting: int
    failed: int
    tiles: int
    patches: int
    champion_s: float | None = Field(description="Patches a tile that the champion chose.")
    shadow_s: float | None
    difference: Estimate | None = Field(description="Shadow less champion, over tiles, with a 95 % interval.")
    same_decision: float | None = Field(description="Share of patches both would buy or both would not.")
    both: int
    champion_only: int
    shadow_only: int
    costs: list[ShadowCost]
    classes: ShadowClasses


def report(session: Session, org_id: uuid.UUID, found: Found) -> ShadowOut:
    """Everything the release has seen as a shadow; zeros where it never was one."""
    values = {"org": org_id, "release": found.key, "card": found.card_sha256}
    rows = [dict(row) for row in session.execute(SUMS, values).mappings()]
    total = {
        key: sum(int(row[key]) for row in rows)
        for key in (
            "plans", "failed", "waiting", "tiles", "patches", "both", "champion_only", "shadow_only",
            "squares",
        )
    }  # fmt: skip
    tiles, patches = total["tiles"], total["patches"]
    apart = total["champion_only"] + total["shadow_only"]
    return ShadowOut(
        release=Named.of(found),
        since=min((row["since"] for row in rows), default=None),
        until=max((row["until"] for row in rows if row["until"] is not None), default=None),
        champion_s=round((total["both"] + total["champion_only"]) / tiles, 6) if tiles else None,
        shadow_s=round((total["both"] + total["shadow_only"]) / tiles, 6) if tiles else None,
        difference=_difference(total) if tiles else None,
        same_decision=round(1 - apart / patches, 6) if patches else None,
        costs=[_cost(row) for row in rows if row["currency"] is not None],
        classes=_classes(session, values),
        **{key: value for key, value in total.items() if key != "squares"},
    )


def _classes(session: Session, values: dict[str, Any]) -> ShadowClasses:
    row = {key: int(value) for key, value in session.execute(CLASS_SUMS, values).mappings().one().items()}
    found = session.execute(DIFFERENCES, values).mappings()
    return ShadowClasses(
        classifications=row["classifications"],
        waiting=row["waiting"],
        failed=row["failed"],
        **_same(row, "").model_dump(),
        lr=_same(row, "lr_"),
        with_hr=_same(row, "hr_"),
        differences=[Apart.model_validate(dict(each)) for each in found],
    )


def _same(row: dict[str, int], kind: str) -> SameClass:
    tiles = row[f"{kind}tiles"]
    return SameClass(tiles=tiles, same_class=round(row[f"{kind}same"] / tiles, 6) if tiles else None)


def _difference(total: dict[str, int]) -> Estimate:
    n = total["tiles"]
    mean = (total["shadow_only"] - total["champion_only"]) / n
    variance = max(0.0, total["squares"] / n - mean**2)
    half = _Z * sqrt(variance / n)
    return Estimate(value=round(mean, 6), ci95=[round(mean - half, 6), round(mean + half, 6)])


def _cost(row: dict[str, Any]) -> ShadowCost:
    champion, shadow = (money.total_of(row[key], row["currency"]) for key in ("champion_cost", "shadow_cost"))
    return ShadowCost(
        currency=row["currency"], champion=champion, shadow=shadow, difference=shadow - champion
    )
