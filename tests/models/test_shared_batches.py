"""Batches shared by processes or split for lack of memory: the same numbers drawn, the same result."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

from models import train
from models.card import load_card
from models.distributed import Group, SyncBatchNorm2d, joined, synchronise
from models.stages import classify, reinforce
from models.stages.draws import Draws, Dropout, own_dropouts, rand
from models.stages.inputs import Batch
from models.stages.memory import Memory, OutOfMemory, is_out_of_memory, symmetric_parts
from tests.conftest import checkout
from tests.models.scenes import write_scenes

# several processes may share two cores with others
pytestmark = pytest.mark.timeout(900)

RECIPE = """
images = { hr_px = 32, lr_px = 16, ds = [2, 4], fill = "lr", augment = "crop-flip" }
networks = { policy = "tiny", hr = "tiny", lr = "tiny" }
[stages]
hr = { epochs = 1, batch = 16, lr = 1e-3, mask_share = 0.3, mixup = 0.2 }
lr = { epochs = 1, batch = 16, lr = 1e-3 }
pt = { epochs = 1, batch = 16, lr = 1e-4 }
ft1 = { epochs = 1, batch = 16, lr = 1e-4, sigma = 5.0, samples = 3, baseline = "leave-one-out", reuse = 2 }
"""

REHEARSED = """
images = { hr_px = 32, lr_px = 16, ds = [2, 4], fill = "lr", augment = "crop-flip" }
networks = { policy = "answer-curve", hr = "tiny", lr = "tiny" }
[stages]
hr = { epochs = 1, batch = 16, lr = 1e-3, mask_share = 0.3 }
lr = { epochs = 1, batch = 16, lr = 1e-3 }
pt = { epochs = 1, batch = 16, lr = 1e-4, samples = 3, estimator = "curve", reuse = 3, replay = 24 }
ft2 = { epochs = 1, batch = 16, lr = 1e-4, samples = 3, estimator = "curve", reuse = 3, replay = 24 }
"""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "scenes", per_class=10)


def command(scenes: Path, folder: Path, recipe: str, *more: str) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quick.toml").write_text(recipe)
    words = ["--recipe", str(folder / "quick.toml"), "--data", str(scenes), "--out", str(folder / "out")]
    return [*words, "--device", "cpu", "--precision", "fp32", "--events", str(folder / "events"), *more]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """What the last checkpoint holds: fp32, where a release is stored in fp16."""
    state = torch.load(folder / "work" / "release.checkpoint", weights_only=True)
    found = dict(state["policy"])
    for number, member in enumerate(state["members"]):
        for stream in ("hr", "lr"):
            found |= {f"{number}.{stream}.{name}": value for name, value in member[stream].items()}
    return found


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[k].double() - other[k].double()).abs().max()) for k in one)


def figures(folder: Path) -> list[dict[str, float]]:
    """Those of each epoch."""
    lines = (folder / "events").read_text().splitlines()
    return [json.loads(line)["values"] for line in lines if '"metric"' in line]


def assert_close(one: list[dict[str, float]], other: list[dict[str, float]]) -> None:
    assert len(one) == len(other) == 4
    for a, b in zip(one, other, strict=True):
        for key in a.keys() - {"seconds"}:
            assert a[key] == pytest.approx(b[key], abs=1e-4)


@pytest.mark.parametrize("recipe", [RECIPE, REHEARSED], ids=["paper", "replay"])
def test_two_processes_come_to_what_one_comes_to(scenes: Path, tmp_path: Path, recipe: str) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert train.main(command(scenes, one, recipe, "--work", str(one / "work"))) == 0
    words = command(scenes, two, recipe, "--work", str(two / "work"), "--processes", "2")
    subprocess.run([sys.executable, "-m", "models.train", *words], check=True, cwd=checkout(), timeout=800)
    assert load_card(two / "out").training["processes"] == 2
    assert apart(weights(one), weights(two)) < 1e-4
    assert_close(figures(one), figures(two))


@pytest.mark.slow
def test_two_processes_tell_what_one_tells_of_networks_with_batch_norm(scenes: Path, tmp_path: Path) -> None:
    """Every epoch's figures. Of weights with next to no gradient Adam makes rounding visible (lab notes)."""
    recipe = RECIPE.replace('hr = "tiny", lr = "tiny"', 'hr = "resnet8", lr = "resnet8"')
    recipe = recipe.replace("lr = 1e-3", "lr = 1e-4")
    told, found = [], []
    for name, more in (("one", ()), ("two", ("--processes", "2"))):
        folder = tmp_path / name
        words = command(scenes, folder, recipe, "--work", str(folder / "work"), *more)
        subprocess.run(
            [sys.executable, "-m", "models.train", *words], check=True, cwd=checkout(), timeout=800
        )
        told.append(figures(folder))
        found.append(weights(folder))
    assert_close(*told)
    off = [(found[0][name] - found[1][name]).abs().flatten().double() for name in found[0]]
    assert float((torch.cat(off) > 1e-4).double().mean()) < 1e-3


