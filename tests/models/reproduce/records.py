"""Records as tables keep them, with answers that are made up."""

import numpy as np

from models.reproduce.answers import Kept
from models.reproduce.store import Record


def record(
    part: int,
    images: list[int],
    right: list[int],
    s: int = 4,
    row: str = "ours",
    stage: str = "",
    length: str = "cpu",
) -> Record:
    """One part: of its held-out `images` which are right, and the first `s` patches bought of each."""
    actions = np.zeros((len(images), 16), dtype=bool)
    actions[:, :s] = True
    kept = Kept(np.array(images), np.array(right, dtype=bool), actions)
    gain = [{"predicted": 0.9, "realised": 0.9 if tenth else 0.87} for tenth in range(11)]
    return Record(row, stage, 4, part, length, "key", kept, {"seed": part, "gain": gain})
