"""What runs on a GPU keeps its tensors there: each stage, each row, each answer, on a device that refuses to
mix. Where there is no GPU nothing else would say so.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from models import evaluate, precision, train
from models.release import Release
from models.reproduce import command, store, study
from tests.models.pretended import BothDevicesError, second_device
from tests.models.scenes import write_scenes

RECIPE = """
[images]
hr_px = 64
lr_px = 16
ds = [4, 8]
fill = "lr"
augment = "dihedral"
[networks]
policy = "answer-curve"
hr = "tiny"
lr = "tiny"
hr_views = 2
lr_views = 2
order = "distance"
looks = 2
[training]
crossfit = 2
fusion = "log_pool"
missed_cost = 300.0
[stages]
hr = { epochs = 1, batch = 16, lr = 1e-2, mask_share = 0.85, ordered = 0.5, mixup = 0.2, smoothing = 0.1 }
lr = { epochs = 1, batch = 16, lr = 1e-2 }
ft2 = { epochs = 2, batch = 16, lr = 0.0, policy_lr = 1e-2, samples = 3, estimator = "curve", reuse = 2 }
"""
PRINTED = """
images = { hr_px = 64, lr_px = 16, ds = [4], augment = "flip" }
networks = { policy = "tiny", hr = "tiny", lr = "tiny" }
[stages]
hr = { epochs = 1, batch = 16, lr = 1e-2 }
lr = { epochs = 1, batch = 16, lr = 1e-2 }
pt = { epochs = 1, batch = 16, lr = 1e-2 }
ft1 = { epochs = 1, batch = 16, lr = 1e-2 }
ft2 = { epochs = 1, batch = 16, lr = 1e-2 }
"""
MIXED = (
    "hr-cnn-longer,patchdrop,random,stn,srgan,kd,pcn,ours,ours-whole,ours-one-look,averaged-views,ours-stn"
)


@contextlib.contextmanager
def found() -> Iterator[torch.device]:
    """The second device, which everything finds and which has no autocast."""
    with second_device() as device, contextlib.ExitStack() as changed:
        for module in (train, evaluate, study, store):
            changed.enter_context(mock.patch.object(module, "best_device", return_value=device))
        for module in (precision, store):
            changed.enter_context(mock.patch.object(module, "has_fast_bf16", return_value=False))
        yield device


def in_a_process(call: Callable[..., None], *args: object) -> None:
    """Of its own: torch must know a device before it first computes a gradient, and never forgets it."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(call, *args).result()


def test_it_refuses_what_a_gpu_refuses() -> None:
    in_a_process(mix)


def mix() -> None:
    with found() as device:
        x = torch.ones(2, 3, device=device)
        assert float((x * torch.tensor(2.0) + 1).sum()) == 18  # a single number may come from anywhere
        assert torch.equal(x[torch.tensor([1])].cpu(), torch.ones(1, 3))  # and so may indices
        refused: list[Callable[[], object]] = [
            lambda: x + torch.ones(3),
            lambda: torch.cat([x, torch.ones(2, 3)]),
            lambda: x.gather(1, torch.zeros(2, 1, dtype=torch.int64)),
            lambda: torch.bernoulli(x, generator=torch.Generator()),
            lambda: torch.stack([x.sum(), torch.tensor(0.0)]),
            lambda: torch.tensor(0.0).add_(x.sum()),
            lambda: torch.ones(2, 3).index_add_(0, torch.tensor([0, 1]), x),
        ]
        for mixed in refused:
            with pytest.raises(BothDevicesError):
                mixed()
        with pytest.raises(RuntimeError, match="numpy"):
            x.numpy()


@pytest.mark.parametrize("text", [RECIPE, PRINTED], ids=["ours", "paper"])
def test_a_release_is_trained_and_answers_there(text: str, tmp_path: Path) -> None:
    in_a_process(train_and_answer, text, tmp_path)


def train_and_answer(text: str, folder: Path) -> None:
    """And says the same on the processor."""
    scenes, recipe, out = folder / "scenes", folder / "quick.toml", folder / "quick"
    write_scenes(scenes, per_class=12, px=64)
    recipe.write_text(text)
    words = ["--recipe", str(recipe), "--data", str(scenes), "--out", str(out), "--seed", "1"]
    rng = np.random.default_rng(0)
    lr = rng.integers(0, 256, (3, 3, 16, 16), dtype=np.uint8)
    hr = rng.integers(0, 256, (3, 3, 64, 64), dtype=np.uint8)
    mask = rng.random((3, 16)) < 0.5
    with found() as device:
        assert train.main(words) == 0
        assert evaluate.main([str(out), "--data", str(scenes)]) == 0
        there = Release.load(out, str(device))
        assert there.system.mean.device == device
        said, planned = there.classify(lr, hr, mask).fused, there.plan(lr)
    here = Release.load(out)
    assert np.allclose(said, here.classify(lr, hr, mask).fused, atol=1e-5)
    assert np.allclose(planned, here.plan(lr), atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("table", "rows", "px"),
    [("table2", "", 32), ("table3", "", 32), ("table4", "", 32), ("fig5", "", 32), ("table1", MIXED, 128)],
)
def test_every_row_is_made_there(table: str, rows: str, px: int, tmp_path: Path) -> None:
    """Of small pictures all of them; of aerial scenes those that read features of frozen layers."""
    in_a_process(reproduce, table, rows, px, tmp_path)


def reproduce(table: str, rows: str, px: int, folder: Path) -> None:
    scenes = write_scenes(folder / "scenes", per_class=6, px=px)
    words = [table, "--data", str(scenes), "--profile", "smoke", "--parts", "1", "--ds", "4"]
    places = ["--work", str(folder / "work"), "--out", str(folder / "out")]
    with found():
        assert command.main([*words, *(["--rows", rows] if rows else []), *places]) == 0
