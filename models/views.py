"""The eight symmetries of a square image, numbered."""

from torch import Tensor

from models.architecture import ANSWERING as ANSWERING


def view_of(x: Tensor, view: int) -> Tensor:
    """Symmetry `view` of (..., H, W) squares: 0 as it is, 1 mirrored, then quarter turns of both."""
    x = x.rot90(view // 2, (-2, -1)) if view >= 2 else x
    return x.flip(-1) if view % 2 else x


def composed(first: int, then: int) -> int:
    """The one symmetry that is `then` after `first`."""
    turns, mirrored = first // 2, first % 2
    # a turn after a mirroring is the opposite turn before it
    turned = (turns + (-(then // 2) if mirrored else then // 2)) % 4
    return 2 * turned + (mirrored + then) % 2
