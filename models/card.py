"""The release card: what a release is, what it was trained on and how good it was measured to be.

Free of torch, so that the service can read a card without loading networks. Weights are told by their hash.
"""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

CARD_FILE = "card.json"
WEIGHTS_FILE = "weights.safetensors"
SCHEMA = 1


class CardError(ValueError):
    """A card that cannot be read, or that contradicts itself."""


@dataclass(frozen=True)
class ClassName:
    """A class of the release and, where there is one, its nearest class of fMoW's 62."""

    name: str
    fmow: str | None = None


@dataclass(frozen=True)
class Range:
    """The value trained on most and the bounds trained within, in metres."""

    nominal: float
    min: float
    max: float

    def __post_init__(self) -> None:
        if not (0 < self.min <= self.nominal <= self.max < math.inf):
            raise CardError(f"not 0 < min <= nominal <= max: {self}")


@dataclass(frozen=True)
class GainModel:
    """The chance of a right answer for a tile and any set of its patches, in closed form.

    Of each tile the release tells the chance without HR (`lr`), with all P patches (`hr`), and what share of
    the way between them each patch is worth (P weights with the sum 1). `curve` is how far one has come with
    k/(len - 1) of the weight: from 0 to 1, never falling, linear between its points.
    """

    curve: tuple[float, ...]

    def __post_init__(self) -> None:
        pairs = zip(self.curve, self.curve[1:], strict=False)
        if len(self.curve) < 2 or self.curve[0] != 0 or self.curve[-1] != 1 or any(a > b for a, b in pairs):
            raise CardError("a gain curve goes from 0 to 1 and never falls")

    def expected(self, lr: float, hr: float, share: float) -> float:
        """The chance of a right answer when patches of `share` (0..1) of the tile's weight are bought."""
        place = min(max(share, 0.0), 1.0) * (len(self.curve) - 1)
        left = min(int(place), len(self.curve) - 2)
        reached = self.curve[left] + (self.curve[left + 1] - self.curve[left]) * (place - left)
        return lr + (hr - lr) * reached


@dataclass(frozen=True)
class Card:
    """All that is said of a release; `figures`, `training`, `architecture` are plain JSON objects.

    `lr_px`: side of the LR image the policy sees; `hr_px`: side of a whole tile in HR pixels; `tile_m`: side
    of a tile on the ground; `threshold`: a patch is chosen where s_p is above it; `licence` is the weights'.
    """

    name: str
    version: str
    streams: Literal["hr", "hr+lr"]
    fusion: str
    fill: Literal["zeros", "lr"]
    classes: tuple[ClassName, ...]
    lr_px: int
    hr_px: int
    tile_m: Range
    lr_gsd_m: Range
    hr_gsd_m: float
    weights_sha256: str
    architecture: dict[str, Any]
    bands: tuple[str, ...] = ("red", "green", "blue")
    grid: int = 4
    threshold: float = 0.5
    gain: GainModel | None = None
    description: str = ""
    licence: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise CardError(f"card schema {self.schema}, this version reads {SCHEMA}")
        if self.streams not in ("hr", "hr+lr"):
            raise CardError(f"streams is hr or hr+lr, not {self.streams!r}")
        if self.fill not in ("zeros", "lr"):
            raise CardError(f"fill is zeros or lr, not {self.fill!r}")
        if len(self.classes) < 2 or len({c.name for c in self.classes}) != len(self.classes):
            raise CardError("two classes or more, each named once")
        if not 0 <= self.threshold < 1:
            raise CardError("threshold lies in [0, 1)")
        if self.grid < 1 or self.lr_px < 1 or self.hr_px < self.grid or self.hr_gsd_m <= 0:
            raise CardError("grid, lr_px, hr_px and hr_gsd_m must be positive, hr_px at least grid")

    @property
    def patches(self) -> int:
        """P, the number of patches of a tile."""
        return self.grid**2

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Card":
        """Raises CardError for what is no card of this schema."""
        try:
            raw = cast("dict[str, Any]", json.loads(text))
            raw["classes"] = tuple(ClassName(**c) for c in raw["classes"])
            raw["bands"] = tuple(raw["bands"])
            if raw.get("gain") is not None:
                raw["gain"] = GainModel(tuple(raw["gain"]["curve"]))
            raw["tile_m"], raw["lr_gsd_m"] = Range(**raw["tile_m"]), Range(**raw["lr_gsd_m"])
            return cls(**raw)
        except CardError:
            raise
        except (ValueError, TypeError, KeyError) as error:
            raise CardError(f"not a release card: {error}") from error


def load_card(folder: Path) -> Card:
    """The card of the release in `folder`. Raises CardError; FileNotFoundError where there is none."""
    return Card.from_json((folder / CARD_FILE).read_text(encoding="utf-8"))