# each rank has its rows of eight batches; rank 0 prints how far weights and statistics are from one process's
BATCH_NORM = """
import copy, torch
from torch import nn
from models.distributed import joined, synchronise
from models.networks.resnet import resnet
torch.manual_seed(0)
body = resnet("resnet8", 3)
alone = copy.deepcopy(body)
batches = [(torch.randn(16, 3, 32, 32) + 3, torch.randint(0, 3, (16,))) for _ in range(8)]
far, gradients = torch.optim.Adam(alone.parameters(), lr=1e-4), []
for x, y in batches:
    far.zero_grad()
    nn.functional.cross_entropy(alone(x), y).backward()
    gradients = gradients or [parameter.grad.clone() for parameter in alone.parameters()]
    far.step()
off = []
with joined("cpu") as group:
    synchronise(body, group)
    optimiser = torch.optim.Adam(body.parameters(), lr=1e-4)
    rows = slice(0, 6) if group.leads else slice(6, 16)
    for x, y in batches:
        optimiser.zero_grad()
        share = len(x[rows]) / len(x)
        (nn.functional.cross_entropy(body(x[rows]), y[rows]) * share).backward()
        group.sum_gradients(body.parameters())
        first = [parameter.grad for parameter in body.parameters()]
        off = off or [float((a - b).abs().max()) for a, b in zip(gradients, first)]
        optimiser.step()
    ends = zip(alone.state_dict().values(), body.state_dict().values())
    off += [float((a - b).abs().max()) for a, b in ends]
    if group.leads:
        print(max(off))
"""


def said_by_two(script: str) -> list[str]:
    """What two processes that share batches print."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env={**common, "RANK": str(rank)},
            cwd=checkout(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=600)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    return said


def test_batch_norm_over_two_processes_is_that_of_one() -> None:
    assert float(said_by_two(BATCH_NORM)[0]) < 1e-4


PATIENCE = """
import torch
from torch.distributed.distributed_c10d import _get_default_group

from models.distributed import joined

with joined("cpu"):
    print(_get_default_group()._get_backend(torch.device("cpu")).options._timeout.total_seconds())
"""


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    count = torch.cuda.device_count()
    for name, value in {"WORLD_SIZE": "2", "RANK": str(count), "LOCAL_RANK": str(count)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"a GPU of its own, and there are {count}"), joined("cuda"):
        pass


def test_a_leader_that_decodes_for_hours_is_waited_for() -> None:
    """By itself torch gives up after half an hour, and after ten minutes on GPUs."""
    assert all(float(said) > 24 * 3600 for said in said_by_two(PATIENCE))


@pytest.mark.parametrize(
    ("stage", "place", "name"),
    [("hr", classify, "classification_loss"), ("ft1", reinforce, "classifier_loss")],
)
def test_a_batch_that_does_not_fit_is_split_and_the_card_says_so(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, place: ModuleType, name: str
) -> None:
    """Memory really runs out: beside more than 8 images, more is asked for than any machine has."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train.main(command(scenes, whole, RECIPE, "--work", str(whole / "work"))) == 0
    real = getattr(place, name)

    def greedy(*args: object) -> object:
        found = real(*args)
        batch = next(one for one in args if isinstance(one, Batch))
        if len(batch.labels) > 8:
            torch.empty(2**46)
        return found

    monkeypatch.setattr(place, name, greedy)
    assert train.main(command(scenes, parts, RECIPE, "--work", str(parts / "work"))) == 0
    assert apart(weights(whole), weights(parts)) < 1e-5
    (said, *_) = load_card(parts / "out").training["recipe_changes"]
    assert f"{stage}: memory ran out" in said
    assert "2 parts" in said
    assert "recipe_changes" not in load_card(whole / "out").training
    told = [json.loads(line) for line in (parts / "events").read_text().splitlines()]
    assert {event["text"] for event in told if event["kind"] == "notice"} >= {said}


