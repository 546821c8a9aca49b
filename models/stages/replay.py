"""Experience replay (Lin 1992): what judges said is dear, so each answer is learned from more than once."""

import numpy as np
import torch
from torch import Tensor

from models.distributed import Group
from models.stages.curve import Seen
from models.stages.members import Indices


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

    def draw(self, count: int, key: tuple[int, ...]) -> Seen:
        """`count` of them, with repetition; `key` decides which."""
        assert self._kept is not None
        rows = torch.from_numpy(np.random.default_rng(key).integers(0, len(self), count))
        return Seen(*(field[rows.to(field.device)] for field in self._kept))

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return {} if self._kept is None else self._kept._asdict()

    def restore(self, state: dict[str, Tensor]) -> None:
        self._kept = Seen(**state) if state else None
