"""From the chance of a right answer with k patches to what each patch is worth."""

import torch
from torch import Tensor

_TILT = 1e-3  # orders patches of equal worth by their rank, for whoever may buy only a few


MENDED = 0.5
"""The share of its cost that a missed answer has at a look after which there is another. Chosen, not fitted:
a third to a half did alike on kept answers (decision 66).
"""


def slopes(chances: Tensor, bought: Tensor | None = None) -> Tensor:
    """What the r-th patch gains, (B, P), r = 1..P, on the concave hull of `chances` (B, P + 1).

    A patch that gains nothing alone is worth its share of what it opens the way to; slopes never rise with r.
    The hull begins with the first `bought` (B,) patches, which are worth infinity.
    """
    count = chances.shape[1]
    places = torch.arange(count, device=chances.device)
    run = (places[None, :] - places[:, None]).clamp_min(1)
    rise = (chances[:, None, :] - chances[:, :, None]) / run
    if bought is not None:
        rise = rise.masked_fill((places < bought[:, None])[:, :, None], torch.inf)
    return torch.stack([rise[:, :r, r:].amax(dim=2).amin(dim=1) for r in range(1, count)], dim=1)


def purchase_probabilities(
    chances: Tensor, ranks: Tensor, missed_cost: float, bought: Tensor | None = None
) -> Tensor:
    """s_p (B, P) by patch id: the odds of buying are the patch's gain times what a missed answer costs.

    Above 0.5 the patch gains more than it costs. ranks (P,): the order in which `chances` takes the patches.
    The first `bought` (B,) patches, which are had, are 1.
    """
    patches = len(ranks)
    tilt = 1 - _TILT * torch.arange(patches, device=chances.device) / patches
    odds = slopes(chances, bought).clamp_min(0) * tilt * missed_cost
    s = torch.where(odds.isinf(), 1.0, odds / (1 + odds))
    return s[:, ranks.to(chances.device)]


def shares(chances: Tensor, ranks: Tensor) -> Tensor:
    """(B, P) by patch id: its share of the way from no HR to all of it; sums to 1 (GainModel's weights)."""
    steps = chances.diff(dim=1).clamp_min(1e-9)
    return (steps / steps.sum(dim=1, keepdim=True))[:, ranks.to(chances.device)]
