"""Answers over several symmetries of what was bought: the same patches in every view."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.architecture import Architecture
from models.recipe import Images
from models.stages.inputs import Inputs
from models.system import System
from models.views import ANSWERING, View, view_of

TINY = Architecture(3, 8, 32, "tiny", "tiny", "tiny", fill="lr", lr_views=4, hr_views=4)


def pixels(rng: np.random.Generator, count: int, px: int) -> torch.Tensor:
    return torch.from_numpy(rng.integers(0, 255, (count, 3, px, px), dtype=np.uint8)).float()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 9999), st.sampled_from(ANSWERING[4]), st.sampled_from(["lr", "zeros"]))
def test_turning_the_tile_with_its_patches_changes_no_answer(seed: int, view: int, fill: str) -> None:
    torch.manual_seed(seed)
    system = System(dataclasses.replace(TINY, fill=fill)).eval()
    rng = np.random.default_rng(seed)
    hr, lr = pixels(rng, 2, 32), pixels(rng, 2, 8)
    actions = torch.from_numpy(rng.integers(0, 2, (2, 16))).float()
    turned = view_of(actions.view(2, 4, 4), view).flatten(1)
    with torch.no_grad():
        one = system.predict(lr, hr, actions)
        other = system.predict(view_of(lr, view), view_of(hr, view), turned)
    assert torch.allclose(one.fused, other.fused, atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 9999), st.sampled_from(sorted(ANSWERING)))
def test_what_was_not_bought_has_no_say(seed: int, views: int) -> None:
    torch.manual_seed(seed)
    system = System(dataclasses.replace(TINY, hr_views=views)).eval()
    rng = np.random.default_rng(seed)
    hr, lr = pixels(rng, 1, 32), pixels(rng, 1, 8)
    bought = torch.from_numpy(rng.integers(0, 2, (4, 4))).float()
    other = torch.where(bought.repeat_interleave(8, 0).repeat_interleave(8, 1) > 0, hr, pixels(rng, 1, 32))
    actions = bought.view(1, 16)
    with torch.no_grad():
        assert torch.equal(system.predict(lr, hr, actions).fused, system.predict(lr, other, actions).fused)


@pytest.mark.parametrize("fill", ["lr", "zeros"])
def test_a_patch_passes_the_stem_once(fill: str) -> None:
    """As it was bought or as it is filled in; the answer is that of masked features of both."""
    torch.manual_seed(0)
    plan = Architecture(3, 16, 64, "tiny", "efficientnet-lite0", "tiny", fill=fill, lr_views=4, hr_views=4)
    system = System(plan).eval()
    rng = np.random.default_rng(0)
    hr, lr = pixels(rng, 5, 64), pixels(rng, 5, 16)
    actions = torch.from_numpy(rng.integers(0, 2, (5, 16))).float()
    actions[0], actions[1] = 0, 1
    passed: list[int] = []
    hook = system.hr.stem.register_forward_hook(lambda _, given, __: passed.append(len(given[0])))
    with torch.no_grad():
        found = system.predict(lr, hr, actions).hr
        hook.remove()
        x, filled, stem = system.normalised(hr), system.filled(lr), system.hr.stem
        both = [
            View(view, stem(view_of(x, view)), None if filled is None else stem(view_of(filled, view)))
            for view in system.hr_views
        ]
        wanted = system.hr_answer([view.masked(actions, 4) for view in both])
    assert sum(passed) == 4 * 5
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("view", range(8))
def test_views_from_the_cache_are_those_that_are_computed(tmp_path: Path, view: int) -> None:
    torch.manual_seed(0)
    plan = Architecture(
        3, 16, 64, "answer-curve", "efficientnet-lite0", "tiny", fill="lr", lr_views=4, hr_views=4
    )
    system = System(plan).eval()
    rng = np.random.default_rng(0)
    images, labels = pixels(rng, 3, 64).to(torch.uint8), torch.arange(3)
    spec = Images(hr_px=64, lr_px=16, ds=(4, 8), fill="lr", augment="dihedral", thin=2)
    kept, made = Inputs(system, images, labels, spec, tmp_path), Inputs(system, images, labels, spec)
    assert kept.cache is not None
    kept.cache.fill(lambda *_: None)
    ds = next(factor for v, factor in kept.variants if v == view)
    asked = np.arange(3), np.full(3, view), np.full(3, ds)
    actions = torch.from_numpy(rng.integers(0, 2, (3, 16))).float()
    for inputs in (kept, made):
        assert len(inputs.batch(*asked).views) == 0  # only on request
    one, other = (inputs.batch(*asked, answers=True).seen(actions, 4) for inputs in (kept, made))
    assert len(one) == len(other) == 4
    for a, b in zip(one, other, strict=True):
        assert torch.allclose(a, b.float(), atol=0.05, rtol=0.05)
        assert float((a - one[0]).abs().mean()) > 0 or a is one[0]
