"""Train a release: `python -m models.train --recipe R --data D --out RELEASE`, or `patchplan train`.

The release is trained on every image but those of a published or drawn test split; its card's figures come
from images its weights have not seen. With `--folds K` it is trained on every image, and the figures are
pooled over K folds, each answered by a training of its own without it. The folds' classifiers then judge what
any policy buys on images they have not seen. Interrupted, the same command goes on.
"""

import argparse
import platform
import shlex
import shutil
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import release as releases
from models.card import Card, ClassName, Range
from models.data.decode import prepare
from models.data.heldout import held_out
from models.data.source import DataError, Source
from models.data.sources import open_source
from models.data.splits import keep_together, kfold
from models.evaluate import Outcome, outcomes
from models.page import PAGE_FILE, model_page
from models.precision import best_device, has_fast_bf16
from models.progress import Progress
from models.provenance import commit
from models.recipe import STAGES, Recipe, RecipeError, load_recipe
from models.stages.inputs import Indices, Inputs
from models.stages.members import Judges, Member
from models.stages.trainer import Trainer
from models.system import System, packed

_SCALE_TOLERANCE = 1.25


@dataclass(frozen=True)
class Split:
    """Which images the release learns from, and which (train, test) pairs give its figures."""

    learns: Indices
    tests: tuple[tuple[Indices, Indices], ...]
    said: str


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


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns 0, or 2 with one line on standard error for what the user can mend."""
    parser = argparse.ArgumentParser(prog="train", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--recipe", required=True, help="name of a built-in recipe, or a .toml file")
    parser.add_argument(
        "--data", type=Path, required=True, help="class folders, a tar of them, CIFAR, ImageNet or fMoW"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the release; its name is the release's"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folds", type=int, default=0, help="figures pooled over this many folds, training on all images"
    )
    parser.add_argument("--epochs", type=int, help="at most so many epochs a stage: for trials")
    parser.add_argument(
        "--work", type=Path, help="checkpoints and features (default: OUT.work, removed at the end)"
    )
    args = parser.parse_args(argv)
    try:
        train(args)
    except (RecipeError, DataError, ModuleNotFoundError, OSError, ValueError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    return 0


def train(args: argparse.Namespace) -> Card:
    """Train, measure and save. Raises RecipeError, DataError, OSError, ValueError."""
    recipe = load_recipe(args.recipe)
    if args.epochs is not None:
        recipe = recipe.shortened(args.epochs)
    work = args.work or args.out.with_name(f"{args.out.name}.work")
    work.mkdir(parents=True, exist_ok=True)
    with Progress("decoding") as progress:
        opened = open_source(args.data, check="none")
        source, images = prepare(
            opened, recipe.images.hr_px, work / "cache", fit=recipe.images.fit, progress=progress.show
        )
    if len(source.classes) < 2:
        raise DataError(f"{args.data} has one class only; a classifier needs two or more")
    labels = torch.from_numpy(np.asarray(source.labels))
    job = Job(
        recipe, source, images, labels, keep_together(source), args.seed, work, work / "cache", not args.folds
    )
    split = _split(job, args.folds)
    judges = _fold_classifiers(job, split) if args.folds else None
    figures = _figures(job, split, judges)
    system = _trained(job, split.learns, "release", args.seed, judges)
    card = releases.save(args.out, _card(job, split, figures, args), system)
    (args.out / PAGE_FILE).write_text(model_page(card), encoding="utf-8")
    if args.work is None:
        shutil.rmtree(work)
    print(f"wrote {args.out}")
    return card


def _split(job: Job, folds: int) -> Split:
    everything = np.arange(len(job.labels))
    labels = job.labels.numpy()
    if folds:
        parts = kfold(labels, job.groups, folds, job.seed)
        pairs = tuple((np.setdiff1d(everything, part), part) for part in parts)
        return Split(
            everything,
            pairs,
            f"{folds} stratified folds, seed {job.seed}, fold i trained with seed i; the release on all",
        )
    learns, test, said = held_out(job.source, job.seed, job.groups)
    return Split(learns, ((learns, test),), said)


def _fold_classifiers(job: Job, split: Split) -> Judges:
    """Each fold's classifier, for whom the fold is unseen: it judges what any policy buys there."""
    members, of = [], np.zeros(len(job.labels), dtype=np.int64)
    for k, (learns, test) in enumerate(split.tests):
        system = _trained(job, learns, f"classifier-{k}", k, stages=("hr", "lr"))
        members.append(Member(system.hr.body, None if system.lr is None else system.lr.body, learns))
        of[test] = k
    return Judges(tuple(members), of)


