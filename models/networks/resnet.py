"""The paper's ResNets from torchvision's blocks: ResNet8/10 policies, ResNet32/34/50 classifiers."""

import models._torchvision  # noqa: F401  isort: skip  torchvision cannot be imported on a CPU-only torch before it

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet


class _OptionA(nn.Module):
    """The parameter-free shortcut of He et al. 2016, section 4.2: stride 2, new channels are zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        added = self.channels - x.shape[1]
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, added // 2, added - added // 2))


class CifarResNet(nn.Module):
    """ResNet of depth 6n + 2 for small images (He et al. 2016, section 4.2): (B, 3, H, W) -> (B, outputs).

    Parameter names are those of the widely used CIFAR-10 checkpoints (conv1, layer1.0.conv1, ..., linear).
    """

    def __init__(self, depth: int, outputs: int) -> None:
        super().__init__()
        if (depth - 2) % 6:
            raise ValueError(f"depth is 6n + 2, not {depth}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._layer(16, 16, blocks)
        self.layer2 = self._layer(16, 32, blocks)
        self.layer3 = self._layer(32, 64, blocks)
        self.linear = nn.Linear(64, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    @staticmethod
    def _layer(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
        first = BasicBlock(
            inputs, outputs, 2 if inputs != outputs else 1, None if inputs == outputs else _OptionA(outputs)
        )
        return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x))).mean(dim=(2, 3))
        logits: Tensor = self.linear(x)
        return logits


_IMAGENET: dict[str, Any] = {
    "resnet10": partial(ResNet, BasicBlock, [1, 1, 1, 1]),
    "resnet18": partial(ResNet, BasicBlock, [2, 2, 2, 2]),
    "resnet34": partial(ResNet, BasicBlock, [3, 4, 6, 3]),
    "resnet50": partial(ResNet, Bottleneck, [3, 4, 6, 3]),
}
_CIFAR = {"resnet8": 8, "resnet20": 20, "resnet32": 32}


def resnet(name: str, outputs: int) -> nn.Module:
    """A ResNet by name with `outputs` logits. Raises KeyError for a name that is none."""
    if name in _CIFAR:
        return CifarResNet(_CIFAR[name], outputs)
    network: nn.Module = _IMAGENET[name](num_classes=outputs)
    return network
