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


_LEAST = 1e-6  # no stream may rule a class out by itself


@dataclass(frozen=True)
class Fusion:
    """How the two streams become one answer.

    `eq7`: HR's weight is S / P (Eq. 7). `by_s`: for each S in 0..P, `hr_weight` is HR's weight and
    `hr_sharpness` the power its probabilities are raised to before (a temperature's inverse), likewise
    `lr_sharpness` for LR; all were fitted on held-out images, so that the answer is calibrated. `log_pool`:
    the weights are of the logarithms (a logarithmic opinion pool, Genest and Zidek 1986), `sharpness` is the
    power of what comes out, for each S; where one stream is unsure the other decides. There `hr_sharpness`
    and `lr_sharpness` are of each stream's own answer, which a policy may read.
    """

    rule: str = "eq7"
    hr_weight: tuple[float, ...] = ()
    hr_sharpness: tuple[float, ...] = ()
    lr_sharpness: float = 1.0
    sharpness: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.rule not in ("eq7", "by_s", "log_pool"):
            raise ValueError(f"no fusion is named {self.rule!r}: eq7, by_s or log_pool")
        if (self.rule == "eq7") == bool(self.hr_weight) or len(self.hr_weight) != len(self.hr_sharpness):
            raise ValueError("by_s and log_pool, and only they, have a weight and a sharpness for each S")
        if len(self.sharpness) != (len(self.hr_weight) if self.rule == "log_pool" else 0):
            raise ValueError("log_pool, and only it, has a sharpness of the joint answer for each S")
        if not all(0 <= weight <= 1 for weight in self.hr_weight):
            raise ValueError("weights lie in [0, 1]")
        if not all(power > 0 for power in (*self.hr_sharpness, self.lr_sharpness, *self.sharpness)):
            raise ValueError("sharpness is above 0")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Fusion":
        # cards from before log_pool have no `sharpness`
        of_s = {key: tuple(raw.get(key, ())) for key in ("hr_weight", "hr_sharpness", "sharpness")}
        return cls(raw["rule"], lr_sharpness=raw["lr_sharpness"], **of_s)

    def weights(self, actions: Tensor) -> Tensor:
        """actions (B, P) -> (B, 2) weights of the HR and the LR stream, summing to 1."""
        if self.rule == "eq7":
            hr = actions.sum(dim=1).float() / actions.shape[1]
        else:
            hr = self._of_s(self.hr_weight, actions)
        return torch.stack([hr, 1 - hr], dim=1)

    def hr_answer(self, hr: Tensor, actions: Tensor) -> Tensor:
        """The HR stream's probabilities (B, N) with this S: sharpened, where the rule was fitted."""
        return hr if self.rule == "eq7" else sharpened(hr, self._of_s(self.hr_sharpness, actions)[:, None])

    def lr_answer(self, lr: Tensor) -> Tensor:
        """The LR stream's probabilities (B, N), likewise."""
        return lr if self.rule == "eq7" else sharpened(lr, self.lr_sharpness)

    def fuse(self, hr: Tensor, lr: Tensor, actions: Tensor) -> Tensor:
        """Both as one: hr and lr (B, N) softmax probabilities, actions (B, P) -> (B, N). Eq. 7 for eq7."""
        weights = self.weights(actions)
        if self.rule == "log_pool":
            return pooled(hr, lr, weights[:, 0], self._of_s(self.sharpness, actions))
        return weights[:, :1] * self.hr_answer(hr, actions) + weights[:, 1:] * self.lr_answer(lr)

    @staticmethod
    def _of_s(values: tuple[float, ...], actions: Tensor) -> Tensor:
        return torch.tensor(values, device=actions.device)[actions.sum(dim=1).long()]


def pooled(hr: Tensor, lr: Tensor, weight: Tensor, sharpness: Tensor) -> Tensor:
    """(hr^w lr^(1 - w))^sharpness, made to sum to 1: probabilities (B, N), w and sharpness (B,) or ()."""
    w = weight[..., None]
    logs = w * hr.clamp_min(_LEAST).log() + (1 - w) * lr.clamp_min(_LEAST).log()
    return (logs * sharpness[..., None]).softmax(dim=-1)


def sharpened(probabilities: Tensor, power: Tensor | float) -> Tensor:
    """p^power, made to sum to 1 again: (..., N), the order of the classes unchanged."""
    return (probabilities.clamp_min(1e-12).log() * power).softmax(dim=-1)
