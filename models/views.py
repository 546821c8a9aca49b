"""The eight symmetries of a square image, numbered; what a stream sees in several of them."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from models.architecture import ANSWERING as ANSWERING
from models.patchdrop import masked


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


class View(NamedTuple):
    """One view of a batch: the stem features (B, C, h, w) of HR and, unless it is zeros, of the fill."""

    view: int
    hr: Tensor
    fill: Tensor | None

    def masked(self, actions: Tensor, grid: int) -> Tensor:
        """x_h^m in this view. actions (B, P) are of the image as it is."""
        turned = view_of(actions.view(-1, grid, grid), self.view).flatten(1)
        return masked(self.hr, self.fill, turned, grid)

    def rows(self, which: Sequence[int]) -> "View":
        """The same view of some of the images."""
        rows = list(which)
        return View(self.view, self.hr[rows], None if self.fill is None else self.fill[rows])
