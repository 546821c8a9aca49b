"""A small tree of fMoW's layout, drawn: all 62 classes, their JSON, and the oddities of the published one."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.data.fmow import CLASSES

Pixels = npt.NDArray[np.uint8]

LEVELS = (40, 105, 170, 235)
"""Four levels in three bands are 64 colours, far enough apart to survive JPEG and any downsampling."""


def class_colours(label: int) -> tuple[Pixels, Pixels]:
    """The two colours of a class, (3,) uint8 each; no two classes share the first."""
    first, second = label, (label * 23 + 11) % 64
    return tuple(
        np.array([LEVELS[k // 16], LEVELS[k // 4 % 4], LEVELS[k % 4]], np.uint8) for k in (first, second)
    )  # type: ignore[return-value]


def draw_object(label: int, side: int, rng: np.random.Generator) -> Pixels:
    """(side, side, 3): a ground of the class's first colour with a patch of its second, in light noise."""
    ground, patch = class_colours(label)
    picture = np.broadcast_to(ground, (side, side, 3)).astype(np.float64)
    corner = rng.integers(side // 8, side // 2, size=2)
    picture[corner[0] : corner[0] + side // 3, corner[1] : corner[1] + side // 3] = patch
    picture = picture * rng.uniform(0.95, 1.05) + rng.normal(0, 4, picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def describe(
    boxes: list[dict[str, Any]] | dict[str, Any], width: int, height: int, seed: int
) -> dict[str, Any]:
    """The metadata of one picture, with the published keys."""
    return {
        "gsd": 0.5,
        "utm": "31U",
        "cloud_cover": seed % 10,
        "timestamp": f"20{10 + seed % 8}-0{1 + seed % 9}-11T10:2{seed % 10}:44Z",
        "scan_direction": "Forward" if seed % 2 else "Reverse",
        "pan_resolution_dbl": 0.5,
        "multi_resolution_dbl": 2.0,
        "target_azimuth_dbl": 120.5,
        "sun_azimuth_dbl": 160.2,
        "sun_elevation_dbl": 44.1,
        "off_nadir_angle_dbl": 12.3,
        "off_nadir_angle_min_dbl": 12.1,
        "off_nadir_angle_max_dbl": 12.5,
        "off_nadir_angle_start_dbl": 12.1,
        "off_nadir_angle_end_dbl": 12.5,
        "img_width": width,
        "img_height": height,
        "bounding_boxes": boxes,
    }


def write_frame(
    stem: Path, label: int | None, rng: np.random.Generator, *, single: bool = False, side: int = 64
) -> None:
    """Write `stem_rgb.jpg` and its JSON: one object on grey ground, unlabelled where `label` is None."""
    width, height = side + int(rng.integers(16, 33)), side + int(rng.integers(16, 33))
    picture = rng.integers(110, 146, size=(height, width, 1), dtype=np.uint8).repeat(3, axis=2)
    left, top = (int(v) for v in rng.integers(6, 11, size=2))
    shown = int(rng.integers(len(CLASSES))) if label is None else label
    picture[top : top + side, left : left + side] = draw_object(shown, side, rng)
    box: dict[str, Any] = {"ID": 0, "box": [left, top, side, side]}
    if label is not None:
        box["category"] = CLASSES[label]
    stem.parent.mkdir(parents=True, exist_ok=True)
    _save(picture, stem.with_name(f"{stem.name}_rgb.jpg"))
    described = describe(box if single else [box], width, height, int(rng.integers(1000)))
    stem.with_name(f"{stem.name}_rgb.json").write_text(json.dumps(described))


def write_fmow_tree(
    folder: Path, per_class: int, seed: int, *, val_per_class: int = 1, side: int = 64
) -> Path:
    """Write `{train,val}/CLASS/CLASS_SEQ/CLASS_SEQ_FRAME_rgb.jpg` + JSON for all 62 classes; return `folder`.

    `per_class` training and `val_per_class` validation pictures a class, two frames a place, fixed by `seed`.
    `test/` holds two pictures without category. Each class's first frame has an `_msrgb` twin.
    """
    rng = np.random.default_rng(seed)
    for split, count, first in (("train", per_class, 0), ("val", val_per_class, 500)):
        for label, name in enumerate(CLASSES):
            for i in range(count):
                place = f"{name}_{first + i // 2}"
                stem = folder / split / name / place / f"{place}_{i % 2}"
                write_frame(stem, label, rng, single=i % 2 == 1, side=side)
                if i == 0:
                    for suffix in ("jpg", "json"):
                        twin = stem.with_name(f"{stem.name}_msrgb.{suffix}")
                        twin.write_bytes(stem.with_name(f"{stem.name}_rgb.{suffix}").read_bytes())
    for i in range(2):
        write_frame(folder / "test" / f"{i:07d}" / f"{i:07d}_{i}", None, rng, side=side)
    return folder


def _save(picture: Pixels, path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=92)
    path.write_bytes(buffer.getvalue())
