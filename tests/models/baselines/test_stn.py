"""Saliency sampling: the geometry of its grid, and a network that finds where the class is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.baselines.stn import (
    SIGMA,
    SaliencyNetwork,
    Zoom,
    per_patch,
    saliency,
    sampling_grid,
    scores,
    warped,
)
from models.reproduce.bench import Bench
from models.reproduce.learner import Plan
from tests.models.baselines.made_up import history, made_up, same, striped, weights

sizes = st.integers(6, 20)
seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, n: int, sharpness: float) -> Tensor:
    """A saliency map (1, n, n), the rougher the sharper."""
    scores = np.random.default_rng(seed).normal(0, sharpness, n * n)
    return torch.tensor(scores, dtype=torch.float32).softmax(dim=0).view(1, n, n)


def identity(px: int) -> Tensor:
    """Pixel centres in [-1, 1], as grid_sample has them."""
    places = (torch.arange(px) + 0.5) * 2 / px - 1
    y, x = torch.meshgrid(places, places, indexing="ij")
    return torch.stack([x, y], dim=-1)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(2, 40), st.floats(1e-4, 10))
def test_a_uniform_map_samples_every_pixel_where_it_is(n: int, px: int, level: float) -> None:
    grid = sampling_grid(torch.full((1, n, n), level), px)
    assert torch.allclose(grid[0], identity(px), atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(seeds, sizes, st.integers(2, 40), st.floats(0, 6))
def test_the_grid_never_folds(seed: int, n: int, px: int, sharpness: float) -> None:
    grid = sampling_grid(drawn(seed, n, sharpness), px)[0]
    assert grid.abs().max() <= 1
    assert float((grid[:, 1:, 0] - grid[:, :-1, 0]).min()) > -1e-5
    assert float((grid[1:, :, 1] - grid[:-1, :, 1]).min()) > -1e-5


@settings(max_examples=30, deadline=None)
@given(seeds, sizes, st.floats(0, 4))
def test_a_mirrored_map_gives_the_mirrored_grid(seed: int, n: int, sharpness: float) -> None:
    found = drawn(seed, n, sharpness)
    grid, mirrored = sampling_grid(found, 12)[0], sampling_grid(found.flip(-1), 12)[0]
    assert torch.allclose(mirrored.flip(1)[..., 0], -grid[..., 0], atol=1e-4)
    assert torch.allclose(mirrored.flip(1)[..., 1], grid[..., 1], atol=1e-4)
    turned = sampling_grid(found.transpose(-1, -2), 12)[0]
    assert torch.allclose(turned.transpose(0, 1).flip(-1), grid, atol=1e-4)


@pytest.mark.parametrize("patch", [0, 5, 6, 15])
def test_a_salient_patch_is_shown_larger(patch: int) -> None:
    found = torch.full((1, 16, 16), 1.0)
    row, column = patch // 4, patch % 4
    found[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 20.0
    grid = sampling_grid(found, 32)[0]
    inside = ((grid[..., 0] + 1) * 2).floor().eq(column) & ((grid[..., 1] + 1) * 2).floor().eq(row)
    assert float(inside.float().mean()) > 1.5 / 16


@pytest.mark.parametrize("patch", [5, 6, 9, 10])
def test_a_third_of_the_side_zooms_later_into_the_middle(patch: int) -> None:
    """At 1.5 times the saliency of the others a patch in the middle gains a fifth of its area, or nothing."""
    found = torch.full((1, 8, 8), 1.0)
    row, column = patch // 4, patch % 4
    found[0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 1.5
    shares = []
    for sigma in (SIGMA, 1 / 3):
        grid = sampling_grid(found, 64, sigma)[0]
        inside = ((grid[..., 0] + 1) * 2).floor().eq(column) & ((grid[..., 1] + 1) * 2).floor().eq(row)
        shares.append(float(inside.float().mean()) * 16)
    assert shares[0] > 1.2
    assert shares[1] < 1.1


def test_without_saliency_the_image_is_only_resized() -> None:
    image = torch.rand(1, 3, 16, 16)
    even = torch.full((1, 8, 8), 1 / 64)
    assert torch.allclose(warped(image, even, 16), image, atol=1e-3)
    assert torch.allclose(warped(image, even, 8), torch.nn.functional.avg_pool2d(image, 2), atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(seeds, st.sampled_from([4, 8, 16]))
def test_patches_share_the_map_in_the_order_of_their_ids(seed: int, n: int) -> None:
    found = drawn(seed, n, 1.0)
    patches = per_patch(found, 4)
    assert patches.shape == (1, 16)
    side = n // 4
    for patch, value in enumerate(patches[0]):
        top, left = patch // 4 * side, patch % 4 * side
        assert abs(float(found[0, top : top + side, left : left + side].sum() - value)) < 1e-5


@pytest.mark.parametrize(("lr_px", "cells"), [(8, 8), (64, 16), (56, 16), (128, 16)])
def test_saliency_is_shared_out_over_the_cells(lr_px: int, cells: int) -> None:
    found = SaliencyNetwork(lr_px, cells)(torch.randn(2, 3, lr_px, lr_px))
    assert found.shape == (2, cells, cells)
    assert torch.allclose(found.sum(dim=(1, 2)), torch.ones(2), atol=1e-4)
    assert float(found.detach().min()) > 0


def test_it_looks_where_the_class_is_told(tmp_path: Path) -> None:
    """Stripes that x_l hardly shows, nor do half the pixels, blurred, unless they are zoomed to."""
    pictures, labels, places = striped(256, period=6)
    bench = made_up(tmp_path, pictures, labels, {"stn": Plan(8, 16, 1e-2)}, epochs=8)
    hr = weights(bench.system.hr)
    plan = bench.plan("stn")
    learner = Zoom(bench, plan.lr)
    told = history(bench, learner, plan)
    assert told[-1]["loss"] < 0.7 * told[0]["loss"]
    assert same(weights(bench.system.hr), hr)
    found = scores(bench, learner)
    assert found.shape == (256, 16)
    assert torch.allclose(found.sum(dim=1), torch.ones(256), atol=1e-4)
    at = found[bench.tests, places[bench.tests]]
    assert float(at.mean()) > 1.25 / 16
    assert float((found[bench.tests].argmax(dim=1).numpy() == places[bench.tests]).mean()) > 0.3


def test_every_image_has_its_saliency_learned_from_or_not(coarse: Bench) -> None:
    """0 epochs, as of a profile that leaves it out: nothing is salient yet."""
    assert torch.allclose(saliency(coarse)[1], torch.full((len(coarse.labels), 16), 1 / 16))
