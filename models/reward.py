"""The utility of a decision (section 5.1, "Reward Function") and its advantage over a baseline (Eq. 10)."""

import torch
from torch import Tensor


def reward(actions: Tensor, correct: Tensor, sigma: float) -> Tensor:
    """R = 1 - (|a_1|_1 / P)^2 where the class is right, -sigma where it is wrong.

    actions (B, P) in {0, 1}, correct (B,) bool or the probability of being right in [0, 1] -> (B,) float.
    sigma > 0 makes errors dearer, so that more patches are sampled (decision 0001). Raises ValueError for
    a negative sigma.
    """
    if sigma < 0:
        raise ValueError("sigma is the price of a wrong class and may not be negative")
    share = actions.float().mean(dim=1)
    right = correct.float()
    return right * (1 - share.square()) - (1 - right) * sigma


def leave_one_out(rewards: Tensor) -> Tensor:
    """Advantage of each of K samples over the mean of the other K - 1: (K, B) -> (K, B)."""
    samples = rewards.shape[0]
    if samples < 2:
        raise ValueError("leave-one-out needs two samples or more")
    others = (rewards.sum(dim=0, keepdim=True) - rewards) / (samples - 1)
    return rewards - others


def self_critical(rewards: Tensor, greedy: Tensor) -> Tensor:
    """Eq. 10: the reward of the sampled actions (K, B) less that of the most likely ones (B,)."""
    return rewards - torch.as_tensor(greedy)
