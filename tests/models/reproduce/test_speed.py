"""The yardstick computes what the trainer computes, and the figures are told as they were taken."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.architecture import Architecture
from models.networks import build
from models.patchdrop import bounded, masked
from models.recipe import Stage
from models.release import tiny_release
from models.reproduce import headline, speed, timing
from models.reproduce.plain import masked_patch_by_patch, plain
from models.reward import reward
from models.stages import reinforce
from models.stages.draws import Draws
from models.stages.inputs import Batch
from models.stages.members import Members
from models.system import System

CPU = torch.device("cpu")
STAGE = Stage(epochs=1, alpha=(0.8, 0.8), sigma=0.5)


def small() -> System:
    torch.manual_seed(0)
    system = System(Architecture(4, 8, 32, "tiny", "resnet8")).eval()
    for module in system.hr.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.3, 0.3)  # type: ignore[arg-type]
    return system


@given(st.integers(0, 999))
def test_masks_put_on_patch_by_patch_are_masks(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    hr = torch.randn(3, 2, 32, 32, generator=generator)
    actions = (torch.rand(3, 16, generator=generator) < 0.5).float()
    assert torch.equal(masked_patch_by_patch(hr, actions), masked(hr, None, actions))


def test_the_yardstick_has_the_trainers_loss_and_gradient() -> None:
    system, count = small(), 24
    generator = torch.Generator().manual_seed(1)
    lr, hr = (torch.randn(count, 3, px, px, generator=generator) for px in (8, 32))
    labels = torch.arange(count) % 4
    batch = Batch(hr=hr, fill=None, lr=None, policy=lr, labels=labels)
    indices = np.arange(count)
    members = Members(system, indices, labels, indices, 0, 0)
    members.settle([])
    tried = reinforce.experience(
        system, members, indices, batch, STAGE, "pt", 0.8, Draws(0, 0, 0, 0, indices)
    )
    ours = reinforce.policy_loss(system, batch, tried, 0.8)
    usual = plain(system, STAGE)
    said = usual.policy(lr).sigmoid()
    theirs = usual.loss(said, bounded(said, 0.8), tried.sampled, hr, labels)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), abs=1e-5)
    wanted = torch.autograd.grad(theirs, list(usual.policy.parameters()))
    found = torch.autograd.grad(ours, list(system.policy.body.parameters()))
    assert float(tried.advantage.abs().sum()) > 0
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    right = usual.classifier(masked(hr, None, tried.sampled)).argmax(dim=1) == labels
    gained = usual.reward(hr, tried.sampled, labels)
    assert torch.allclose(gained, reward(tried.sampled, right, STAGE.sigma))


def test_a_step_of_either_trains_the_policy_alone() -> None:
    system = small()
    lr, hr = torch.rand(16, 3, 8, 8), torch.rand(16, 3, 32, 32)
    labels = torch.arange(16) % 4
    batch = Batch(hr=hr, fill=None, lr=None, policy=lr, labels=labels)
    quick = replace(STAGE, lr=1e-2)
    usual = plain(system, quick)
    before = {name: value.clone() for name, value in system.state_dict().items()}
    torch.manual_seed(0)
    usual.step(lr, hr, labels)
    assert all(torch.equal(value, before[name]) for name, value in system.state_dict().items())
    speed.ours(system, quick, batch, "fp32")()
    moved = {n.split(".")[0] for n, value in system.state_dict().items() if not torch.equal(value, before[n])}
    assert moved == {"policy"}
    theirs = zip(
        usual.policy.parameters(), (before[f"policy.body.{n}"] for n, _ in _named(system)), strict=True
    )
    assert any(not torch.equal(a, b) for a, b in theirs)


def _named(system: System) -> list[tuple[str, torch.nn.Parameter]]:
    return list(system.policy.body.named_parameters())


def test_calls_are_timed_in_turn() -> None:
    order: list[str] = []
    taken = timing.seconds({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, CPU, repeats=3)
    assert order == ["a", "b"] * 4
    assert set(taken) == {"a", "b"}
    assert all(value >= 0 for value in taken.values())


def test_what_was_measured_stands_on_the_page_and_in_the_headline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "PAIRS", (("tiny", 8, "tiny", 32), ("tiny", 8, "tiny", 32)))
    monkeypatch.setattr(speed, "SHIPPED", tmp_path / "tiny")
    tiny_release(tmp_path / "tiny", ["field", "harbour"], streams="hr+lr")
    assert speed.main(["--out", str(tmp_path), "--batch", "8"]) == 0
    told: dict[str, Any] = json.loads((tmp_path / "speed.json").read_text())
    assert [s["batch"] for s in told["shares"] if s["policy"] == "tiny (all that decides)"] == [1, 64]
    for share in told["shares"]:
        assert share["share"] == pytest.approx(
            share["policy_ms"] / share["classifier_ms"], abs=2e-3, rel=2e-3
        )
    page = (tmp_path / "speed.md").read_text()
    rates = told["pt"]["images_per_second"]
    for name, rate in rates.items():
        times = told["pt"]["times_plain"][name]
        assert times == pytest.approx(rate / rates["plain fp32"], rel=0.01)
        assert f"| {name} | {rate:.0f} |" in page
    assert all({"figure", "paper", "reach", "measured", "reached"} == set(line) for line in told["headline"])
    made_up = {**told, "shares": [{"policy": "resnet10", "precision": "fp32", "batch": 1, "share": 0.021}]}
    first = speed.headline(made_up)[0]
    assert first["measured"] == "2.1 % at batch 1"
    assert not first["reached"]
    slow = {**told, "pt": {**told["pt"], "times_plain": {"plain fp32": 1.0, "ours fp32": 1.4}}}
    said = {line["measured"]: line["reached"] for line in speed.headline(slow) if line["paper"] == "1"}
    assert said == {"1.40 times": False, "no fast bf16 here": None}
    (shipped,) = [line for line in told["headline"] if "of tiny 0" in line["figure"]]
    assert shipped["reached"] is None
    assert f"{100 * told['shares'][-1]['share']:.1f} % at batch 64" in shipped["measured"]
    assert "release tiny 0." in page
    lines = headline.write(tmp_path).read_text().splitlines()
    assert sum("| reported |" in line and "the release" not in line for line in lines) == 1


def test_both_layouts_say_the_same() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 3, 56, 56)
    network = build.policy("resnet10", 10, grid=4).eval()
    found = speed.forms(network, x)
    assert set(found) == {"served", "default"}
    for call in found.values():
        said = call()
        assert isinstance(said, torch.Tensor)
        with torch.no_grad():
            assert torch.allclose(said, network(x), atol=1e-3)
