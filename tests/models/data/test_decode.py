"""Square tensors: geometry, threads and cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models.data.decode import _mapped, load_square, prepare, square
from models.data.source import DataError
from models.data.sources import open_source
from models.data.threads import in_threads
from tests.models.data.pictures import class_folders, encode, picture, write

MEMINFO = Path("/proc/meminfo")


def test_load_square_keeps_order_and_values(tmp_path: Path) -> None:
    source = open_source(class_folders(tmp_path))
    tensor = load_square(source, [7, 2, 2], 16, workers=2)
    assert tensor.shape == (3, 3, 16, 16)
    assert tensor.dtype == torch.uint8
    for row, i in enumerate((7, 2, 2)):
        assert np.array_equal(tensor[row].permute(1, 2, 0).numpy(), square(source.read(i), 16))
    assert load_square(source, px=16).shape == (12, 3, 16, 16)


def test_a_square_of_the_right_size_is_untouched() -> None:
    pixels = picture(1, 32, 32)
    assert square(pixels, 32) is pixels


def test_squash_keeps_everything_and_crop_the_centre() -> None:
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, 64:] = 255
    squashed = square(wide, 32)
    assert squashed[:, :15].max() < 40
    assert squashed[:, 17:].min() > 215
    wide[:, :28] = 99
    wide[:, 100:] = 99
    # 56 of 64 px high and wide are kept: columns 36 to 92.
    assert 99 not in square(wide, 56, "crop")
    assert square(wide, 56, "crop").shape == (56, 56, 3)


@pytest.mark.parametrize("fit", ["squash", "crop"])
@pytest.mark.parametrize("resample", ["bicubic", "area"])
@pytest.mark.parametrize("size", [(200, 90), (1, 1), (7, 300)])
def test_constant_pictures_of_any_size_stay_constant(fit: str, resample: str, size: tuple[int, int]) -> None:
    flat = np.full((*size, 3), 77, np.uint8)
    assert (square(flat, 24, fit, resample) == 77).all()  # type: ignore[arg-type]


def test_area_is_the_plain_mean() -> None:
    pixels = picture(5, 64, 64)
    mean = pixels.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(square(pixels, 16, resample="area") - mean).max() <= 1


def test_unreadable_pictures_are_named(tmp_path: Path) -> None:
    folder = class_folders(tmp_path)
    write(folder / "zoo/zoo_3.png", b"\x89PNG\r\n\x1a\nbroken")
    source = open_source(folder, check="none")
    with pytest.raises(DataError, match=r"1 pictures cannot be read, for instance zoo/zoo_3\.png"):
        load_square(source, px=16)


def test_large_sets_are_decoded_once_into_a_file(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set")
    cache = tmp_path / "cache"
    source = open_source(folder)
    direct = load_square(source, px=16)
    told: list[tuple[int, int]] = []
    kept, mapped = prepare(source, 16, cache, in_memory=0, progress=lambda *at: told.append(at))
    assert kept.ids == source.ids
    assert torch.equal(mapped, direct)
    assert told == [(12, 12)]
    again = prepare(source, 16, cache, in_memory=0, progress=lambda *at: told.append(at))[1]
    assert told == [(12, 12)]
    assert torch.equal(again, direct)
    write(folder / "zoo/zoo_0.png", encode(picture(1234), compress_level=0))
    changed = open_source(folder)
    assert torch.equal(prepare(changed, 16, cache, in_memory=0)[1], load_square(changed, px=16))
    backwards = source.select(np.arange(len(source))[::-1])
    assert torch.equal(prepare(backwards, 16, cache, in_memory=0)[1][-1], direct[0])
    assert not list(cache.glob("*.part"))


@pytest.mark.skipif(sys.platform != "linux", reason="what a map may ask for is Linux's to refuse")
@pytest.mark.filterwarnings("error")
def test_a_set_larger_than_the_memory_is_mapped(tmp_path: Path) -> None:
    pages = {words[0]: int(words[1]) for line in MEMINFO.read_text().splitlines() if (words := line.split())}
    images = (pages["MemTotal:"] + pages["SwapTotal:"]) * 1024 // (3 * 224 * 224) + 10_000
    file = tmp_path / "imagenet.u8"
    file.touch()
    os.truncate(file, images * 3 * 224 * 224)  # a hole: it takes no room
    mapped = _mapped(file, (images, 3, 224, 224))
    assert int(mapped[-1].sum()) == 0


def test_as_many_samples_as_fmow_has_are_not_noted_all_at_once() -> None:
    begun: list[int] = []

    def work(i: int) -> int:
        begun.append(i)
        return i

    results = in_threads(work, 20_000, workers=2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    assert len(begun) < 10_000
    assert [*results] == [*range(3, 20_000)]
    assert [*in_threads(work, 0)] == []


@pytest.mark.parametrize("in_memory", [0, 2**30])
def test_unreadable_pictures_leave_no_gap(tmp_path: Path, in_memory: int) -> None:
    folder = class_folders(tmp_path / "set")
    for name in ("barn/barn_2.png", "zoo/zoo_3.png"):
        write(folder / name, b"\x89PNG\r\n\x1a\nbroken")
    source = open_source(folder, check="none")
    for _ in range(2):
        kept, images = prepare(source, 16, tmp_path / "cache", in_memory=in_memory)
        assert len(kept) == len(images) == 10
        assert [name for name, _ in kept.skipped.unreadable] == ["barn/barn_2.png", "zoo/zoo_3.png"]
        assert torch.equal(images, load_square(kept, px=16))
    for i in range(4):
        write(folder / f"port/port_{i}.png", b"")
    with pytest.raises(DataError, match="more than 3"):
        prepare(open_source(folder, check="none"), 16, tmp_path / "cache", in_memory=in_memory)


STOPPED = """
import resource, sys
from pathlib import Path
from models.data.decode import prepare
from models.data.sources import open_source

resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
prepare(open_source(sys.argv[1], check="none"), 1, Path(sys.argv[2]), in_memory=0)
"""
"""On a disk with room for the pictures, of a pixel each, and not for the list of unreadable ones."""


def test_a_list_of_unreadable_pictures_that_was_not_written_to_its_end_is_none(tmp_path: Path) -> None:
    folder, cache = class_folders(tmp_path / "set"), tmp_path / "cache"
    for name in ("barn/barn_2.png", "zoo/zoo_3.png"):
        write(folder / name, b"\x89PNG\r\n\x1a\nbroken")
    stopped = subprocess.run(
        [sys.executable, "-c", STOPPED, str(folder), str(cache)], capture_output=True, text=True, check=False
    )
    assert "File too large" in stopped.stderr
    assert [path.suffix for path in cache.iterdir()] == [".u8"]
    kept, images = prepare(open_source(folder, check="none"), 1, cache, in_memory=0)
    assert len(kept) == len(images) == 10
    assert torch.equal(images, load_square(kept, px=1))


def test_a_link_to_nowhere_is_an_unreadable_picture(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set")
    (folder / "barn/barn_9.png").symlink_to(tmp_path / "later.png")
    source = open_source(folder, check="none")
    kept, _ = prepare(source, 16, tmp_path / "cache", in_memory=0)
    assert [name for name, _ in kept.skipped.unreadable] == ["barn/barn_9.png"]
    before = source.fingerprint()
    write(tmp_path / "later.png", encode(picture(9)))
    assert source.fingerprint() != before
    assert len(prepare(source, 16, tmp_path / "cache", in_memory=0)[0]) == 13
