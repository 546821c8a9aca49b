"""Hard positives (section 7), CutOut, no augmentation: does hiding patches make a better classifier?

All three start from the same weights and learn for the same epochs; they are asked about whole HR images.
What is hidden is zero in what the trained layers see: normalised pixels, so the mean colour, or features of a
frozen stem. No LR stands in for it.

The policy is that of Ft-1; what it says of an image (its augmented view) decides what is hidden there.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from models.baselines.common import descend, frozen, optimiser
from models.networks import build
from models.patchdrop import masked
from models.reproduce import patchdrop
from models.reproduce.answers import Answers
from models.reproduce.bench import Bench
from models.reproduce.learner import Learner
from models.stages.draws import Draws, draw_from
from models.stages.inputs import Batch, Indices

NONE, CUTOUT, HARD = WAYS = ("none", "cutout", "hard positives")
FEWEST, MOST = 1, 4
"""M, the patches that are masked, is uniform between these (section 7)."""


def hardest(s: Tensor, count: Tensor) -> Tensor:
    """Keep all but the M patches with the highest s_p: s (B, P), count M (B,) -> (B, P) in {0, 1}."""
    ranks = s.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (ranks >= count[:, None]).to(s.dtype)


def cut_out(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """x (B, C, H, H) with a square of half its side set to zero around each centre (B,), cut at the border.

    DeVries & Taylor 2017, section 3.2: 16 px on CIFAR-10 (4.1), the centre anywhere in the image.
    """
    px = x.shape[-1]
    half = px // 4
    places = torch.arange(px, device=x.device)

    def within(centres: Tensor) -> Tensor:
        low = centres.to(x.device)[:, None] - half
        return (places >= low) & (places < low + 2 * half)

    square = within(rows)[:, :, None] & within(columns)[:, None, :]
    return x.masked_fill(square[:, None], 0)


class Augmented(Learner):
    """An HR classifier from the start, on images of which one of the three ways hides something."""

    def __init__(self, bench: Bench, way: str, body: nn.Module, policy: nn.Module, rate: float) -> None:
        self.bench, self.way, self.body, self.policy = bench, way, body, policy
        self._optimiser = optimiser(bench, (body.parameters(), rate))

    def modules(self) -> dict[str, nn.Module]:
        return {"body": self.body}

    def optimisers(self) -> dict[str, Optimizer]:
        return {"body": self._optimiser}

    @torch.no_grad()
    def hidden(self, batch: Batch, draws: Draws) -> Tensor:
        """batch.hr (B, C, H, H) without what this way hides."""
        x, count = batch.hr, len(batch.labels)
        if self.way == CUTOUT:
            rows, columns = torch.from_numpy(draws.integers(0, x.shape[-1], (count, 2))).unbind(1)
            return cut_out(x, rows, columns)
        if self.way == HARD:
            many = torch.from_numpy(draws.integers(FEWEST, MOST + 1, (count, 1)))[:, 0].to(x.device)
            return masked(x, None, hardest(self.policy(batch.policy).float(), many), self.grid)
        return x

    @property
    def grid(self) -> int:
        return self.bench.recipe.images.grid

    def step(self, indices: Indices, batch: Batch, draws: Draws) -> dict[str, float]:
        del indices
        self.body.train()
        draw_from(draws, self.body)
        with self.bench.autocast():
            said = self.body(self.hidden(batch, draws)).float()
        loss = functional.cross_entropy(said, batch.labels)
        descend(self._optimiser, loss)
        right = (said.argmax(dim=1) == batch.labels).float().mean()
        return {"loss": float(loss.detach()), "accuracy": float(right)}


def untrained(bench: Bench) -> nn.Module:
    """The HR classifier's body before training: the same weights at every call."""
    torch.manual_seed(bench.seed)
    images, names = bench.recipe.images, bench.recipe.networks
    network = build.classifier(
        names.hr, bench.classes, patchwise=True, grid=images.grid, imagenet=names.imagenet
    )
    return network.body.to(bench.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def trained(bench: Bench, way: str, policy: nn.Module, key: str = "") -> nn.Module:
    """A classifier that learned in one of the three ways; `key` names the policy. Raises SliceOver."""
    plan, body = bench.plan("hard"), untrained(bench)
    made_of = (way, key) if way == HARD else (way,)
    bench.fit("hard", Augmented(bench, way, body, policy, plan.lr), plan, made_of)
    return body


def hard_rows(bench: Bench) -> dict[str, Answers]:
    """The three rows of table 4, by PatchDrop's policy after Ft-1. Raises SliceOver."""
    system = patchdrop.systems(bench, stages=("pt", "ft1"))["ft1"]
    return rows_by(bench, frozen(system.policy.body), patchdrop.key(bench, "ft1"))


def rows_by(bench: Bench, policy: nn.Module, key: str = "") -> dict[str, Answers]:
    """{way: what its classifier says of held-out whole images}; the hard positives are this policy's, which
    `key` names.
    """
    return {way: bench.whole(trained(bench, way, policy, key)) for way in WAYS}
