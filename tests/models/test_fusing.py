"""A fusion fitted to held-out answers is better at telling than either stream, and calibrated."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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


@pytest.mark.parametrize("rule", ["by_s", "log_pool"])
@given(st.integers(0, 10_000), st.integers(2, 60), st.booleans())
@settings(max_examples=25)
def test_any_answers_can_be_joined(rule: str, seed: int, count: int, sure: bool) -> None:
    """Streams that know nothing, and few images that are all told right, leave a rule that answers."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=rng)
    noise = [torch.rand(count, 4, generator=rng).softmax(dim=1) for _ in range(4)]
    if sure:
        noise = [torch.nn.functional.one_hot(labels, 4).float() * 0.9 + 0.025] * 4
    fusion = fusion_of(noise[0], noise[1:], labels, KNOTS, rule)
    for actions in (torch.zeros(count, 4), torch.ones(count, 4)):
        fused = fusion.fuse(noise[1], noise[0], actions)
        assert torch.isfinite(fused).all()
        assert torch.allclose(fused.sum(dim=1), torch.ones(count), atol=1e-5)
