"""Small pictures, encoded, and class folders of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def picture(seed: int, height: int = 24, width: int = 20) -> Pixels:
    """A smooth, contrasty (height, width, 3) picture that no other seed gives."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR))


def encode(pixels: npt.NDArray[Any], form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def class_folders(root: Path, classes: tuple[str, ...] = ("barn", "port", "zoo"), each: int = 4) -> Path:
    """`root/CLASS/CLASS_K.png`, every picture another."""
    for k, name in enumerate(classes):
        for i in range(each):
            write(root / name / f"{name}_{i}.png", encode(picture(k * 1000 + i)))
    return root
