"""A bench of drawn pictures, small enough that real trainings on it take seconds."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from models.data.source import Source
from models.recipe import Stage, parse_recipe
from models.reproduce.bench import Bench
from models.reproduce.fit import fit
from models.reproduce.learner import Learner, Plan
from models.reproduce.profiles import Profile
from models.reproduce.protocol import Part, Protocol
from models.reproduce.slices import Slice
from models.reproduce.study import Study

PX, DS = 32, 4
Pixels = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]


class Drawn:
    """Pictures in memory as a data set's reader."""

    def __init__(self, pictures: Pixels) -> None:
        self._pictures = pictures

    def pixels(self, i: int) -> Pixels:
        found: Pixels = self._pictures[i]
        return found

    def content(self, i: int) -> bytes:
        return self.pixels(i).tobytes()

    def stamp(self, i: int) -> str:
        return str(i)


def striped(count: int, period: int, seed: int = 0) -> tuple[Pixels, Numbers, Numbers]:
    """(n, 32, 32, 3) pictures, their classes and their places (n,).

    One patch of the 4x4 grid, the place, is bright and has stripes of that many pixels: across is class 0,
    along 1. At ds 4 stripes of 4 pixels are gone, but the place is seen; of those of 8 some is left.
    """
    rng = np.random.default_rng(seed)
    labels, places = np.arange(count) % 2, rng.integers(0, 16, count)
    pictures = rng.normal(70, 8, (count, PX, PX, 3))
    side = PX // 4
    rows, columns = np.mgrid[0:side, 0:side]
    for picture, label, place in zip(pictures, labels, places, strict=True):
        wave = np.sin((rows, columns)[label] * 2 * np.pi / period + rng.uniform(0, 2 * np.pi))
        top, left = place // 4 * side, place % 4 * side
        picture[top : top + side, left : left + side] += 90 + 60 * wave[..., None]
    return pictures.clip(0, 255).astype(np.uint8), labels, places


def made_up(
    work: Path,
    pictures: Pixels,
    labels: Numbers,
    plans: Mapping[str, Plan],
    *,
    network: str = "tiny",
    epochs: int = 12,
) -> Bench:
    """A bench that learns from three pictures of four; HR and LR classifiers of `epochs` epochs."""
    count, px = len(labels), pictures.shape[1]
    quick = {"epochs": epochs, "batch": 16, "lr": 1e-2, "schedule": "cosine"}
    recipe = parse_recipe(
        {
            "name": "made up",
            "images": {"hr_px": px, "lr_px": px // DS, "ds": [DS], "augment": "flip"},
            "networks": {"policy": "tiny", "hr": network, "lr": network},
            "stages": {"hr": quick, "lr": quick},
        }
    )
    numbers = {name: plan.epochs for name, plan in plans.items()}
    profile = Profile("made up", "cifar", (DS,), recipe, recipe, 0, dict(plans), numbers, numbers, Stage())
    held = np.arange(count) % 8 >= 6
    part = Part(0, 0, np.flatnonzero(~held), np.flatnonzero(held))
    names = [f"{i:04}" for i in range(count)]
    source = Source("made-up", ("across", "along"), labels, names, Drawn(pictures))
    work.mkdir(parents=True, exist_ok=True)
    study = Study(
        name="made-up",
        source=source,
        images=torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(),
        labels=torch.from_numpy(labels),
        profile=profile,
        protocol=Protocol((part,), False, "made up", np.arange(len(source))),
        work=work,
        slice=Slice(),
        device=torch.device("cpu"),
        digest=source.digest(),
    )
    return Bench(study, part, DS)


def history(bench: Bench, learner: Learner, plan: Plan) -> list[dict[str, float]]:
    """Train a learner, kept nowhere: the mean figures of each epoch."""
    told: list[dict[str, float]] = []

    def report(_: int, figures: dict[str, float]) -> None:
        told.append(figures)

    with TemporaryDirectory() as folder:
        place = Path(folder) / "unit.pt"
        fit(place, learner, plan, bench.inputs, bench.learns, bench.seed, Slice(), report)
    return told


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all that a network holds."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def accuracy(bench: Bench, probabilities: torch.Tensor) -> float:
    """The share of the unseen images that are told right."""
    right = probabilities.argmax(dim=1) == bench.labels[torch.from_numpy(bench.tests)]
    return float(right.float().mean())
