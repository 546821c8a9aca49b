"""The masks that the HR stream learns from: how many patches are kept, and which."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.architecture import ORDERS
from models.grid import centre_first
from models.recipe import Stage
from models.stages.classify import random_actions

SHARES = st.sampled_from([0.0, 0.25, 1.0])


@given(
    grid=st.integers(1, 6),
    order=st.sampled_from(ORDERS),
    count=st.integers(1, 64),
    mask_share=SHARES,
    ordered=SHARES,
    seed=st.integers(0, 99),
)
def test_as_many_are_kept_whichever_they_are(
    grid: int, order: str, count: int, mask_share: float, ordered: float, seed: int
) -> None:
    ranks = centre_first(grid, order)
    stage, without = Stage(mask_share=mask_share, ordered=ordered), Stage(mask_share=mask_share)
    kept = random_actions(count, ranks, stage, np.random.default_rng(seed))
    other = random_actions(count, ranks, without, np.random.default_rng(seed))
    assert kept.shape == (count, grid**2)
    assert torch.equal(kept.sum(dim=1), other.sum(dim=1))
    first = (ranks < kept.sum(dim=1, keepdim=True)).float()
    if ordered == 1:
        assert torch.equal(kept, first)
    changed = (kept != other).any(dim=1)
    assert torch.equal(kept[changed], first[changed])


@pytest.mark.parametrize("ordered", [0.0, 0.3, 0.8])
def test_the_share_that_is_asked_for_is_in_the_order_of_buying(ordered: float) -> None:
    ranks, rng = centre_first(4), np.random.default_rng(0)
    kept = random_actions(20_000, ranks, Stage(mask_share=1.0, ordered=ordered), rng)
    number = kept.sum(dim=1, keepdim=True)
    some = ((number > 2) & (number < 14)).squeeze(1)  # there chance hardly ever keeps the first of all
    in_order = (kept == (ranks < number).float()).all(dim=1)[some].float().mean()
    assert abs(float(in_order) - ordered) < 0.02
