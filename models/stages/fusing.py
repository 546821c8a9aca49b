"""How the streams become one answer, fitted to what judges say of images they have not learned from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.patchdrop import Fusion, pooled, sharpened
from models.stages.members import Members
from models.system import System

_WEIGHTS = torch.linspace(0, 1, 41)
_POWERS = [round(0.4 + 0.05 * k, 2) for k in range(73)]  # 0.4 to 4


def held_out_fusion(
    system: System, members: Members, pairs: Any, rng: np.random.Generator, rule: str
) -> Fusion:
    """The fusion `by_s` or `log_pool`, for each S, by the log-probability of the right class.

    `pairs` yields (indices, batch) of images that their judges have not learned from; S random patches each,
    or for a policy that reads answers the first S in its order.
    Fitted at some S and interpolated between them; weights monotone, as more HR never makes HR worth less.
    """
    grid = system.architecture.grid
    patches = grid**2
    knots = sorted({0, 1, 2, patches // 4, patches * 3 // 8, patches // 2, patches * 3 // 4, patches})
    lrs: list[Tensor] = []
    labels: list[Tensor] = []
    hrs: list[list[Tensor]] = [[] for _ in knots]
    for indices, batch in pairs:
        labels.append(batch.labels.cpu())
        lrs.append(members.lr_log_probabilities(indices, batch.answering).exp().cpu())
        if system.policy_reads_answers:  # it buys in this one order
            order = system.ranks.expand(len(indices), patches)
        else:
            order = torch.from_numpy(rng.random((len(indices), patches)).argsort(axis=1).argsort(axis=1))
        for answers, count in zip(hrs, knots, strict=True):
            actions = (order < count).float().to(batch.hr.device)
            answers.append(members.hr_probabilities(indices, batch.seen(actions, grid), actions).cpu())
    return fusion_of(torch.cat(lrs), [torch.cat(hr) for hr in hrs], torch.cat(labels), knots, rule)


def fusion_of(lr: Tensor, hrs: Sequence[Tensor], y: Tensor, knots: Sequence[int], rule: str) -> Fusion:
    """The rule fitted to answers: lr (n, N), and at each S of `knots`, 0 and P among them, HR's (n, N)."""
    lr_power, hr_powers = _sharpness(lr, y), [_sharpness(hr, y) for hr in hrs]
    weights, powers = [0.0], []
    for hr, power in zip(hrs, hr_powers, strict=True):
        if rule == "log_pool":
            weight, joint = _pool(hr, lr, y, weights[-1])
            powers.append(joint)
        else:
            weight = _mixture(sharpened(hr, power), sharpened(lr, lr_power), y)
        weights.append(max(weight, weights[-1]))
    every = np.arange(knots[-1] + 1)
    hr_weight, hr_sharpness, sharpness = (
        _rounded(np.interp(every, knots, values)) if values else ()
        for values in (weights[1:], hr_powers, powers)
    )
    return Fusion(rule, hr_weight, hr_sharpness, lr_power, sharpness)


def _mixture(hr: Tensor, lr: Tensor, labels: Tensor) -> float:
    """HR's weight in the sum."""
    of_hr, of_lr = (p.gather(1, labels[:, None])[:, 0] for p in (hr, lr))
    mixed = _WEIGHTS[:, None] * of_hr + (1 - _WEIGHTS[:, None]) * of_lr
    return float(_WEIGHTS[mixed.clamp_min(1e-6).log().mean(dim=1).argmax()])


def _pool(hr: Tensor, lr: Tensor, labels: Tensor, least: float) -> tuple[float, float]:
    """HR's weight in the logarithmic pool, `least` or more, and the pool's sharpness, 0.05 to 8: neither few
    images that are all right nor streams that know nothing drive it out of bounds.
    """
    free = torch.tensor([0.0, -1.0], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([free], max_iter=60, line_search_fn="strong_wolfe")
    hr, lr = hr.double(), lr.double()

    def bounded() -> Tensor:
        low, high = torch.tensor([[least, 0.05], [1.0, 8.0]], dtype=torch.float64)
        within: Tensor = low + (high - low) * free.sigmoid()
        return within

    def loss() -> Tensor:
        optimiser.zero_grad()
        said = pooled(hr, lr, *bounded()).gather(1, labels[:, None])
        missed: Tensor = -said.clamp_min(1e-12).log().mean()
        missed.backward()  # type: ignore[no-untyped-call]
        return missed

    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        optimiser.step(loss)  # type: ignore[no-untyped-call]
    weight, sharpness = bounded().tolist()
    return weight, sharpness


def _sharpness(probabilities: Tensor, labels: Tensor) -> float:
    """The power with the best mean log-probability of the right class (temperature scaling)."""
    scores = [sharpened(probabilities, power).gather(1, labels[:, None]).log().mean() for power in _POWERS]
    return _POWERS[int(torch.stack(scores).argmax())]


def _rounded(values: np.ndarray[Any, Any]) -> tuple[float, ...]:
    return tuple(round(float(v), 3) for v in values)
