"""Answers by tile and patches: no tile is asked twice with the same patches."""

from collections.abc import Callable

import torch
from torch import Tensor

Ask = Callable[[list[int], Tensor], Tensor]
"""The answers (k, ...) of the tiles `rows` with the patches (k, P)."""


class Remembered:
    """What tiles answered. Who asks is named at each call: kept here it would hold whoever keeps this."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, bytes], Tensor] = {}

    def __call__(self, actions: Tensor, ask: Ask) -> Tensor:
        """The answers (n, ...) of all tiles, row i with the patches `actions[i]`, (n, P) in {0, 1}."""
        keys = [(row, mask.tobytes()) for row, mask in enumerate(actions.bool().cpu().numpy())]
        fresh = [row for row, key in enumerate(keys) if key not in self._known]
        if fresh:
            said = ask(fresh, actions[fresh])
            self._known |= {keys[row]: answer for row, answer in zip(fresh, said, strict=True)}
        return torch.stack([self._known[key] for key in keys])
