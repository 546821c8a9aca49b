"""Accuracy against S: what the same policy is worth to who buys its k likeliest patches of every tile."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models import statistics

SHARES = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of the P patches; accuracy rises steeply at first, so that small purchases are measured more densely."""


def points(patches: int) -> tuple[int, ...]:
    """The numbers of patches bought at which the curve is measured, 0 and all of them among these."""
    return tuple(sorted({round(share * patches) for share in SHARES}))


def likeliest(s: Tensor, k: int) -> Tensor:
    """The k patches of the highest s_p of each tile, of equals the first: (B, P) -> (B, P) in {0, 1}.

    This is the choice of a plan with the threshold 0 and `max_patches` k.
    """
    order = s.argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(s).scatter(1, order[:, :k], 1.0)


def curve(at: Sequence[int], right: npt.NDArray[np.bool_]) -> list[dict[str, Any]]:
    """The curve as it stands in a card; right (n, len(at)): whether the fused answer was right there."""
    return [{"s": k, "accuracy": statistics.share(right[:, j])} for j, k in enumerate(at)]
