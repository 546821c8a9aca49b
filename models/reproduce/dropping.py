"""Rows that drop patches by a rule, their classifier fine-tuned as PatchDrop's (section 5.2)."""

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from models.patchdrop import masked
from models.reproduce import choosing
from models.reproduce.answers import Answers
from models.reproduce.bench import Bench
from models.reproduce.classifiers import optimiser_of, trainable
from models.reproduce.learner import Learner, Plan
from models.stages.draws import Draws, draw_from
from models.stages.inputs import Batch, Indices
from models.system import log_mean

Chooser = Callable[[Indices, Draws], Tensor]
"""The patches (B, P) of the images (B,)."""

STAGES = ("pt", "ft1", "ft2")


class Finetuned(Learner):
    """f_cl^h on masked images by cross-entropy: alone (ft1) or in Eq. 7 with a fixed f_cl^l (ft2)."""

    def __init__(self, bench: Bench, body: nn.Module, stage: str, chooser: Chooser) -> None:
        self.body, self._bench, self._stage, self._chooser = body, bench, stage, chooser
        self._optimiser = optimiser_of(bench.recipe, [{"params": trainable(body)}])

    def modules(self) -> dict[str, nn.Module]:
        return {"hr": self.body}

    def optimisers(self) -> dict[str, Optimizer]:
        return {"adam": self._optimiser}

    def step(self, indices: Indices, batch: Batch, draws: Draws) -> dict[str, float]:
        self.body.train()
        draw_from(draws, self.body)
        actions = self._chooser(indices, draws).to(batch.hr.device)
        with self._bench.autocast():
            logits = self.body(masked(batch.hr, batch.fill, actions, self._bench.recipe.images.grid)).float()
            probabilities = logits.softmax(dim=1)
            if self._stage == "ft2":
                probabilities = fused(self._bench, probabilities, batch, actions)
            loss = functional.nll_loss(probabilities.clamp_min(1e-8).log(), batch.labels)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        right = (probabilities.detach().argmax(dim=1) == batch.labels).float().mean()
        return {"loss": float(loss.detach()), "accuracy": float(right)}


def fused(bench: Bench, hr: Tensor, batch: Batch, actions: Tensor) -> Tensor:
    """Eq. 7 with the bench's own LR stream."""
    lr = bench.system.lr
    assert lr is not None
    lr.body.eval()
    with torch.no_grad():
        answer = log_mean([lr.body(features) for features in batch.answering]).exp()
    return bench.system.fusion.fuse(hr, answer, actions)


@torch.no_grad()
def answers(bench: Bench, body: nn.Module, stage: str, actions: Tensor) -> Answers:
    """What is said of the held-out images with the patches `actions` (n, P): of HR alone, or in ft2 fused."""
    body.eval()
    said = []
    start = 0
    for indices, batch in bench.unseen():
        taken = actions[start : start + len(indices)].to(batch.hr.device)
        seen = masked(batch.hr, batch.fill, taken, bench.recipe.images.grid)
        probabilities = body(seen).float().softmax(dim=1)
        said.append(fused(bench, probabilities, batch, taken) if stage == "ft2" else probabilities)
        start += len(indices)
    return Answers(torch.cat(said).cpu(), actions.cpu())


def finetuned(
    bench: Bench, name: str, chooser_at: Callable[[int], Chooser], s: dict[str, float], made_of: str = ""
) -> dict[str, Answers]:
    """A rule at PatchDrop's S of each stage, rounded up: {stage: Answers}. Raises SliceOver.

    `made_of` names the training of what the rule reads, where there is one.
    """
    body = copy.deepcopy(bench.system.hr.body)
    found, key = {}, made_of
    for stage in STAGES:
        count = math.ceil(round(s[stage], 6))
        chooser = chooser_at(count)
        if stage != "pt":
            of = bench.recipe.stages[stage]
            plan = Plan(of.epochs, of.batch, of.lr, of.schedule)
            learner = Finetuned(bench, body, stage, chooser)
            key = bench.fit(f"{name}-{stage}", learner, plan, (name, str(count), key))
        draws = Draws(bench.seed, 0, 0, 0, bench.tests)
        found[stage] = answers(bench, body, stage, chooser(bench.tests, draws))
    return found


def fixed(order: tuple[int, ...]) -> Callable[[int], Chooser]:
    return lambda s: lambda indices, _: choosing.first(order, s, len(indices))


def stochastic(s: int) -> Chooser:
    return lambda indices, draws: choosing.stochastic(s, draws, len(indices))


def uniform(s: int) -> Chooser:
    return lambda indices, draws: choosing.uniform(s, draws, len(indices))


def by_score(scores: Tensor) -> Callable[[int], Chooser]:
    """`scores` (n, P) of every image of the data set."""
    return lambda s: lambda indices, _: choosing.top(scores[torch.from_numpy(np.asarray(indices))], s)
