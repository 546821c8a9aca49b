"""What runs on a GPU keeps its tensors there: each stage, each row, each answer, on a device that refuses to
mix. Where there is no GPU nothing else would say so.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

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


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    with second_device() as found:
        for module in (train, evaluate, study, store):
            monkeypatch.setattr(module, "best_device", lambda: found)
        for module in (precision, store):  # it has no autocast
            monkeypatch.setattr(module, "has_fast_bf16", lambda _: False)
        yield found


def test_it_refuses_what_a_gpu_refuses(device: torch.device) -> None:
    x = torch.ones(2, 3, device=device)
    assert float((x * torch.tensor(2.0) + 1).sum()) == 18  # a single number may come from anywhere
    assert torch.equal(x[torch.tensor([1])].cpu(), torch.ones(1, 3))  # and so may indices
    refused: list[Callable[[], object]] = [
        lambda: x + torch.ones(3),
        lambda: torch.cat([x, torch.ones(2, 3)]),
        lambda: x.gather(1, torch.zeros(2, 1, dtype=torch.int64)),
        lambda: torch.bernoulli(x, generator=torch.Generator()),
        lambda: torch.ones(2, 3).index_add_(0, torch.tensor([0, 1]), x),
    ]
    for mixed in refused:
        with pytest.raises(BothDevicesError):
            mixed()
    with pytest.raises(RuntimeError, match="numpy"):
        x.numpy()


@pytest.mark.parametrize("text", [RECIPE, PRINTED], ids=["ours", "paper"])
def test_a_release_is_trained_and_answers_there(text: str, device: torch.device, tmp_path: Path) -> None:
    """And says the same on the processor."""
    scenes, recipe, out = tmp_path / "scenes", tmp_path / "quick.toml", tmp_path / "quick"
    write_scenes(scenes, per_class=12, px=64)
    recipe.write_text(text)
    words = ["--recipe", str(recipe), "--data", str(scenes), "--out", str(out), "--seed", "1"]
    assert train.main(words) == 0
    assert evaluate.main([str(out), "--data", str(scenes)]) == 0
    rng = np.random.default_rng(0)
    lr = rng.integers(0, 256, (3, 3, 16, 16), dtype=np.uint8)
    hr = rng.integers(0, 256, (3, 3, 64, 64), dtype=np.uint8)
    mask = rng.random((3, 16)) < 0.5
    there, here = Release.load(out, str(device)), Release.load(out)
    assert there.system.mean.device == device
    assert np.allclose(there.classify(lr, hr, mask).fused, here.classify(lr, hr, mask).fused, atol=1e-5)
    assert np.allclose(there.plan(lr), here.plan(lr), atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("table", "rows", "px"),
    [("table2", "", 32), ("table3", "", 32), ("table4", "", 32), ("fig5", "", 32), ("table1", MIXED, 128)],
)
def test_every_row_is_made_there(
    table: str, rows: str, px: int, device: torch.device, tmp_path: Path
) -> None:
    """Of small pictures all of them; of aerial scenes those that read features of frozen layers."""
    scenes = write_scenes(tmp_path / "scenes", per_class=6, px=px)
    words = [table, "--data", str(scenes), "--profile", "smoke", "--parts", "1", "--ds", "4"]
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    assert command.main([*words, *(["--rows", rows] if rows else []), *places]) == 0
