"""A policy that reads answers: how sure both streams are without HR says what HR would gain."""

import torch
from torch import Tensor, nn
from torch.nn import functional

_TOP = 5
_LEAST = 1e-5
_RISE = 3.0  # at the start a patch is worth next to nothing


class AnswerCurveBody(nn.Module):
    """Class probabilities (B, N) of the LR stream, of the HR stream with the patches it has, and of both.

    -> (B, P + 1) logits of the chance that the fused answer is right with the first k = 0..P patches of
    the system's order; they never fall with k. The HR stream has none, only the fill; a body of several
    `looks` is also told how many (B,) it has, and says nothing of fewer. `width`: hidden units.
    """

    reads_answers = True

    def __init__(self, classes: int, patches: int, width: int, looks: int = 1) -> None:
        super().__init__()
        self.top, self.numbers = min(_TOP, classes), patches + 1 if looks > 1 else 0
        self.hidden = nn.Sequential(
            nn.Linear(3 * self.top + 4 + classes + self.numbers, width),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Linear(width, patches + 1),
        )

    def forward(self, lr: Tensor, hr: Tensor, fused: Tensor, has: Tensor) -> Tensor:
        logs = [p.clamp_min(_LEAST).log() for p in (lr, hr, fused)]
        sure = [log.topk(self.top).values / 2 for log in logs]
        doubt = [-(log.exp() * log).sum(dim=1, keepdim=True) for log in logs]
        agreement = (lr * hr).sum(dim=1, keepdim=True)
        number = [functional.one_hot(has, self.numbers).to(fused)] if self.numbers else []
        raw = self.hidden(torch.cat([*sure, *doubt, agreement, fused, *number], dim=1))
        start, steps = raw[:, :1], functional.softplus(raw[:, 1:] - _RISE)
        return torch.cat([start, start + steps.cumsum(dim=1)], dim=1)
