"""The two-step decision: probabilities -> mask -> masked HR -> fused prediction (sections 3 and 4)."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from models import grid as grids


def log_likelihood(s: Tensor, actions: Tensor) -> Tensor:
    """log pi_1(a_1 | x_l) of Eq. 5: s (B, P) in (0, 1), actions (..., B, P) in {0, 1} -> (..., B)."""
    chosen = s * actions + (1 - s) * (1 - actions)
    return chosen.clamp_min(torch.finfo(chosen.dtype).tiny).log().sum(dim=-1)


def bounded(s: Tensor, alpha: float) -> Tensor:
    """Eq. 11: alpha s + (1 - alpha)(1 - s), so that no probability leaves [1 - alpha, alpha] in training."""
    if not 0 <= alpha <= 1:
        raise ValueError("alpha lies in [0, 1]")
    return alpha * s + (1 - alpha) * (1 - s)


def most_likely(s: Tensor, threshold: float = 0.5) -> Tensor:
    """The baseline action of section 4.2, also the decision at inference: 1 where s > threshold."""
    return (s > threshold).to(s.dtype)


def masked(hr: Tensor, fill: Tensor | None, actions: Tensor, grid: int = grids.GRID) -> Tensor:
    """x_h^m: HR where a patch was taken; elsewhere zeros (the paper, `fill` None) or the fill's own pixels.

    hr and fill (B, C, H, H): pixels, or the features of a stem that sees each patch by itself.
    """
    keep = grids.spread(actions.to(hr.dtype), hr.shape[-1], grid)
    return hr * keep if fill is None else torch.where(keep > 0, hr, fill)


@dataclass(frozen=True)
class Fusion:
    """How the two streams become one answer.

    `eq7`: HR's weight is S / P (Eq. 7). `by_s`: for each S in 0..P, `hr_weight` is HR's weight and
    `hr_sharpness` the power its probabilities are raised to before (a temperature's inverse), likewise
    `lr_sharpness` for LR; all were fitted on held-out images, so that the answer is calibrated.
    """

    rule: str = "eq7"
    hr_weight: tuple[float, ...] = ()
    hr_sharpness: tuple[float, ...] = ()
    lr_sharpness: float = 1.0

    def __post_init__(self) -> None:
        if self.rule not in ("eq7", "by_s"):
            raise ValueError(f"no fusion is named {self.rule!r}: eq7 or by_s")
        if (self.rule == "by_s") != bool(self.hr_weight) or len(self.hr_weight) != len(self.hr_sharpness):
            raise ValueError("by_s, and only it, has a weight and a sharpness for each S")
        if not all(0 <= weight <= 1 for weight in self.hr_weight):
            raise ValueError("weights lie in [0, 1]")
        if not all(power > 0 for power in (*self.hr_sharpness, self.lr_sharpness)):
            raise ValueError("sharpness is above 0")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Fusion":
        powers = {key: tuple(raw[key]) for key in ("hr_weight", "hr_sharpness")}
        return cls(raw["rule"], lr_sharpness=raw["lr_sharpness"], **powers)

    def weights(self, actions: Tensor) -> Tensor:
        """actions (B, P) -> (B, 2) weights of the HR and the LR stream, summing to 1."""
        if self.rule == "eq7":
            hr = actions.sum(dim=1).float() / actions.shape[1]
        else:
            hr = self._of_s(self.hr_weight, actions)
        return torch.stack([hr, 1 - hr], dim=1)

    def hr_answer(self, hr: Tensor, actions: Tensor) -> Tensor:
        """The HR stream's probabilities (B, N) as they enter the sum."""
        return hr if self.rule == "eq7" else sharpened(hr, self._of_s(self.hr_sharpness, actions)[:, None])

    def lr_answer(self, lr: Tensor) -> Tensor:
        """The LR stream's probabilities (B, N) as they enter the sum."""
        return lr if self.rule == "eq7" else sharpened(lr, self.lr_sharpness)

    def fuse(self, hr: Tensor, lr: Tensor, actions: Tensor) -> Tensor:
        """Eq. 7 on softmax probabilities: hr and lr (B, N), actions (B, P) -> (B, N)."""
        weights = self.weights(actions)
        return weights[:, :1] * self.hr_answer(hr, actions) + weights[:, 1:] * self.lr_answer(lr)

    @staticmethod
    def _of_s(values: tuple[float, ...], actions: Tensor) -> Tensor:
        return torch.tensor(values, device=actions.device)[actions.sum(dim=1).long()]


def sharpened(probabilities: Tensor, power: Tensor | float) -> Tensor:
    """p^power, made to sum to 1 again: (..., N), the order of the classes unchanged."""
    return (probabilities.clamp_min(1e-12).log() * power).softmax(dim=-1)
