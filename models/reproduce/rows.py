"""Every row of the paper's comparison, by name: what is trained for it and what it answers."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from models.baselines import hard, kd, pcn, srgan, stn
from models.baselines.alone import alone
from models.reproduce import bagnets, choosing, classifiers, dropping, timing
from models.reproduce.answers import Answers
from models.reproduce.bench import Bench
from models.reproduce.dropping import STAGES, Chooser
from models.reproduce.ours import COSTS, LIMITS, Ours, ours
from models.reproduce.patchdrop import patchdrop, probabilities, systems
from models.reproduce.study import Study
from models.stages.draws import Draws
from models.system import mean

SIGMAS = (1.0, 5.0, 20.0, 50.0)
"""Of figure 5's right half."""

CURVE = (0, 1, 2, 4, 6, 8, 10, 12, 14, 16)
"""S at which figure 1a is measured."""


@dataclass
class Place:
    """A bench, with what several rows of it need. `s` is PatchDrop's mean S at each stage, where known."""

    bench: Bench
    s: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def ours(self) -> Ours:
        return ours(self.bench)

    @cached_property
    def saliency(self) -> tuple[str, Tensor]:
        """(n, P) of STN's saliency network, of every image of the data set; and what names its training."""
        return stn.saliency(self.bench)

    @property
    def ours_s(self) -> int:
        """The S of ours, rounded up: what rows that are compared with it may take."""
        cost = self.bench.study.profile.ours.training.missed_cost
        return math.ceil(float(self.ours.bought(cost).sum(dim=1).mean()))


Run = Callable[[Place], dict[str, Answers]]
MadeOf = Callable[[Study], tuple[str, str]]


@dataclass(frozen=True)
class Row:
    """`units` are the profile's epochs that the row depends on; `reads`: stages of the paper's recipe whose
    sigma and alpha it takes; `needs_s`: PatchDrop goes before it; `blind`: it reads no LR image;
    `views`: it answers over the views of ours; `added`: stages that came later, and that rows which were
    finished before stand without.

    `made_of`: two rows whose records it joins, in place of a `run`: the first's, with the second's answer
    where all patches were taken.
    """

    title: str
    run: Run | None
    units: tuple[str, ...] = ("hr", "lr")
    stages: tuple[str, ...] = ("",)
    needs_s: bool = False
    reads: tuple[str, ...] = ()
    blind: bool = False
    views: bool = False
    added: tuple[str, ...] = ()
    made_of: MadeOf | None = None

    @property
    def finished(self) -> tuple[str, ...]:
        """The stages that a finished row has."""
        return tuple(stage for stage in self.stages if stage not in self.added)


def _alone(answer: Callable[[Place], Answers]) -> Run:
    return lambda place: {"": answer(place)}


def _hr(place: Place) -> Answers:
    return place.bench.whole(place.bench.hr)


def _lr(place: Place) -> Answers:
    assert place.bench.system.lr is not None
    return place.bench.without(place.bench.system.lr.body)


def _longer(place: Place) -> Answers:
    return place.bench.whole(_long(place.bench))


@torch.enable_grad()
def _long(bench: Bench) -> nn.Module:
    """HR-CNN on the terms of the mask-trained classifier."""
    study = bench.study.at(bench.ds)
    return classifiers.long_trained(study, bench.learns, bench.seed, masks=False)[1]


def _views(place: Place) -> Answers:
    return _over_views(place.bench, _long(place.bench))


def _own_views(place: Place) -> Answers:
    return _over_views(place.bench, place.bench.hr)


@torch.no_grad()
def _over_views(bench: Bench, body: nn.Module) -> Answers:
    """HR-CNN asked as ours asks its HR stream: the mean over views."""
    said = []
    for _, batch in bench.study.unseen(bench.ours_recipe, bench.tests, bench.ds):
        views = (batch.hr, *(view.hr for view in batch.views))
        said.append(mean([body(features).float().softmax(dim=1) for features in views]).cpu())
    return Answers(torch.cat(said), torch.ones(len(bench.tests), bench.patches))


def _dropping(name: str, chooser_at: Callable[[Place], Callable[[int], Chooser]]) -> Run:
    return lambda place: dropping.finetuned(place.bench, name, chooser_at(place), place.s)


