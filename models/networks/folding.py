"""Batch norms folded into the convolutions before them: for networks that only answer."""

import copy
import itertools
from collections.abc import Iterator

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def folded(module: nn.Module) -> nn.Module:
    """A copy for inference, every batch norm folded into the convolution before it: less memory traffic.

    Pairs are neighbours in a Sequential, and `convK` with `bnK` of one block, as torchvision names them.
    """
    module = copy.deepcopy(module).eval()
    for parent in list(module.modules()):
        for before, after in list(_pairs(parent)):
            convolution, norm = getattr(parent, before), getattr(parent, after)
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, before, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, after, nn.Identity())
    return module


def _pairs(parent: nn.Module) -> Iterator[tuple[str, str]]:
    names = [name for name, _ in parent.named_children()]
    if isinstance(parent, nn.Sequential):
        yield from itertools.pairwise(names)
    for name in names:
        number = name.removeprefix("conv")
        if number != name and f"bn{number}" in names:
            yield name, f"bn{number}"
