"""Making a plan: read the LR raster's tiles, ask the policy, choose, price, write."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, insert
from sqlalchemy.orm import Session

from app.budgets.on_plan import choose_again
from app.core.errors import Internal
from app.plans.answer import TileAnswer, answer_tile, kept_gain, totals
from app.plans.service import fetch_lr, raster_info
from app.plans.tables import Plan, TileRow
from app.rasters import Tile, cut_tiles, plan_areas_km2, range_warnings, unseen_patches, value_scaling
from models.release import Decision, Release
from workers.desk import Job
from workers.lr import lr_batches
from workers.releases import Releases

Pixels = NDArray[np.uint8]

TILES_A_FORWARD: Final = 64
ROWS_AN_INSERT: Final = 1000
BLIND_TILES: Final = "tiles_without_valid_pixels"
BLIND_PATCHES: Final = "patches_without_valid_pixels"


class PlanJob(Job[Pixels, Decision]):
    """One queued plan. Items are LR tiles (3, lr_px, lr_px), results what the policy decided."""

    model = Plan
    batch: ClassVar[int] = TILES_A_FORWARD

    def __init__(self, row: Plan, releases: Releases) -> None:
        self.row: Plan = row
        self._releases = releases
        self._tiles: list[Tile] = []
        self._decisions: list[Decision] = []
        self._valid: list[NDArray[np.float32]] = []
        self._answers: list[TileAnswer] = []
        self._gains: list[dict[str, Any] | None] = []

    def open(self, scratch: Path) -> None:
        """Fetch the raster and fix how its values become 0..255."""
        plan = self.row
        self.release = self._releases.get(plan.release, plan.weights_sha256, plan.release_id)
        self._path = scratch / f"plan-{plan.id}-{plan.fence}.tif"
        fetch_lr(plan, self._path)
        self._info = raster_info(plan)
        self._scaling = value_scaling(
            self._path, self._info, tuple(plan.bands), plan.value_scale, plan.value_offset
        )
        self._notes = range_warnings(self._path, self._info, plan.bands, self._scaling)
        self._tiles = cut_tiles(self._info, plan.tile_size_m)

    def items(self) -> Iterator[Pixels]:
        """LR tiles (3, lr_px, lr_px) uint8, in the order of the tiles."""
        bands = tuple(self.row.bands)
        lr_px = self.release.card.lr_px
        for pixels, valid in lr_batches(self._path, self._info, self._tiles, bands, self._scaling, lr_px):
            self._valid += list(valid)
            yield from pixels

    @staticmethod
    def forward(release: Release, items: Sequence[Pixels]) -> Sequence[Decision]:
        """Eq. 6 for all tiles at once: (B, 3, lr_px, lr_px) -> B decisions."""
        return release.decide(np.stack(items))

    def take(self, results: Sequence[Decision]) -> None:
        """Keep what was decided; raises Internal where the policy gave no probabilities."""
        for result in (decision.probabilities for decision in results):
            if not (np.isfinite(result).all() and (result >= 0).all() and (result <= 1).all()):
                raise Internal("The policy gave values that are no probabilities.")
        self._decisions += results

    def values(self) -> dict[str, Any]:
        """Work out every tile's answer, and from them the plan's totals."""
        plan = self.row
        areas = plan_areas_km2(self._tiles, self._info.crs_wkt)
        self._answers = [
            answer_tile(
                decision.probabilities,
                tile_areas,
                threshold=plan.threshold,
                max_patches=plan.max_patches,
                price_per_km2=plan.price_per_km2,
                unseen=unseen_patches(tile, valid, self.release.card.lr_px),
            )
            for tile, decision, tile_areas, valid in zip(
                self._tiles, self._decisions, areas, self._valid, strict=True
            )
        ]
        self._gains = [
            kept_gain(decision.gain, answer)
            for decision, answer in zip(self._decisions, self._answers, strict=True)
        ]
        self._answers, options = choose_again(
            plan, self._tiles, self._answers, self._gains, self.release.card.gain
        )
        return {
            **totals(self._answers, plan.currency),
            "scaling": self._scaling.to_json(),
            "warnings": [*plan.warnings, *self._notes, *_unseen_warnings(self._answers)],
            "options": options or None,
        }

    def write(self, session: Session) -> None:
        """Insert the tiles, some thousand at a time; what an earlier attempt wrote cannot be there."""
        session.execute(delete(TileRow).where(TileRow.plan_id == self.row.id))
        rows = [
            self._tile_row(*each)
            for each in zip(self._tiles, self._valid, self._answers, self._gains, strict=True)
        ]
        for start in range(0, len(rows), ROWS_AN_INSERT):
            session.execute(insert(TileRow), rows[start : start + ROWS_AN_INSERT])

    def close(self) -> None:
        """Remove the raster's copy."""
        if hasattr(self, "_path"):
            self._path.unlink(missing_ok=True)

    def _tile_row(
        self, tile: Tile, valid: NDArray[np.float32], answer: TileAnswer, gain: dict[str, Any] | None
    ) -> dict[str, Any]:
        return {
            "plan_id": self.row.id,
            "tile": tile.index,
            "row": tile.row,
            "col": tile.col,
            "bounds": list(tile.bounds),
            "clipped": list(tile.clipped),
            "north_up": tile.north_up,
            "east_right": tile.east_right,
            "valid_fraction": float(valid.mean()),
            "unseen": list(answer.unseen),
            "probabilities": list(answer.probabilities),
            "chosen": list(answer.chosen),
            "areas_km2": list(answer.areas_km2),
            "prices": None if answer.prices is None else list(answer.prices),
            "gain": gain,
        }


def _unseen_warnings(answers: Sequence[TileAnswer]) -> list[str]:
    unseen = [len(answer.unseen) for answer in answers]
    there = [sum(area > 0 for area in answer.areas_km2) for answer in answers]
    some = {
        BLIND_TILES: any(0 < n == all_ for n, all_ in zip(unseen, there, strict=True)),
        BLIND_PATCHES: any(0 < n < all_ for n, all_ in zip(unseen, there, strict=True)),
    }
    return [name for name, holds in some.items() if holds]
