"""Small drawn classes that a few epochs can tell apart: stripes across, stripes along, a bright quarter."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.recipe import Recipe, parse_recipe

CLASSES = ("across", "along", "quarter")


def draw(kind: str, rng: np.random.Generator, px: int = 32) -> npt.NDArray[np.uint8]:
    """One uint8 (px, px, 3) picture of a class."""
    rows, columns = np.mgrid[0:px, 0:px]
    phase, base = rng.uniform(0, 2 * np.pi), rng.uniform(60, 120, 3)
    if kind == "quarter":
        signal = ((rows < px // 2) & (columns < px // 2)).astype(float)
    else:
        signal = 0.5 + 0.5 * np.sin((rows if kind == "across" else columns) * 2 * np.pi / 8 + phase)
    noise = rng.normal(0, 8, (px, px, 3))
    picture: npt.NDArray[np.uint8] = np.clip(base + 110 * signal[..., None] + noise, 0, 255).astype(np.uint8)
    return picture


def write_scenes(folder: Path, per_class: int = 24, seed: int = 0, px: int = 32) -> Path:
    """A tree of class folders of PNGs; returns the folder."""
    rng = np.random.default_rng(seed)
    for kind in CLASSES:
        (folder / kind).mkdir(parents=True)
        for k in range(per_class):
            Image.fromarray(draw(kind, rng, px)).save(folder / kind / f"{kind}{k:02}.png")
    return folder


def tiny_recipe(**changes: object) -> Recipe:
    """Every stage for a few epochs with tiny networks; `changes` are whole sections."""
    quick = {"epochs": 2, "batch": 16, "lr": 1e-2}
    sections: dict[str, object] = {
        "name": "tiny",
        "images": {"hr_px": 32, "lr_px": 8, "ds": [2, 4], "fill": "lr", "augment": "flip"},
        "networks": {"policy": "tiny", "hr": "tiny", "lr": "tiny"},
        "stages": {"hr": {**quick, "mask_share": 0.5}, "lr": quick, "pt": quick, "ft1": quick, "ft2": quick},
    }
    return parse_recipe({**sections, **changes})
