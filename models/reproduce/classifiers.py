"""The classifiers that rows share: trained once for each set of images they may learn from."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from models.data.splits import kfold
from models.grid import centre_first
from models.precision import autocast
from models.recipe import Recipe, Stage
from models.reproduce.alone import alone
from models.reproduce.fit import fit
from models.reproduce.learner import Learner, Plan
from models.reproduce.protocol import Part
from models.reproduce.study import Study
from models.reproduce.weights import read_weights
from models.stages.classify import classification_loss
from models.stages.draws import Draws, draw_from
from models.stages.inputs import Batch, Indices
from models.stages.members import Judges, Member
from models.stages.place import Phase, Watch
from models.stages.trainer import Trainer
from models.system import System

FIFTHS = 5
"""Without folds a judge learns from all but one of so many parts, and the policy from that one."""

ENOUGH = 5_000
"""Images that a policy needs to learn how many patches pay: judges are added until it has so many."""


class Watching(Watch):
    """Ends a stage of the trainer at the checkpoint after which the slice has no room for another epoch."""

    def __init__(self, study: Study) -> None:
        self._study, self._longest, self._at = study, 0.0, 0.0

    def begin(self, seconds: float) -> None:
        self._longest = max(self._longest, seconds)

    def saved(self, phase: Phase, epochs: int) -> None:
        del phase, epochs
        self._study.slice.room_for(self._longest)


def optimiser_of(recipe: Recipe, groups: list[dict[str, object]]) -> Optimizer:
    """The recipe's optimiser over parameter groups."""
    kind = torch.optim.AdamW if recipe.training.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=1e-3, weight_decay=recipe.training.weight_decay)


