"""Experience replay (Lin 1992): what judges said is dear, so each answer is learned from more than once."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from models.distributed import Group
from models.stages.curve import Seen
from models.stages.members import Indices
from models.stages.memory import symmetric_parts


class Replay:
    """The last `capacity` images that judges were asked about, the same ones in every process of a group."""

    def __init__(self, capacity: int, group: Group) -> None:
        self._capacity, self._group = capacity, group
        self._kept: Seen | None = None

    def __len__(self) -> int:
        return 0 if self._kept is None else len(self._kept.sizes)

    def add(self, parts: list[tuple[Indices, Seen]], count: int) -> None:
        """One batch of `count` images: of each of this process's parts its rows and what was seen."""
        fields = []
        for at in range(len(Seen._fields)):
            first = parts[0][1][at]
            whole = first.new_zeros((count, *first.shape[1:]))
            for rows, seen in parts:
                whole[torch.from_numpy(rows).to(whole.device)] = seen[at]
            fields.append(self._group.summed(whole))
        if self._kept is not None:
            fields = [torch.cat(pair) for pair in zip(self._kept, fields, strict=True)]
        self._kept = Seen(*(field[-self._capacity :] for field in fields))

    def turns(self, times: int, place: tuple[int, ...], count: int) -> Iterator[tuple[Indices, Seen]]:
        """`times` batches of `count` images drawn with repetition: this process's rows of each, with numbers
        that no other image has at this place of the training. `place` ends with the step.
        """
        mine = symmetric_parts(count, self._group.size)[self._group.rank]
        for turn in range(times):
            drawn = np.random.default_rng((*place, turn)).integers(0, len(self), count)[mine]
            numbers = ((place[-1] * times + turn + 1) << 32) + mine
            yield numbers, self._rows(torch.from_numpy(drawn))

    def _rows(self, rows: Tensor) -> Seen:
        assert self._kept is not None
        return Seen(*(field[rows.to(field.device)] for field in self._kept))

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {} if self._kept is None else self._kept._asdict()

    def restore(self, state: dict[str, Tensor]) -> None:
        if state and state["hr"].dim() == 2:  # of a time when every policy looked once
            state = {**state, "hr": state["hr"][:, None]}
        self._kept = Seen(**state) if state else None
