"""The classifiers a training needs: the one that will be released and, for held-out rewards, its shadows."""

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.data.splits import kfold
from models.system import System

Indices = np.ndarray[Any, Any]


@dataclass
class Member:
    """One classifier: the trained bodies of its two streams and the images it may learn from."""

    hr: nn.Module
    lr: nn.Module | None
    learns: Indices


class Members:
    """The released classifier (`main`) and its shadows; `judge[i]` judges image i without having seen it."""

    def __init__(
        self, system: System, train: Indices, labels: Tensor, groups: Indices, crossfit: int, seed: int
    ) -> None:
        lr = None if system.lr is None else system.lr.body
        self.all = [Member(system.hr.body, lr, train)]
        self.judge = np.zeros(len(labels), dtype=np.int64)
        if crossfit:
            parts = kfold(labels.numpy()[train], groups[train], crossfit, seed)
            for part in parts:
                unseen = train[part]
                shadow = Member(copy.deepcopy(system.hr.body), copy.deepcopy(lr), np.setdiff1d(train, unseen))
                self.judge[unseen] = len(self.all)
                self.all.append(shadow)

    @property
    def main(self) -> Member:
        return self.all[0]

    @property
    def has_shadows(self) -> bool:
        return len(self.all) > 1

    def state(self) -> list[dict[str, Any]]:
        return [
            {"hr": m.hr.state_dict(), "lr": None if m.lr is None else m.lr.state_dict()} for m in self.all
        ]

    def restore(self, state: list[dict[str, Any]]) -> None:
        for member, saved in zip(self.all, state, strict=True):
            member.hr.load_state_dict(saved["hr"])
            if member.lr is not None:
                member.lr.load_state_dict(saved["lr"])

    def _by_judge(self, indices: Indices) -> list[tuple[Member, Tensor]]:
        judges = self.judge[indices]
        return [(self.all[j], torch.from_numpy(np.flatnonzero(judges == j))) for j in np.unique(judges)]

    def hr_probabilities(self, indices: Indices, features: Tensor) -> Tensor:
        """Class probabilities (B, N) of masked HR features, each image's by its own judge. No gradient."""
        return self._judged(indices, features, "hr").softmax(dim=1)

    def lr_log_probabilities(self, indices: Indices, features: Tensor) -> Tensor:
        """log of the LR stream's probabilities (B, N), each image's by its own judge. No gradient."""
        return self._judged(indices, features, "lr").log_softmax(dim=1)

    @torch.no_grad()
    def _judged(self, indices: Indices, features: Tensor, stream: str) -> Tensor:
        logits: Tensor | None = None
        for member, rows in self._by_judge(indices):
            body = getattr(member, stream)
            body.eval()
            answer = body(features[rows.to(features.device)]).float()
            if logits is None:
                logits = answer.new_empty(len(indices), answer.shape[1])
            logits[rows.to(answer.device)] = answer
        assert logits is not None
        return logits
