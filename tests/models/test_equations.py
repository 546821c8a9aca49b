"""Equations 5, 7, 9, 10, 11 and the reward, each against its definition."""

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.patchdrop import Fusion, bounded, log_likelihood, masked, most_likely, pooled, sharpened
from models.reward import leave_one_out, reward, self_critical

probabilities = st.lists(st.floats(0.01, 0.99), min_size=4, max_size=4)


@given(probabilities)
def test_likelihoods_of_all_actions_sum_to_one(s: list[float]) -> None:
    every = torch.tensor(list(product([0.0, 1.0], repeat=4)), dtype=torch.float64)
    likelihood = log_likelihood(torch.tensor(s, dtype=torch.float64).expand(16, 4), every).exp()
    assert float(likelihood.sum()) == pytest.approx(1.0)


@given(probabilities, st.integers(0, 15))
def test_likelihood_is_the_product_of_eq_5(s: list[float], number: int) -> None:
    actions = [(number >> k) & 1 for k in range(4)]
    product_of = 1.0
    for p, a in zip(s, actions, strict=True):
        product_of *= p**a * (1 - p) ** (1 - a)
    found = log_likelihood(
        torch.tensor([s], dtype=torch.float64), torch.tensor([actions], dtype=torch.float64)
    )
    assert float(found.exp()) == pytest.approx(product_of)


@given(st.floats(0, 1), st.floats(0.5, 1))
def test_bounding_keeps_the_side_and_the_bounds_of_eq_11(s: float, alpha: float) -> None:
    b = float(bounded(torch.tensor(s, dtype=torch.float64), alpha))
    assert 1 - alpha - 1e-9 <= b <= alpha + 1e-9
    assert b == pytest.approx(alpha * s + (1 - alpha) * (1 - s))
    if alpha > 0.5:
        assert (b > 0.5 + 1e-9) <= (s > 0.5 - 1e-9)


def test_most_likely_action_leaves_out_exactly_one_half() -> None:
    assert most_likely(torch.tensor([[0.5, 0.5001, 0.4999]])).tolist() == [[0.0, 1.0, 0.0]]


@given(st.integers(0, 16), st.booleans(), st.floats(0, 50))
def test_reward_is_that_of_section_5_1(patches: int, correct: bool, sigma: float) -> None:
    actions = torch.zeros(1, 16)
    actions[0, :patches] = 1
    found = float(reward(actions, torch.tensor([correct]), sigma))
    assert found == pytest.approx(1 - (patches / 16) ** 2 if correct else -sigma, rel=1e-5)


def test_a_negative_sigma_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        reward(torch.zeros(1, 16), torch.tensor([True]), -0.5)


def test_advantages() -> None:
    rewards = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.5, 3.0]])
    assert self_critical(rewards, torch.tensor([0.5, 1.0])).tolist() == [
        [0.5, -1.0],
        [-0.5, -1.0],
        [0.0, 2.0],
    ]
    assert leave_one_out(rewards).tolist() == [[0.75, -1.5], [-0.75, -1.5], [0.0, 3.0]]
    with pytest.raises(ValueError, match="two samples"):
        leave_one_out(rewards[:1])


def test_the_sampled_gradient_is_unbiased_for_the_expected_reward() -> None:
    """Eq. 8 and 9: the mean of A grad log pi over many samples is the gradient of the exact expectation."""
    torch.manual_seed(0)
    logits = torch.tensor([[0.3, -0.7, 1.1]], dtype=torch.float64, requires_grad=True)
    table = torch.randn(8, dtype=torch.float64)  # a reward for each of the 8 actions
    every = torch.tensor(list(product([0.0, 1.0], repeat=3)), dtype=torch.float64)
    weights = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
    exact = (log_likelihood(logits.sigmoid().expand(8, 3), every).exp() * table).sum()
    (wanted,) = torch.autograd.grad(exact, logits)
    s = logits.sigmoid()
    actions = (torch.rand(200_000, 1, 3, dtype=torch.float64) < s).double()
    rewards = table[(actions[:, 0] @ weights).long()][:, None]
    baseline = table[int((most_likely(s.detach()) @ weights).long())]
    estimate = (self_critical(rewards, baseline[None]) * log_likelihood(s, actions)).mean()
    (found,) = torch.autograd.grad(estimate, logits)
    assert torch.allclose(found, wanted, atol=0.01)


@given(st.integers(0, 16))
def test_eq_7_weights(count: int) -> None:
    actions = torch.zeros(1, 16)
    actions[0, :count] = 1
    hr, lr = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.2, 0.8]])
    fused = Fusion().fuse(hr, lr, actions)
    assert torch.allclose(fused, count / 16 * hr + (1 - count / 16) * lr)
    if count == 0:
        assert torch.equal(fused, lr)
    if count == 16:
        assert torch.equal(fused, hr)


