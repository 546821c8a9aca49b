"""The two-step decision: probabilities -> mask -> masked HR -> fused prediction (sections 3 and 4)."""

from dataclasses import dataclass

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

    `eq7`: HR's weight is S / P (Eq. 7). `by_s`: HR's weight for each S in 0..P was fitted on held-out
    images and stands in `hr_weight`.
    """

    rule: str = "eq7"
    hr_weight: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.rule not in ("eq7", "by_s"):
            raise ValueError(f"no fusion is named {self.rule!r}: eq7 or by_s")
        if (self.rule == "by_s") != bool(self.hr_weight):
            raise ValueError("by_s, and only it, has a weight for each S")
        if not all(0 <= weight <= 1 for weight in self.hr_weight):
            raise ValueError("weights lie in [0, 1]")

    def weights(self, actions: Tensor) -> Tensor:
        """actions (B, P) -> (B, 2) weights of the HR and the LR stream, summing to 1."""
        count, patches = actions.sum(dim=1), actions.shape[1]
        if self.rule == "eq7":
            hr = count.float() / patches
        else:
            hr = torch.tensor(self.hr_weight, device=actions.device)[count.long()]
        return torch.stack([hr, 1 - hr], dim=1)

    def fuse(self, hr: Tensor, lr: Tensor, actions: Tensor) -> Tensor:
        """Eq. 7 on softmax probabilities: hr and lr (B, N), actions (B, P) -> (B, N)."""
        weights = self.weights(actions)
        return weights[:, :1] * hr + weights[:, 1:] * lr
