"""The conditional BagNet: what is dropped is not computed, and the sum is that of computing all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.baselines import bagnet
from models.networks.bagnet import BagNet
from models.patchdrop import most_likely
from models.reproduce.bagnets import AT, CONDITIONAL, LONGER, SETTINGS, BagNets
from models.reproduce.bench import Bench
from models.reproduce.learner import Plan
from models.stages.draws import Draws
from tests.models.baselines.made_up import accuracy, made_up, striped

QUICK = Plan(1, 16, 2e-3)
PLANS = dict.fromkeys(("bagnet", "bagnet-glance", "bagnet-pt", "bagnet-ft1", "stn"), QUICK)
seeds = st.integers(0, 2**16)


def small(seed: int = 0) -> BagNet:
    """In double precision, so that the order of sums does not show."""
    torch.manual_seed(seed)
    bag = BagNet(5, levels=((4, 1), (8, 1)))
    torch.nn.init.normal_(bag.network.evidence.weight)
    return bag.double().eval()


def drawn(seed: int, count: int, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 3, 32, 32, generator=generator, dtype=torch.float64)
    return x, (torch.rand(count, 16, generator=generator) < share).double()


@given(seeds, st.integers(1, 5), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_it_is_exactly_computing_all_and_dropping(seed: int, count: int, share: float) -> None:
    bag = small(seed)
    x, actions = drawn(seed, count, share)
    with torch.no_grad():
        everything = bag.per_patch(x)
        found = bag(x, actions)
    assert torch.allclose(found, (everything * actions[..., None]).sum(dim=1), rtol=0, atol=1e-12)
    assert not bool(found[actions.sum(dim=1) == 0].any())


@given(seeds)
def test_a_dropped_patch_is_never_read(seed: int) -> None:
    bag = small()
    x, actions = drawn(seed, 3, 0.4)
    spoilt = x.clone()
    for image, patch in (actions == 0).nonzero().tolist():
        row, column = divmod(patch, 4)
        spoilt[image, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = torch.nan
    with torch.no_grad():
        assert torch.equal(bag(spoilt, actions), bag(x, actions))


@given(seeds)
def test_the_network_sees_as_many_patches_as_were_taken(seed: int) -> None:
    bag = small()
    x, actions = drawn(seed, 4, 0.3)
    seen: list[int] = []
    bag.network.register_forward_hook(lambda _m, given, _out: seen.append(len(given[0])))
    bag(x, actions)
    assert sum(seen) == int(actions.sum())


def test_a_patch_says_the_same_wherever_it_is() -> None:
    bag = small()
    x, _ = drawn(0, 1, 1.0)
    moved = x.roll((8, 16), dims=(2, 3))
    with torch.no_grad():
        before, after = bag.per_patch(x).view(4, 4, -1), bag.per_patch(moved).view(4, 4, -1)
    assert torch.allclose(before.roll((1, 2), dims=(0, 1)), after, atol=1e-12)


def bench_of(folder: Path, plans: dict[str, Plan], count: int = 48, period: int = 4) -> Bench:
    pictures, labels, _ = striped(count, period)
    return made_up(folder, pictures, labels, plans, epochs=1)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> BagNets:
    return BagNets(bench_of(tmp_path_factory.mktemp("bagnet"), PLANS))


def test_all_rows_stand_with_their_s_and_their_times(rows: BagNets) -> None:
    found = rows.answers()
    assert tuple(found) == SETTINGS
    for stage, s in rows._s.items():
        assert s - 1 < float(found[f"conditional {stage}"].actions.sum(dim=1).mean()) <= s
        for name in ("fixed-h", "fixed-v", "stn"):
            assert set(found[f"{name} {stage}"].actions.sum(dim=1).tolist()) == {float(s)}
    for answers in found.values():
        assert answers.probabilities.shape == (len(rows.bench.tests), 2)
        assert torch.allclose(answers.probabilities.sum(dim=1), torch.ones(len(rows.bench.tests)))
    times = rows.run_times(repeats=1)
    assert list(times) == [name for name in SETTINGS if not name.endswith(" pt") and name != LONGER]
    assert all(taken[key] > 0 for taken in times.values() for key in AT)


def test_what_is_timed_is_what_was_answered(rows: BagNets) -> None:
    _, batch = next(iter(rows.bench.unseen(64)))
    assert batch.policy is not None
    with torch.no_grad():
        for name in CONDITIONAL:
            said: Any = rows.pipelines()[name](batch.policy, batch.hr)
            logits, actions = said
            wanted = rows.conditional[name]["ft1"]
            assert torch.equal(actions, wanted.actions)
            assert torch.allclose(logits.softmax(dim=1), wanted.probabilities, atol=1e-4)


@pytest.mark.parametrize("glance", [False, True])
@pytest.mark.parametrize("jointly", [False, True])
def test_pt_moves_the_policy_alone_and_ft1_both(rows: BagNets, jointly: bool, glance: bool) -> None:
    bench = rows.bench
    network = bagnet.conditional(bench, bagnet.bag_of(bench), glance=glance)
    learner = bagnet.Chosen(bench, network, bagnet.tried(bench, "pt"), 1e-2, jointly=jointly)
    before = {name: [p.clone() for p in m.parameters()] for name, m in learner.modules().items()}
    indices = bench.learns[:16]
    zeros = np.zeros(len(indices), dtype=np.int64)
    batch = bench.inputs.batch(indices, zeros, zeros + bench.ds)
    for optimiser in learner.optimisers().values():
        for group in optimiser.param_groups:
            group["lr"] = group["base"]
    for epoch in range(2):
        learner.step(indices, batch, Draws(0, 0, epoch, 0, indices))
    moved = {
        name: any(not torch.equal(a, b) for a, b in zip(before[name], m.parameters(), strict=True))
        for name, m in learner.modules().items()
    }
    assert moved == {"policy": True, "bag": jointly}


def test_a_glance_learns_what_the_patches_do_not_say(tmp_path: Path) -> None:
    """The BagNet is untrained and says nothing: what x_l tells is all there is. It stays as it was."""
    bench = bench_of(tmp_path, {"bagnet-glance": Plan(25, 16, 1e-2)}, 192, period=8)
    network = bagnet.conditional(bench, bagnet.bag_of(bench), glance=True)
    before = [tensor.clone() for tensor in network.bag.state_dict().values()]
    bagnet.glanced(bench, "key", network)
    assert accuracy(bench, bagnet.answers(bench, network).probabilities) > 0.8
    pairs = zip(before, network.bag.state_dict().values(), strict=True)
    assert all(torch.equal(then, now) for then, now in pairs)


def test_it_learns_what_to_take(tmp_path: Path) -> None:
    """One patch of sixteen says the class: it is found in x_l, and the others are left."""
    plans = {"bagnet": Plan(12, 8, 1e-2), "bagnet-pt": Plan(80, 16, 1e-2)}
    bench = bench_of(tmp_path, plans, 96)
    bag = bagnet.bag_of(bench, levels=((8, 1), (16, 1)))
    key = bench.fit("bagnet", bagnet.Whole(bench, bag, 1e-2), plans["bagnet"])
    network = bagnet.conditional(bench, bag, glance=False)
    bagnet.chosen(bench, key, network, "pt")
    everything = bagnet.answers_with(bench, bag, torch.ones(len(bench.tests), 16))
    found = bagnet.answers(bench, network)
    assert accuracy(bench, everything.probabilities) > 0.9
    assert accuracy(bench, found.probabilities) > 0.9
    assert float(found.actions.sum(dim=1).mean()) < 8
    assert bool((found.actions == most_likely(found.actions)).all())
