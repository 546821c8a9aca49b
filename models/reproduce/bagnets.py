"""Table 3: BagNet, the conditional BagNet and the rows that drop patches unseen: accuracy, S and run-time.

What drops patches gets the conditional BagNet's S of the stage, rounded up, and its own BagNet, which is
fine-tuned for as long. Run-times are of the whole way from pixels to classes, saliency network or policy
included, all rows in one process on the same images, every network with its norms folded, on one thread of a
processor (the paper's are a processor's too), wherever the rows were trained.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor, nn

from models.baselines import bagnet, stn
from models.baselines.bagnet import ConditionalBagNet
from models.baselines.stn import Zoom, per_patch
from models.networks.bagnet import BagNet
from models.networks.folding import folded
from models.reproduce import choosing, timing
from models.reproduce.answers import Answers
from models.reproduce.bench import Bench
from models.reproduce.dropping import Chooser, by_score, fixed, stochastic
from models.stages.draws import Draws
from models.stages.inputs import Batch, Indices

STAGES = ("pt", "ft1")
BAGNET, LONGER, CNN = "bagnet", "bagnet, trained as long", "cnn"
CONDITIONAL = {"conditional": False, "conditional, policy's evidence": True}
"""The conditional BagNets: does the policy add what it has seen itself?"""
GLANCE_SIGMA = 3.0
"""Sigma at Pt of a policy that adds its own evidence: with the recipe's it leaves less than Ft-1 can add to
(docs/lab-notes.md).
"""
RULES = ("fixed-h", "fixed-v", "stochastic", "stn")
SETTINGS = (BAGNET, LONGER, CNN, *(f"{name} {stage}" for name in (*RULES, *CONDITIONAL) for stage in STAGES))
"""All rows, in the order of table 3. The paper lacks a BagNet that learns for Ft-1's epochs more, and the
policy's evidence.
"""
BATCHES = (64, 1)
AT = ("ms", "ms at batch 1")
_IMAGES = 64
CPU = torch.device("cpu")

Pipeline = Callable[[Tensor, Tensor], object]
"""From x_l and x_h, normalised, to the classes."""


class Given(bagnet.Whole):
    """The BagNet fine-tuned on the patches that a rule takes."""

    def __init__(self, bench: Bench, bag: BagNet, rate: float, chooser: Chooser) -> None:
        super().__init__(bench, bag, rate)
        self._chooser = chooser

    def actions(self, indices: Indices, batch: Batch, draws: Draws) -> Tensor:
        return self._chooser(indices, draws).to(batch.hr.device)


@dataclass
class BagNets:
    """All rows of one part. Everything is trained when it is first asked for. Raises SliceOver."""

    bench: Bench
    sigma: float | None = None

    @cached_property
    def _whole(self) -> tuple[str, BagNet]:
        return bagnet.whole(self.bench)

    @cached_property
    def _conditional(self) -> dict[str, dict[str, ConditionalBagNet]]:
        key, bag = self._whole
        found: dict[str, dict[str, ConditionalBagNet]] = {}
        for name, glance in CONDITIONAL.items():
            pt = bagnet.conditional(self.bench, copy.deepcopy(bag), glance=glance)
            seen = bagnet.glanced(self.bench, key, pt) if glance else key
            after = bagnet.chosen(self.bench, seen, pt, "pt", GLANCE_SIGMA if glance else None)
            ft1 = copy.deepcopy(pt)
            bagnet.chosen(self.bench, after, ft1, "ft1", self.sigma)
            found[name] = {"pt": pt, "ft1": ft1}
        return found

    @cached_property
    def conditional(self) -> dict[str, dict[str, Answers]]:
        """{row: {stage: Answers}} of the conditional BagNets."""
        return {
            name: {stage: bagnet.answers(self.bench, network) for stage, network in networks.items()}
            for name, networks in self._conditional.items()
        }

    @cached_property
    def _s(self) -> dict[str, int]:
        """S that the dropping rows get at each stage: the paper's row's, rounded up."""
        first = self.conditional[next(iter(CONDITIONAL))]
        return {stage: math.ceil(round(float(a.actions.sum(dim=1).mean()), 6)) for stage, a in first.items()}

    @cached_property
    def _zoom(self) -> tuple[str, Zoom]:
        return stn.trained(self.bench)

    @cached_property
    def _rules(self) -> dict[str, Callable[[int], Chooser]]:
        saliency = by_score(stn.scores(self.bench, self._zoom[1]))
        rules = (fixed(choosing.FIXED_H), fixed(choosing.FIXED_V), stochastic, saliency)
        return dict(zip(RULES, rules, strict=True))

    def _given(self, name: str, s: int, chooser: Chooser) -> BagNet:
        """The BagNet fine-tuned for Ft-1's epochs on what a rule takes."""
        key, bag = self._whole
        plan, own = self.bench.plan("bagnet-ft1"), copy.deepcopy(bag)
        learner = Given(self.bench, own, plan.lr, chooser)
        read = (self._zoom[0],) if name == "stn" else ()
        self.bench.fit(f"bagnet-{name}", learner, plan, (key, name, str(s), *read))
        return own

    @cached_property
    def _dropping(self) -> dict[str, BagNet]:
        s = self._s["ft1"]
        return {name: self._given(name, s, rule(s)) for name, rule in self._rules.items()}

    @cached_property
    def _longer(self) -> BagNet:
        patches = self.bench.patches
        return self._given("longer", patches, lambda indices, _: torch.ones(len(indices), patches))

    def answers(self) -> dict[str, Answers]:
        """{setting: Answers} for all of SETTINGS."""
        bench, (_, bag) = self.bench, self._whole
        everything = torch.ones(len(bench.tests), bench.patches)
        found = {
            BAGNET: bagnet.answers_with(bench, bag, everything),
            LONGER: bagnet.answers_with(bench, self._longer, everything),
            CNN: bench.whole(bench.system.hr.body),
        }
        for name, own in self._dropping.items():
            for stage, body in zip(STAGES, (bag, own), strict=True):
                draws = Draws(bench.seed, 0, 0, 0, bench.tests)
                actions = self._rules[name](self._s[stage])(bench.tests, draws)
                found[f"{name} {stage}"] = bagnet.answers_with(bench, body, actions)
        for name, told in self.conditional.items():
            found |= {f"{name} {stage}": answers for stage, answers in told.items()}
        return found

    def pipelines(self) -> dict[str, Pipeline]:
        """Each row after Ft-1 from pixels to classes, for inference on a processor."""
        s, saliency = self._s["ft1"], _quick(self._zoom[1].saliency)
        bag, cnn = _quick(self._whole[1]), _quick(self.bench.system.hr.body)
        found: dict[str, Pipeline] = {BAGNET: lambda _, hr: bag(hr), CNN: lambda _, hr: cnn(hr)}
        for name, own in self._dropping.items():
            found[name] = _dropping(_quick(own), self._rules[name](s))
        looking, grid = _quick(self._dropping["stn"]), self.bench.recipe.images.grid
        found["stn"] = lambda lr, hr: looking(hr, choosing.top(per_patch(saliency(lr), grid), s))
        for name, networks in self._conditional.items():
            found[name] = _quick(networks["ft1"])
        return found

    def run_times(self, repeats: int = 9) -> dict[str, dict[str, float]]:
        """{setting: {"ms": at batch 64, "ms at batch 1": ...}}, of an image, medians, after Ft-1.

        All on the same 64 unseen images, in turn.
        """
        with timing.one_thread():
            return self._run_times(repeats)

    def _run_times(self, repeats: int) -> dict[str, dict[str, float]]:
        indices, batch = next(iter(self.bench.unseen(min(_IMAGES, len(self.bench.tests)))))
        assert batch.policy is not None
        lr, hr = (x.cpu().contiguous(memory_format=torch.channels_last) for x in (batch.policy, batch.hr))
        pipelines, found = self.pipelines(), dict[str, dict[str, float]]()
        for size, at in zip(BATCHES, AT, strict=True):
            calls = {name: _over(pipeline, lr, hr, size) for name, pipeline in pipelines.items()}
            for name, taken in timing.seconds(calls, CPU, repeats).items():
                setting = name if name in (BAGNET, CNN) else f"{name} ft1"
                found.setdefault(setting, {})[at] = round(1e3 * taken / len(indices), 4)
        return found


def _quick(network: nn.Module) -> nn.Module:
    return cast("nn.Module", folded(network).to(CPU).to(memory_format=torch.channels_last))  # type: ignore[call-overload]


def _dropping(bag: nn.Module, chooser: Chooser) -> Pipeline:
    def classes(_: Tensor, hr: Tensor) -> object:
        indices = torch.arange(len(hr)).numpy()
        return bag(hr, chooser(indices, Draws(0, 0, 0, 0, indices)))

    return classes


def _over(pipeline: Pipeline, lr: Tensor, hr: Tensor, size: int) -> timing.Call:
    """All images in batches of `size`."""
    parts = list(zip(torch.split(lr, size), torch.split(hr, size), strict=True))

    @torch.inference_mode()
    def call() -> None:
        for part in parts:
            pipeline(*part)

    return call


def bagnet_rows(bench: Bench) -> tuple[dict[str, Answers], dict[str, dict[str, float]]]:
    """{setting: Answers} and {setting: run-times} of table 3. Raises SliceOver."""
    rows = BagNets(bench)
    return rows.answers(), rows.run_times(1 if bench.study.profile.name == "smoke" else 9)
