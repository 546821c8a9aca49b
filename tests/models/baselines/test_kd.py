"""Distillation: its loss by Hinton's properties, and a student that learns."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from models.baselines.kd import Distillation, distillation_loss, kd
from models.reproduce.bench import Bench
from tests.models.baselines.made_up import accuracy, history, same, weights

seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, size: float = 3.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    said, teacher = (torch.tensor(rng.normal(0, size, (5, 7)), dtype=torch.float32) for _ in range(2))
    return said, teacher, torch.from_numpy(rng.integers(0, 7, 5))


@settings(max_examples=50, deadline=None)
@given(seeds, st.floats(1, 20), st.floats(0, 1))
def test_a_student_that_says_what_the_teacher_says_has_only_the_labels_loss(
    seed: int, temperature: float, soft: float
) -> None:
    said, teacher, labels = drawn(seed)
    hard = float(functional.cross_entropy(said, labels)) * (1 - soft)
    assert abs(float(distillation_loss(said, said + 2.0, labels, temperature, soft)) - hard) < 1e-3
    assert float(distillation_loss(said, teacher, labels, temperature, soft)) > hard - 1e-3


def test_soft_gradients_keep_their_size_at_a_high_temperature() -> None:
    """Hinton et al. 2015, Eq. 4: T^2 times the gradient tends to (z - v) / N, both of zero mean."""
    said, teacher, labels = drawn(1, size=1.0)
    said, teacher = said - said.mean(dim=1, keepdim=True), teacher - teacher.mean(dim=1, keepdim=True)
    said.requires_grad_()
    distillation_loss(said, teacher, labels, temperature=1000, soft=1.0).backward()  # type: ignore[no-untyped-call]
    wanted = (said.detach() - teacher) / said.shape[1] / len(said)
    assert said.grad is not None
    assert torch.allclose(said.grad, wanted, rtol=0.02, atol=2e-4)


def test_the_student_learns_and_nobody_else(coarse: Bench) -> None:
    plan = coarse.plan("kd")
    learner = Distillation(coarse, plan.lr)
    hr, teacher = weights(coarse.system.hr), weights(learner.teacher)
    told = history(coarse, learner, plan)
    assert told[-1]["loss"] < 0.9 * told[0]["loss"]
    assert same(weights(coarse.system.hr), hr)
    assert same(weights(learner.teacher), teacher)


def test_the_student_answers_better_than_chance_and_buys_nothing(coarse: Bench) -> None:
    said = kd(coarse)
    assert accuracy(coarse, said.probabilities) > 0.7
    assert said.actions.shape == (len(coarse.tests), 16)
    assert not said.actions.any()
    assert torch.allclose(said.probabilities.sum(dim=1), torch.ones(len(coarse.tests)))
