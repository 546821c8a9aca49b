"""A scene that a backtest tries."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from patchplan.demo.scene import Scene

Json = dict[str, Any]


@dataclass
class Tried:
    """One scene and what became of it."""

    scene: Scene
    name: str
    lr: Path
    plan: Json = field(default_factory=dict)
    bought: Json = field(default_factory=dict)
    all_hr: Json = field(default_factory=dict)
    taken: dict[int, list[int]] = field(default_factory=dict)
