"""Where rows are trained and measured: one fold or seed of a data set, at one ds."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from models.precision import autocast
from models.recipe import Recipe
from models.reproduce import classifiers
from models.reproduce.answers import Answers
from models.reproduce.classifiers import Base
from models.reproduce.learner import Learner, Plan
from models.reproduce.protocol import Part
from models.reproduce.study import Study, images_at
from models.stages.inputs import Batch, Indices, Inputs
from models.system import System


class Bench:
    """The paper's two classifiers, trained on `part`, and what a row needs to train and measure more.

    system   f_cl^h and f_cl^l trained on whole images; copy a body before changing it
    recipe   the paper's, at this ds alone
    """

    def __init__(self, study: Study, part: Part, ds: int) -> None:
        self.study, self.part, self.ds = study, part, ds
        paper, ours = study.profile.paper, study.profile.ours
        self.recipe: Recipe = replace(paper, images=images_at(paper.images, ds))
        self.ours_recipe: Recipe = replace(ours, images=images_at(ours.images, ds))

    @cached_property
    def base(self) -> Base:
        return classifiers.base(self._of_ds, self.part.learns, self.part.seed)

    @cached_property
    def _of_ds(self) -> Study:
        """The study itself where its classifiers see this ds; else one like it whose classifiers do."""
        return self.study.at(self.ds)

    @property
    def system(self) -> System:
        return self.base.system

    @cached_property
    def hr(self) -> nn.Module:
        """f_cl^h as `system` has it; where it was given, f_cl^l need not be trained for it."""
        given = classifiers.given_hr(self.study, self.seed)
        return self.system.hr.body if given is None else given

    @property
    def inputs(self) -> Inputs:
        return self.study.inputs(self.recipe)

    @property
    def learns(self) -> Indices:
        return self.part.learns

    @property
    def tests(self) -> Indices:
        return self.part.tests

    @property
    def labels(self) -> Tensor:
        """(n,) of every image of the data set."""
        return self.study.labels

    @property
    def classes(self) -> int:
        return self.study.classes

    @property
    def seed(self) -> int:
        return self.part.seed

    @property
    def device(self) -> torch.device:
        return self.study.device

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """bf16 where it is fast: for training."""
        return autocast(self.device)

    def plan(self, unit: str) -> Plan:
        return self.study.profile.plan(unit)

    def fit(self, name: str, learner: Learner, plan: Plan, keys: tuple[str, ...] = ()) -> str:
        """Train a learner from this bench's classifiers, or load it; returns its hash. Raises SliceOver."""
        made_of = (self.base.key, *keys)
        return classifiers.train_unit(
            self.study, name, learner, plan, self.recipe, self.learns, self.seed, made_of
        )

    def unseen(self, size: int = 32) -> Iterator[tuple[Indices, Batch]]:
        """The held-out images as they are, in the order of `tests`."""
        yield from self.study.unseen(self.recipe, self.tests, self.ds, size)

    @torch.no_grad()
    def logits(self, body: Any, stream: str) -> Tensor:
        """(n, N) fp32 of one stream's body on the held-out whole images: `hr` or `lr`."""
        body.eval()
        return torch.cat([body(getattr(batch, stream)).float().cpu() for _, batch in self.unseen()])

    def whole(self, body: Any) -> Answers:
        """The answers of an HR classifier to whole images: S = P."""
        return Answers(self.logits(body, "hr").softmax(dim=1), torch.ones(len(self.tests), self.patches))

    def without(self, body: Any) -> Answers:
        """The answers of an LR classifier: S = 0."""
        return Answers(self.logits(body, "lr").softmax(dim=1), torch.zeros(len(self.tests), self.patches))

    @property
    def patches(self) -> int:
        return self.recipe.images.grid**2
