"""How long a table will take on this machine: a few batches of each kind are timed, and multiplied."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.precision import autocast
from models.reproduce import timing
from models.reproduce.classifiers import FIFTHS, epochs_of, judges_of
from models.reproduce.protocol import Part
from models.reproduce.rows import ROWS
from models.reproduce.study import Study
from models.reproduce.tables import Cell
from models.stages.inputs import Inputs

# Passes of each unit over the images: HR trained, HR asked, LR trained. SRGAN and STN also work on pixels,
# counted as HR passes.
_PASSES: dict[str, tuple[float, float, float]] = {
    "hr": (1, 0, 0),
    "lr": (0, 0, 1),
    "pt": (0, 2, 0),
    "ft1": (1, 2, 0),
    "ft2": (1, 2, 0.3),
    "masked": (1, 0, 0),
    "kd": (0, 1, 1),
    "pcn": (1, 0, 1),
    "srgan": (4, 2, 0),
    "stn": (2, 0, 0),
    "bagnet": (3.3, 0, 0),
    "bagnet-glance": (0, 3.3, 0),
    "bagnet-pt": (0, 6.6, 0),
    "bagnet-ft1": (13, 6.6, 0),
    "hard": (3, 0, 0),
}
_KNOTS = 8  # S at which a fusion is fitted
_SHARED = ("hr", "lr", "masked", "ours")


@dataclass(frozen=True)
class Speed:
    """Seconds an image: of a training step and a forward of f_cl^h, of a training step of f_cl^l."""

    hr_step: float
    hr_pass: float
    lr_step: float


def speed(study: Study) -> Speed:
    """Timed on a batch of the recipe's size; features of the frozen layers are not kept for it."""
    recipe = study.profile.paper
    system = study.system(recipe, 0)
    assert system.lr is not None
    inputs = Inputs(system, study.images, study.labels, recipe.images)
    size = min(recipe.stages["hr"].batch, len(study.labels))
    batch = next(inputs.draw(np.arange(len(study.labels)), size, np.random.default_rng(0)))
    features = inputs.batch(*batch, answers=True)
    assert features.lr is not None

    def timed(work: Callable[[], object]) -> float:
        if study.device.type == "cuda":  # which works on after the processor has gone ahead
            return timing.seconds({"": work}, study.device, repeats=3)[""] / len(batch[0])
        work()
        started = time.process_time()
        for _ in range(2):
            work()
        return (time.process_time() - started) / 2 / len(batch[0]) / torch.get_num_threads()

    def step(body: nn.Module, x: Tensor) -> None:
        body.train()
        with autocast(study.device):
            body(x).float().square().mean().backward()

    @torch.no_grad()
    def ask() -> None:
        system.hr.body.eval()
        with autocast(study.device):
            system.hr.body(features.hr)

    hr_body, lr_body, lr = system.hr.body, system.lr.body, features.lr
    return Speed(timed(lambda: step(hr_body, features.hr)), timed(ask), timed(lambda: step(lr_body, lr)))


def hours(study: Study, cells: list[Cell], parts: Sequence[Part] | None = None) -> dict[str, float]:
    """Hours by unit, for all parts or these, from nothing. Within a factor of two where nothing else runs."""
    known, found = speed(study), dict[str, float]()
    profile, units = study.profile, _units(_asked(study, cells), study.profile.ds)

    def add(unit: str, images: float, passes: tuple[float, float, float], epochs: float) -> None:
        train, ask, lr = passes
        seconds = train * known.hr_step + ask * known.hr_pass + lr * known.lr_step
        found[unit] = found.get(unit, 0.0) + epochs * images * seconds / 3600

    chosen = study.protocol.parts if parts is None else parts
    numbers = {part.number for part in chosen}
    for part in chosen:
        for unit, own in units:
            if unit != "ours":
                passes = _PASSES[unit]
                if own and unit in ("ft1", "ft2"):
                    passes = (passes[0], 0, passes[2])
                add(unit, len(part.learns), passes, epochs_of(study, unit))
        if any(unit == "ours" for unit, _ in units):
            judges = FIFTHS if study.protocol.folds else judges_of(len(part.learns))
            fifth = len(part.learns) / FIFTHS
            add("ours", judges * fifth, _of_ours(study), profile.epochs["ours"])
            if not study.protocol.folds:
                for unit in ("lr", *_judged(study)):
                    learned = judges * (len(part.learns) - fifth)
                    add(unit, learned, _PASSES[unit], profile.epochs[unit])
    if study.protocol.folds and any(unit == "ours" for unit, _ in units):
        for part in (one for one in study.protocol.parts if one.number not in numbers):  # its judges
            for unit in ("hr", "lr", *_judged(study)):
                add(unit, len(part.learns), _PASSES[unit], profile.epochs[unit])
    return found


def _asked(study: Study, cells: list[Cell]) -> list[Cell]:
    """The rows that are made, in place of those that join them."""
    found: list[Cell] = []
    of_both = ROWS["ours-whole"].made_of
    assert of_both is not None
    for row, ds in cells:
        if ROWS[row].made_of is None:
            found.append((row, ds))
        if ROWS[row].made_of is not None or (study.profile.ours.networks.whole and "ours" in ROWS[row].units):
            found += [(name, ds) for name in of_both(study)]
    return found


def _judged(study: Study) -> tuple[str, ...]:
    """The HR trainings of a judge."""
    return ("masked", "masked") if study.profile.ours.networks.whole else ("masked",)


def _of_ours(study: Study) -> tuple[float, float, float]:
    """Passes an image and epoch: every trial in every view, and the fusion's once."""
    networks, stage = study.profile.ours.networks, study.profile.ours.stages["ft2"]
    trials = stage.samples + _KNOTS / max(1, stage.epochs)
    return 0, networks.hr_views * trials, networks.lr_views / 3


def _units(cells: list[Cell], of: tuple[int, ...]) -> list[tuple[str, bool]]:
    """What is trained on a part, and whether by a rule's own fine-tuning: shared units once; the LR
    classifier once more for each ds that those `of` the profile do not have.
    """
    found: list[tuple[str, bool]] = []
    shared: set[object] = set()
    for name, ds in cells:
        rule = ROWS[name].needs_s
        for unit in ROWS[name].units:
            whole = unit == "masked" and "ours" not in ROWS[name].units
            shared_by_ds = (unit, ds) if unit in ("pt", "stn") else (unit, ds, name)
            if name == "ours-patchdrop" and unit in ("ft1", "ft2"):
                shared_by_ds = (unit, ds, "patchdrop")
            key: object = (unit, whole) if unit in _SHARED else shared_by_ds
            if unit == "lr" and ds not in of:
                key = (unit, ds)
            if key not in shared:
                shared.add(key)
                found.append((unit, rule))
    return found
