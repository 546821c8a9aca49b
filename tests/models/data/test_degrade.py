"""HR to LR is exact: means, constants, sizes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.degrade import FACTORS, area_average, low_resolution, to_px


def noise(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((2, 3, height, width), generator=generator, dtype=torch.float64) * 255


@pytest.mark.parametrize("ds", FACTORS)
def test_whole_blocks_are_plain_means(ds: int) -> None:
    hr = noise(64, 96)
    blocks = hr.reshape(2, 3, 64 // ds, ds, 96 // ds, ds).mean(dim=(3, 5))
    assert torch.allclose(area_average(hr, ds), blocks, rtol=0, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(FACTORS))
def test_the_mean_is_preserved_and_nothing_leaves_the_range_at_any_size(h: int, w: int, ds: int) -> None:
    hr = noise(h, w, seed=h * 100 + w)
    lr = area_average(hr, ds)
    assert lr.shape[2:] == (max(1, round(h / ds)), max(1, round(w / ds))) if ds > 1 else lr.shape == hr.shape
    assert torch.allclose(lr.mean(dim=(2, 3)), hr.mean(dim=(2, 3)), rtol=0, atol=1e-9)
    assert lr.min() >= hr.min() - 1e-9
    assert lr.max() <= hr.max() + 1e-9


def test_a_pixel_across_a_border_counts_on_both_sides() -> None:
    row = torch.tensor([[[[0.0, 30.0, 60.0, 90.0, 120.0]]]]).repeat(1, 1, 2, 1)
    # Two cells of 2.5 px each: the middle pixel belongs half to either.
    assert torch.allclose(area_average(row, 2), torch.tensor([[[[24.0, 96.0]]]]))


@pytest.mark.parametrize("ds", FACTORS)
@pytest.mark.parametrize("lr_px", [8, 56, 100])
def test_constant_images_stay_constant(ds: int, lr_px: int) -> None:
    lr = low_resolution(torch.full((1, 3, 225, 130), 93.0), ds, lr_px)
    assert lr.shape == (1, 3, lr_px, lr_px)
    assert torch.allclose(lr, torch.tensor(93.0), atol=1e-4)


def test_ds_1_leaves_hr_as_it_is() -> None:
    hr = noise(33, 17)
    assert area_average(hr, 1) is hr


def test_bilinear_between_pixel_centres() -> None:
    x = torch.tensor([[[[0.0, 100.0]]]])
    assert torch.allclose(to_px(x, 4)[0, 0, 0], torch.tensor([0.0, 25.0, 75.0, 100.0]))


def test_shrinking_does_not_alias() -> None:
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::2] = 255
    assert (to_px(stripes, 16)[..., 2:-2] - 127.5).abs().max() < 1


def test_the_paper_cifar_and_imagenet_sizes() -> None:
    assert low_resolution(noise(32, 32), 4, 8).shape == (2, 3, 8, 8)
    imagenet = noise(224, 224)
    assert torch.equal(low_resolution(imagenet, 4, 56), area_average(imagenet, 4))


def test_what_cannot_be_averaged_is_refused() -> None:
    with pytest.raises(ValueError, match="ds must"):
        area_average(noise(8, 8), 0)
    with pytest.raises(ValueError, match="floating"):
        area_average(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 2)
    with pytest.raises(ValueError, match="floating"):
        area_average(torch.zeros(3, 8, 8), 2)
