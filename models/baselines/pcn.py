"""Partially coupled networks: an HR and an LR stream share some filters of every layer and keep the others.

Wang et al. 2016 ("Studying very low resolution recognition using deep networks"), model III: coupled filters
carry over what both resolutions have in common, the streams' own take up where they differ. Both are trained
together, HR images on one, LR images on the other; the LR stream answers.

The source has small plain networks of its own; for a residual network or EfficientNet-Lite0 this takes:
- coupled are the first half of the filters of every convolution, and the same channels' batch norm scale and
  shift; running statistics are each stream's own. The class layer is coupled as a whole: half of its rows
  would be half of the classes. What nobody trains (frozen kernels) is the same in both anyway.
- Both streams start from the HR classifier, which is what section 5.1 does for the LR classifier; it stands
  for the source's unsupervised pre-training by super-resolution.
- The two cross-entropies count the same.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.optim import Optimizer

from models.baselines.common import descend, optimiser, student
from models.reproduce.answers import Answers
from models.reproduce.bench import Bench
from models.reproduce.learner import Learner
from models.stages.draws import Draws, draw_from
from models.stages.inputs import Batch, Indices

SHARE = 0.5


class Coupled(nn.Module):
    """A parameter whose first filters are one with another network's: own (n - k, ...) -> (n, ...)."""

    def __init__(self, shared: nn.Parameter) -> None:
        super().__init__()
        self.shared = shared

    def forward(self, own: Tensor) -> Tensor:
        return torch.cat([self.shared, own])

    def right_inverse(self, whole: Tensor) -> Tensor:
        return whole[len(self.shared) :].clone()


def couple(high: nn.Module, low: nn.Module, share: float = SHARE) -> None:
    """Make two equal networks share that much of every layer's trained filters, from now on.

    Raises ValueError for a share outside [0, 1] or networks that are not built alike.
    """
    if not 0 <= share <= 1:
        raise ValueError("the share of coupled filters lies in [0, 1]")
    shapes = [[p.shape for p in network.parameters()] for network in (high, low)]
    if shapes[0] != shapes[1]:
        raise ValueError("only networks that are built alike can be coupled")
    for one, other in list(zip(high.modules(), low.modules(), strict=True)):
        whole = isinstance(one, nn.Linear)
        for name, parameter in list(one.named_parameters(recurse=False)):
            if not parameter.requires_grad:
                continue
            kept = len(parameter) if whole else round(share * len(parameter))
            shared = nn.Parameter(parameter.detach()[:kept].clone())
            for module in (one, other):
                parametrize.register_parametrization(module, name, Coupled(shared))


class PartiallyCoupled(Learner):
    """Both streams; what they share gets the gradients of both."""

    def __init__(self, bench: Bench, rate: float, share: float = SHARE) -> None:
        self.bench = bench
        self.low = student(bench)
        self.high = copy.deepcopy(self.low)
        couple(self.high, self.low, share)
        self.streams = nn.ModuleDict({"high": self.high, "low": self.low})
        self._optimiser = optimiser(bench, (self.streams.parameters(), rate))  # names what is shared once

    def modules(self) -> dict[str, nn.Module]:
        return {"streams": self.streams}

    def optimisers(self) -> dict[str, Optimizer]:
        return {"streams": self._optimiser}

    def step(self, indices: Indices, batch: Batch, draws: Draws) -> dict[str, float]:
        del indices
        self.streams.train()
        draw_from(draws, self.streams)
        with self.bench.autocast():
            said = [cast("Tensor", self.high(batch.hr)), cast("Tensor", self.low(batch.lr))]
        hr, lr = (functional.cross_entropy(logits.float(), batch.labels) for logits in said)
        descend(self._optimiser, hr + lr)
        right = (said[1].argmax(dim=1) == batch.labels).float().mean()
        return {"loss": float(lr.detach()), "hr loss": float(hr.detach()), "accuracy": float(right)}


def pcn(bench: Bench) -> Answers:
    """The LR stream's answers on the unseen images, S = 0."""
    plan = bench.plan("pcn")
    learner = PartiallyCoupled(bench, plan.lr)
    bench.fit("pcn", learner, plan)
    return bench.without(learner.low)
