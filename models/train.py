"""Train a release: `python -m models.train --recipe R --data D --out RELEASE`, or `patchplan train`.

The release is trained on every image but those of a published or drawn test split; its card's figures come
from images its weights have not seen. With `--folds K` it is trained on every image, and the figures are
pooled over K folds, each answered by a training of its own without it. The folds' classifiers then judge what
any policy buys on images they have not seen. Interrupted, the same command goes on. Under torchrun the
processes share each batch.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Collection, Sequence
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
from models.evaluate import Outcome, outcomes
from models.events import Events, Watched
from models.job import Job, Split, blank_card, card_of
from models.page import PAGE_FILE, flattered, model_page
from models.precision import best_device
from models.progress import Progress
from models.recipe import STAGES, Recipe, RecipeError, Stage, load_recipe, parse_recipe
from models.stages.inputs import Indices, Inputs
from models.stages.members import Judges, Member
from models.stages.memory import OutOfMemory, StartAgain, changed, is_out_of_memory
from models.stages.trainer import Trainer
from models.system import System, packed

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
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folds", type=int, default=0, help="figures pooled over this many folds, training on all images"
    )
    parser.add_argument("--epochs", type=int, help="at most so many epochs a stage: for trials")
    parser.add_argument("--stages", help="only these of hr,lr,pt,ft1,ft2; without hr they need --parent")
    parser.add_argument("--parent", type=Path, help="folder of the release to start from")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--processes", type=int, default=1, help="processes that share each batch")
    parser.add_argument(
        "--events", type=Path, help="file that progress is appended to, one JSON object a line"
    )
    parser.add_argument(
        "--work", type=Path, help="checkpoints and features (default: OUT.work, removed at the end)"
    )
    return parser


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


def _recipe(args: argparse.Namespace) -> Recipe:
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
    todo = [name for name in STAGES if recipe.stages.get(name, Stage()).epochs]
    if not todo:
        raise RecipeError("no stage has any epochs")
    if todo[0] != "hr":
        if args.parent is None:
            raise RecipeError(f"starting at {todo[0]} means from a release: name its folder with --parent")
        # shadows are made by the stage hr: the parent's classifier judges for itself
        recipe = replace(recipe, training=replace(recipe.training, crossfit=0))
    return recipe


def train(args: argparse.Namespace, group: Group | None = None) -> Card | None:
    """Train, measure and save; None in a process that only helps. Raises what `main` tells apart."""
    group = group or Group()
    events, work = Events(args.events if group.leads else None), _work(args)
    recipe = _recipe(args)
    if args.folds and not group.alone:
        raise ValueError("folds are trained one after another, by one process")
    made = group.leads and args.work is None and not work.exists()
    try:
        job = _job(args, recipe, work, group, events)
    except DataError:  # nothing there that the same command could go on from
        if made:
            shutil.rmtree(work, ignore_errors=True)
        raise
    split = _split(job, args.folds)
    if not group.leads:
        _trained(job, split.learns, "release", args.seed)
        return None
    judges = _fold_classifiers(job, split) if args.folds else None
    figures = _figures(job, split, judges)
    system = _trained(job, split.learns, "release", args.seed, judges)
    events.say("doing", doing="saving", share=0.0)
    card = releases.save(args.out, card_of(job, split, figures, args), system)
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
        _inputs(job, _untrained(job, args.seed))
    return job


def _untrained(job: Job, seed: int) -> System:
    """The networks before training: drawn, ImageNet's, or the parent's."""
    torch.manual_seed(seed)  # weights that no file gives
    architecture = job.recipe.architecture(len(job.source.classes))
    imagenet = job.recipe.networks.imagenet and job.parent is None
    system = packed(System(architecture, imagenet=imagenet), job.device)
    if job.parent is not None:
        _inherit(job, system)
    return system


def _inherit(job: Job, system: System) -> None:
    assert job.parent is not None
    card, parent = releases.read(job.parent)
    if tuple(c.name for c in card.classes) != job.source.classes:
        raise DataError(f"the classes of {card.name} are not those of {job.source.name}")
    for name, value in system.architecture.to_json().items():
        has = parent.architecture.to_json()[name]
        if name != "missed_cost" and has != value:
            raise RecipeError(f"{card.name} has {name} {has!r}, the recipe {value!r}")
    system.load_state_dict(parent.state_dict())
    system.fusion = parent.fusion


def _inputs(job: Job, system: System) -> Inputs:
    inputs = Inputs(system, job.images, job.labels, job.recipe.images, job.cache)
    if inputs.cache is not None and not inputs.cache.ready:
        show = job.events.doing("features")
        with Progress("features of the frozen layers") as progress:

            def both(done: int, total: int) -> None:
                progress.show(done, total)
                show(done, total)

            inputs.cache.fill(both)
    return inputs


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
            job.seed,
        )
    if job.parent is None:
        learns, test, said = held_out(job.source, job.seed, job.groups)
        return Split(learns, ((learns, test),), said, job.seed)
    story = load_card(job.parent).training
    seed = inherited_seed(story, job.source.digest(), job.seed)
    learns, test, said = held_out(job.source, seed, job.groups)
    seen = learned_from(job.source, story, test, job.groups)
    if seen.said != "no":
        job.events.say("notice", text=flattered(seen.images, len(test), sure=seen.sure))
    return Split(learns, ((learns, test),), said, seed, seen)


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
        releases.save(folder, blank_card(job, name), system)
        show = job.events.doing("measuring")
        with Progress(f"measuring {name}") as progress:

            def both(done: int, total: int) -> None:
                progress.show(done, total)
                show(done, total)

            found = outcomes(
                releases.Release.load(folder, str(job.device)),
                job.images[test],
                job.labels[test],
                ds,
                progress=both,
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
    system = _untrained(job, seed)
    inputs = _inputs(job, system)
    checkpoint = job.work / f"{name}.checkpoint"
    finished = job.work / f"{name.replace('fold', 'classifier')}.checkpoint"
    if not checkpoint.exists() and finished.exists():  # a fold's policy goes on from the fold's classifier
        shutil.copy(finished, checkpoint)
    recipe = (
        job.recipe if job.shadows else replace(job.recipe, training=replace(job.recipe.training, crossfit=0))
    )
    watch = Watched(job.events, checkpoint, job.notices)
    with Progress(f"training {name}") as progress:

        def report(event: dict[str, Any]) -> None:
            if "epoch" not in event:
                return
            done = sum(epochs[: event["number"]]) + event["epoch"] + 1
            shown = {k: v for k, v in event.items() if k in ("loss", "reward", "accuracy", "patches")}
            progress.show(
                done, sum(epochs), f"{event['phase']}: " + ", ".join(f"{k} {v:.3f}" for k, v in shown.items())
            )
            watch.epoch(
                trainer.phases[event["number"]], event["epoch"], shown | {"seconds": event["seconds"]}
            )

        trainer = Trainer(
            recipe,
            system,
            inputs,
            learns,
            job.groups,
            seed,
            checkpoint,
            report,
            judges,
            watch=watch,
            group=job.group,
            precision=job.precision,
        )
        epochs = [recipe.stages[p.stage].epochs for p in trainer.phases]
        watch.begin(epochs, [len(trainer.members.trained[p.member].learns) for p in trainer.phases])
        trainer.run(stages)
    job.notices.extend(changed(stage, parts) for stage, parts in trainer.memory.parts.items() if parts > 1)
    return system


if __name__ == "__main__":
    sys.exit(main())
