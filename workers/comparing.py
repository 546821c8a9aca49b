"""Comparing two releases on the images held out of a data set, beside the desks that clients wait for.

A comparison is long and nobody's answer hangs on it, so it is done in slices of images, one comparison at a
time; what a release answered to a data set is kept, so that a champion is asked once and not per candidate.
"""

import hashlib
import io
import shutil
import zipfile
import zlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import structlog
import torch
from sqlalchemy.orm import Session

from app.core import tracing
from app.core.db import session_scope
from app.core.errors import ClassesDiffer, Conflict, Internal, NothingHeldOut
from app.core.store import get_store
from app.releases.finding import Found, find_key
from app.releases.tables import Comparison
from models.comparison import compare, verdict
from models.data.decode import load_square
from models.data.heldout import held_out, learned_from, split_seed
from models.data.source import DataError, Indices, Source
from models.data.sources import open_source
from models.data.splits import keep_together, published
from models.evaluate import Outcome, class_numbers, outcomes
from workers.desk import Desk, Piece
from workers.leases import Leases
from workers.releases import Releases
from workers.snapshots import fetch

log = structlog.get_logger(__name__)

# Enough images for a forward to be worth it, few enough that a worker told to stop stops soon.
SLICE: Final = 32


class CompareJob(Piece):
    """One queued comparison, worked on in steps between which it can be stopped."""

    model: ClassVar = Comparison

    def __init__(self, row: Comparison, releases: Releases, scratch: Path) -> None:
        self.row: Comparison = row
        self._releases = releases
        self._folder = scratch / f"compare-{row.id}-{row.fence}"
        self._result: dict[str, Any] = {}

    def steps(self) -> Iterator[None]:
        """The whole work. Raises ProblemError where it cannot be done."""
        row = self.row
        with session_scope() as session:
            first = find_key(session, row.org_id, row.release)
            second = find_key(session, row.org_id, row.other)
        if (first.card_sha256, second.card_sha256) != (row.card_sha256, row.other_card_sha256):
            raise Conflict("One of the releases was replaced after this was asked for; ask again.")
        self._folder.mkdir(parents=True)
        asked = _Asked(fetch(row.dataset_id, self._folder), first)
        ds = _common_ds(first, second)
        own = yield from self._outcomes(first, asked, ds)
        others = yield from self._outcomes(second, asked, ds)
        by_ds = {str(factor): compare(own[factor], others[factor], asked.source.classes) for factor in ds}
        self._result = {
            "by_ds": by_ds,
            "verdict": verdict(by_ds),
            "held_out": {"n": len(asked.images), "how": asked.how},
            "seen": asked.seen_by(first, second),
            "tile_km2": first.card.tile_m.nominal**2 / 1e6,
        }

    def values(self) -> dict[str, Any]:
        """The figures."""
        return {"result": self._result}

    def write(self, session: Session) -> None:
        """Nothing beside the row."""

    def close(self) -> None:
        """Remove the snapshot's copy."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _outcomes(
        self, one: Found, asked: "_Asked", ds: tuple[int, ...]
    ) -> Generator[None, None, dict[int, Outcome]]:
        """What a release answers to the held-out images at each ds, as measured now or before."""
        named = f"{one.card_sha256}-{asked.digest}-{'-'.join(map(str, ds))}"
        key = f"evaluations/{self.row.org_id}/{named}.npz"
        known = _read(key, ds, one.card.patches)
        if known is not None:
            return known
        try:
            numbers = class_numbers([entry.name for entry in one.card.classes], asked.source.classes)
        except DataError as error:
            raise ClassesDiffer(str(error)) from None
        release = self._releases.get(one.card.name, one.card.weights_sha256, one.id)
        parts: dict[int, list[Outcome]] = {factor: [] for factor in ds}
        for start in range(0, len(asked.images), SLICE):
            yield
            images, labels = asked.slice(start, one)
            answered = outcomes(release, images, torch.from_numpy(numbers[labels]), ds)
            for factor, outcome in answered.items():
                parts[factor].append(outcome)
        found = {factor: asked.by_data_classes(Outcome.joined(each)) for factor, each in parts.items()}
        _keep(key, found)
        return found


class CompareDesk(Desk):
    """Makes one comparison after the other; several workers make several at once."""

    def __init__(self, releases: Releases, leases: Leases, scratch: Path) -> None:
        super().__init__(_no_forward, Comparison, leases, scratch)
        self._releases = releases

    def work(self) -> None:
        """Take rows and compare until there are none left (or the desk is stopped)."""
        while not self._stopping.is_set():
            self._bell.clear()
            rows = self._leases.take(Comparison, 1)
            if not rows:
                return
            with tracing.during(rows[0].id):
                self._compare(CompareJob(rows[0], self._releases, self._scratch))

    def _compare(self, job: CompareJob) -> None:
        try:
            for _ in job.steps():
                if self._stopping.is_set():
                    self._hand_back(job.row)
                    return
                if not self._leases.holds(job.row):
                    return
            self._write(job)
        except Exception as error:  # noqa: BLE001 - one comparison's trouble is that comparison's alone
            self._trouble(job, error)
        finally:
            job.close()
            self._leases.let_go(job.row)


def _no_forward(_: Any) -> Any:
    raise Internal("Comparisons do not join in forwards.")


class _Asked:
    """The images that both are asked about."""

    def __init__(self, path: Path, first: Found) -> None:
        training = first.card.training
        self.source: Source = open_source(path, check="none")
        try:
            self._groups = keep_together(self.source) if published(self.source) is None else None
            _, self.images, self.how = held_out(self.source, split_seed(training), self._groups)
        except DataError as error:
            raise NothingHeldOut(str(error)) from None
        names = "\n".join(self.source.ids[i] for i in self.images)
        self.digest = hashlib.sha256(f"{self.source.digest()}\n{names}".encode()).hexdigest()

    def slice(self, start: int, one: Found) -> tuple[torch.Tensor, Indices]:
        """The next images as a release takes them, uint8 (n, 3, hr_px, hr_px), and their class numbers."""
        chosen = self.images[start : start + SLICE]
        fit = one.card.training.get("fit", "squash")
        return load_square(self.source, chosen, one.card.hr_px, fit=fit), self.source.labels[chosen]

    def by_data_classes(self, outcome: Outcome) -> Outcome:
        """The outcome with labels numbered as the data set's classes: two releases may number them apart."""
        arrays = {name: getattr(outcome, name) for name in Outcome.arrays()}
        return Outcome(**(arrays | {"label": self.source.labels[self.images]}), patches=outcome.patches)

    def seen_by(self, first: Found, second: Found) -> dict[str, Any]:
        """Whether each release learned from these images, and from how many, as far as its card tells."""
        found: dict[str, Any] = {}
        for name, one in (("release", first), ("other", second)):
            learned = learned_from(self.source, one.card.training, self.images, self._groups)
            found |= {name: learned.said, f"{name}_images": learned.images}
        return found


def _common_ds(first: Found, second: Found) -> tuple[int, ...]:
    """The ds both were trained with, else the first's."""
    own = [int(ds) for ds in first.card.training.get("ds") or (4,)]
    other = {int(ds) for ds in second.card.training.get("ds") or (4,)}
    return tuple(ds for ds in own if ds in other) or tuple(own)


def _keep(key: str, found: dict[int, Outcome]) -> None:
    arrays = {f"{ds}-{name}": getattr(o, name) for ds, o in found.items() for name in Outcome.arrays()}
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    get_store().put(key, packed.getvalue())


def _read(key: str, ds: tuple[int, ...], patches: int) -> dict[int, Outcome] | None:
    try:
        content = get_store().get(key)
    except KeyError:
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as saved:
            return {
                factor: Outcome(*(saved[f"{factor}-{name}"] for name in Outcome.arrays()), patches=patches)
                for factor in ds
            }
    except (zipfile.BadZipFile, zlib.error, ValueError, KeyError, EOFError, RuntimeError) as error:
        # damaged in the store: it is measured again, and kept in its place
        log.warning("evaluation_unusable", key=key, error=repr(error))
        return None
