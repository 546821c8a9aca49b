"""BagNet at P = 16 patches (Brendel & Bethge 2019, as section 6 uses it): a CNN sees each patch by itself.

The class evidence of the patches is summed. No pixel outside a patch is read for its evidence, not even a
margin: a patch that was not taken costs neither pixels nor time.
"""

import models._torchvision  # noqa: F401  isort: skip  torchvision cannot be imported on a CPU-only torch before it

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from models import grid as grids

Levels = tuple[tuple[int, int], ...]

LEVELS: Levels = ((64, 2), (160, 1))
"""Channels and residual blocks at each size, 8 px and 4 px: 0.5 M weights as a ResNet32, and for all 16
patches 3.5 times its multiplications (in the paper's table 3 BagNet takes 2.5 times the CNN's time). A third
level of 2 px has many weights for few places: six patches of one image then take over half as long as 16.
"""


class PatchNetwork(nn.Module):
    """Patches (K, 3, h, h) -> the evidence (K, N) each of them gives for every class."""

    def __init__(self, classes: int, levels: Levels = LEVELS) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, levels[0][0], 3, padding=1, bias=False),
            nn.BatchNorm2d(levels[0][0]),
            nn.ReLU(inplace=True),
        ]
        inputs = levels[0][0]
        for level, (outputs, blocks) in enumerate(levels):
            for k in range(blocks):
                layers.append(_block(inputs, outputs, 2 if level and not k else 1))
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

    def __init__(self, classes: int, grid: int = grids.GRID, levels: Levels = LEVELS) -> None:
        super().__init__()
        self.network, self.grid, self.classes = PatchNetwork(classes, levels), grid, classes

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
