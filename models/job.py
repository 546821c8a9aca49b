"""One training job: what all its trainings share, and the card that tells of it."""

import argparse
import json
import platform
import shlex
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.card import Card, ClassName, Range, load_card
from models.data.heldout import Learned, split_seed
from models.data.source import Source
from models.data.splits import not_compared, of_few_places
from models.distributed import Group
from models.events import Events
from models.precision import has_fast_bf16
from models.provenance import commit
from models.recipe import Recipe
from models.stages.inputs import Indices, images_sha256

_SCALE_TOLERANCE = 1.25
_NAMED = 5


@dataclass(frozen=True)
class Split:
    """Which images the release learns from, and which (train, test) pairs give its figures."""

    learns: Indices
    tests: tuple[tuple[Indices, Indices], ...]
    said: str
    seed: int
    seen_by_parent: Learned | None = None


@dataclass(frozen=True)
class Job:
    """One call of the command: what all its trainings share."""

    recipe: Recipe
    source: Source
    images: Tensor
    labels: Tensor
    groups: Indices
    seed: int
    work: Path
    cache: Path
    shadows: bool
    device: torch.device
    group: Group
    events: Events
    parent: Path | None = None
    precision: str = "auto"
    notices: list[str] = field(default_factory=list)
    # of the code that trains: hours later the checkout may be another
    commit: str | None = field(default_factory=commit)

    @property
    def trained_in(self) -> str:
        """`fp32` or `bf16`."""
        if self.precision != "auto":
            return self.precision
        return "bf16" if has_fast_bf16(self.device) else "fp32"

    @cached_property
    def images_sha256(self) -> str:
        """Of labels and images, as far as they tell one data set from another."""
        return images_sha256(self.images, self.labels)

    @cached_property
    def parent_sha256(self) -> str | None:
        """Of the weights that training starts from; None where they are no release's. Raises CardError."""
        return None if self.parent is None else load_card(self.parent).weights_sha256


def blank_card(job: Job, name: str) -> Card:
    """The card but for its figures and the training's story."""
    images, recipe = job.recipe.images, job.recipe
    side = images.hr_px * images.hr_gsd_m
    low, high = min(images.ds) * images.hr_gsd_m, max(images.ds) * images.hr_gsd_m
    return Card(
        name=name,
        version="1",
        streams="hr+lr" if recipe.networks.lr else "hr",
        fusion=recipe.training.fusion,
        fill=images.fill,
        classes=tuple(
            ClassName(c, recipe.classes.get(c, c if c in recipe.classes.values() else None))
            for c in job.source.classes
        ),
        lr_px=images.lr_px,
        hr_px=images.hr_px,
        tile_m=Range(round(side, 6), round(side / _SCALE_TOLERANCE, 6), round(side * _SCALE_TOLERANCE, 6)),
        lr_gsd_m=Range(round((low * high) ** 0.5, 6), round(low, 6), round(high, 6)),
        hr_gsd_m=images.hr_gsd_m,
        grid=images.grid,
        weights_sha256="",
        architecture={},
        description=recipe.description,
        licence=recipe.licence,
    )


def caveats(job: Job, split: Split) -> list[str]:
    """What is to be said of the images that a release learns from and is measured on."""
    places = of_few_places(job.source, [test for _, test in split.tests])
    return [*not_compared(job.source), *places, *_copies(job, split), *_unlearned(job, split)]


def _copies(job: Job, split: Split) -> list[str]:
    """Splits that are drawn here have none."""
    groups = job.groups
    count = sum(int(np.isin(groups[test], groups[learns]).sum()) for learns, test in split.tests)
    if not count:
        return []
    what = "copies of pictures that are" if job.source.places is None else "of places that are"
    return [f"{count} of the {_held(split)} held-out pictures are {what} learned from"]


def _unlearned(job: Job, split: Split) -> list[str]:
    labels = job.labels.numpy()
    strange = [test[~np.isin(labels[test], labels[learns])] for learns, test in split.tests]
    if not (count := sum(map(len, strange))):
        return []
    names = [job.source.classes[k] for k in np.unique(labels[np.concatenate(strange)])]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return [
        f"{count} of the {_held(split)} held-out pictures are of classes that nothing is learned of, so no "
        f"answer to them can be right: {', '.join(names[:_NAMED])}{more}"
    ]


def _held(split: Split) -> int:
    return sum(len(test) for _, test in split.tests)


def card_of(job: Job, split: Split, figures: dict[str, Any], args: argparse.Namespace) -> Card:
    """The whole card: figures, and the story of the training."""
    recipe, device = job.recipe, job.device
    training = {
        "data": job.source.name,
        "data_sha256": job.source.digest(),
        "images": len(split.learns),
        "per_class": {name: int((job.labels == k).sum()) for k, name in enumerate(job.source.classes)},
        "split": split.said,
        "split_seed": split.seed,
        "command": shlex.join(["patchplan", "train", *_told(args)]),
        "recipe": recipe.name,
        "recipe_fields": json.loads(json.dumps(asdict(recipe))),
        "recipe_sha256": recipe.digest(),
        "stages": {k: s.epochs for k, s in recipe.stages.items() if s.epochs},
        "seed": args.seed,
        "commit": job.commit,
        "held_out": "folds" if args.folds else "one split",
        "ds": list(recipe.images.ds),
        "fit": recipe.images.fit,
        "precision": job.trained_in,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processes": job.group.size,
        "processor": torch.cuda.get_device_name() if device.type == "cuda" else processor(),
        "scale_note": f"tile_m is the trained side by {_SCALE_TOLERANCE} either way, unmeasured",
    }
    if job.parent is not None:
        parent = load_card(job.parent)
        told = ("data", "data_sha256", "held_out", "parent")
        training["parent"] = {
            "name": parent.name,
            "version": parent.version,
            "weights_sha256": parent.weights_sha256,
            **{key: parent.training[key] for key in told if key in parent.training},
            "split_seed": split_seed(parent.training),
        }
    if split.seen_by_parent is not None:
        training["seen_by_parent"] = {
            **asdict(split.seen_by_parent),
            "of": sum(len(test) for _, test in split.tests),
        }
    if job.source.skipped:
        training["left_out"] = str(job.source.skipped)
    if said := caveats(job, split):
        training["caveats"] = "; ".join(said)
    if job.notices:
        training["recipe_changes"] = list(dict.fromkeys(job.notices))
    blank = replace(blank_card(job, args.out.name), version=args.release_version)
    return replace(blank, training=training, figures=figures)


def processor() -> str:
    """The CPU's model: the same weights, bit by bit, are promised on the same one only."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _told(args: argparse.Namespace) -> list[str]:
    """The command's words without the folders of this machine."""
    told = [
        "--recipe",
        Path(args.recipe).name,
        "--data",
        args.data.name,
        "--out",
        f"releases/{args.out.name}",
        "--seed",
        str(args.seed),
    ]
    if args.release_version != "1":
        told += ["--release-version", args.release_version]
    if args.folds:
        told += ["--folds", str(args.folds)]
    if args.epochs is not None:
        told += ["--epochs", str(args.epochs)]
    if args.stages:
        told += ["--stages", args.stages]
    if args.parent is not None:
        told += ["--parent", args.parent.name]
    return told
