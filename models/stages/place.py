"""Where a training stands: its phases, how far it is, the step at hand, and who is told."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from models.recipe import STAGES, Recipe
from models.stages.draws import Indices
from models.stages.members import Member


@dataclass(frozen=True)
class Phase:
    """A stage of one member: the shadows pass through `hr` and `lr` as the released classifier does, and what
    answers for whole images through `hr`.
    """

    stage: str
    member: int

    @property
    def name(self) -> str:
        return self.stage if self.member == 0 else f"{self.stage} (shadow {self.member})"


@dataclass
class Position:
    """How far a training is: phases done, epochs of the next, steps of the next epoch, and their sums."""

    phase: int = 0
    epochs: int = 0
    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def within_phase(self) -> bool:
        return self.epochs > 0 or self.steps > 0


@dataclass(frozen=True)
class Step:
    """One batch of an epoch: which images, in which views and at which ds (B,)."""

    number: int
    epoch: int
    step: int
    indices: Indices
    views: Indices
    ds: Indices

    def __len__(self) -> int:
        return len(self.indices)


class Watch:
    """Who looks on: told of every step and every checkpoint. Does nothing itself."""

    def step(self, phase: Phase, number: int, epoch: int, step: int, steps: int) -> None: ...

    def saved(self, phase: Phase, epochs: int) -> None: ...

    def notice(self, text: str) -> None: ...


def phases(recipe: Recipe, members: Sequence[Member]) -> list[Phase]:
    """All that is trained, in order; stages of 0 epochs are left out."""
    of_stage = {
        "hr": range(len(members)),
        "lr": [m for m, member in enumerate(members) if member.lr is not None],
    }
    todo = [stage for stage in STAGES if recipe.stages[stage].epochs]
    return [Phase(stage, m) for stage in todo for m in of_stage.get(stage, (0,))]
