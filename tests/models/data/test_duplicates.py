"""The same picture is found again, other pictures are not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.data.duplicates import duplicate_groups, near_pairs
from models.data.sources import Source, open_source
from models.data.splits import keep_together, kfold
from tests.models.data.pictures import class_folders, encode, picture, write


def twins(source: Source) -> set[tuple[str, str]]:
    groups = duplicate_groups(source)
    return {(source.ids[g], source.ids[i]) for i, g in enumerate(groups.tolist()) if g != i}


def jpeg(pixels: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def test_copies_reencodings_and_resizings_are_one_group(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set", each=8)
    original = picture(9000, 128, 128)
    write(folder / "barn/x_0.png", encode(original))
    write(folder / "barn/x_1.tif", encode(original, "TIFF"))
    write(folder / "zoo/x_2.jpg", jpeg(original, 75))
    smaller = np.asarray(Image.fromarray(original).resize((96, 96), Image.Resampling.BICUBIC))
    write(folder / "port/x_3.png", encode(smaller))
    source = open_source(folder)
    first = "barn/x_0.png"
    assert twins(source) == {(first, "barn/x_1.tif"), (first, "port/x_3.png"), (first, "zoo/x_2.jpg")}
    groups = keep_together(source)
    for fold in kfold(source.labels, groups, 4, seed=0):
        assert sum(source.ids[i].split("/")[1].startswith("x_") for i in fold) in (0, 4)


@pytest.mark.parametrize("colour", [(120, 120, 120), (30, 60, 90)])
def test_flat_pictures_are_not_all_one(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    """Nor where they have a colour: that is no contrast."""
    rng = np.random.default_rng(0)
    for name in ("sea", "snow"):
        for i in range(12):
            sea = np.clip(rng.normal(colour, 2, (64, 64, 3)), 0, 255).astype(np.uint8)
            write(tmp_path / name / f"{i}.png", encode(sea))
    assert twins(open_source(tmp_path)) == set()


def test_blocks_find_what_brute_force_finds() -> None:
    rng = np.random.default_rng(1)
    base = rng.uniform(0, 255, (700, 48)).astype(np.float32)
    near = base[:50] + rng.normal(0, 0.4, (50, 48)).astype(np.float32)
    rows = np.concatenate([base, near])[rng.permutation(750)]
    distance = np.sqrt(np.square(rows[:, None] - rows[None]).mean(axis=2))
    expected = {(int(a), int(b)) for a, b in np.argwhere(distance <= 1.0) if a < b}
    assert {(min(p), max(p)) for p in near_pairs(rows)} == expected
    assert len(expected) == 50


@pytest.mark.parametrize(
    ("archive", "pair"),
    [
        ("ucmerced.tar", ("airplane/airplane01.jpg", "airplane/airplane02.jpg")),
        ("resisc12.tar", ("mountain/mountain_111.jpg", "mountain/mountain_324.jpg")),
    ],
)
def test_the_known_pairs_and_no_other(data_folder: Path, archive: str, pair: tuple[str, str]) -> None:
    assert twins(open_source(data_folder / archive, check="none")) == {pair}
