"""The classifiers a training needs: the one that will be released and, for held-out rewards, its shadows."""

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.data.splits import kfold
from models.networks.folding import folded
from models.system import System, log_mean, mean

Indices = np.ndarray[Any, Any]
_CHUNK = 64


@dataclass
class Member:
    """One classifier: the trained bodies of its two streams and the images it may learn from.

    `whole`: the HR stream's other body, which answers for whole images, where there is one. It is trained as
    a member of its own, which has no LR stream and whose `masks` are off.
    """

    hr: nn.Module
    lr: nn.Module | None
    learns: Indices
    whole: nn.Module | None = None
    masks: bool = True


@dataclass(frozen=True)
class Judges:
    """Finished classifiers, and for every image (n,) which of them has not learned from it."""

    members: tuple[Member, ...]
    of: Indices


class Members:
    """The released classifier (`main`) and those who judge the policy's choices for it.

    Judges are given, or are `crossfit` shadows trained along; where there are neither, main judges itself.
    """

    def __init__(
        self,
        system: System,
        train: Indices,
        labels: Tensor,
        groups: Indices,
        crossfit: int,
        seed: int,
        judges: Judges | None = None,
    ) -> None:
        lr = None if system.lr is None else system.lr.body
        self.trained = [Member(system.hr.body, lr, train, system.whole)]
        if judges is None and crossfit:
            parts = kfold(labels.numpy()[train], groups[train], crossfit, seed)
            of = np.zeros(len(labels), dtype=np.int64)
            for number, part in enumerate(parts):
                of[train[part]] = number
                learns = np.setdiff1d(train, train[part])
                bodies = (copy.deepcopy(body) for body in (system.hr.body, lr, system.whole))
                hr, own_lr, whole = bodies
                assert hr is not None
                self.trained.append(Member(hr, own_lr, learns, whole))
            judges = Judges(tuple(self.trained[1:]), of)
        self.trained += [
            Member(member.whole, None, member.learns, masks=False)
            for member in self.trained
            if member.whole is not None
        ]
        self.judges = judges or Judges((self.main,), np.zeros(len(labels), dtype=np.int64))
        self._moving: tuple[nn.Module, ...] | None = None
        self._quick: dict[tuple[int, torch.dtype], nn.Module] = {}

    @property
    def main(self) -> Member:
        return self.trained[0]

    def settle(self, moving: Collection[nn.Module]) -> None:
        """Until the next call only the bodies `moving` learn. All others may judge as folded copies, which on
        a CPU takes half the time.
        """
        self._moving, self._quick = tuple(moving), {}

    def state(self) -> list[dict[str, Any]]:
        return [
            {"hr": m.hr.state_dict(), "lr": None if m.lr is None else m.lr.state_dict()} for m in self.trained
        ]

    def restore(self, state: list[dict[str, Any]]) -> None:
        for member, saved in zip(self.trained, state, strict=True):
            member.hr.load_state_dict(saved["hr"])
            if member.lr is not None:
                member.lr.load_state_dict(saved["lr"])

    def _by_judge(self, indices: Indices) -> list[tuple[Member, Tensor]]:
        judges = self.judges.of[indices]
        return [
            (self.judges.members[j], torch.from_numpy(np.flatnonzero(judges == j))) for j in np.unique(judges)
        ]

    def hr_probabilities(self, indices: Indices, views: Sequence[Tensor], actions: Tensor) -> Tensor:
        """Mean class probabilities (B, N) over the views' HR features, masked by `actions` (B, P), each
        image's by its own judge. No gradient.
        """
        whole = actions.bool().all(dim=1).cpu()
        return mean([self._judged(indices, features, "hr", whole).softmax(dim=1) for features in views])

    def lr_log_probabilities(self, indices: Indices, views: Sequence[Tensor]) -> Tensor:
        """log of the LR stream's mean probabilities (B, N) over the views' features, each image's by its own
        judge. No gradient.
        """
        return log_mean([self._judged(indices, features, "lr") for features in views])

    @torch.no_grad()
    def _judged(self, indices: Indices, features: Tensor, stream: str, whole: Tensor | None = None) -> Tensor:
        logits: Tensor | None = None
        for member, judged in self._by_judge(indices):
            body = getattr(member, stream)
            parts = [(body, judged)]
            if member.whole is not None and whole is not None:
                parts = [(body, judged[~whole[judged]]), (member.whole, judged[whole[judged]])]
            for asked, rows in parts:
                if len(rows) == 0:
                    continue
                answer = self._said(asked, features[rows.to(features.device)])
                if logits is None:
                    logits = answer.new_empty(len(indices), answer.shape[1])
                logits[rows.to(answer.device)] = answer
        assert logits is not None
        return logits

    def _said(self, body: nn.Module, features: Tensor) -> Tensor:
        """The logits (B, N) of a body that is asked, in fp32."""
        if self._moving is None or any(body is other for other in self._moving):
            body.eval()
            said: Tensor = body(features)
            return said.float()
        half = torch.is_autocast_enabled(features.device.type)
        key = (id(body), torch.bfloat16 if half else torch.float32)
        if key not in self._quick:
            quick = folded(body).to(key[1])
            self._quick[key] = quick.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        features = features.to(key[1])
        # on a CPU a few images at a time stay in the processor's cache
        parts = torch.split(features, _CHUNK) if features.device.type == "cpu" else (features,)
        return torch.cat([self._quick[key](part) for part in parts]).float()
