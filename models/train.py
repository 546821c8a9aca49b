"""Train a release: `python -m models.train --recipe R --data D --out RELEASE`, or `patchplan train`.

The release is trained on every image but those of a published or drawn test split; its card's figures come
from images its weights have not seen. With `--folds K` it is trained on every image, and the figures are
pooled over K folds, each answered by a training of its own without it. The folds' classifiers then judge what
any policy buys on images they have not seen. What a `--parent` has learned from is in all their weights: card
and events say how many of the images that are. Interrupted, the same command goes on. Under torchrun the
processes share each batch.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import release as releases
from models.card import Card, CardError, load_card
from models.data.decode import prepare
from models.data.heldout import held_out, inherited_seed, learned_from
from models.data.source import DataError
from models.data.sources import open_source
from models.data.splits import keep_together, kfold
from models.disk import is_full
from models.distributed import Group, joined, launch
from models.events import Events
from models.figures import figures, fold_classifiers
from models.job import Job, Split, card_of, caveats
from models.page import PAGE_FILE, flattered, model_page
from models.precision import best_device
from models.progress import Progress
from models.recipe import STAGES, Recipe, RecipeError, Stage, load_recipe, parse_recipe
from models.stages.memory import OutOfMemory, StartAgain, is_out_of_memory
from models.training import features, trained, untrained

USER, FULL, MEMORY = 2, 3, 4
"""Exit statuses: what the user can mend, no room on disk, out of memory."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns 0, or another status with one line on standard error."""
    args = _arguments().parse_args(argv)
    if args.processes > 1:
        return _together(args, sys.argv[1:] if argv is None else argv)
    events = Events(args.events)
    try:
        with joined(_device(args.device).type) as group:
            train(args, group)
    except StartAgain as error:
        # no failure: `_together` starts all processes anew
        print(f"train: {error}", file=sys.stderr)
        return MEMORY
    except Exception as error:
        status, problem = _told_apart(error)
        if problem is None:
            raise
        print(f"train: {error}", file=sys.stderr)
        try:
            events.say("failed", problem=problem, detail=str(error))
        except OSError:
            return FULL
        return status
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="train", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--recipe", required=True, help="name of a built-in recipe, or a .toml or .json file")
    parser.add_argument(
        "--data", type=Path, required=True, help="class folders, a tar of them, CIFAR, ImageNet or fMoW"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the release; its name is the release's"
    )
    parser.add_argument("--seed", type=_at_least(0), default=0)
    parser.add_argument(
        "--release-version", type=_version, default="1", help="stands in the card (default: %(default)s)"
    )
    parser.add_argument(
        "--folds",
        type=_at_least(2),
        default=0,
        help="figures pooled over this many folds, training on all images",
    )
    parser.add_argument("--epochs", type=_at_least(1), help="at most so many epochs a stage: for trials")
    parser.add_argument("--stages", help="only these of hr,lr,pt,ft1,ft2; without hr they need --parent")
    parser.add_argument("--parent", type=Path, help="folder of the release to start from")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--processes", type=_at_least(1), default=1, help="processes that share each batch")
    parser.add_argument(
        "--events", type=Path, help="file that progress is appended to, one JSON object a line"
    )
    parser.add_argument(
        "--work", type=Path, help="checkpoints and features (default: OUT.work, removed at the end)"
    )
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is not a number of {least} or more")
        return int(text)

    return number


def _version(text: str) -> str:
    if not 1 <= len(text) <= 200 or not text.isprintable():
        raise argparse.ArgumentTypeError("1 to 200 printable characters")
    return text


