"""Out of memory: a stage's batches are split and gradients accumulate, and that is said.

The result is that of the whole batch but for batch norm, whose statistics are then those of each part.
"""

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from models.stages.members import Indices

Result = TypeVar("Result")

# what torch's CPU allocator, oneDNN and C++ say; CUDA raises a class of its own, but for cuBLAS and cuDNN
_SAID = (
    "can't allocate memory",
    "out of memory",
    "bad_alloc",
    "could not create a memory object",
    "_STATUS_ALLOC_FAILED",
)


class OutOfMemory(Exception):
    """A batch does not fit, not even in the smallest parts."""


class StartAgain(OutOfMemory):
    """Among several processes: a batch does not fit in these parts; it may in those written down."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID)


def symmetric_parts(count: int, parts: int) -> list[Indices]:
    """Rows 0..count - 1 in `parts` sorted arrays, each its own mirror image: row r comes with count - 1 - r.

    Mixup pairs a batch with itself turned round, so a pair is never torn apart. Empty parts are left out.
    """
    pieces = np.array_split(np.arange((count + 1) // 2), parts)
    return [np.unique(np.concatenate([piece, count - 1 - piece])) for piece in pieces if len(piece)]


class Memory:
    """How many parts each stage's batches are worked on in; `kept` is a file that outlives this process.

    `together`: other processes share the batch and would wait for ever for one that starts it again, so all
    of them must: the new number is written down and StartAgain raised.
    """

    def __init__(
        self, notice: Callable[[str], None], kept: Path | None = None, *, together: bool = False
    ) -> None:
        self.parts: dict[str, int] = {}
        self._notice, self._kept, self._together = notice, kept, together
        if kept is not None and kept.exists():
            self.restore(json.loads(kept.read_text()))

    def restore(self, parts: dict[str, int]) -> None:
        """Go on with at least these numbers of parts."""
        for stage, number in parts.items():
            if number > self.parts.get(stage, 1):
                self.parts[stage] = number
                # whoever split may not have been the one that speaks for all
                self._notice(changed(stage, number))

    def within(self, stage: str, rows: int, work: Callable[[int], Result]) -> Result:
        """`work(parts)` in as few parts as fit, of two rows or more. Raises OutOfMemory, StartAgain."""
        while True:
            parts = self.parts.get(stage, 1)
            try:
                return work(parts)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                said = str(error).split("\n")[0]
            # here the failed attempt's tensors are no longer held by its traceback
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if parts * 4 > rows:
                raise OutOfMemory(f"stage {stage} does not fit even {rows // parts} images at a time: {said}")
            self._split(stage, parts * 2, rows)

    def _split(self, stage: str, parts: int, rows: int) -> None:
        self.parts[stage] = parts
        if self._kept is not None:
            part = self._kept.with_suffix(".part")
            part.write_text(json.dumps(self.parts))
            part.replace(self._kept)
        self._notice(changed(stage, parts))
        if self._together:
            raise StartAgain(
                f"stage {stage}: {rows} images did not fit; all processes start again in {parts} parts"
            )


def changed(stage: str, parts: int) -> str:
    """How a split is told in the run and in the card."""
    return (
        f"stage {stage}: memory ran out, so each batch is worked on in {parts} parts and their gradients are "
        f"added up; batch norm, where there is any, sees a part at a time"
    )
