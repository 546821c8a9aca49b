"""Everything that could be bought, as arrays: patches with their ground, tiles with what is gained from them.

Without a gain model the policy's probabilities stand in: the "accuracy" of a tile is then the share of its
probabilities that is bought, which orders patches but says nothing of right answers (``uncalibrated``).

Patches of which LR shows nothing have no worth: the policy has no say there. A tile of such patches alone
says nothing of what is expected.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray

from app.orderable.cells import Cell
from app.orderable.ground import Floats, Shapes, areas_km2, shapes
from app.orderable.pieces import Ints
from models.card import GainModel

Mask = NDArray[np.bool_]

# under this a tile's chance of a right answer is not worth speaking of: "LR is enough"
ENOUGH: Final = 0.005


@dataclass(frozen=True)
class TileOffer:
    """One tile as a plan left it. ``cells`` are its patches with any ground; ``gain`` is ``TileRow.gain``.

    ``unseen`` are the patches of which LR shows nothing.
    """

    plan_id: Any
    tile: int
    cells: Sequence[Cell]
    probabilities: Sequence[float]
    threshold: float
    gain: dict[str, Any] | None = None
    model: GainModel | None = None
    unseen: Collection[int] = ()


class Stock:
    """Patches (N arrays) of tiles (T arrays), and what any set of patches is worth."""

    def __init__(self, tiles: Sequence[TileOffer]) -> None:
        self.tiles = tiles
        self.blind: Mask = np.array(
            [bool(t.cells) and all(c.patch in t.unseen for c in t.cells) for t in tiles], bool
        )
        seen = [tile for tile, blind in zip(tiles, self.blind, strict=True) if not blind]
        # of tiles that show nothing a plan keeps no gain, whether or not there is a model
        modelled = bool(tiles) and all(tile.model for tile in seen or tiles)
        self.calibrated = modelled and all(tile.gain is not None for tile in seen)
        cells = [cell for tile in tiles for cell in tile.cells]
        self.polygons: Shapes = shapes([cell.polygon for cell in cells])
        self.tile: Ints = np.repeat(np.arange(len(tiles)), [len(tile.cells) for tile in tiles])
        self.patch: Ints = np.array([cell.patch for cell in cells], dtype=np.int64)
        self.area: Floats = areas_km2(self.polygons)
        self.seen: Mask = np.array([c.patch not in t.unseen for t in tiles for c in t.cells], bool)
        said = np.array([t.probabilities[c.patch] for t in tiles for c in t.cells], float)
        self.probability = np.where(self.seen, said, 0.0)
        self._curves: list[Floats] = []
        self._curve_of = np.zeros(len(tiles), np.int64)
        if self.calibrated:
            self._from_gains(tiles)
        else:
            self.low = np.zeros(len(tiles))
            whole = np.bincount(self.tile, self.probability, minlength=len(tiles))
            self.rise = whole
            self.weight = self.probability / np.where(whole[self.tile] > 0, whole[self.tile], 1.0)
            self._curves = [np.array([0.0, 1.0])]

    def _from_gains(self, tiles: Sequence[TileOffer]) -> None:
        nothing: dict[str, Any] = {"lr": 0.0, "hr": 0.0, "weights": [0.0] * 16}
        gains = [
            nothing if blind or tile.gain is None else tile.gain
            for tile, blind in zip(tiles, self.blind, strict=True)
        ]
        self.low = np.array([float(gain["lr"]) for gain in gains])
        # where HR is expected to harm, it is not looked at: LR answers
        self.rise = np.maximum(np.array([float(gain["hr"]) for gain in gains]) - self.low, 0.0)
        weights = [
            gain["weights"][cell.patch]
            for gain, tile in zip(gains, tiles, strict=True)
            for cell in tile.cells
        ]
        self.weight = np.where(self.seen, np.array(weights, float), 0.0)
        known: dict[tuple[float, ...], int] = {}
        for number, tile in enumerate(tiles):
            if self.blind[number]:
                continue
            assert tile.model is not None
            at = known.setdefault(tile.model.curve, len(known))
            self._curve_of[number] = at
        self._curves = [np.array(curve) for curve in known]

    def __len__(self) -> int:
        return len(self.tile)

    def values(self, shares: Floats, tiles: Ints | None = None) -> Floats:
        """What tiles (all by default) are worth with ``shares`` of their weight bought."""
        chosen = np.arange(len(self.tiles)) if tiles is None else tiles
        reached = np.zeros(len(chosen))
        for number, curve in enumerate(self._curves):
            mine = self._curve_of[chosen] == number
            grid = np.linspace(0, 1, len(curve))
            reached[mine] = np.interp(np.clip(shares[mine], 0, 1), grid, curve)
        return np.asarray(self.low[chosen] + self.rise[chosen] * reached, float)

    def value(self, bought: Mask) -> float:
        """The sum over all tiles with these patches bought."""
        return float(self.values(self.shares(bought)).sum())

    def shares(self, bought: Mask) -> Floats:
        """The share of each tile's weight that is bought."""
        held = np.bincount(self.tile[bought], self.weight[bought], minlength=len(self.tiles))
        return np.asarray(held, float)

    def expected(self, value: float) -> float:
        """A sum of values as clients get it: the mean chance of tiles seen, or the share of probabilities."""
        whole = np.count_nonzero(~self.blind) if self.calibrated else float(self.rise.sum())
        return value / whole if whole else 0.0


def touching(stock: Stock, area: shapely.Geometry | None) -> Mask:
    """Which patches have ground in common with an area."""
    found = np.zeros(len(stock), dtype=bool)
    if area is None or area.is_empty or not len(stock):
        return found
    near = shapely.STRtree(stock.polygons).query(area, predicate="intersects")
    common = shapely.area(shapely.intersection(stock.polygons[near], area))
    found[near[common > 1e-9 * shapely.area(stock.polygons[near])]] = True
    return found