def _together(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Run the command in several processes; all start again where one of them ran out of memory."""
    words = [*argv, "--processes", "1"]  # the last one counts
    parts = _work(args) / "release.checkpoint.parts"
    while True:
        before = parts.read_text() if parts.exists() else ""
        status = launch(args.processes, "models.rank", words)
        if status == 0 or not parts.exists() or parts.read_text() == before:
            return status


def _told_apart(error: BaseException) -> tuple[int, str | None]:
    """The exit status and the kind of problem; no kind for a mistake of ours."""
    if is_full(error):
        return FULL, "disk-full"
    if isinstance(error, OutOfMemory) or is_out_of_memory(error):
        return MEMORY, "out-of-memory"
    if isinstance(error, RecipeError):
        return USER, "recipe-refused"
    if isinstance(error, DataError | CardError):
        return USER, "training-data-refused"
    if isinstance(error, ModuleNotFoundError | OSError | ValueError):
        return USER, "training-failed"
    return 1, None


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no GPU here that torch sees")
    return best_device() if name == "auto" else torch.device(name)


def _work(args: argparse.Namespace) -> Path:
    work: Path = args.work or args.out.with_name(f"{args.out.name}.work")
    return work


def _recipe(args: argparse.Namespace) -> tuple[Recipe, list[str]]:
    """The recipe as the command's words change it, and what is to be said of that."""
    path = Path(args.recipe)
    recipe = (
        parse_recipe(json.loads(path.read_text())) if path.suffix == ".json" else load_recipe(args.recipe)
    )
    if args.epochs is not None:
        recipe = recipe.shortened(args.epochs)
    if args.stages:
        wanted = args.stages.split(",")
        if unknown := set(wanted) - set(STAGES):
            raise RecipeError(f"--stages: only {', '.join(STAGES)}, not {', '.join(sorted(unknown))}")
        kept = {k: s if k in wanted else replace(s, epochs=0) for k, s in recipe.stages.items()}
        recipe = replace(recipe, stages=kept)
    changes: list[str] = []
    todo = [name for name in STAGES if recipe.stages.get(name, Stage()).epochs]
    if not todo:
        raise RecipeError("no stage has any epochs")
    if todo[0] != "hr":
        if args.parent is None:
            raise RecipeError(f"starting at {todo[0]} means from a release: name its folder with --parent")
        if recipe.training.crossfit and not args.folds:
            changes.append(
                "crossfit: without the stage hr there are no shadows; the parent's classifier judges images "
                "that it has learned from, for which a policy learns to buy too little"
            )
        recipe = replace(recipe, training=replace(recipe.training, crossfit=0))
    return recipe, changes


def train(args: argparse.Namespace, group: Group | None = None) -> Card | None:
    """Train, measure and save; None in a process that only helps. Raises what `main` tells apart."""
    group = group or Group()
    events, work = Events(args.events if group.leads else None), _work(args)
    recipe, changes = _recipe(args)
    if args.folds and not group.alone:
        raise ValueError("folds are trained one after another, by one process")
    made = group.leads and args.work is None and not work.exists()
    try:
        job = _job(args, recipe, work, group, events)
        split = _split(job, args.folds)
    except DataError:  # nothing there that the same command could go on from
        if made:
            shutil.rmtree(work, ignore_errors=True)
        raise
    job.notices.extend(changes)
    _warn(job, split)
    if not group.leads:
        trained(job, split.learns, "release", args.seed)
        return None
    judges = fold_classifiers(job, split) if args.folds else None
    found = figures(job, split, judges)
    system = trained(job, split.learns, "release", args.seed, judges)
    events.say("doing", doing="saving", share=0.0)
    card = releases.save(args.out, card_of(job, split, found, args), system)
    (args.out / PAGE_FILE).write_text(model_page(card), encoding="utf-8")
    if args.work is None:
        shutil.rmtree(work)
    print(f"wrote {args.out}")
    events.say("done", folder=str(args.out))
    return card


def _job(args: argparse.Namespace, recipe: Recipe, work: Path, group: Group, events: Events) -> Job:
    """Decode the images and compute the frozen layers' features, in one process; then all find them."""
    work.mkdir(parents=True, exist_ok=True)
    show = events.doing("preparing")
    with group.leader_first(), Progress("decoding") as progress:

        def both(done: int, total: int) -> None:
            progress.show(done, total)
            show(done, total)

        opened = open_source(args.data, check="none")
        source, images = prepare(
            opened, recipe.images.hr_px, work / "cache", fit=recipe.images.fit, progress=both
        )
    if len(source.classes) < 2:
        raise DataError(f"{args.data.name} has one class only; a classifier needs two or more")
    labels = torch.from_numpy(np.asarray(source.labels))
    job = Job(
        recipe=recipe,
        source=source,
        images=images,
        labels=labels,
        groups=keep_together(source),
        seed=args.seed,
        work=work,
        cache=work / "cache",
        shadows=not args.folds,
        device=_device(args.device),
        group=group,
        events=events,
        parent=args.parent,
        precision=args.precision,
    )
    with group.leader_first():
        features(job, untrained(job, args.seed))
    return job


def _warn(job: Job, split: Split) -> None:
    """Say what is not as in the recipe, which pictures are missing, and which cannot be told right."""
    if not job.group.leads:
        return
    missing = [f"left out: {job.source.skipped}"] if job.source.skipped.unreadable else []
    for text in (*job.notices, *missing, *caveats(job, split)):
        print(f"train: {text}", file=sys.stderr)
        job.events.say("notice", text=text)


def _split(job: Job, folds: int) -> Split:
    story = None if job.parent is None else load_card(job.parent).training
    split = _folded(job, folds) if folds else _held_out(job, story)
    if story is None:
        return split
    tests = np.concatenate([test for _, test in split.tests])
    seen = learned_from(job.source, story, tests, job.groups)
    if seen.said != "no":
        job.events.say("notice", text=flattered(seen.images, len(tests), sure=seen.sure))
    return replace(split, seen_by_parent=seen)


def _folded(job: Job, folds: int) -> Split:
    everything = np.arange(len(job.labels))
    parts = kfold(job.labels.numpy(), job.groups, folds, job.seed)
    pairs = tuple((np.setdiff1d(everything, part), part) for part in parts)
    return Split(
        everything,
        pairs,
        f"{folds} stratified folds, seed {job.seed}, fold i trained with seed i; the release on all",
        job.seed,
    )


def _held_out(job: Job, story: Mapping[str, Any] | None) -> Split:
    seed = job.seed if story is None else inherited_seed(story, job.source.digest(), job.seed)
    learns, test, said = held_out(job.source, seed, job.groups)
    return Split(learns, ((learns, test),), said, seed)


if __name__ == "__main__":
    sys.exit(main())
