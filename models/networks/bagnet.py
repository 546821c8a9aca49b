"""BagNet at P = 16 patches (Brendel & Bethge 2019, as section 6 uses it): a CNN sees each patch by itself.

The class evidence of the patches is summed. No pixel outside a patch is read for its evidence, not even a
margin: a patch that was not taken costs neither pixels nor time.
"""

import models._torchvision  # noqa: F401  isort: skip  torchvision cannot be imported on a CPU-only torch before it

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from models import grid as grids

WIDTHS = (64, 128, 256)
"""Channels at 8, 4 and 2 px a side: 12 M multiplications a patch, 2.7 times a ResNet32 for all 16. In the
paper's table 3 BagNet takes 2.5 times the time of the CNN.
"""


class PatchNetwork(nn.Module):
    """Patches (K, 3, h, h) -> the evidence (K, N) each of them gives for every class."""

    def __init__(self, classes: int, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, widths[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        ]
        inputs = widths[0]
        for k, outputs in enumerate(widths):
            layers.append(_block(inputs, outputs, 1 if k == 0 else 2))
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.evidence = nn.Linear(inputs, classes)
        nn.init.zeros_(self.evidence.weight)  # the sum of 16 random guesses is a loud one

    def forward(self, patches: Tensor) -> Tensor:
        found: Tensor = self.evidence(self.layers(patches).mean(dim=(2, 3)))
        return found


def _block(inputs: int, outputs: int, stride: int) -> BasicBlock:
    if stride == 1 and inputs == outputs:
        return BasicBlock(inputs, outputs)
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
    return BasicBlock(inputs, outputs, stride, shortcut)


class BagNet(nn.Module):
    """(B, 3, H, H) normalised images -> (B, N) logits, the sum of the patches' evidence."""

    def __init__(self, classes: int, grid: int = grids.GRID, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.network, self.grid, self.classes = PatchNetwork(classes, widths), grid, classes

    def per_patch(self, x: Tensor, actions: Tensor | None = None) -> Tensor:
        """(B, P, N) evidence. With `actions` (B, P) only those patches are read and pass the network, in one
        batch of all images' patches; what was not taken says 0 of every class.
        """
        side = x.shape[-1] // self.grid
        cells = x.view(*x.shape[:2], self.grid, side, self.grid, side).permute(0, 2, 4, 1, 3, 5)
        if actions is None:
            taken = cells.flatten(0, 2)
            return self._of(taken).view(len(x), self.grid**2, self.classes)
        image, row, column = actions.view(-1, self.grid, self.grid).nonzero(as_tuple=True)
        evidence = self._of(cells[image, row, column])
        found = evidence.new_zeros(len(x), self.grid**2, self.classes)
        return found.index_put((image, row * self.grid + column), evidence)

    def _of(self, patches: Tensor) -> Tensor:
        if not len(patches):
            return patches.new_zeros(0, self.classes)
        found: Tensor = self.network(patches.contiguous(memory_format=torch.channels_last))
        return found

    def forward(self, x: Tensor, actions: Tensor | None = None) -> Tensor:
        return self.per_patch(x, actions).sum(dim=1)