def _ours(place: Place) -> dict[str, Answers]:
    chosen = place.bench.study.profile.ours.training.missed_cost
    found = {"": place.ours.at(chosen)}
    place.figures |= place.ours.calibrated(found[""])
    place.figures["gain"] = place.ours.gain_by_budget()
    return found | {f"cost {cost:g}": place.ours.at(cost) for cost in COSTS}


def _whole_by(study: Study) -> tuple[str, str]:
    """Ours, and HR-CNN over its views: what answers for whole images."""
    return "ours", "hr-cnn-views" if classifiers.longer_without_masks(study) else "hr-cnn-own-views"


def _limited(place: Place) -> dict[str, Answers]:
    """The same network at the price that keeps the mean S; the prices found stand with the first."""
    found = {limit: place.ours.within(limit) for limit in LIMITS}
    place.figures["prices"] = {limited(limit): round(price, 2) for limit, (price, _) in found.items()}
    return {limited(limit): answers for limit, (_, answers) in found.items()}


def limited(limit: float) -> str:
    """The stage of ours whose mean S is no more than that."""
    return f"S {limit:g}"


def _limited_whole_by(study: Study) -> tuple[str, str]:
    return "ours-limited", _whole_by(study)[1]


def _one_look(place: Place) -> Answers:
    """The same network and price, all patches ordered at once."""
    cost = place.bench.study.profile.ours.training.missed_cost
    return place.ours.answers(place.ours.bought(cost, looks=1))


def _rival(rule: str) -> Run:
    return _alone(lambda place: place.ours.by_rule(rule, place.ours_s))


def _by_saliency(place: Place) -> Answers:
    scores = place.saliency[1][torch.from_numpy(place.bench.tests)]
    return place.ours.by_scores(scores, place.ours_s)


def _by_patchdrop(place: Place) -> Answers:
    """What PatchDrop's policy wants most: all that it chooses by, with another classifier and fill."""
    policy = systems(place.bench)["ft2"]
    return place.ours.by_scores(probabilities(place.bench, policy), place.ours_s)


def _sigmas(place: Place) -> dict[str, Answers]:
    found = {}
    for sigma in SIGMAS:
        for stage, told in patchdrop(place.bench, sigma).items():
            found[f"{stage} sigma {sigma:g}"] = told
    return {stage: told for stage, told in found.items() if not stage.startswith("pt")}


def _dropped(place: Place) -> dict[str, Answers]:
    """Figure 1a: the classifier that was trained on whole images, and the mask-trained one with LR fill."""
    bench, found = place.bench, {}
    plain = copy.deepcopy(bench.system.hr.body)
    for s in CURVE:
        draws = Draws(bench.seed, 2, s, 0, bench.tests)
        random = choosing.uniform(s, draws, len(bench.tests))
        central = choosing.first(choosing.FIXED_H, s, len(bench.tests))
        found[f"random {s}"] = dropping.answers(bench, plain, "pt", random)
        found[f"fixed-h {s}"] = dropping.answers(bench, plain, "pt", central)
        found[f"masked {s}"] = place.ours.answers(random)
    return found


def _bagnet(place: Place) -> dict[str, Answers]:
    answers, times = bagnets.bagnet_rows(place.bench)
    with timing.one_thread():
        place.figures |= {"more": times, "timed_on": timing.hardware(bagnets.CPU)}
    return answers


_FT = ("hr", "lr", "pt", "ft1", "ft2")
_OURS = ("hr", "lr", "masked", "ours")
_COST_STAGES = ("", *(f"cost {cost:g}" for cost in COSTS))
_LIMITED = tuple(limited(limit) for limit in LIMITS)
_ADDED = ("cost 60", "cost 180", "cost 600")
_SIGMA_STAGES = tuple(f"{stage} sigma {sigma:g}" for sigma in SIGMAS for stage in ("ft1", "ft2"))
_CURVE_STAGES = tuple(f"{how} {s}" for s in CURVE for how in ("random", "fixed-h", "masked"))

_drops = partial(Row, units=_FT, stages=STAGES, needs_s=True)

