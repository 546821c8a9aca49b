"""One trainer for all stages: seeded, and resumable from any checkpoint to the same result.

All randomness comes from (seed, phase, epoch, sample): a checkpoint needs no random state, and neither the
number of processes nor a split of the batch changes what is drawn.
"""

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.disk import replacing
from models.distributed import Group, synchronise
from models.patchdrop import Fusion
from models.precision import autocast
from models.recipe import STAGES, Recipe, Stage
from models.stages import classify, curve, reinforce
from models.stages.draws import Draws, own_dropouts
from models.stages.finite import check_finite
from models.stages.fusing import held_out_fusion
from models.stages.inputs import Batch, Inputs, images_sha256
from models.stages.members import Indices, Judges, Member, Members
from models.stages.memory import Memory, symmetric_parts
from models.stages.place import Phase, Position, Step, Watch, phases
from models.stages.replay import Replay
from models.system import System

_POLICY_STAGES = ("pt", "ft1", "ft2")

# A checkpoint comes at the end of every epoch, and within one that takes longer.
SAVE_EVERY_S = 60.0
Report = Callable[[dict[str, Any]], None]


class Trainer:
    """Trains `system` on the images `train` of `inputs`.

    `judges` reward the policy; without them the recipe's `crossfit` shadows do, or the classifier itself.
    `groups` (n,) keeps near-identical images with one judge; `checkpoint` is a file, or None; `report` is
    told of every epoch. The processes of `group` share each batch. `parent` names the weights that `system`
    starts from where they are a release's. Raises FileNotFoundError for a checkpoint folder that does not
    exist, OutOfMemory.
    """

    def __init__(
        self,
        recipe: Recipe,
        system: System,
        inputs: Inputs,
        train: Indices,
        groups: Indices,
        seed: int,
        checkpoint: Path | None = None,
        report: Report = lambda _: None,
        judges: Judges | None = None,
        *,
        watch: Watch | None = None,
        group: Group | None = None,
        precision: str = "auto",
        parent: str | None = None,
    ) -> None:
        self.recipe, self.system, self.inputs, self.seed = recipe, system, inputs, seed
        self.checkpoint, self.report, self.parent = checkpoint, report, parent
        self.watch, self.group, self.precision = watch or Watch(), group or Group(), precision
        self.members = Members(system, train, inputs.labels, groups, recipe.training.crossfit, seed, judges)
        self.phases = phases(recipe, self.members.trained)
        kept = None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}.parts")
        self.memory = Memory(self.watch.notice, kept, together=not self.group.alone)
        self.optimiser: torch.optim.Optimizer | None = None
        self.replay: Replay | None = None
        self._seen: list[tuple[Indices, curve.Seen]] = []
        self._tried: list[tuple[Draws, int, Batch, reinforce.Experience | curve.Trials]] = []
        self._restored: dict[str, Any] | None = None
        bodies = [
            system.policy.body,
            *(b for m in self.members.trained for b in (m.hr, m.lr) if b is not None),
        ]
        self._dropouts = [dropout for body in bodies for dropout in own_dropouts(body)]
        for body in bodies:
            synchronise(body, self.group)

    def run(self, stages: Collection[str] = STAGES) -> None:
        """Every phase of `stages` from where the checkpoint stands to the end. Raises ValueError for what
        diverges.
        """
        resumed = self._resume()
        for number, phase in enumerate(self.phases):
            if number < resumed.phase or phase.stage not in stages:
                continue
            at = resumed if number == resumed.phase else Position(number)
            if not at.within_phase and phase.stage in _POLICY_STAGES and self._begins_policy(number):
                self._fit_fusion()
            self._begin(phase, resumed=at.within_phase)
            for epoch in range(at.epochs, self.recipe.stages[phase.stage].epochs):
                begun = at if epoch == at.epochs else Position(number, epoch)
                started = time.monotonic() - begun.seconds
                figures = self._epoch(phase, begun)
                self.report(
                    {
                        "phase": phase.name,
                        "number": number,
                        "epoch": epoch,
                        "seconds": time.monotonic() - started,
                        **figures,
                    }
                )
                self._save(Position(number, epoch + 1))
        self.system.eval()

    def _begins_policy(self, number: int) -> bool:
        """Whether the classifiers are finished just now, here or before, and were not fused yet."""
        if number == 0:
            return self.system.fusion.rule == "eq7"
        return self.phases[number - 1].stage not in _POLICY_STAGES

    def _begin(self, phase: Phase, *, resumed: bool) -> None:
        member, stage = self.members.trained[phase.member], self.recipe.stages[phase.stage]
        if phase.stage == "lr" and not resumed:
            self._lr_from_hr(member)
        if phase.stage in ("hr", "lr"):
            body = member.hr if phase.stage == "hr" else member.lr
            assert body is not None
            groups = [{"params": _trained(body), "lr": stage.lr}]
            self.members.settle([body])
        else:
            groups = [{"params": _trained(self.system.policy.body), "lr": stage.policy_lr or stage.lr}]
            both = phase.stage != "pt" and stage.lr > 0
            if both:
                groups.append({"params": _trained(member.hr), "lr": stage.lr})
            self.members.settle([member.hr] if both else [])
        self.replay = Replay(stage.replay, self.group) if stage.replay else None
        for group in groups:
            group["base"] = group["lr"]
        kind = torch.optim.AdamW if self.recipe.training.optimiser == "adamw" else torch.optim.Adam
        self.optimiser = kind(groups, weight_decay=self.recipe.training.weight_decay)
        if resumed and self._restored is not None:
            self.optimiser.load_state_dict(self._restored["optimiser"])
            if self.replay is not None:
                self.replay.restore(self._restored["replay"])

    def _lr_from_hr(self, member: Member) -> None:
        """Section 5.1: the LR classifier starts from the HR classifier's weights, if they are one network."""
        if member.lr is not None and self.recipe.networks.lr == self.recipe.networks.hr:
            member.lr.load_state_dict(member.hr.state_dict())

    def _fit_fusion(self) -> None:
        rule = self.recipe.training.fusion
        if rule == "eq7":
            return
        rng = np.random.default_rng([self.seed, 77])
        with autocast(self.inputs.device, self.precision):
            self.system.fusion = held_out_fusion(self.system, self.members, self._pairs(rng), rng, rule)
        self.report({"phase": "fusion", **self.system.fusion.to_json()})

    def _pairs(self, rng: np.random.Generator) -> Iterator[tuple[Indices, Any]]:
        shifts = rng if self.recipe.stages["ft2"].shifts else None
        for indices, views, ds in self.inputs.draw(self.members.main.learns, 64, rng):
            yield indices, self.inputs.batch(indices, views, ds, shifts, answers=True)

    def _epoch(self, phase: Phase, at: Position) -> dict[str, float]:
        """What is left of an epoch; returns the means over all of it."""
        number, epoch = at.phase, at.epochs
        stage, member = self.recipe.stages[phase.stage], self.members.trained[phase.member]
        rng = np.random.default_rng([self.seed, number, epoch])
        todo = list(self.inputs.draw(member.learns, stage.batch, rng))
        if min(len(indices) for indices, _, _ in todo) < 2 * self.group.size:
            raise ValueError(
                f"stage {phase.stage}: {len(member.learns)} images in batches of {stage.batch} "
                f"are too few for {self.group.size} processes"
            )
        sums, started = dict(at.sums), time.monotonic() - at.seconds
        saved = time.monotonic()
        for k, (indices, views, ds) in list(enumerate(todo))[at.steps :]:
            assert self.optimiser is not None
            for group in self.optimiser.param_groups:
                group["lr"] = classify.learning_rate(
                    group["base"], stage.schedule, epoch * len(todo) + k, stage.epochs * len(todo)
                )
            step = Step(number, epoch, k, indices, views, ds)
            work = partial(self._step, phase, stage, member, step)
            figures = self.memory.within(phase.stage, len(step) // self.group.size, work)
            # both once, also where memory made the work begin again
            if self.replay is not None:
                self._rehearse(self.replay, stage.reuse - 1, step)
            else:
                self._repeat(stage, step)
            # of all processes, step by step: so the one that saves knows them whenever it does
            for key, value in self.group.sums(figures).items():
                sums[key] = sums.get(key, 0.0) + value
            check_finite(f"stage {phase.name}", epoch, sums)
            self.watch.step(phase, number, epoch, k + 1, len(todo))
            if k + 1 < len(todo) and time.monotonic() - saved >= SAVE_EVERY_S:
                self._save(Position(number, epoch, k + 1, sums, time.monotonic() - started))
                saved = time.monotonic()
        total = sum(len(i) for i, _, _ in todo)
        return {key: value / total for key, value in sums.items()}

    def _parts(
        self, step: Step, parts: int, *, answers: bool = False, shifts: bool = True
    ) -> Iterator[tuple[Indices, Indices, Batch, Draws]]:
        """This process's rows of a batch, in `parts`: these, their indices, features and numbers."""
        shared = symmetric_parts(len(step), self.group.size)[self.group.rank]
        for rows in symmetric_parts(len(shared), parts):
            mine = shared[rows]
            indices = step.indices[mine]
            draws = Draws(self.seed, step.number, step.epoch, step.step, indices)
            yield (
                mine,
                indices,
                self.inputs.batch(
                    indices, step.views[mine], step.ds[mine], draws if shifts else None, answers=answers
                ),
                draws,
            )

    def _step(self, phase: Phase, stage: Stage, member: Member, step: Step, parts: int) -> dict[str, float]:
        """One batch in so many parts; sums over this process's images."""
        if phase.stage in ("hr", "lr"):
            return self._classify(phase, stage, member, step, parts)
        return self._reinforce(phase.stage, stage, step, parts)

    def _classify(
        self, phase: Phase, stage: Stage, member: Member, step: Step, parts: int
    ) -> dict[str, float]:
        body = member.hr if phase.stage == "hr" else member.lr
        assert body is not None
        body.train()
        if not member.masks:
            stage = replace(stage, mask_share=0.0)
        classes, sums = self.system.architecture.classes, {"loss": 0.0, "accuracy": 0.0}
        self._clear()
        for _, indices, batch, draws in self._parts(step, parts):
            self._draw_from(draws)
            with autocast(self.inputs.device, self.precision):
                loss, right = classify.classification_loss(
                    body, phase.stage, batch, stage, classes, self.system.ranks, draws
                )
            self._backward(loss, len(indices) / len(step))
            sums["loss"] += float(loss.detach()) * len(indices)
            sums["accuracy"] += float(right) * len(indices)
        self._descend()
        return sums

    def _reinforce(self, name: str, stage: Stage, step: Step, parts: int) -> dict[str, float]:
        system, alpha = self.system, reinforce.alpha_at(stage, step.epoch)
        system.policy.body.train()
        sums: dict[str, float] = {}
        seen: list[tuple[Indices, curve.Seen]] = []
        tried: list[tuple[Draws, int, Batch, reinforce.Experience | curve.Trials]] = []
        self._clear()
        for rows, indices, batch, draws in self._parts(step, parts, answers=True, shifts=stage.shifts):
            self._draw_from(draws)
            with autocast(self.inputs.device, self.precision):
                found: reinforce.Experience | curve.Trials
                if stage.estimator == "curve":
                    found = curve.trials(system, self.members, indices, batch, stage, name, draws)
                else:
                    found = reinforce.experience(
                        system, self.members, indices, batch, stage, name, alpha, draws
                    )
                loss = self._policy_loss(batch, found, alpha)
                if name != "pt" and stage.lr:
                    loss = loss + reinforce.classifier_loss(
                        system, self.members, batch, found.sampled, name, stage
                    )
            self._backward(loss, len(indices) / len(step))
            if self.replay is not None and isinstance(found, curve.Trials):
                seen.append((rows, found.seen))
            elif stage.reuse > 1:
                tried.append((draws, len(indices), batch, found))
            for key, value in {"loss": float(loss.detach()), **found.figures}.items():
                sums[key] = sums.get(key, 0.0) + value * len(indices)
        self._descend()
        self._seen, self._tried = seen, tried
        return sums

    def _repeat(self, stage: Stage, step: Step) -> None:
        """Further steps of the policy on the batch that was just tried, whose rewards are known.

        They need less memory than the first, which also asked the classifiers.
        """
        alpha = reinforce.alpha_at(stage, step.epoch)
        for _ in range(stage.reuse - 1 if self._tried else 0):
            self._clear()
            for draws, count, batch, found in self._tried:
                self._draw_from(draws)
                with autocast(self.inputs.device, self.precision):
                    loss = self._policy_loss(batch, found, alpha, again=True)
                self._backward(loss, count / len(step))
            self._descend()
        self._tried = []

    def _rehearse(self, replay: Replay, times: int, step: Step) -> None:
        """So many steps of the policy on what judges said of this batch and of those before it."""
        replay.add(self._seen, len(step))
        place = (self.seed, step.number, step.epoch, step.step)
        for numbers, seen in replay.turns(times, place, len(step)):
            self._draw_from(Draws(*place, numbers))
            self._clear()
            self._backward(curve.curve_loss(self.system, seen), len(numbers) / len(step))
            self._descend()

    def _policy_loss(
        self,
        batch: Batch,
        tried: reinforce.Experience | curve.Trials,
        alpha: float,
        *,
        again: bool = False,
    ) -> Tensor:
        if isinstance(tried, curve.Trials):
            return curve.curve_loss(self.system, tried.seen)
        return reinforce.policy_loss(self.system, batch, tried, alpha, again=again)

    def _draw_from(self, draws: Draws) -> None:
        for dropout in self._dropouts:
            dropout.draws = draws

    def _clear(self) -> None:
        assert self.optimiser is not None
        self.optimiser.zero_grad(set_to_none=True)

    def _backward(self, loss: Tensor, share: float) -> None:
        (loss if share == 1 else loss * share).backward()  # type: ignore[no-untyped-call]

    def _descend(self) -> None:
        assert self.optimiser is not None
        self.group.sum_gradients(p for group in self.optimiser.param_groups for p in group["params"])
        self.optimiser.step()

    def _identity(self, number: int) -> str:
        """What a checkpoint in phase `number` depends on: later stages may still be changed."""
        learns = [hashlib.sha256(m.learns.tobytes()).hexdigest() for m in self.members.trained]
        # named only where there is one, so that what was saved without still counts
        start = [] if self.parent is None else [self.parent]
        return json.dumps([self.recipe.digest(self.phases[number].stage), self.seed, learns, *start])

    @cached_property
    def _data(self) -> str:
        return images_sha256(self.inputs.images, self.inputs.labels)

    def _save(self, at: Position) -> None:
        if self.checkpoint is None or not self.group.leads:
            return
        assert self.optimiser is not None
        state = {
            "of": self._identity(at.phase),
            "data": self._data,
            **asdict(at),
            "members": self.members.state(),
            "policy": self.system.policy.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "replay": {} if self.replay is None else self.replay.state(),
            "fusion": self.system.fusion.to_json(),
            "parts": self.memory.parts,
        }
        with replacing(self.checkpoint) as file:
            torch.save(state, file)
        self.watch.saved(self.phases[at.phase], at.epochs)

    def _resume(self) -> Position:
        if self.checkpoint is None or not self.checkpoint.exists():
            return Position()
        state = torch.load(self.checkpoint, map_location=self.inputs.device, weights_only=True)
        number = int(state["phase"])
        # older checkpoints do not say of which images they are
        known = number < len(self.phases) and state.get("data", self._data) == self._data
        if not known or state["of"] != self._identity(number):
            raise ValueError(
                f"{self.checkpoint} is of another recipe, seed, data set or parent; "
                "remove it or train elsewhere"
            )
        self.members.restore(state["members"])
        if self.phases[number].stage in _POLICY_STAGES:
            # until then it is as it was made, and another may stand in its place
            self.system.policy.load_state_dict(state["policy"])
        self.system.fusion = Fusion.from_json(state["fusion"])
        self.memory.restore(state.get("parts", {}))
        self._restored = state
        # older checkpoints were made at the ends of epochs only
        at = Position(**{one.name: state[one.name] for one in fields(Position) if one.name in state})
        done = at.epochs >= self.recipe.stages[self.phases[at.phase].stage].epochs
        return Position(at.phase + 1) if done else at


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]
