"""The grid of patches over a tile: ids, masks and pixel windows (section 4.1; P = 16 as 4x4 by default).

Patch ids run row-major from 0, row 0 on top (northernmost). A mask is a (B, P) tensor, 1 where the HR patch
is there.
"""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from models.architecture import DISTANCE, ORDERS, RINGS
from models.architecture import GRID as GRID


def centre_first(grid: int = GRID, order: str = RINGS) -> Tensor:
    """(P,) rank of each patch from the centre outwards, neighbours in rank far apart.

    `order`: ring by ring of the grid, or by the distance of the patch's centre, which puts corners last.
    Raises ValueError for another.
    """
    if order not in ORDERS:
        raise ValueError(f"order is one of {', '.join(ORDERS)}, not {order}")
    middle = (grid - 1) / 2
    places = [(row - middle, column - middle) for row in range(grid) for column in range(grid)]
    rings: dict[float, list[int]] = {}
    for patch, (y, x) in enumerate(places):
        radius = y * y + x * x if order == DISTANCE else max(abs(y), abs(x))
        rings.setdefault(radius, []).append(patch)
    taken: list[int] = []
    for ring in (rings[radius] for radius in sorted(rings)):
        left, start = list(ring), len(taken)
        while left:
            near = [places[p] for p in taken[start:]] or [(middle, middle)]
            taken.append(max(left, key=lambda p: (min(_apart(places[p], t) for t in near), -p)))
            left.remove(taken[-1])
    ranks = torch.empty(len(taken), dtype=torch.long)
    ranks[torch.tensor(taken)] = torch.arange(len(taken))
    return ranks


def _apart(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2


def edges(px: int, grid: int = GRID) -> list[int]:
    """Pixel borders of the patches along a side of `px` pixels: grid + 1 numbers from 0 to px.

    Where px is no multiple of grid, borders are rounded half up. Raises ValueError if a patch would be empty.
    """
    if px < grid:
        raise ValueError(f"{px} pixels cannot hold {grid} patches")
    return [(2 * k * px + grid) // (2 * grid) for k in range(grid + 1)]


def windows(px: int, grid: int = GRID) -> Iterator[tuple[slice, slice]]:
    """(rows, columns) of every patch in a px by px image, in the order of the ids."""
    borders = edges(px, grid)
    for top, bottom in itertools.pairwise(borders):
        for left, right in itertools.pairwise(borders):
            yield slice(top, bottom), slice(left, right)


def spread(mask: Tensor, px: int, grid: int = GRID) -> Tensor:
    """(B, P) mask -> (B, 1, px, px): every pixel gets its patch's value."""
    cells = mask.reshape(-1, 1, grid, grid)
    if px % grid == 0:  # told without asking the device, which would have to catch up first
        return cells.repeat_interleave(px // grid, dim=2).repeat_interleave(px // grid, dim=3)
    sizes = torch.tensor([b - a for a, b in itertools.pairwise(edges(px, grid))], device=mask.device)
    return cells.repeat_interleave(sizes, dim=2, output_size=px).repeat_interleave(
        sizes, dim=3, output_size=px
    )


def to_patches(x: Tensor, grid: int = GRID) -> Tensor:
    """(B, C, H, W) -> (B * P, C, H / grid, W / grid), in the order of the ids. H, W: multiples of grid."""
    batch, channels, height, width = x.shape
    x = x.view(batch, channels, grid, height // grid, grid, width // grid)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(batch * grid**2, channels, height // grid, width // grid)


def from_patches(x: Tensor, grid: int = GRID) -> Tensor:
    """The inverse of `to_patches`: (B * P, C, h, w) -> (B, C, h * grid, w * grid)."""
    count, channels, height, width = x.shape
    x = x.view(count // grid**2, grid, grid, channels, height, width)
    return x.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, height * grid, width * grid)
