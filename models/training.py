"""One training of a job: its networks before it, the features it learns from, and the stages."""

import shutil
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch

from models import release as releases
from models.data.source import DataError
from models.events import Watched
from models.job import Job
from models.progress import Progress
from models.recipe import STAGES, RecipeError
from models.stages.inputs import Indices, Inputs
from models.stages.members import Judges
from models.stages.memory import changed
from models.stages.trainer import Trainer
from models.system import System, packed


def untrained(job: Job, seed: int) -> System:
    """The networks before training: drawn, ImageNet's, or the parent's."""
    torch.manual_seed(seed)  # weights that no file gives
    architecture = job.recipe.architecture(len(job.source.classes))
    imagenet = job.recipe.networks.imagenet and job.parent is None
    system = packed(System(architecture, imagenet=imagenet), job.device)
    if job.parent is not None:
        _inherit(job, system)
    return system


def features(job: Job, system: System) -> Inputs:
    """The images as the system's networks take them; what frozen layers make of them is computed once."""
    exact = job.precision == "fp32"
    inputs = Inputs(system, job.images, job.labels, job.recipe.images, job.cache, exact=exact)
    if inputs.cache is not None and not inputs.cache.ready:
        show = job.events.doing("features")
        with Progress("features of the frozen layers") as progress:

            def both(done: int, total: int) -> None:
                progress.show(done, total)
                show(done, total)

            inputs.cache.fill(both)
    return inputs


def trained(
    job: Job,
    learns: Indices,
    name: str,
    seed: int,
    judges: Judges | None = None,
    stages: Collection[str] = STAGES,
) -> System:
    """A system that has learned from the images `learns`, as far as `stages`; `name` is its checkpoint's."""
    system = untrained(job, seed)
    inputs = features(job, system)
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
            parent=job.parent_sha256,
        )
        epochs = [recipe.stages[p.stage].epochs for p in trainer.phases]
        watch.begin(epochs, [len(trainer.members.trained[p.member].learns) for p in trainer.phases])
        trainer.run(stages)
    job.notices.extend(changed(stage, parts) for stage, parts in trainer.memory.parts.items() if parts > 1)
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
    asked, learns = job.recipe.training.fusion, any(job.recipe.stages[name].epochs for name in ("hr", "lr"))
    if not learns and parent.fusion.rule not in ("eq7", asked):
        job.notices.append(
            f"fusion: {parent.fusion.rule} of {card.name} is kept, not {asked}; it was fitted to images that "
            "its classifiers had not learned from"
        )
