"""A saliency network says where an image is worth zooming into; its map becomes a policy: the top S patches.

Recasens et al. 2018 ("Learning to zoom: a saliency-based sampling layer for neural networks"), section 3:
from x_l a small network tells a saliency map; the HR image is sampled on a grid that salient places attract;
a classifier learns on the warped image, and the saliency through it from labels alone. Some of the warped
images are blurred, as in the source, so that details only count where they are zoomed to. The paper (section
5.2) takes that network for the policy and the S most salient patches for its choice. Taken here:
- The saliency network is a few convolutions from scratch, not ResNet18's first layers.
- The warped image has half the side of x_h: with all its pixels nothing would be won by zooming.
- The blur is to the detail of x_l, on half of the images at all times.
- The classifier is a copy of f_cl^h on the whole warped image, trained along at a tenth of the rate (what is
  frozen of it stays frozen).
"""

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from models.baselines.common import augmented, descend, new, optimiser, pixels
from models.data.degrade import area_average, low_resolution, to_px
from models.networks.build import PatchwiseStem
from models.reproduce.bench import Bench
from models.reproduce.learner import Learner
from models.stages.draws import Draws, draw_from
from models.stages.inputs import Batch, Indices

CELLS = 16
"""Cells along a side of the saliency map, if x_l has so many pixels."""
SLOWER = 0.1
SIGMA = 13 / 31 / (8 * math.log(2)) ** 0.5
"""Of the Gaussian, in sides of the map: 13 of 31 cells wide at half its height, as in the authors' own layer.

A third of the side, twice as much, hardly zooms into a patch away from the border before it is the only
salient one (docs/lab-notes.md).
"""
BLURRED = 0.5
"""Share of the warped images that are blurred."""
_REACH = 5  # standard deviations; past them a Gaussian weighs less than 4e-6 of its middle
_LEAST = 1e-3  # of the saliency is spread evenly, so that no place has none


