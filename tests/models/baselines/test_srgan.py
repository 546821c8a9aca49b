"""Super-resolution: shapes at every ds, crops, and a generator that helps the HR classifier."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.baselines import srgan
from models.baselines.common import pixels
from models.baselines.srgan import Adversarial, ClassifierFeatures, Discriminator, Generator, Pixelwise
from models.data.degrade import to_px
from models.reproduce.bench import Bench
from models.reproduce.learner import Plan
from models.stages.draws import Draws
from tests.models.baselines.made_up import accuracy, history, same, weights


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([1, 2, 4, 8, 16, 32]), st.integers(2, 6), st.integers(1, 4))
def test_every_power_of_two_starts_as_bilinear_upsampling(ds: int, px: int, width: int) -> None:
    generator = Generator(ds, width=width, blocks=1).eval()
    lr = torch.rand(2, 3, px, px) * 2 - 1
    made = generator(lr)
    assert made.shape == (2, 3, px * ds, px * ds)
    assert torch.allclose(made, to_px(lr, px * ds), atol=1e-6)


@pytest.mark.parametrize("ds", [0, 3, 6])
def test_no_other_ds_can_be_made(ds: int) -> None:
    with pytest.raises(ValueError, match="powers of 2"):
        Generator(ds)


@pytest.mark.parametrize("px", [8, 20, 64])
def test_the_discriminator_judges_any_size(px: int) -> None:
    assert Discriminator(width=4)(torch.randn(2, 3, px, px)).shape == (2,)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(0, 12), st.integers(0, 2**31))
def test_crops_are_squares_of_their_image(px: int, room: int, seed: int) -> None:
    side = px + room
    images = torch.arange(2 * side**2, dtype=torch.float32).view(2, 1, side, side).expand(2, 3, side, side)
    found = srgan.crops(images, px, Draws(seed, 0, 0, 0, np.arange(2)))
    assert found.shape == (2, 3, px, px)
    for image, crop in zip(images, found, strict=True):
        top, left = divmod(int(crop[0, 0, 0] - image[0, 0, 0]), side)
        assert torch.equal(crop, image[:, top : top + px, left : left + px])


@pytest.mark.parametrize(
    ("hr_px", "ds", "side"), [(32, 4, 32), (256, 4, 128), (256, 32, 128), (224, 4, 112), (224, 32, 224)]
)
def test_large_images_are_learned_from_in_halves(hr_px: int, ds: int, side: int) -> None:
    assert srgan.crop_px(hr_px, ds) == side


def test_errors_go_down_and_the_classifier_stays(coarse: Bench) -> None:
    hr = weights(coarse.system.hr)
    generator = Generator(coarse.ds, width=8, blocks=1)
    alone = history(coarse, Pixelwise(coarse, generator, 3e-3), Plan(2, 16))
    assert alone[-1]["pixels"] < 0.95 * alone[0]["pixels"]
    told = history(coarse, Adversarial(coarse, generator, 3e-3), Plan(2, 16))
    assert told[-1]["features"] < 0.9 * told[0]["features"]
    assert told[-1]["discriminator"] < told[0]["discriminator"]
    assert same(weights(coarse.system.hr), hr)


def test_unseen_images_come_nearer_to_hr_in_the_classifiers_eyes(coarse: Bench) -> None:
    generator, images = srgan.trained(coarse), pixels(coarse, coarse.tests)
    features = ClassifierFeatures(coarse, images.shape[-1])
    wanted = features(srgan.to_unit(images))
    made, smooth = (
        srgan.super_resolved(coarse, network.eval(), images) for network in (generator, Generator(coarse.ds))
    )
    errors = [float(srgan.relative_error(features(srgan.to_unit(x)), wanted)) for x in (made, smooth)]
    assert errors[0] < 0.8 * errors[1]
    said = srgan.srgan(coarse)
    assert accuracy(coarse, said.probabilities) > 0.65
    assert not said.actions.any()
