"""Coupled networks: what is shared stays one through training, what is not goes its own way."""

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.baselines.pcn import PartiallyCoupled, couple, pcn
from models.networks import build
from models.reproduce.bench import Bench
from tests.models.baselines.made_up import accuracy, history, same, weights

INPUTS = {"tiny": (3, 16), "resnet8": (3, 16), "efficientnet-lite0": (40, 8)}


def body_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build.classifier(name, 5, patchwise=False, grid=4).body


def stepped(high: nn.Module, low: nn.Module, name: str) -> None:
    """One step of both streams, each on noise of its own."""
    both = nn.ModuleList([high, low])
    optimiser = torch.optim.AdamW([p for p in both.parameters() if p.requires_grad], lr=1e-2)
    channels, px = INPUTS[name]
    for body in (high.train(), low.train()):
        x = torch.randn(4, channels, px, px)
        nn.functional.cross_entropy(body(x), torch.arange(4)).backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def common_filters(one: torch.Tensor, other: torch.Tensor) -> int:
    """How many of the first filters are the same, to the bit."""
    alike = [torch.equal(a, b) for a, b in zip(one, other, strict=True)]
    return alike.index(False) if False in alike else len(alike)


def layers(network: nn.Module) -> list[tuple[nn.Module, torch.Tensor]]:
    """Modules with trained weights, before coupling."""
    found = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    return [(m, m.weight.detach().clone()) for m in found if m.weight.requires_grad]


@pytest.mark.parametrize("name", INPUTS)
def test_half_of_every_layer_stays_common_through_a_step(name: str) -> None:
    low = body_of(name)
    high = copy.deepcopy(low)
    pairs = list(zip(layers(high), layers(low), strict=True))
    couple(high, low)
    stepped(high, low, name)
    for (one, before), (other, _) in pairs:
        count = common_filters(one.weight, other.weight)  # type: ignore[arg-type]
        kept = len(before) if isinstance(one, nn.Linear) else round(len(before) / 2)
        # a norm's scales all start at 1, and a first step of AdamW is as long for all
        assert count >= kept if isinstance(one, nn.BatchNorm2d) else count == kept, one
        assert not torch.equal(one.weight, before)  # type: ignore[arg-type]


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1))
def test_any_share_can_be_coupled(share: float) -> None:
    low = body_of("tiny")
    high = copy.deepcopy(low)
    convolutions = [(a, b) for (a, _), (b, _) in zip(layers(high), layers(low), strict=True)]
    couple(high, low, share)
    stepped(high, low, "tiny")
    for one, other in convolutions[:-1]:
        kept = common_filters(one.weight, other.weight)  # type: ignore[arg-type]
        assert kept == round(share * len(one.weight))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", INPUTS)
def test_coupling_changes_no_answer(name: str) -> None:
    low = body_of(name).eval()
    high = copy.deepcopy(low)
    channels, px = INPUTS[name]
    x = torch.randn(2, channels, px, px)
    before = low(x)
    couple(high, low)
    assert torch.equal(low(x), before)
    assert torch.equal(high(x), before)


def test_only_equal_networks_and_shares_of_one_are_coupled() -> None:
    with pytest.raises(ValueError, match="alike"):
        couple(body_of("tiny"), body_of("resnet8"))
    with pytest.raises(ValueError, match="share"):
        couple(body_of("tiny"), body_of("tiny"), 1.5)


def test_what_is_shared_is_stepped_once(coarse: Bench) -> None:
    learner = PartiallyCoupled(coarse, 1e-3)
    group = learner.optimisers()["streams"].param_groups[0]["params"]
    assert len({id(p) for p in group}) == len(group)
    single = sum(p.numel() for p in coarse.system.hr.body.parameters())
    assert single < sum(p.numel() for p in group) < 2 * single


def test_both_streams_learn_and_the_low_one_answers(coarse: Bench) -> None:
    plan = coarse.plan("pcn")
    learner = PartiallyCoupled(coarse, plan.lr)
    hr = weights(coarse.system.hr)
    told = history(coarse, learner, plan)
    assert told[-1]["loss"] < 0.9 * told[0]["loss"]
    assert told[-1]["hr loss"] < told[0]["hr loss"]
    assert same(weights(coarse.system.hr), hr)
    said = pcn(coarse)
    assert accuracy(coarse, said.probabilities) > 0.7
    assert not said.actions.any()


def test_a_trained_pair_is_loaded_again(coarse: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    first = pcn(coarse)
    capsys.readouterr()
    again = pcn(coarse)
    assert capsys.readouterr().out == ""
    assert torch.equal(first.probabilities, again.probabilities)
    assert list(Path(coarse.study.work).rglob("pcn-*.pt"))
