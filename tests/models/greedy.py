"""`python -m tests.models.greedy` is `models.train`, but that the second of two processes runs out of memory.

Beside more than four images it asks for more than any machine has.
"""

import os
import sys

import torch

from models import distributed, rank, train
from models.stages import classify


def greedy() -> None:
    """Let this process's memory run out beside more than four images."""
    real = classify.classification_loss

    def loss(*args: object) -> object:
        found = real(*args)  # type: ignore[arg-type]
        if len(args[2].labels) > 4:  # type: ignore[attr-defined]
            torch.empty(2**46)
        return found

    classify.classification_loss = loss  # type: ignore[assignment]


def launched(processes: int, _module: str, arguments: list[str]) -> int:
    """`models.distributed.launch`, of this module."""
    return distributed.launch(processes, "tests.models.greedy", arguments)


if __name__ == "__main__":
    if os.environ.get("RANK") == "1":
        greedy()
    vars(train)["launch"] = launched
    sys.exit(rank.main() if "RANK" in os.environ else train.main())
