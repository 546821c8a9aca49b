"""A fusion fitted to held-out answers is better at telling than either stream, and calibrated."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.calibration import calibration
from models.patchdrop import sharpened
from models.stages.fusing import fusion_of

KNOTS = (0, 2, 4)


def answers(count: int, seed: int, strengths: tuple[float, ...]) -> tuple[Tensor, list[Tensor], Tensor]:
    """Two streams that see the same class through independent noise: LR, HR at each of the knots, labels."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 5, (count,), generator=rng)
    truth = torch.nn.functional.one_hot(labels, 5).float()

    def stream(strength: float, boldness: float) -> Tensor:
        seen = truth * strength + torch.randn(count, 5, generator=rng)
        return sharpened((seen * strength).softmax(dim=1), boldness)

    return stream(2.0, 0.5), [stream(s, 1.7) for s in strengths], labels


@pytest.mark.parametrize("rule", ["by_s", "log_pool"])
def test_both_tell_more_than_each(rule: str) -> None:
    strengths = (1.5, 2.0, 3.0)
    fusion = fusion_of(*answers(4000, 0, strengths), KNOTS, rule)
    assert fusion.rule == rule
    assert list(fusion.hr_weight) == sorted(fusion.hr_weight)
    lr, hrs, labels = answers(4000, 1, strengths)
    for count, hr in zip(KNOTS, hrs, strict=True):
        actions = torch.zeros(len(labels), 4)
        actions[:, :count] = 1
        fused = fusion.fuse(hr, lr, actions)
        right = (fused.argmax(dim=1) == labels).float().mean()
        for alone in (hr, lr):
            assert right >= (alone.argmax(dim=1) == labels).float().mean() - 0.005
        if rule == "log_pool":  # of independent noise it is the exact rule
            confidence, said = fused.max(dim=1)
            assert calibration(confidence.numpy(), (said == labels).numpy())["ece"] < 0.02
            assert right > max((x.argmax(dim=1) == labels).float().mean() for x in (hr, lr))


def test_a_stream_that_knows_nothing_gets_no_weight() -> None:
    lr, hrs, labels = answers(3000, 2, (2.0, 2.0, 2.0))
    noise = [torch.rand(3000, 5, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    fusion = fusion_of(
        lr, [(p + 0.1) / (p + 0.1).sum(dim=1, keepdim=True) for p in noise], labels, KNOTS, "log_pool"
    )
    assert max(fusion.hr_weight) < 0.1
    fusion = fusion_of(torch.full_like(lr, 0.2), hrs, labels, KNOTS, "log_pool")
    assert fusion.sharpness[0] * fusion.hr_weight[0] == pytest.approx(1 / 1.7, rel=0.2)


def test_few_images_that_are_all_right_are_no_certainty() -> None:
    labels = torch.arange(4) % 2
    sure = torch.nn.functional.one_hot(labels, 2).float() * 0.8 + 0.1
    fusion = fusion_of(sure, [sure] * 3, labels, KNOTS, "log_pool")
    assert np.isfinite(fusion.sharpness).all()
    assert max(fusion.sharpness) <= 8
