"""A folder is built once, whole, by one process at a time; what the killed leave is removed."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from models.architecture import Architecture
from models.building import built, swept
from models.recipe import Images
from models.stages.inputs import Inputs
from models.system import System

BUILD = """
import sys
from pathlib import Path
from models.building import built

with built(Path(sys.argv[1])) as building:
    print("found" if building is None else "builds", flush=True)
    if building is not None:
        (building / "a.npy").write_text("half")
        sys.stdin.read()
        (building / "a.npy").write_text("whole")
"""


@contextmanager
def process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """One that builds `folder` until its standard input ends."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", BUILD, str(folder)], text=True, **pipes) as started:  # type: ignore[call-overload]
        try:
            yield started
        finally:
            started.kill()


def said(started: "subprocess.Popen[str]") -> str:
    """Its next word; waits for it."""
    assert started.stdout is not None
    return started.stdout.readline().strip()


def beside(folder: Path) -> list[str]:
    """What else lies there, but for the lock."""
    return sorted(p.name for p in folder.parent.iterdir() if p != folder and not p.name.startswith("."))


def test_the_second_process_finds_what_the_first_has_built(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "features"
    with process(folder) as first:
        assert said(first) == "builds"
        with process(folder) as second:
            first.communicate("")
            assert said(second) == "found"
            assert second.wait() == first.returncode == 0
    assert (folder / "a.npy").read_text() == "whole"
    assert beside(folder) == []


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_builds_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    with process(folder) as living:
        assert said(living) == "builds"
        swept(folder)
        (left,) = beside(folder)
        living.kill()
        living.wait()
    assert beside(folder) == [left]
    with built(folder) as building:
        assert building is not None
        assert beside(folder) == [building.name] != [left]
    assert folder.is_dir()
    (tmp_path / "features.1").mkdir()  # as a container's only process was once named
    swept(folder)
    assert beside(folder) == []


def test_where_nothing_locks_the_slower_of_two_takes_what_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "features"
    with built(folder) as building:
        assert building is not None
        folder.mkdir()
        (folder / "a.npy").write_text("of another")
    assert (folder / "a.npy").read_text() == "of another"
    assert beside(folder) == []


def test_features_are_computed_by_one_of_two_that_need_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    system = System(Architecture(3, 16, 64, "answer-curve", "efficientnet-lite0", "tiny", fill="lr")).eval()
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8))
    spec = Images(hr_px=64, lr_px=16, fill="lr")
    first, second = (Inputs(system, images, torch.arange(2), spec, tmp_path).cache for _ in range(2))
    assert first is not None
    assert second is not None
    told: list[int] = []
    for cache in (first, second):
        assert not cache.ready
        cache.fill(lambda *_: told.append(1))
        assert cache.ready
    assert told == [1]
    assert all(np.array_equal(first.arrays[name], second.arrays[name]) for name in first.arrays)
