"""The rows that are to beat PatchDrop: LR fill, a mask-trained classifier, a policy that reads answers."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from models import gain
from models.calibration import calibration
from models.networks.folding import folded
from models.patchdrop import Fusion, most_likely
from models.remembered import Remembered
from models.reproduce import choosing, classifiers
from models.reproduce.answers import Answers
from models.reproduce.bench import Bench
from models.stages.draws import Draws
from models.stages.inputs import Batch, Indices
from models.system import System, log_mean, packed

COSTS = (10.0, 30.0, 60.0, 100.0, 180.0, 350.0, 600.0, 1000.0, 3000.0)
"""What a missed answer costs, in patches: one network, and a user moves along the curve with this number."""

LIMITS = (2, 4, 6)
"""Mean S that a price is looked for which keeps it: what figures of the headline allow."""
_FINER = 1.05 ** torch.arange(118, dtype=torch.float64)
_PRICES = (COSTS[0] * _FINER).tolist()  # from the cheapest of COSTS to the dearest, by a twentieth


def ours(bench: Bench) -> "Ours":
    """Train it: at all the classifiers' ds at once. Raises SliceOver."""
    study = bench.study.at(bench.ds)
    start, recipe = bench.base, study.profile.ours
    key, body = classifiers.long_trained(study, bench.learns, bench.seed, masks=True)
    judged = classifiers.judged(study, bench.part)
    system = study.system(recipe, bench.seed)
    assert system.lr is not None
    assert start.system.lr is not None
    system.hr.body.load_state_dict(body.state_dict())
    system.lr.body.load_state_dict(start.system.lr.body.state_dict())
    made_of = [start.key, key, judged.key]
    if system.whole is not None:
        whole_key, whole = classifiers.whole_trained(study, bench.learns, bench.seed)
        system.whole.load_state_dict(whole.state_dict())
        made_of.append(whole_key)
    named = study.key("ours", recipe.digest(), bench.seed, judged.learns.tolist(), made_of)
    place = classifiers.unit_place(study, "ours", named)
    classifiers.run_trainer(study, recipe, system, judged.learns, bench.seed, place, ("ft2",), judged.by)
    return Ours(bench, system)


