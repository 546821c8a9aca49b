"""HR to LR: area averaging by `ds`, as a coarser sensor sees it, then bilinearly to the policy's input size.

All on the 0..255 scale; shapes (B, C, H, W) float.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from models.architecture import FACTORS as FACTORS


def area_average(hr: Tensor, ds: int) -> Tensor:
    """(B, C, H, W) to (B, C, H/ds, W/ds), each output pixel the mean of the area it covers.

    Where H or W is no multiple of `ds`, the output has round(H/ds) (at least 1) rows of equal height, and
    input pixels that lie across a border count by the share of them on each side, so that the mean is always
    preserved. Raises ValueError for a `ds` below 1 or a tensor that is not (B, C, H, W) floating point.
    """
    if ds < 1:
        raise ValueError(f"ds must be 1 or more, not {ds}")
    if hr.dim() != 4 or not hr.is_floating_point():
        raise ValueError(f"expected (B, C, H, W) floating point, not {tuple(hr.shape)} {hr.dtype}")
    if ds == 1:
        return hr
    height, width = hr.shape[-2:]
    if height % ds == 0 and width % ds == 0:
        return functional.avg_pool2d(hr, ds)
    rows = _cover(height, max(1, round(height / ds))).to(hr)
    columns = _cover(width, max(1, round(width / ds))).to(hr)
    return rows @ hr @ columns.T


def _cover(length: int, cells: int) -> Tensor:
    """(cells, length): the share of cell i's length that input pixel j fills; each row sums to 1."""
    edges = torch.linspace(0, length, cells + 1, dtype=torch.float64)
    starts = torch.arange(length, dtype=torch.float64)
    low = torch.maximum(edges[:-1, None], starts[None, :])
    high = torch.minimum(edges[1:, None], starts[None, :] + 1)
    overlap = (high - low).clamp_min(0)
    return overlap / overlap.sum(dim=1, keepdim=True)


def to_px(x: Tensor, px: int) -> Tensor:
    """(B, C, H, W) to (B, C, px, px), bilinear between pixel centres, antialiased where it shrinks."""
    if x.shape[-2:] == (px, px):
        return x
    return functional.interpolate(x, size=(px, px), mode="bilinear", align_corners=False, antialias=True)


def low_resolution(hr: Tensor, ds: int, lr_px: int) -> Tensor:
    """The LR image of (B, C, H, W) HR: area-averaged by `ds`, brought to (B, C, lr_px, lr_px) bilinearly."""
    return to_px(area_average(hr, ds), lr_px)