class SaliencyNetwork(nn.Module):
    """x_l (B, 3, h, h) normalised -> (B, cells, cells) saliency that sums to 1; uniform at the start."""

    def __init__(self, lr_px: int, cells: int, width: int = 24) -> None:
        super().__init__()
        halvings = max(0, int(math.log2(lr_px / cells)))
        layers: list[nn.Module] = []
        inputs = 3
        for k in range(max(3, halvings + 1)):
            stride = 2 if k < halvings else 1
            layers += [
                nn.Conv2d(inputs, width, 3, stride, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            inputs = width
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(cells))
        self.score = nn.Conv2d(width, 1, 1)
        nn.init.zeros_(self.score.weight)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.score(self.layers(x)).float()
        share = scores.flatten(1).softmax(dim=1)
        spread = (1 - _LEAST) * share + _LEAST / share.shape[1]
        return spread.view_as(scores[:, 0])


def sampling_grid(saliency: Tensor, px: int, sigma: float = SIGMA) -> Tensor:
    """The source of each pixel of the warped image: (B, n, n) saliency -> (B, px, px, 2), x and y in [-1, 1].

    u(x, y) is the mean of all places weighted by saliency and a Gaussian around (x, y) (Recasens et al.,
    section 3). The map goes on past its borders with the values it has there, or the borders would be pulled
    inwards. A uniform map of 6 cells a side or more gives the identity.
    """
    n = saliency.shape[-1]
    spread = sigma * n
    padding = math.ceil(_REACH * spread)
    with torch.autocast(saliency.device.type, enabled=False):
        wide = functional.pad(saliency.float()[:, None], (padding,) * 4, mode="replicate")[:, 0]
        places = torch.arange(-padding, n + padding, device=saliency.device) + 0.5
        asked = (torch.arange(px, device=saliency.device) + 0.5) * n / px
        kernel = torch.exp(-((asked[:, None] - places[None, :]) ** 2) / (2 * spread**2))
        at = places * 2 / n - 1
        weight = kernel @ wide @ kernel.T
        x = kernel @ (wide * at) @ kernel.T / weight
        y = kernel @ (wide * at[:, None]) @ kernel.T / weight
    return torch.stack([x, y], dim=-1).clamp(-1, 1)


def warped(image: Tensor, saliency: Tensor, px: int) -> Tensor:
    """(B, C, H, H) sampled where the saliency (B, n, n) draws it to: (B, C, px, px)."""
    grid = sampling_grid(saliency, px)
    with torch.autocast(image.device.type, enabled=False):
        return functional.grid_sample(image.float(), grid, padding_mode="border", align_corners=False)


def per_patch(saliency: Tensor, grid: int) -> Tensor:
    """(B, n, n) -> (B, P): the saliency that lies in each patch, in the order of the ids."""
    n = saliency.shape[-1]
    pooled = functional.adaptive_avg_pool2d(saliency[:, None], grid) * (n / grid) ** 2
    return pooled.flatten(1)


class Zoom(Learner):
    """Saliency network and classifier, both by the cross-entropy on warped images."""

    def __init__(self, bench: Bench, rate: float) -> None:
        self.bench, system = bench, bench.system
        lr_px = bench.recipe.images.lr_px
        self.px = bench.recipe.images.hr_px // 2
        self.saliency = new(bench, lambda: SaliencyNetwork(lr_px, min(CELLS, lr_px)))
        stem = system.hr.stem
        self.stem = stem.trunk if isinstance(stem, PatchwiseStem) else stem
        self.body = copy.deepcopy(system.hr.body)
        self._optimiser = optimiser(
            bench, (self.saliency.parameters(), rate), (self.body.parameters(), SLOWER * rate)
        )

    def modules(self) -> dict[str, nn.Module]:
        return {"saliency": self.saliency, "body": self.body}

    def optimisers(self) -> dict[str, Optimizer]:
        return {"zoom": self._optimiser}

    def map_of(self, hr: Tensor) -> Tensor:
        """HR pixels (B, 3, H, H), 0..255 -> the saliency (B, n, n) of their x_l."""
        lr = low_resolution(hr, self.bench.ds, self.bench.recipe.images.lr_px)
        found: Tensor = self.saliency(self.bench.system.normalised(lr))
        return found

    def step(self, indices: Indices, batch: Batch, draws: Draws) -> dict[str, float]:
        self.saliency.train()
        self.body.train()
        draw_from(draws, self.body)
        hr = augmented(self.bench, indices, draws)
        with self.bench.autocast():
            image = warped(self.bench.system.normalised(hr), self.map_of(hr), self.px)
            image = self._blurred(image, draws)
            said: Tensor = self.body(self.stem(image))
        loss = functional.cross_entropy(said.float(), batch.labels)
        descend(self._optimiser, loss)
        right = (said.argmax(dim=1) == batch.labels).float().mean()
        return {"loss": float(loss.detach()), "accuracy": float(right)}

    def _blurred(self, image: Tensor, draws: Draws) -> Tensor:
        """Some of the warped images (B, 3, px, px) as an even grid would show x_l."""
        smooth = to_px(area_average(image, max(2, self.bench.ds // 2)), self.px)
        chosen = torch.from_numpy(draws.random(len(image)) < BLURRED).to(image.device)
        return torch.where(chosen[:, None, None, None], smooth, image)


@torch.no_grad()
def scores(bench: Bench, learner: Zoom) -> Tensor:
    """(n, P) saliency of every image's patches, in the order of the data set; each row sums to 1."""
    learner.saliency.eval()
    everything = np.arange(len(bench.inputs.images))
    found = []
    for start in range(0, len(everything), 128):
        indices = everything[start : start + 128]
        maps = learner.map_of(pixels(bench, indices))
        found.append(per_patch(maps, bench.recipe.images.grid).cpu())
    return torch.cat(found)


def trained(bench: Bench) -> tuple[str, Zoom]:
    """The saliency network and the hash that names its training. Raises SliceOver."""
    plan = bench.plan("stn")
    learner = Zoom(bench, plan.lr)
    return bench.fit("stn", learner, plan), learner


def saliency(bench: Bench) -> tuple[str, Tensor]:
    """(n, P) how salient each patch of every image of the data set is, learned and unseen ones alike, and the
    hash that names the training. Raises SliceOver.
    """
    key, learner = trained(bench)
    return key, scores(bench, learner)
