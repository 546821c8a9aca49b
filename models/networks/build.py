"""Networks by name. Each is a frozen `stem` (often nothing) and a trained `body`; forward is body(stem(x)).

A stem is never trained and has no dropout, so its features can be computed once per image. An HR stem sees
each patch by itself: masking its features is masking the pixels, and a patch not bought costs nothing.
"""

import torch
from torch import Tensor, nn

from models import grid as grids
from models.architecture import CLASSIFIERS as CLASSIFIERS
from models.architecture import CURVE, LITE, RESNETS, TINY, WIDTH
from models.architecture import POLICIES as POLICIES
from models.networks import efficientnet_lite as lite
from models.networks.curve import AnswerCurveBody
from models.networks.resnet import resnet

_CHUNK = 64


class PatchwiseStem(nn.Module):
    """Run a trunk on every patch alone: (B, 3, H, H) -> (B, C, h, h), the patches' features side by side."""

    def __init__(self, trunk: nn.Module, grid: int) -> None:
        super().__init__()
        self.trunk, self.grid = trunk, grid

    def forward(self, x: Tensor) -> Tensor:
        patches = grids.to_patches(x, self.grid).contiguous(memory_format=torch.channels_last)
        if x.device.type == "cpu":  # a few patches at a time stay in the processor's cache: half the time
            features = torch.cat([self.trunk(chunk) for chunk in torch.split(patches, _CHUNK)])
        else:
            features = self.trunk(patches)
        return grids.from_patches(features, self.grid)


class Network(nn.Module):
    """A frozen stem and a trained body: (B, 3, px, px) normalised -> (B, outputs) logits."""

    def __init__(self, stem: nn.Module, body: nn.Module) -> None:
        super().__init__()
        self.stem = stem.requires_grad_(False).eval()
        self.body = body

    def train(self, mode: bool = True) -> "Network":
        super().train(mode)
        self.stem.eval()  # its batch statistics are ImageNet's for good
        return self

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(self.stem(x))
        return logits


class _Tiny(nn.Sequential):
    """A network of a few thousand weights for trials of the whole line; no claim of accuracy."""

    def __init__(self, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(3, 16, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(128, outputs),
        )


_REACH = 5.0


class SpatialPolicyBody(nn.Module):
    """(B, 320, h, w) features of x_l and the LR stream's log-probabilities (B, N) -> (B, P) logits of s_p.

    Every patch is judged by the features at its own place, those of the whole tile, and by how sure the LR
    stream is of its class: the sorted log-probabilities say it whichever class it is.
    """

    needs_lr_answer = True

    def __init__(self, channels: int, classes: int, grid: int, width: int = 96) -> None:
        super().__init__()
        self.grid = grid
        self.local = nn.Sequential(nn.Conv2d(channels, width, 1), nn.GELU())
        self.whole = nn.Linear(channels, width)
        self.answer = nn.Linear(2 * classes, width)
        self.place = nn.Parameter(torch.zeros(1, width, grid, grid))
        self.score = nn.Sequential(nn.GELU(), nn.Conv2d(width, width, 1), nn.GELU(), nn.Conv2d(width, 1, 1))

    def forward(self, features: Tensor, lr_answer: Tensor) -> Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(features, self.grid)
        sure = torch.cat([lr_answer, lr_answer.sort(dim=1, descending=True).values], dim=1).clamp_min(-10)
        whole = self.whole(features.mean(dim=(2, 3))) + self.answer(sure)
        logits: Tensor = self.score(self.local(pooled) + whole[:, :, None, None] + self.place)
        # A sigmoid far out has no gradient left, whatever Eq. 11 still explores.
        return _REACH * (logits.flatten(1) / _REACH).tanh()


def classifier(name: str, classes: int, *, patchwise: bool, grid: int, imagenet: bool = False) -> Network:
    """f_cl^h (`patchwise`) or f_cl^l by name. `imagenet` fills what has published weights.

    Raises ValueError for an unknown name, or for ImageNet weights that are not to be had.
    """
    if name == LITE:
        low, body = lite.low_trunk(), lite.LiteBody(classes)
        if imagenet:
            lite.load_imagenet(low, body.high, body.head)
        lite.freeze_depthwise(body)
        return Network(PatchwiseStem(low, grid) if patchwise else low, body)
    if imagenet:
        raise ValueError(f"no ImageNet weights of {name} are to be had from a package")
    if name == TINY:
        return Network(nn.Identity(), _Tiny(classes))
    if name in RESNETS:
        return Network(nn.Identity(), resnet(name, classes))
    raise ValueError(f"no classifier is named {name!r}: {', '.join(CLASSIFIERS)}")


def policy(
    name: str, classes: int, *, grid: int, imagenet: bool = False, looks: int = 1, width: int = WIDTH
) -> Network:
    """f_p by name: its logits pass a sigmoid to be s_p (Eq. 6), those of `answer-curve` first `models.gain`;
    that one may have several `looks`, and has `width` hidden units.

    Raises ValueError for an unknown name.
    """
    if name == CURVE:
        return Network(nn.Identity(), AnswerCurveBody(classes, grid**2, width, looks))
    if name == LITE:
        low, high = lite.low_trunk(), lite.high_trunk()
        if imagenet:
            lite.load_imagenet(low, high)
        return Network(nn.Sequential(low, high), SpatialPolicyBody(lite.HIGH_CHANNELS, classes, grid))
    if name == TINY:
        return Network(nn.Identity(), _Tiny(grid**2))
    if name in RESNETS:
        return Network(nn.Identity(), resnet(name, grid**2))
    raise ValueError(f"no policy is named {name!r}: {', '.join(POLICIES)}")
