"""Policy and classifier as one module: what a release holds and what the stages train."""

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from models import gain
from models.architecture import Architecture as Architecture
from models.data.degrade import to_px
from models.grid import centre_first
from models.networks import build
from models.networks.build import Network
from models.patchdrop import Fusion, masked
from models.views import ANSWERING, View, view_of


class Prediction(NamedTuple):
    """Class probabilities (B, N) of each stream and of both; `weights` (B, 2) are HR's and LR's share."""

    fused: Tensor
    hr: Tensor
    lr: Tensor | None
    weights: Tensor


class System(nn.Module):
    """f_p, f_cl^h and f_cl^l with the fill and the fusion that join them.

    Images come on the 0..255 scale: lr (B, 3, lr_px, lr_px), hr (B, 3, hr_px, hr_px).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, architecture: Architecture, fusion: Fusion | None = None, *, imagenet: bool = False
    ) -> None:
        super().__init__()
        a = self.architecture = architecture
        # (P,) the order in which a policy that reads answers takes the patches
        self.ranks = centre_first(a.grid, a.order)
        self.fusion = fusion or Fusion()
        self.policy = build.policy(
            a.policy, a.classes, grid=a.grid, imagenet=imagenet, looks=a.looks, width=a.width
        )
        self.hr = build.classifier(a.hr, a.classes, patchwise=True, grid=a.grid, imagenet=imagenet)
        # the HR stream's body for whole images: it reads what the other's stem makes of them
        self.whole: nn.Module | None = None
        if a.whole:
            self.whole = build.classifier(
                a.hr, a.classes, patchwise=True, grid=a.grid, imagenet=imagenet
            ).body
        self.lr: Network | None = None
        if a.lr:
            self.lr = build.classifier(a.lr, a.classes, patchwise=False, grid=a.grid, imagenet=imagenet)
        self.policy_needs_lr = bool(getattr(self.policy.body, "needs_lr_answer", False))
        self.policy_reads_answers = bool(getattr(self.policy.body, "reads_answers", False))
        if (self.policy_needs_lr or self.policy_reads_answers) and self.lr is None:
            raise ValueError(
                "this policy reads the LR stream's answer and cannot stand in a one-stream release"
            )
        if a.looks != 1 and not (self.policy_reads_answers and a.looks == 2):
            raise ValueError(f"looks: 1, or 2 of a policy that reads answers, not {a.looks}")
        if self.policy_reads_answers and a.fill == "zeros":
            raise ValueError("this policy reads what the HR stream says of the LR fill: fill is lr")
        self.register_buffer("mean", torch.tensor(a.mean).view(1, -1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(a.std).view(1, -1, 1, 1) * 255, persistent=False)

    def normalised(self, x: Tensor) -> Tensor:
        """0..255 pixels -> zero mean and unit variance by the training set's figures."""
        return (x.float() - self.mean) / self.std

    def lr_input(self, lr: Tensor) -> Tensor:
        """x_l as f_cl^l takes it: the same size as the HR image where the architecture names no other."""
        return to_px(self.normalised(lr), self.architecture.lr_input_px or self.architecture.hr_px)

    def filled(self, lr: Tensor) -> Tensor | None:
        """What stands where no patch was bought: the upsampled x_l, or None for zeros."""
        if self.architecture.fill == "zeros":
            return None
        return to_px(self.normalised(lr), self.architecture.hr_px)

    def probabilities(self, lr: Tensor) -> Tensor:
        """Eq. 6: s_p = f_p(x_l) in [0, 1], (B, P)."""
        if self.policy_reads_answers:
            return self.purchases(self.chances(lr))
        x = self.policy.stem(self.normalised(lr))
        answer = (self.lr_log_probabilities([self.lr_features(lr)]),) if self.policy_needs_lr else ()
        logits = cast("Tensor", self.policy.body(x, *answer)).float()
        return (logits + math.log(self.architecture.missed_cost)).sigmoid()

    def chances(self, lr: Tensor) -> Tensor:
        """The chance of a right answer with the first k patches by `ranks`, (B, P + 1), k = 0..P.

        Only of a policy that reads answers; both streams are asked what they say without HR.
        """
        fill = self.filled(lr)
        assert fill is not None
        hr = self.hr_answer([self.hr.stem(view_of(fill, view)) for view in self.hr_views])
        return self.chances_from(self.lr_answer(lr).exp(), hr)

    def chances_from(self, lr: Tensor, hr: Tensor, bought: Tensor | None = None) -> Tensor:
        """The same from the streams' class probabilities (B, N), as they come out of them: without HR, or at
        a later look with the first `bought` (B,) patches.
        """
        has = torch.zeros(len(hr), dtype=torch.long, device=hr.device) if bought is None else bought
        actions = self.first(has)
        fused = self.fusion.fuse(hr, lr, actions)
        answers = self.fusion.lr_answer(lr), self.fusion.hr_answer(hr, actions)
        # in half precision the chances of two neighbouring k are often the same number
        with torch.autocast(hr.device.type, enabled=False):
            return cast("Tensor", self.policy.body(*answers, fused, has)).sigmoid()

    def first(self, numbers: Tensor) -> Tensor:
        """Masks (..., P) of the first so many (...) patches in the policy's order."""
        return (self.ranks.to(numbers.device) < numbers[..., None]).float()

    def purchases(self, chances: Tensor, bought: Tensor | None = None) -> Tensor:
        """s_p (B, P) of `chances` (B, P + 1); at the last look with the first `bought` (B,) patches."""
        a = self.architecture
        missed_cost = a.missed_cost
        if bought is None and a.looks > 1:
            missed_cost *= gain.MENDED  # what this look misses, the next may mend
        return gain.purchase_probabilities(chances, self.ranks, missed_cost, bought)

    def second_look(self, lr: Tensor, hr: Tensor, actions: Tensor) -> Tensor:
        """s_p (B, P) from what the streams say (B, N) with the patches `actions` (B, P), which are 1.

        The policy learned from patches bought in its order. Whichever these are, so many count as its first,
        and those that are left take the places that follow, in their order.
        """
        bought = actions.sum(dim=1).long()
        worth = self.purchases(self.chances_from(lr, hr, bought), bought)
        by_place = worth[:, self.ranks.argsort()]
        taken = (actions.cpu() > 0).long()
        last = taken.shape[1] * (1 - taken) + self.ranks  # what is had comes first
        places = last.argsort(dim=1).argsort(dim=1).to(worth.device)
        return by_place.gather(1, places)

    def lr_features(self, lr: Tensor, view: int = 0) -> Tensor:
        assert self.lr is not None
        features: Tensor = self.lr.stem(self.lr_input(view_of(lr, view)))
        return features

    def lr_log_probabilities(self, views: Sequence[Tensor]) -> Tensor:
        """log of the LR stream's mean probabilities (B, N) over the features of each view."""
        assert self.lr is not None
        return log_mean([cast("Tensor", self.lr.body(features)) for features in views])

    def lr_answer(self, lr: Tensor) -> Tensor:
        """The LR stream's answer as log-probabilities (B, N), averaged over the architecture's views."""
        views = ANSWERING[self.architecture.lr_views]
        return self.lr_log_probabilities([self.lr_features(lr, view) for view in views])

    def predict(self, lr: Tensor, hr: Tensor, actions: Tensor) -> Prediction:
        """The second step: classes from x_h^m and x_l (Eq. 7 or the fusion). actions (B, P) in {0, 1}."""
        said = self.hr_answer(self.seen(lr, hr, actions), actions)
        if self.lr is None:
            alone = torch.tensor([1.0, 0.0], device=said.device).expand(len(said), 2)
            return Prediction(said, said, None, alone)
        answer = self.lr_answer(lr).exp()
        fused = self.fusion.fuse(said, answer, actions)
        return Prediction(fused, said, answer, self.fusion.weights(actions))

    @property
    def hr_views(self) -> tuple[int, ...]:
        """The symmetries that the HR stream's answer is the mean of."""
        return ANSWERING[self.architecture.hr_views]

    def seen(self, lr: Tensor, hr: Tensor, actions: Tensor) -> list[Tensor]:
        """What the HR stream's body reads of x_h^m: its stem's features, in each view.

        The fill is put in among the pixels: the stem sees each patch by itself, so every patch passes it
        once, as bought or as filled in, and not as both.
        """
        x, fill, stem, grid = self.normalised(hr), self.filled(lr), self.hr.stem, self.architecture.grid
        if fill is not None:
            x = masked(x, fill, actions, grid)
            return [stem(view_of(x, view)) for view in self.hr_views]
        # the features of dropped patches are zero, which those of zeros are not
        return [View(view, stem(view_of(x, view)), None).masked(actions, grid) for view in self.hr_views]

    def hr_answer(self, views: Sequence[Tensor], actions: Tensor | None = None) -> Tensor:
        """The HR stream's mean probabilities (B, N) over the masked features of each view.

        actions (B, P) tell which images are whole; without them none is.
        """
        if self.whole is None or actions is None:
            return _mean_answer(self.hr.body, views)
        complete = actions.bool().all(dim=1)
        said = views[0].new_empty(len(complete), self.architecture.classes, dtype=torch.float32)
        for body, rows in ((self.hr.body, ~complete), (self.whole, complete)):
            if bool(rows.any()):
                said[rows] = _mean_answer(body, [features[rows] for features in views])
        return said


def _mean_answer(body: nn.Module, views: Sequence[Tensor]) -> Tensor:
    return mean([cast("Tensor", body(features)).float().softmax(dim=1) for features in views])


def mean(views: Sequence[Tensor]) -> Tensor:
    """The mean of tensors of one shape."""
    return torch.stack(list(views)).mean(dim=0)


def log_mean(logits: Sequence[Tensor]) -> Tensor:
    """log of the mean of the softmax of each of `logits` (B, N)."""
    logs = torch.stack([x.float().log_softmax(dim=1) for x in logits])
    return logs.logsumexp(dim=0) - math.log(len(logits))


def packed(system: System, device: torch.device) -> System:
    """The system on a device, its convolutions channels last, which CPUs and GPUs run faster."""
    system = system.to(device)
    system.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return system