ROWS: dict[str, Row] = {
    "patchdrop": Row("PatchDrop", lambda place: patchdrop(place.bench), _FT, STAGES),
    "lr-cnn": Row("LR-CNN", _alone(_lr)),
    "srgan": Row("SRGAN", _alone(lambda p: srgan.srgan(p.bench)), ("hr", "lr", "srgan")),
    "lr-cnn-alone": Row(
        "LR-CNN, of this ds alone, as long as KD", _alone(lambda p: alone(p.bench)), ("hr", "lr", "kd")
    ),
    "kd": Row("KD", _alone(lambda p: kd.kd(p.bench)), ("hr", "lr", "kd")),
    "pcn": Row("PCN", _alone(lambda p: pcn.pcn(p.bench)), ("hr", "lr", "pcn")),
    "hr-cnn": Row("HR-CNN", _alone(_hr), blind=True),
    "hr-cnn-longer": Row(
        "HR-CNN, as long and from the same start as ours", _alone(_longer), ("masked",), blind=True
    ),
    "hr-cnn-own-views": Row("HR-CNN, over the views of ours", _alone(_own_views), blind=True, views=True),
    "hr-cnn-views": Row(
        "HR-CNN, as long, over the views of ours", _alone(_views), ("masked",), blind=True, views=True
    ),
    "fixed-h": _drops("Fixed-H", _dropping("fixed-h", lambda _: dropping.fixed(choosing.FIXED_H))),
    "fixed-v": _drops("Fixed-V", _dropping("fixed-v", lambda _: dropping.fixed(choosing.FIXED_V))),
    "stochastic": _drops("Stochastic", _dropping("stochastic", lambda _: dropping.stochastic)),
    "random": _drops("Random", _dropping("random", lambda _: dropping.uniform)),
    "stn": Row(
        "STN",
        lambda place: dropping.finetuned(
            place.bench, "stn", dropping.by_score(place.saliency[1]), place.s, place.saliency[0]
        ),
        (*_FT, "stn"),
        STAGES,
        needs_s=True,
    ),
    "ours": Row("Ours", _ours, _OURS, _COST_STAGES, added=_ADDED),
    "ours-whole": Row(
        "Ours, whole images by HR-CNN's weights", None, _OURS, _COST_STAGES, added=_ADDED, made_of=_whole_by
    ),
    "ours-limited": Row("Ours, at the price that keeps S", _limited, _OURS, _LIMITED),
    "ours-limited-whole": Row(
        "Ours, at the price that keeps S, whole images by HR-CNN's weights",
        None,
        _OURS,
        _LIMITED,
        made_of=_limited_whole_by,
    ),
    "ours-one-look": Row("Ours, at one look", _alone(_one_look), _OURS),
    "ours-s0": Row("Always S = 0 (ours)", _alone(lambda p: p.ours.nothing()), _OURS),
    "ours-s16": Row("Always S = P (ours)", _alone(lambda p: p.ours.everything()), _OURS),
    "averaged-views": Row(
        "HR-CNN, as long, over the views of ours, averaged with LR",
        _alone(lambda p: p.ours.averaged(_views(p))),
        _OURS,
    ),
    "ours-order": Row("Same S for all, in the order of ours", _rival("order"), _OURS),
    "ours-random": Row("Random, classifier and fill of ours", _rival("random"), _OURS),
    "ours-fixed-h": Row("Fixed-H, classifier and fill of ours", _rival("fixed-h"), _OURS),
    "ours-fixed-v": Row("Fixed-V, classifier and fill of ours", _rival("fixed-v"), _OURS),
    "ours-stochastic": Row("Stochastic, classifier and fill of ours", _rival("stochastic"), _OURS),
    "ours-stn": Row("STN, classifier and fill of ours", _alone(_by_saliency), (*_OURS, "stn")),
    "ours-patchdrop": Row(
        "PatchDrop's policy at Ft-2, classifier and fill of ours",
        _alone(_by_patchdrop),
        (*_OURS, "pt", "ft1", "ft2"),
    ),
    "bagnet": Row(
        "Table 3",
        _bagnet,
        ("hr", "lr", "bagnet", "bagnet-glance", "bagnet-pt", "bagnet-ft1", "stn"),
        bagnets.SETTINGS,
        reads=("pt", "ft1"),
    ),
    "hard": Row("Table 4", lambda p: hard.hard_rows(p.bench), ("hr", "lr", "pt", "ft1", "hard"), hard.WAYS),
    "sigma": Row("PatchDrop by sigma", _sigmas, _FT, _SIGMA_STAGES),
    "dropped": Row("Dropped patches", _dropped, _OURS, _CURVE_STAGES),
}