def trainable(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


class Further(Learner):
    """An HR classifier that learns by one stage's masks and augmentation."""

    def __init__(self, study: Study, recipe: Recipe, body: nn.Module, stage: Stage) -> None:
        self.body, self.stage, self._study = body, stage, study
        self._ranks = centre_first(recipe.images.grid, recipe.networks.order)
        self._optimiser = optimiser_of(recipe, [{"params": trainable(body)}])

    def modules(self) -> dict[str, nn.Module]:
        return {"hr": self.body}

    def optimisers(self) -> dict[str, Optimizer]:
        return {"adam": self._optimiser}

    def step(self, indices: Indices, batch: Batch, draws: Draws) -> dict[str, float]:
        del indices
        self.body.train()
        draw_from(draws, self.body)
        with autocast(self._study.device):
            loss, right = classification_loss(
                self.body, "hr", batch, self.stage, self._study.classes, self._ranks, draws
            )
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        return {"loss": float(loss.detach()), "accuracy": float(right)}


@dataclass(frozen=True)
class Base:
    """The paper's f_cl^h and f_cl^l, trained on whole images, in a system; `key` names the training."""

    key: str
    system: System


def base(study: Study, learns: Indices, seed: int) -> Base:
    """Stages hr and lr on the images `learns`. Given weights stand for hr where the study has some, and
    the other study's where it is one at another ds: f_cl^h does not see the LR image.
    """
    recipe = study.profile.paper
    if study.given is not None:
        return _base(study, _lr_alone(recipe), learns, seed, given=True)
    if study.of is not None:
        return _base(study, _lr_alone(recipe), learns, seed, given=False, start=base(study.of, learns, seed))
    return _base(study, recipe, learns, seed, given=True)


def given_hr(study: Study, seed: int) -> nn.Module | None:
    """The HR classifier of the study's file of weights, ready to answer; None where there is no file."""
    if study.given is None:
        return None
    system = study.system(study.profile.paper, seed)
    load_given(system, study.given)
    return system.eval().hr.body


def _lr_alone(recipe: Recipe) -> Recipe:
    return replace(recipe, stages={**recipe.stages, "hr": replace(recipe.stages["hr"], epochs=0)})


def _base(
    study: Study, recipe: Recipe, learns: Indices, seed: int, *, given: bool, start: Base | None = None
) -> Base:
    made_of = [study.given_sha256 if given else None, *([start.key] if start else [])]
    key = study.key("base", recipe.digest("lr"), seed, learns.tolist(), *made_of)
    system = study.system(recipe, seed)
    if given and study.given is not None:
        load_given(system, study.given)
    if start is not None:
        system.hr.body.load_state_dict(start.system.hr.body.state_dict())
    place = unit_place(study, "base", key)
    run_trainer(study, recipe, system, learns, seed, place, ("hr", "lr"))
    return Base(key, system)


def policy_stages(recipe: Recipe, sigma: float | None = None) -> Recipe:
    """The recipe from pt on: its classifiers are the base's. `sigma` of ft1 and ft2 where it is another."""
    stages = {key: replace(stage, epochs=0) for key, stage in recipe.stages.items() if key in ("hr", "lr")}
    if sigma is not None:
        stages |= {key: replace(recipe.stages[key], sigma=sigma) for key in ("ft1", "ft2")}
    return replace(recipe, stages={**recipe.stages, **stages})


def long_trained(
    study: Study, learns: Indices, seed: int, *, masks: bool, given: bool = True
) -> tuple[str, nn.Module]:
    """The HR classifier that learns with masks and LR fill from its first epoch on, or HR-CNN on the same
    terms, without.

    Masks that come after whole images cost accuracy (docs/lab-notes.md). Where the study has weights, and
    unless `given` says otherwise, both go on from them instead of from the start.
    """
    ours = study.profile.ours
    one_view = replace(ours.networks, hr_views=1, lr_views=1, whole=False)  # at a time, for one body
    recipe = replace(ours, images=replace(ours.images, fill="lr"), networks=one_view)
    system = study.system(recipe, seed)
    named: tuple[str, ...] = ()
    if given and study.given is not None and study.given_sha256 is not None:
        load_given(system, study.given)
        named = (study.given_sha256,)
    plan = replace(study.profile.plan("masked"), epochs=masked_epochs(study, given=given))
    stage = study.profile.masking if masks else replace(study.profile.masking, mask_share=0.0, ordered=0.0)
    learner = Further(study, recipe, system.hr.body, stage)
    told = study.profile.masking_told()
    if not masks:
        told.pop("ordered", None)
    if told:
        named += (json.dumps(told, sort_keys=True),)
    if stage.ordered:
        named += (recipe.networks.order,)
    unit = "masked" if masks else "longer"
    return train_unit(study, unit, learner, plan, recipe, learns, seed, named), system.hr.body


def longer_without_masks(study: Study) -> bool:
    """Whether HR-CNN on the terms of ours has more epochs than the plain one; given weights need no more."""
    return study.given is None and study.profile.paper.stages["hr"].epochs < masked_epochs(study)


def whole_trained(study: Study, learns: Indices, seed: int) -> tuple[str, nn.Module]:
    """HR-CNN of whichever training is the longer: what answers for whole images (decision 69)."""
    if longer_without_masks(study):
        return long_trained(study, learns, seed, masks=False)
    if (given := given_hr(study, seed)) is not None:
        return str(study.given_sha256), given
    start = base(study, learns, seed)
    return start.key, start.system.hr.body


def masked_epochs(study: Study, *, given: bool = True) -> int:
    """How long that is: less where it goes on from given weights."""
    return study.profile.epochs["onward" if given and study.given is not None else "masked"]


def epochs_of(study: Study, unit: str) -> int:
    """How long a unit of a row is trained here: given weights spare HR-CNN and what goes on from it."""
    if unit == "masked":
        return masked_epochs(study)
    return 0 if unit == "hr" and study.given is not None else study.profile.epochs[unit]


@dataclass(frozen=True)
class Judged:
    """The images `learns` that a policy may learn from, `by` classifiers that have not; `key` names these."""

    key: str
    learns: Indices
    by: Judges


def judged(study: Study, part: Part) -> Judged:
    """Mask-trained classifiers, and for each image that the policy learns from one that has not.

    Of folds they are the other folds' own. Else each is trained on four fifths of what the part learns, and
    the policy learns from the other fifth of each: of as many as make it `ENOUGH`, or all five.
    """
    if study.protocol.folds:
        policy = part.learns
        others = [(p.learns, p.tests, p.seed) for p in study.protocol.parts if p.number != part.number]
    else:
        groups = study.protocol.groups[part.learns]
        fifths = kfold(study.labels.numpy()[part.learns], groups, FIFTHS, part.seed)
        unseen = [part.learns[held] for held in fifths[: judges_of(len(part.learns))]]
        policy = np.sort(np.concatenate(unseen))
        others = [(np.setdiff1d(part.learns, held), held, part.seed) for held in unseen]
    keys, members, of = [], [], np.zeros(len(study.labels), dtype=np.int64)
    for number, (learns, held, seed) in enumerate(others):
        lr_key, lr = lr_of(study, learns, seed)
        key, body = long_trained(study, learns, seed, masks=True, given=False)
        keys += [lr_key, key]
        whole = None
        if study.profile.ours.networks.whole:
            whole_key, whole = long_trained(study, learns, seed, masks=False, given=False)
            keys.append(whole_key)
        members.append(Member(body, lr, learns, whole))
        of[held] = number
    return Judged("+".join(keys), policy, Judges(tuple(members), of))


def judges_of(images: int) -> int:
    """How many judges there are where that many images are learned from without folds."""
    return min(FIFTHS, math.ceil(ENOUGH / (images / FIFTHS)))


def lr_of(study: Study, learns: Indices, seed: int) -> tuple[str, nn.Module]:
    """f_cl^l of the images `learns`: a fold's own, which its rows need as well, or trained alone."""
    if study.protocol.folds:
        start = base(study, learns, seed)
    else:
        start = _base(study, _lr_alone(study.profile.paper), learns, seed, given=False)
    assert start.system.lr is not None
    return start.key, start.system.lr.body


def train_unit(
    study: Study,
    name: str,
    learner: Learner,
    plan: Plan,
    recipe: Recipe,
    learns: Indices,
    seed: int,
    keys: tuple[str, ...] = (),
) -> str:
    """Train a learner, or load it; returns the hash of all that has a say in it. Raises SliceOver."""
    told = [plan.epochs, plan.batch, plan.lr, plan.schedule]
    # stages after lr have no say here
    key = study.key(name, told, recipe.digest("lr"), seed, learns.tolist(), keys)
    place = unit_place(study, name, key)

    def report(epochs: int, figures: dict[str, float]) -> None:
        shown = ", ".join(f"{k} {v:.3f}" for k, v in figures.items())
        print(f"{name} {epochs}/{plan.epochs}: {shown}", flush=True)

    fit(place, learner, plan, study.inputs(recipe), learns, seed, study.slice, report)
    return key


def run_trainer(
    study: Study,
    recipe: Recipe,
    system: System,
    learns: Indices,
    seed: int,
    place: Path,
    stages: tuple[str, ...],
    judged: Judges | None = None,
) -> None:
    """Stages of the product's own trainer, resumable. Raises SliceOver."""
    watch = Watching(study)

    def report(event: dict[str, object]) -> None:
        if "epoch" not in event:
            return
        watch.begin(float(str(event["seconds"])))
        kept = ("loss", "reward", "accuracy", "patches")
        shown = ", ".join(f"{k} {event[k]:.3f}" for k in kept if k in event)
        print(f"{event['phase']} {int(str(event['epoch'])) + 1}: {shown}", flush=True)

    groups = np.arange(len(study.labels))
    inputs = study.inputs(recipe)
    with alone(place, study.slice):
        trainer = Trainer(recipe, system, inputs, learns, groups, seed, place, report, judged, watch=watch)
        trainer.run(stages)
    system.eval()


def unit_place(study: Study, name: str, key: str) -> Path:
    folder = study.work / "units"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}-{key[:16]}.pt"


def load_given(system: System, file: Path) -> None:
    """Published weights for the HR classifier. Raises ValueError, OSError."""
    given, wanted = read_weights(file), system.hr.body.state_dict()
    for name in [*wanted, *given]:
        if name.endswith("num_batches_tracked"):
            continue  # older files lack it
        has, needs = (tuple(state[name].shape) if name in state else None for state in (given, wanted))
        if has != needs:
            raise ValueError(f"{file.name} does not fit the HR classifier: {name} is {has}, to be {needs}")
    system.hr.body.load_state_dict(given)