def test_when_one_of_two_processes_lacks_memory_both_start_again_in_parts(
    scenes: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert train.main(command(scenes, one, RECIPE, "--work", str(one / "work"))) == 0
    words = command(scenes, two, RECIPE, "--work", str(two / "work"), "--processes", "2")
    subprocess.run(
        [sys.executable, "-m", "tests.models.greedy", *words], check=True, cwd=checkout(), timeout=800
    )
    assert apart(weights(one), weights(two)) < 1e-4
    training = load_card(two / "out").training
    assert training["processes"] == 2
    assert [said.partition(":")[0] for said in training["recipe_changes"]] == ["stage hr", "stage lr"]
    told = [json.loads(line) for line in (two / "events").read_text().splitlines()]
    kinds = [event["kind"] for event in told]
    # whoever listens hears of the change, and of no failure
    assert "failed" not in kinds
    assert kinds[-1] == "done"
    assert {event["text"] for event in told if event["kind"] == "notice"} == set(training["recipe_changes"])


def test_what_never_fits_is_said() -> None:
    notices: list[str] = []
    memory = Memory(notices.append)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    said = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    assert is_out_of_memory(RuntimeError(said))

    def greedy(_parts: int) -> None:
        torch.empty(2**46)

    with pytest.raises(OutOfMemory, match="not fit even 2 images"):
        memory.within("hr", 16, greedy)
    assert memory.parts == {"hr": 8}
    assert len(notices) == 3


def test_what_is_drawn_for_a_sample_is_its_own() -> None:
    samples = np.array([5, 9, 2, 40, 7])
    whole, part = Draws(1, 2, 3, 0, samples), Draws(1, 2, 3, 0, samples[[1, 3]])
    for _ in range(2):
        assert np.array_equal(whole.random((5, 4))[[1, 3]], part.random((2, 4)))
        assert torch.equal(rand((3, 5, 6), whole)[:, [1, 3]], rand((3, 2, 6), part))
        assert whole.beta(0.2, 0.2) == part.beta(0.2, 0.2)
        assert np.array_equal(whole.integers(0, 9, (5, 2))[[1, 3]], part.integers(0, 9, (2, 2)))
    other = Draws(1, 2, 4, 0, samples)
    assert not np.array_equal(Draws(1, 2, 3, 0, samples).random(5), other.random(5))


def test_drawn_numbers_are_uniform_and_not_related() -> None:
    draws = Draws(0, 0, 0, 0, np.arange(4000))
    first, second = draws.random((4000, 16)), draws.random((4000, 16))
    counts, _ = np.histogram(first, bins=20, range=(0, 1))
    expected = first.size / 20
    assert ((counts - expected) ** 2 / expected).sum() < 45  # chi squared, 19 degrees: once in 1000
    flat = np.stack(
        [first.ravel(), second.ravel(), np.roll(first, 1, 0).ravel(), np.roll(first, 1, 1).ravel()]
    )
    assert np.abs(np.corrcoef(flat) - np.eye(4)).max() < 0.02
    whole = draws.integers(0, 9, (4000, 4))
    assert set(np.unique(whole)) == set(range(9))


@pytest.mark.parametrize(("count", "parts"), [(16, 1), (16, 2), (17, 3), (5, 2), (3, 4)])
def test_parts_are_their_own_mirror_images(count: int, parts: int) -> None:
    found = symmetric_parts(count, parts)
    assert sorted(np.concatenate(found).tolist()) == list(range(count))
    for rows in found:
        assert np.array_equal(rows[::-1], count - 1 - rows)


def test_dropout_follows_the_samples() -> None:
    network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5))
    (dropout,) = own_dropouts(network)
    assert isinstance(dropout, Dropout)
    x = torch.ones(6, 8)
    samples = np.arange(6)
    dropout.draws = Draws(0, 0, 0, 0, samples)
    whole = dropout(x)
    dropout.draws = Draws(0, 0, 0, 0, samples[2:4])
    assert torch.equal(dropout(x[2:4]), whole[2:4])
    assert set(whole.unique().tolist()) == {0.0, 2.0}
    network.eval()
    assert torch.equal(dropout(x), x)


def test_alone_batch_norm_stays_torchs() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3))
    synchronise(network, Group())
    assert type(network[0]) is nn.BatchNorm2d
    synchronise(network, Group(0, 2))
    assert type(network[0]) is SyncBatchNorm2d
