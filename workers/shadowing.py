"""What a shadow release would have bought: the champion's plans, planned again."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.core import money
from app.core.db import session_scope
from app.core.errors import Conflict, Unprocessable
from app.plans.answer import choose, kept_probabilities
from app.plans.service import fetch_lr, raster_info, tile_of
from app.plans.tables import Plan, TileRow
from app.rasters import Scaling
from app.releases.finding import Found, find_key, made_with
from app.releases.tables import ShadowPlan
from models.release import Release
from workers.beside import BesideDesk
from workers.desk import Job
from workers.leases import Leases
from workers.lr import lr_batches
from workers.planning import TILES_A_FORWARD
from workers.releases import Releases

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

ENLIST: Final = text(
    """
    INSERT INTO shadow_plans (id, org_id, plan_id, release, card_sha256, status)
    SELECT gen_random_uuid(), plans.org_id, plans.id,
           CAST(:release AS varchar), CAST(:card AS varchar), 'queued'
    FROM plans
    WHERE plans.org_id = :org AND plans.status = 'ready'
      AND plans.created_at >= :since AND plans.created_at > now() - interval '1 day'
      AND coalesce(plans.release_id::text, plans.release) = :champion
      AND plans.weights_sha256 = :champion_sha256
      AND plans.product IS NULL AND plans.options IS NULL
      AND NOT EXISTS (SELECT FROM shadow_plans AS known WHERE known.plan_id = plans.id
                      AND known.release = CAST(:release AS varchar)
                      AND known.card_sha256 = CAST(:card AS varchar))
    ORDER BY plans.created_at LIMIT 100
    ON CONFLICT DO NOTHING
    """
)
"""Plans of the last day only: a worker that was away for longer has no use for catching up.

What is bought of a plan with a budget or areas depends on these too, so that two policies cannot be told
apart by it.
"""


class ShadowJob(Job[Pixels, Floats]):
    """One live plan, planned again by the shadow. Items are LR tiles, results their 16 probabilities."""

    model = ShadowPlan
    batch: ClassVar[int] = TILES_A_FORWARD

    def __init__(self, row: ShadowPlan, releases: Releases) -> None:
        self.row: ShadowPlan = row
        self._releases = releases
        self._probabilities: list[Floats] = []

    def open(self, scratch: Path) -> None:
        """Fetch the plan, its tiles, its raster, and the shadow."""
        with session_scope() as session:
            self._plan = session.scalars(select(Plan).where(Plan.id == self.row.plan_id)).one()
            query = select(TileRow).where(TileRow.plan_id == self._plan.id).order_by(TileRow.tile)
            self._rows = session.scalars(query).all()
            shadow = find_key(session, self.row.org_id, self.row.release)
            plan = self._plan
            champion = made_with(session, plan.release, plan.weights_sha256, plan.release_id)
        if shadow.card_sha256 != self.row.card_sha256:
            raise Conflict(f"The release {shadow.key} was replaced after this was asked for.")
        self._threshold = _threshold(self._plan, shadow, champion)
        self.release = self._releases.get(shadow.card.name, shadow.card.weights_sha256, shadow.id)
        self._path = scratch / f"shadow-{self.row.id}-{self.row.fence}.tif"
        fetch_lr(self._plan, self._path)

    def items(self) -> Iterator[Pixels]:
        """LR tiles (3, lr_px, lr_px) uint8 as the shadow sees them, in the order of the tiles."""
        plan, info = self._plan, raster_info(self._plan)
        tiles = [tile_of(row, info) for row in self._rows]
        scaling = Scaling.from_json(plan.scaling or {})
        for pixels, _ in lr_batches(
            self._path, info, tiles, tuple(plan.bands), scaling, self.release.card.lr_px
        ):
            yield from pixels

    @staticmethod
    def forward(release: Release, items: Sequence[Pixels]) -> Sequence[Floats]:
        """Eq. 6 for all tiles at once: (B, 3, lr_px, lr_px) -> (B, 16)."""
        return list(release.plan(np.stack(items)))

    def take(self, results: Sequence[Floats]) -> None:
        """Keep probabilities."""
        self._probabilities += results

    def values(self) -> dict[str, Any]:
        """How the shadow's choice differs from the plan's."""
        tally = Tally()
        for row, probabilities in zip(self._rows, self._probabilities, strict=True):
            tally.add(row, self._chosen(row, probabilities))
        return {"result": tally.to_json(self._plan.currency)}

    def write(self, session: Session) -> None:
        """Nothing beside the row."""

    def close(self) -> None:
        """Remove the raster's copy."""
        if hasattr(self, "_path"):
            self._path.unlink(missing_ok=True)

    def _chosen(self, row: TileRow, raw: Floats) -> tuple[bool, ...]:
        if not np.isfinite(raw).all():
            raise Unprocessable("The policy gave values that are no probabilities.")
        probabilities = kept_probabilities(raw, row.unseen)
        return choose(probabilities, row.areas_km2, self._threshold, self._plan.max_patches)


class Tally:
    """What two choices of patches have in common over a plan's tiles, and what each costs."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(("tiles", "patches", "both", "champion_only", "shadow_only"), 0)
        self.squares = 0
        self.costs = [Decimal(0), Decimal(0)]

    def add(self, row: TileRow, shadow: Sequence[bool]) -> None:
        """One tile: the plan's choice in ``row``, and the shadow's."""
        pairs = list(zip(row.chosen, shadow, strict=True))
        counts = self.counts
        counts["tiles"] += 1
        counts["patches"] += sum(area > 0 for area in row.areas_km2)
        counts["both"] += sum(ours and theirs for ours, theirs in pairs)
        counts["champion_only"] += sum(ours and not theirs for ours, theirs in pairs)
        counts["shadow_only"] += sum(theirs and not ours for ours, theirs in pairs)
        self.squares += (sum(shadow) - sum(row.chosen)) ** 2
        for price, pair in zip(row.prices or (), pairs, strict=False):
            for side, chosen in enumerate(pair):
                if chosen:
                    self.costs[side] = money.EXACT.add(self.costs[side], price)

    def to_json(self, currency: str | None) -> dict[str, Any]:
        """As it is kept: counts, the sum of squared differences of S, exact costs as decimal strings."""
        found = {**self.counts, "squares": self.squares, "currency": currency}
        if currency is not None:
            found |= {"champion_cost": money.plain(self.costs[0]), "shadow_cost": money.plain(self.costs[1])}
        return found


class ShadowDesk(BesideDesk):
    """Has the shadow plan what the champion has planned."""

    enlisting = ENLIST

    def __init__(self, releases: Releases, leases: Leases, scratch: Path) -> None:
        super().__init__(lambda row: ShadowJob(row, releases), ShadowPlan, leases, scratch)


def _threshold(plan: Plan, shadow: Found, champion: Found) -> float:
    """The client's where one was asked for; the default of each release otherwise."""
    return shadow.card.threshold if plan.threshold == champion.card.threshold else plan.threshold