def test_a_fusion_fitted_by_s() -> None:
    rule = Fusion("by_s", (0.0, 0.4, 1.0), (1.0, 2.0, 1.0), 0.5)
    actions = torch.tensor([[1.0, 0.0]])
    assert torch.allclose(rule.weights(actions), torch.tensor([[0.4, 0.6]]))
    hr, lr = torch.tensor([[0.75, 0.25]]), torch.tensor([[0.1, 0.9]])
    assert torch.allclose(
        rule.fuse(hr, lr, actions), torch.tensor([[0.4 * 0.9 + 0.6 * 0.25, 0.4 * 0.1 + 0.6 * 0.75]])
    )
    assert Fusion.from_json(rule.to_json()) == rule
    for wrong in (
        {"rule": "by_s"},
        {"rule": "mean"},
        {"hr_weight": (0.5,), "hr_sharpness": (1.0,)},
        {"rule": "by_s", "hr_weight": (0.5,)},
        {"rule": "by_s", "hr_weight": (1.5,), "hr_sharpness": (1.0,)},
        {"lr_sharpness": 0.0},
        {"rule": "log_pool", "hr_weight": (0.5,), "hr_sharpness": (1.0,)},
        {"rule": "by_s", "hr_weight": (0.5,), "hr_sharpness": (1.0,), "sharpness": (1.0,)},
        {"rule": "log_pool", "hr_weight": (0.5,), "hr_sharpness": (1.0,), "sharpness": (0.0,)},
    ):
        with pytest.raises(ValueError, match=r"\S"):
            Fusion(**wrong)


def test_a_pool_of_logarithms() -> None:
    rule = Fusion("log_pool", (0.0, 0.25, 1.0), (1.0, 1.0, 1.0), 1.0, (1.0, 2.0, 3.0))
    hr, lr = torch.tensor([[0.75, 0.25]]), torch.tensor([[0.1, 0.9]])
    by_hand = (hr**0.25 * lr**0.75) ** 2
    actions = torch.tensor([[1.0, 0.0]])
    assert torch.allclose(rule.fuse(hr, lr, actions), by_hand / by_hand.sum())
    assert torch.allclose(rule.weights(actions), torch.tensor([[0.25, 0.75]]))
    assert torch.allclose(rule.fuse(hr, lr, torch.zeros(1, 2)), lr)
    assert torch.allclose(rule.fuse(hr, lr, torch.ones(1, 2)), hr**3 / (hr**3).sum())
    assert Fusion.from_json(rule.to_json()) == rule
    old = {k: v for k, v in Fusion("by_s", (0.5,), (1.0,)).to_json().items() if k != "sharpness"}
    assert Fusion.from_json(old) == Fusion("by_s", (0.5,), (1.0,))


answers_of = st.lists(st.floats(1e-5, 1), min_size=3, max_size=3).map(lambda p: torch.tensor([p]) / sum(p))


@given(answers_of, answers_of, st.floats(0, 1), st.floats(0.3, 5))
def test_in_a_pool_who_knows_nothing_changes_nothing(
    hr: torch.Tensor, lr: torch.Tensor, weight: float, sharpness: float
) -> None:
    even = torch.full((1, 3), 1 / 3)
    said = pooled(hr, even, torch.tensor([weight]), torch.tensor([sharpness]))
    assert torch.allclose(said, sharpened(hr, weight * sharpness), atol=1e-5)
    both = pooled(hr, lr, torch.tensor([weight]), torch.tensor([sharpness]))
    assert float(both.sum()) == pytest.approx(1, abs=1e-5)
    turned = pooled(lr, hr, torch.tensor([1 - weight]), torch.tensor([sharpness]))
    assert torch.allclose(both, turned, atol=1e-4)


@given(st.lists(st.floats(1e-6, 1), min_size=2, max_size=6), st.floats(0.2, 5))
def test_sharpening_keeps_the_order_and_the_sum(values: list[float], power: float) -> None:
    p = torch.tensor([values], dtype=torch.float64)
    p = p / p.sum()
    found = sharpened(p, power)
    assert float(found.sum()) == pytest.approx(1)
    assert torch.equal(found.argsort(stable=True), p.argsort(stable=True)) or len(set(values)) < len(values)
    assert torch.allclose(sharpened(p, 1.0), p)


@given(st.integers(0, 2**16 - 1), st.sampled_from([16, 32, 50]))
def test_masking_takes_each_patch_from_hr_or_from_the_fill(number: int, px: int) -> None:
    actions = torch.tensor([[(number >> k) & 1 for k in range(16)]], dtype=torch.float32)
    hr, fill = torch.ones(1, 3, px, px), torch.full((1, 3, px, px), 0.25)
    zeros = masked(hr, None, actions)
    filled = masked(hr, fill, actions)
    assert torch.equal(filled, torch.where(zeros > 0, hr, fill))
    if px % 16 == 0:
        assert float(zeros.mean()) == pytest.approx((number).bit_count() / 16)
