"""Classifying a plan: its LR tiles, the HR patches received as of one revision, the two-stream answer."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from app.acquisitions.pixels import ReceivedPixels, lay
from app.acquisitions.reading import received_as_of
from app.acquisitions.tables import ReceivedPatch
from app.budgets.on_plan import choose_again
from app.classifications.tables import Classification, ClassifiedTile
from app.core.db import session_scope
from app.core.errors import Internal
from app.plans.answer import TileAnswer, answer_tile
from app.plans.service import fetch_lr, raster_info, tile_of
from app.plans.tables import Plan, TileRow
from app.rasters import Scaling
from models.release import Release
from workers.desk import Job
from workers.lr import lr_batches
from workers.releases import Releases

Pixels = NDArray[np.uint8]

TILES_A_FORWARD: Final = 32
ROWS_AN_INSERT: Final = 1000


@dataclass(frozen=True)
class TileInput:
    """lr (3, lr_px, lr_px), hr (3, hr_px, hr_px), used (16,): the patches with HR pixels."""

    lr: Pixels
    hr: Pixels
    used: NDArray[np.bool_]


@dataclass(frozen=True)
class TileResult:
    """Class probabilities (N,); ``fused`` and ``hr`` are None where nothing was said. ``again`` (16,) is s_p
    at a second look, None of a release that looks once.
    """

    fused: list[float] | None
    hr: list[float] | None
    lr: list[float] | None
    weights: tuple[float, float]
    again: list[float] | None


class TilesJob(Job[TileInput, TileResult]):
    """Classifying every tile of a plan; what becomes of the answers is left open."""

    batch: ClassVar[int] = TILES_A_FORWARD

    def __init__(self, releases: Releases) -> None:
        self._releases = releases
        self._results: list[TileResult] = []

    def fetch(self, asked: Classification, scratch: Path) -> None:
        """The LR raster, and which patches there were when the classification was asked for."""
        self._scratch = scratch / f"{self.model.__tablename__}-{self.row.id}-{self.row.fence}"
        self._scratch.mkdir()
        with session_scope() as session:
            self._plan = session.scalars(select(Plan).where(Plan.id == asked.plan_id)).one()
            self._rows = session.scalars(
                select(TileRow).where(TileRow.plan_id == asked.plan_id).order_by(TileRow.tile)
            ).all()
            self._patches = _by_tile(received_as_of(session, asked.plan_id, asked.revision))
        self._path = self._scratch / "lr.tif"
        fetch_lr(self._plan, self._path)
        self._pixels = ReceivedPixels(self._scratch, self._plan.hr_px)

    def items(self) -> Iterator[TileInput]:
        """Every tile of the plan in order."""
        info = raster_info(self._plan)
        tiles = [tile_of(row, info) for row in self._rows]
        scaling = Scaling.from_json(self._plan.scaling or {})
        batches = lr_batches(
            self._path, info, tiles, tuple(self._plan.bands), scaling, self.release.card.lr_px
        )
        lr_images = (image for pixels, _ in batches for image in pixels)
        for row, lr in zip(self._rows, lr_images, strict=True):
            hr, used = self._hr_image(self._patches.get(row.tile, []))
            yield TileInput(lr, hr, used)

    def _hr_image(self, patches: Sequence[ReceivedPatch]) -> tuple[Pixels, NDArray[np.bool_]]:
        card = self.release.card
        image = np.zeros((3, card.hr_px, card.hr_px), dtype=np.uint8)
        used = np.zeros(card.patches, dtype=np.bool_)
        for received in patches:
            lay(image, self._pixels.of(received), received.patch)
            used[received.patch] = True
        return image, used

    @staticmethod
    def forward(release: Release, items: Sequence[TileInput]) -> Sequence[TileResult]:
        """Eq. 7 (or the release's own rule) for all tiles at once."""
        answer = release.classify(
            np.stack([item.lr for item in items]),
            np.stack([item.hr for item in items]),
            np.stack([item.used for item in items]),
        )
        results = []
        for index, item in enumerate(items):
            weight_hr, weight_lr = (float(weight) for weight in answer.weights[index])
            # without a patch the HR stream saw no HR; its answer is kept only where the rule uses it
            silent = not item.used.any() and (weight_hr == 0 or answer.lr is None)
            results.append(
                TileResult(
                    fused=_floats(answer.fused[index]),
                    hr=None if silent else _floats(answer.hr[index]),
                    lr=None if answer.lr is None else _floats(answer.lr[index]),
                    weights=(weight_hr, weight_lr),
                    again=None if answer.again is None else _floats(answer.again[index]),
                )
            )
        return results

    def take(self, results: Sequence[TileResult]) -> None:
        """Keep answers; raises Internal where a two-stream release had none."""
        for result in results:
            if result.fused is None and result.lr is not None:
                raise Internal("The classifier gave values that are no probabilities.")
        self._results += results

    def close(self) -> None:
        """Remove the copies of rasters and patches."""
        if hasattr(self, "_scratch"):
            shutil.rmtree(self._scratch, ignore_errors=True)


class ClassifyJob(TilesJob):
    """One queued classification."""

    model = Classification

    def __init__(self, row: Classification, releases: Releases) -> None:
        super().__init__(releases)
        self.row: Classification = row

    def open(self, scratch: Path) -> None:
        """Fetch the release, and what it is asked about."""
        row = self.row
        self.release = self._releases.get(row.release, row.weights_sha256, row.release_id)
        self.fetch(row, scratch)

    def values(self) -> dict[str, Any]:
        """Nothing of the row's own changes but its status."""
        return {}

    def write(self, session: Session) -> None:
        """Insert one row a tile."""
        session.execute(delete(ClassifiedTile).where(ClassifiedTile.classification_id == self.row.id))
        told = zip(self._rows, self._results, self._buy_next(), strict=True)
        rows = [self._tile_row(*each) for each in told]
        for start in range(0, len(rows), ROWS_AN_INSERT):
            session.execute(insert(ClassifiedTile), rows[start : start + ROWS_AN_INSERT])

    def _tile_row(self, tile: TileRow, result: TileResult, buy_next: list[int] | None) -> dict[str, Any]:
        used = sorted(received.patch for received in self._patches.get(tile.tile, []))
        return {
            "classification_id": self.row.id,
            "tile": tile.tile,
            "used": used,
            "missing": [patch for patch, chosen in enumerate(tile.chosen) if chosen and patch not in used],
            "fused": result.fused,
            "hr": result.hr,
            "lr": result.lr,
            "weight_hr": result.weights[0],
            "weight_lr": result.weights[1],
            "buy_next": buy_next,
        }

    def _buy_next(self) -> list[list[int] | None]:
        """Of each tile the patches to buy now, by the threshold, the areas and the limit of the plan.

        None of a release that looks once, and of a plan whose budget has chosen: it may be spent.
        """
        plan, count = self._plan, len(self._rows)
        again = [result.again for result in self._results if result.again is not None]
        if (plan.options or {}).get("budget") is not None or len(again) < count:
            return [None] * count
        answers = [self._worth(*each) for each in zip(self._rows, again, strict=True)]
        info = raster_info(plan)
        tiles = [tile_of(row, info) for row in self._rows]
        chosen, _ = choose_again(plan, tiles, answers, [None] * count, None)
        return [[patch for patch, wanted in enumerate(a.chosen) if wanted] for a in chosen]

    def _worth(self, tile: TileRow, again: Sequence[float]) -> TileAnswer:
        """What the second look chooses of the patches that were not received."""
        used = {received.patch for received in self._patches.get(tile.tile, [])}
        areas = [Decimal(0) if patch in used else area for patch, area in enumerate(tile.areas_km2)]
        most = self._plan.max_patches
        return answer_tile(
            again,
            areas,
            threshold=self._plan.threshold,
            max_patches=None if most is None else max(0, most - len(used)),
            price_per_km2=None,
            unseen=tile.unseen,
        )


def _by_tile(received: Sequence[ReceivedPatch]) -> dict[int, list[ReceivedPatch]]:
    found: dict[int, list[ReceivedPatch]] = {}
    for patch in received:
        found.setdefault(patch.tile, []).append(patch)
    return found


def _floats(values: NDArray[np.float32]) -> list[float] | None:
    return [float(value) for value in values] if np.isfinite(values).all() else None