def _figures(job: Job, split: Split, judges: Judges | None) -> dict[str, Any]:
    """Accuracy and S at every ds, on images unseen in training; stored weights (fp16), computed in fp32."""
    found: dict[int, list[Outcome]] = {factor: [] for factor in job.recipe.images.ds}
    crossed = len(split.tests) > 1
    for k, (learns, test) in enumerate(split.tests):
        name, seed = (f"fold-{k}", k) if crossed else ("release", job.seed)
        for factor, outcome in _outcomes(job, learns, test, name, seed, judges).items():
            found[factor].append(outcome)
    joined = {factor: Outcome.joined(parts) for factor, parts in found.items()}
    return {
        "precision": "fp32",
        "by_ds": {str(factor): outcome.figures(job.source.classes) for factor, outcome in joined.items()},
    }


def _outcomes(
    job: Job, learns: Indices, test: Indices, name: str, seed: int, judges: Judges | None
) -> dict[int, Outcome]:
    """Of one fold: measured once, then read from the work folder."""
    kept = job.work / f"{name}-outcome-{job.recipe.digest()[:16]}-{job.recipe.training.missed_cost}.npz"
    ds = job.recipe.images.ds
    if not kept.exists():
        system = _trained(job, learns, name, seed, judges)
        folder = job.work / f"{name}.release"
        releases.save(folder, _blank_card(job, name), system)
        with Progress(f"measuring {name}") as progress:
            found = outcomes(
                releases.Release.load(folder, str(best_device())),
                job.images[test],
                job.labels[test],
                ds,
                progress=progress,
                curve=True,
            )
        arrays = {
            f"{factor}-{key}": getattr(o, key) for factor, o in found.items() for key in Outcome.arrays()
        }
        temporary = kept.with_name(f"{kept.stem}.part.npz")
        np.savez(temporary, **arrays)
        temporary.replace(kept)
    with np.load(kept) as saved:
        return {
            factor: Outcome(
                *(saved[f"{factor}-{key}"] for key in Outcome.arrays()), patches=job.recipe.images.grid**2
            )
            for factor in ds
        }


def _trained(
    job: Job,
    learns: Indices,
    name: str,
    seed: int,
    judges: Judges | None = None,
    stages: Collection[str] = STAGES,
) -> System:
    torch.manual_seed(seed)  # weights that no file gives
    device = best_device()
    architecture = job.recipe.architecture(len(job.source.classes))
    system = packed(System(architecture, imagenet=job.recipe.networks.imagenet), device)
    inputs = Inputs(system, job.images, job.labels, job.recipe.images, job.cache)
    if inputs.cache is not None and not inputs.cache.ready:
        with Progress("features of the frozen layers") as progress:
            inputs.cache.fill(progress.show)
    checkpoint = job.work / f"{name}.checkpoint"
    finished = job.work / f"{name.replace('fold', 'classifier')}.checkpoint"
    if not checkpoint.exists() and finished.exists():  # a fold's policy goes on from the fold's classifier
        shutil.copy(finished, checkpoint)
    recipe = (
        job.recipe if job.shadows else replace(job.recipe, training=replace(job.recipe.training, crossfit=0))
    )
    with Progress(f"training {name}") as progress:

        def report(event: dict[str, Any]) -> None:
            if "epoch" not in event:
                return
            done = sum(epochs[: event["number"]]) + event["epoch"] + 1
            shown = {k: v for k, v in event.items() if k in ("loss", "reward", "accuracy", "patches")}
            progress.show(
                done, sum(epochs), f"{event['phase']}: " + ", ".join(f"{k} {v:.3f}" for k, v in shown.items())
            )

        trainer = Trainer(recipe, system, inputs, learns, job.groups, seed, checkpoint, report, judges)
        epochs = [recipe.stages[p.stage].epochs for p in trainer.phases]
        trainer.run(stages)
    return system


def _blank_card(job: Job, name: str) -> Card:
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


def _card(job: Job, split: Split, figures: dict[str, Any], args: argparse.Namespace) -> Card:
    recipe, device = job.recipe, best_device()
    training = {
        "data": job.source.name,
        "data_sha256": job.source.digest(),
        "images": len(split.learns),
        "per_class": {name: int((job.labels == k).sum()) for k, name in enumerate(job.source.classes)},
        "split": split.said,
        "command": shlex.join(["patchplan", "train", *_told(args)]),
        "recipe": recipe.name,
        "recipe_sha256": recipe.digest(),
        "stages": {k: s.epochs for k, s in recipe.stages.items() if s.epochs},
        "seed": args.seed,
        "commit": commit(),
        "held_out": "folds" if args.folds else "one split",
        "ds": list(recipe.images.ds),
        "fit": recipe.images.fit,
        "precision": "bf16" if has_fast_bf16(device) else "fp32",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": torch.cuda.get_device_name()
        if device.type == "cuda"
        else platform.processor() or platform.machine(),
        "scale_note": f"tile_m is the trained side by {_SCALE_TOLERANCE} either way, unmeasured",
    }
    return replace(_blank_card(job, args.out.name), training=training, figures=figures)


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
    if args.folds:
        told += ["--folds", str(args.folds)]
    if args.epochs is not None:
        told += ["--epochs", str(args.epochs)]
    return told


if __name__ == "__main__":
    sys.exit(main())
