"""The paper's ways to choose patches without looking (5.2), and choice by a score."""

import torch
from torch import Tensor

from models import grid as grids
from models.curves import likeliest
from models.stages.draws import Draws

FIXED_H = (5, 6, 9, 10, 13, 14, 1, 2, 0, 3, 4, 7, 8, 11, 12, 15)
"""Section 5.2's order; it lists 15 of the 16 patches, and 12 is put where its neighbours are (decision 1)."""

FIXED_V = (4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3)


def first(order: tuple[int, ...], s: int, count: int) -> Tensor:
    """The first S patches of an order for every image: (count, P) in {0, 1}."""
    mask = torch.zeros(len(order))
    mask[list(order[:s])] = 1.0
    return mask.expand(count, -1)


def top(scores: Tensor, s: int) -> Tensor:
    """The S patches with the highest scores (B, P) of each image."""
    return likeliest(scores, s)


def survival(s: float, grid: int = grids.GRID) -> Tensor:
    """(P,) chances that decay linearly with a patch's distance from the centre and sum to S.

    Zero would be reached one patch beyond the corners; chances are scaled, and cut off at 1.
    """
    middle = (grid - 1) / 2
    rows = torch.arange(grid**2) // grid - middle
    columns = torch.arange(grid**2) % grid - middle
    distance = (rows**2 + columns**2).sqrt().double()
    raw = 1 - distance / (distance.max() + 1)
    low, high = 0.0, 1e6
    for _ in range(200):
        middle_scale = (low + high) / 2
        if float((raw * middle_scale).clamp_max(1).sum()) < s:
            low = middle_scale
        else:
            high = middle_scale
    return (raw * high).clamp_max(1).float()


def stochastic(s: float, draws: Draws, count: int, grid: int = grids.GRID) -> Tensor:
    """Each patch is kept by its own chance of `survival`, S on average: (count, P)."""
    return (draws.rand((1, count, grid**2))[0] < survival(s, grid)).float()


def uniform(s: int, draws: Draws, count: int, grid: int = grids.GRID) -> Tensor:
    """S patches of each image, all sets alike: (count, P)."""
    return top(draws.rand((1, count, grid**2))[0], s)
