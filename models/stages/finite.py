"""What has diverged, told before it is kept."""

import math
from collections.abc import Mapping


def check_finite(what: str, epoch: int, figures: Mapping[str, float]) -> None:
    """Raise ValueError where a figure of `what` is not finite in epoch `epoch`, counted from 0.

    What has diverged is no release, and no checkpoint that another attempt could go on from.
    """
    if lost := [key for key, value in figures.items() if not math.isfinite(value)]:
        told = f"{', '.join(lost)} is not finite"
        raise ValueError(f"{what} diverged in epoch {epoch + 1}: {told}; a smaller lr may help")
