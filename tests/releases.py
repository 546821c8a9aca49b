"""Releases for tests whose policy looks twice: untrained, so that what they buy hangs on the price alone."""

from collections.abc import Sequence
from pathlib import Path

import torch

from models.architecture import CURVE, Architecture
from models.card import Card, load_card
from models.release import save, tiny_release
from models.system import System

ALL_AT_ONCE = 1e6
NOTHING = 1e-6
ALL_AT_THE_SECOND = 120.0
"""Untrained, each patch gains about 0.0123; the first look counts a missed answer half."""


def looks_twice(folder: Path, classes: Sequence[str], missed_cost: float, tile_m: float = 80.0) -> Card:
    """Write a release that looks twice."""
    tiny_release(folder, list(classes), tile_m=tile_m)
    card = load_card(folder)
    raw = {**card.architecture, "policy": CURVE, "looks": 2, "missed_cost": missed_cost}
    del raw["fusion"]
    torch.manual_seed(0)
    return save(folder, card, System(Architecture.from_json(raw)))