@dataclass
class Ours:
    """One part's trained system, measured at the bench's ds."""

    bench: Bench
    system: System
    _known: Remembered = field(default_factory=Remembered)

    @cached_property
    def _quick(self) -> System:
        """The system for asking only: twice as fast on a CPU, and the same to rounding."""
        return packed(cast("System", folded(self.system)), self.bench.device)

    def _batches(self) -> Iterator[tuple[Indices, Batch]]:
        """The held-out images, in their order; the study remembers them where they are not too many."""
        return self.bench.study.unseen(self.bench.ours_recipe, self.bench.tests, self.bench.ds)

    @cached_property
    @torch.no_grad()
    def _without(self) -> tuple[Tensor, Tensor]:
        """Both streams' class probabilities (n, N) without HR: of LR, and of HR on the fill alone."""
        lr = torch.cat([self._lr(batch).exp() for _, batch in self._batches()])
        none = torch.zeros(len(self.bench.tests), self.bench.patches)
        return lr, self._hr_answers(none).to(lr.device)

    def _asked(self, batch: Batch, actions: Tensor) -> Tensor:
        """The HR stream's probabilities (B, N) with these patches."""
        return self._quick.hr_answer(batch.seen(actions, self.bench.recipe.images.grid), actions)

    def _lr(self, batch: Batch) -> Tensor:
        assert self.system.lr is not None
        return log_mean([self.system.lr.body(features) for features in batch.answering])

    @cached_property
    @torch.no_grad()
    def chances(self) -> Tensor:
        """(n, P + 1) of a right answer with the first k patches."""
        return self.system.chances_from(*self._without).cpu()

    @torch.no_grad()
    def bought(self, missed_cost: float, looks: int | None = None) -> Tensor:
        """The patches (n, P) that pay where a missed answer costs that much, in as many `looks` as the
        system's or fewer.
        """
        system = self.system
        if (looks or system.architecture.looks) == 1:
            return most_likely(gain.purchase_probabilities(self.chances, system.ranks, missed_cost))
        first = most_likely(
            gain.purchase_probabilities(self.chances, system.ranks, missed_cost * gain.MENDED)
        )
        number = first.sum(dim=1).long()
        lr = self._without[0]
        again = system.chances_from(lr, self._hr_answers(first).to(lr.device), number.to(lr.device)).cpu()
        return most_likely(gain.purchase_probabilities(again, system.ranks, missed_cost, number))

    @torch.no_grad()
    def answers(self, actions: Tensor, fusion: Fusion | None = None) -> Answers:
        """What both streams say with these patches, by the system's own fusion or another."""
        lr = self._without[0]
        taken = actions.to(lr.device)
        said = (fusion or self.system.fusion).fuse(self._hr_answers(actions).to(lr.device), lr, taken)
        return Answers(said.cpu(), actions.cpu())

    def _hr_answers(self, actions: Tensor) -> Tensor:
        """The HR stream's probabilities (n, N) of all held-out images with the patches (n, P)."""
        return self._known(actions, self._ask)

    def _ask(self, rows: list[int], actions: Tensor) -> Tensor:
        """The same (k, N) of the held-out images `rows`, in ascending order, with the patches (k, P)."""
        said, start, done = [], 0, 0
        for indices, batch in self._batches():
            here = [row - start for row in rows[done:] if row < start + len(indices)]
            if here:
                masks = actions[done : done + len(here)].to(batch.hr.device)
                said.append(self._asked(_rows(batch, here), masks).cpu())
            start, done = start + len(indices), done + len(here)
        return torch.cat(said)

    def at(self, missed_cost: float) -> Answers:
        return self.answers(self.bought(missed_cost))

    def within(self, s: float) -> tuple[float, Answers]:
        """The dearest price, to a twentieth, at which the mean S is no more than `s`; and the answers there.

        Found by S alone, which needs no label. 0, and nothing is bought, where the cheapest price buys more.
        """
        low, high = -1, len(_PRICES)
        while high - low > 1:
            middle = (low + high) // 2
            if float(self.bought(_PRICES[middle]).sum(dim=1).mean()) <= s:
                low = middle
            else:
                high = middle
        return (0.0, self.nothing()) if low < 0 else (_PRICES[low], self.at(_PRICES[low]))

    def nothing(self) -> Answers:
        return self.answers(torch.zeros(len(self.bench.tests), self.bench.patches))

    def everything(self) -> Answers:
        return self.answers(torch.ones(len(self.bench.tests), self.bench.patches))

    def averaged(self, whole: Answers) -> Answers:
        """The honest rival: the plain mean of what HR-CNN says of all HR and what ours' LR stream says."""
        lr = self._without[0].cpu()
        return Answers((whole.probabilities + lr) / 2, whole.actions)

    def by_scores(self, scores: Tensor, s: int) -> Answers:
        """The S patches of the highest `scores` (n, P) of the held-out images, with the same classifiers and
        the same fill.
        """
        return self.answers(choosing.top(scores, s))

    def by_rule(self, rule: str, s: int) -> Answers:
        """S patches by a rule, with the same classifiers and the same fill."""
        count, tests = len(self.bench.tests), self.bench.tests
        draws = Draws(self.bench.seed, 1, 0, 0, tests)
        chosen = {
            "fixed-h": lambda: choosing.first(choosing.FIXED_H, s, count),
            "fixed-v": lambda: choosing.first(choosing.FIXED_V, s, count),
            "stochastic": lambda: choosing.stochastic(s, draws, count),
            "random": lambda: choosing.uniform(s, draws, count),
            "order": lambda: (self.system.ranks < s).float().expand(count, -1),
        }
        return self.answers(chosen[rule]())

    def calibrated(self, told: Answers) -> dict[str, Any]:
        """ECE of the fused answer with the same patches: by Eq. 7 (before), and as fitted (after)."""
        labels = self.bench.labels[torch.from_numpy(self.bench.tests)]
        before = self.answers(told.actions, Fusion())
        return {"ece": _ece(told.probabilities, labels), "ece_eq7": _ece(before.probabilities, labels)}

    def gain_by_budget(self) -> list[dict[str, float]]:
        """Predicted and realised accuracy at every tenth of the budget of all patches.

        Patches go where the chance rises most for the next one, as a budget is spent.
        """
        ranks = self.system.ranks
        steps = gain.slopes(self.chances).clamp_min(0)
        count, patches = steps.shape
        order = steps.flatten().argsort(descending=True, stable=True)
        labels = self.bench.labels[torch.from_numpy(self.bench.tests)].numpy()
        found = []
        for tenth in range(11):
            taken = torch.zeros(count * patches)
            taken[order[: round(count * patches * tenth / 10)]] = 1.0
            number = taken.view(count, patches).sum(dim=1).long()
            predicted = float(self.chances.gather(1, number[:, None]).mean())
            told = self.answers((ranks < number[:, None]).float())
            realised = float(np.mean(told.probabilities.argmax(dim=1).numpy() == labels))
            found.append({"share": tenth / 10, "predicted": predicted, "realised": realised})
        return found


def _rows(batch: Batch, rows: list[int]) -> Batch:
    """Some images of a batch, of what the HR stream reads."""
    assert batch.fill is not None
    views = tuple(view.rows(rows) for view in batch.views)
    return replace(batch, hr=batch.hr[rows], fill=batch.fill[rows], views=views)


def _ece(probabilities: Tensor, labels: Tensor) -> Any:
    confidence, said = probabilities.max(dim=1)
    return calibration(confidence.numpy(), (said == labels).numpy())["ece"]
