"""What can be trained in epochs, and for how long."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from torch import nn
from torch.optim import Optimizer

from models.stages.draws import Draws
from models.stages.inputs import Batch, Indices


@dataclass(frozen=True)
class Plan:
    """How long and how fast a learner is trained; 0 epochs leave it as it starts."""

    epochs: int
    batch: int = 128
    lr: float = 1e-3
    schedule: Literal["constant", "cosine"] = "cosine"


class Learner(ABC):
    """Networks that are trained together, one step a batch.

    The loop sets each parameter group's `lr` by the plan's schedule from the group's `base` (the plan's `lr`
    where a group has none), and saves and restores all that `modules` and `optimisers` name.
    """

    @abstractmethod
    def modules(self) -> dict[str, nn.Module]:
        """All that is trained, by name."""

    @abstractmethod
    def optimisers(self) -> dict[str, Optimizer]:
        """Those that `step` uses, by name: the same objects at every call."""

    @abstractmethod
    def step(self, indices: Indices, batch: Batch, draws: Draws) -> dict[str, float]:
        """One batch (B,): forward, backward and the optimisers' steps; mean figures of the batch.

        indices (B,) number the data set's images; random numbers come from `draws` alone.
        """
