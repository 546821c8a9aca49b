"""Names and sizes of networks and images, free of torch, so that the service can check a recipe by itself."""

from dataclasses import asdict, dataclass
from typing import Any

GRID = 4
"""Patches along a side; P = GRID ** 2 = 16 in every experiment of the paper."""

FACTORS = (1, 2, 4, 8, 16, 32)
"""Downsampling ratios `ds` in use: the paper's 4, and figure 5's range around it; 1 leaves HR as it is."""

ANSWERING = {1: (0,), 2: (0, 1), 4: (0, 3, 4, 7)}
"""Symmetries an answer may be the mean of: of two the image and its mirror image; of four the image, both
diagonal mirrorings and the half turn. They are groups; the four map the other four onto one another."""

LITE = "efficientnet-lite0"
TINY = "tiny"
RESNETS = ("resnet8", "resnet20", "resnet32", "resnet10", "resnet18", "resnet34", "resnet50")
CLASSIFIERS = (LITE, TINY, *RESNETS)
CURVE = "answer-curve"
"""The policy that reads what both streams say, without HR or at a second look with the first of it."""
POLICIES = (LITE, TINY, CURVE, *RESNETS)
WIDTH = 48
"""Hidden units of such a policy that was told no other number: enough to tell one look."""
RINGS, DISTANCE = ORDERS = ("rings", "distance")
"""In which order such a policy takes the patches, both from the centre outwards: a whole ring of the grid
before the next, its corners first, or the nearest to the centre first."""


@dataclass(frozen=True)
class Architecture:
    """Names and sizes from which the networks are built anew; `lr` is empty in a one-stream release.

    `lr_views`, `hr_views`: a stream's answer is its mean over so many symmetries of its image: 1, 2 or 4 of
    the square's 8.
    `missed_cost`: what an answer that was wrong for want of HR costs, in patches bought for nothing. The odds
    of a policy that was trained to tell what a patch gains are multiplied by it: buying pays above 0.5.
    `order`: one of ORDERS.
    `looks`: 2 where a policy that reads answers is asked once more with the patches that it had bought first.
    `width`: hidden units of such a policy.
    `whole`: the HR stream answers by weights of their own, which learned without masks, where all patches are
    there.
    """

    classes: int
    lr_px: int
    hr_px: int
    policy: str
    hr: str
    lr: str = ""
    lr_input_px: int = 0
    grid: int = GRID
    fill: str = "zeros"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    missed_cost: float = 1.0
    lr_views: int = 1
    hr_views: int = 1
    order: str = RINGS
    looks: int = 1
    width: int = WIDTH
    whole: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Architecture":
        return cls(**{**raw, "mean": tuple(raw["mean"]), "std": tuple(raw["std"])})
