"""What the systems that the paper compares with share: an optimiser's step, and pixels to learn from."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from models.reproduce.bench import Bench
from models.reproduce.classifiers import optimiser_of
from models.reproduce.learner import Learner
from models.stages.draws import Draws, draw_from
from models.stages.inputs import Batch, Indices
from models.views import view_of

Made = TypeVar("Made", bound=nn.Module)


def new(bench: Bench, make: Callable[[], Made]) -> Made:
    """A network whose weights are those of the bench's seed, whatever was drawn before; on its device."""
    with torch.random.fork_rng(devices=[]):  # weights are drawn on the CPU
        torch.manual_seed(bench.seed)
        network = make().to(bench.device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def optimiser(bench: Bench, *groups: tuple[Iterable[nn.Parameter], float]) -> Optimizer:
    """The recipe's optimiser over (parameters, learning rate) of each group; what is frozen stays out."""
    trained = [([p for p in parameters if p.requires_grad], rate) for parameters, rate in groups]
    return optimiser_of(bench.recipe, [{"params": p, "lr": rate, "base": rate} for p, rate in trained])


def descend(optimiser: Optimizer, loss: Tensor) -> None:
    """One step down the loss."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def frozen(network: nn.Module) -> nn.Module:
    """A copy that passes gradients on and takes none."""
    return copy.deepcopy(network).requires_grad_(False).eval()


def student(bench: Bench) -> nn.Module:
    """Section 5.1: a body for x_l that starts from the HR classifier's weights, as the LR classifier did.

    Where the two are not the same network, it starts from the LR classifier's own.
    """
    names = bench.recipe.networks
    start = bench.system.hr if names.hr == names.lr else bench.system.lr
    assert start is not None
    return copy.deepcopy(start.body)


class Student(Learner):
    """f_cl^l on x_l by a loss of its own, from the start that `student` gives."""

    def __init__(self, bench: Bench, rate: float) -> None:
        self.bench, self.body = bench, student(bench)
        self._optimiser = optimiser(bench, (self.body.parameters(), rate))

    @abstractmethod
    def loss(self, said: Tensor, batch: Batch) -> Tensor:
        """The mean loss of the logits (B, N)."""

    def modules(self) -> dict[str, nn.Module]:
        return {"body": self.body}

    def optimisers(self) -> dict[str, Optimizer]:
        return {"body": self._optimiser}

    def step(self, indices: Indices, batch: Batch, draws: Draws) -> dict[str, float]:
        del indices
        self.body.train()
        draw_from(draws, self.body)
        with self.bench.autocast():
            said = self.body(batch.lr)
        loss = self.loss(said, batch)
        descend(self._optimiser, loss)
        right = (said.argmax(dim=1) == batch.labels).float().mean()
        return {"loss": float(loss.detach()), "accuracy": float(right)}


def augmented(bench: Bench, indices: Indices, draws: Draws) -> Tensor:
    """The images' HR pixels (B, 3, H, H), 0..255, each in a view of its own that the recipe allows."""
    views = draws.integers(0, bench.inputs.views, len(indices)).tolist()
    pairs = zip(indices.tolist(), views, strict=True)
    images = torch.stack([view_of(bench.inputs.images[i], view) for i, view in pairs])
    return images.to(bench.device, non_blocking=True).float()


def pixels(bench: Bench, indices: Indices) -> Tensor:
    """The images' HR pixels (B, 3, H, H), 0..255, as they are."""
    return bench.inputs.images[torch.from_numpy(indices)].to(bench.device).float()
