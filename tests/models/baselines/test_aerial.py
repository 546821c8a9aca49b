"""The aerial network, whose frozen stem sees each patch alone, under every system."""

from collections.abc import Callable

import pytest
import torch

from models.baselines.kd import kd
from models.baselines.pcn import pcn
from models.baselines.srgan import srgan
from models.baselines.stn import saliency
from models.reproduce.answers import Answers
from models.reproduce.bench import Bench
from models.reproduce.learner import Plan
from tests.models.baselines.made_up import made_up, striped


@pytest.fixture(scope="module")
def aerial(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Pictures of 128 px: larger than what is learned from whole."""
    pictures, labels, _ = striped(16, period=8)
    large = pictures.repeat(4, axis=1).repeat(4, axis=2)
    plans = {"kd": Plan(1, 6), "pcn": Plan(1, 6), "srgan": Plan(2, 6), "stn": Plan(1, 6)}
    work = tmp_path_factory.mktemp("aerial")
    return made_up(work, large, labels, plans, network="efficientnet-lite0", epochs=0)


@pytest.mark.parametrize("system", [kd, pcn, srgan])
def test_it_answers(aerial: Bench, system: Callable[[Bench], Answers]) -> None:
    said = system(aerial)
    assert said.probabilities.shape == (len(aerial.tests), 2)
    assert torch.allclose(said.probabilities.sum(dim=1), torch.ones(len(aerial.tests)), atol=1e-4)
    assert said.actions.shape == (len(aerial.tests), 16)


def test_it_looks(aerial: Bench) -> None:
    assert saliency(aerial)[1].shape == (16, 16)
