"""Stages `hr` and `lr`: the classifier's two streams by cross-entropy (section 4.2)."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.patchdrop import masked
from models.recipe import Stage
from models.stages.draws import Rng
from models.stages.inputs import Batch


def random_actions(count: int, patches: int, share: float, rng: Rng) -> Tensor:
    """(B, P) masks: `share` of them keep a uniform number 0..P of random patches, the others keep all."""
    order = rng.random((count, patches)).argsort(axis=1).argsort(axis=1)
    kept = np.where(rng.random(count) < share, rng.integers(0, patches + 1, count), patches)
    return torch.from_numpy((order < kept[:, None]).astype(np.float32))


def classification_loss(
    body: nn.Module,
    stream: str,
    batch: Batch,
    stage: Stage,
    classes: int,
    grid: int,
    rng: Rng,
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of a batch and the share of it that was right, with the stage's masks and mixup."""
    if stream == "hr":
        actions = random_actions(len(batch.labels), grid**2, stage.mask_share, rng).to(batch.hr.device)
        x = masked(batch.hr, batch.fill, actions, grid) if stage.mask_share else batch.hr
    else:
        assert batch.lr is not None
        x = batch.lr
    target = functional.one_hot(batch.labels, classes).float()
    if stage.mixup:
        share = float(rng.beta(stage.mixup, stage.mixup))
        x = share * x + (1 - share) * x.flip(0)
        target = share * target + (1 - share) * target.flip(0)
    logits = body(x).float()
    loss = functional.cross_entropy(logits, target, label_smoothing=stage.smoothing)
    right = (logits.detach().argmax(dim=1) == target.argmax(dim=1)).float().mean()
    return loss, right


def learning_rate(base: float, schedule: str, step: int, steps: int) -> float:
    """Constant, or half a cosine after a warm-up of a twentieth of all steps."""
    if schedule == "constant":
        return base
    warm = max(1, steps // 20)
    return base * min(1.0, (step + 1) / warm) * 0.5 * (1 + float(np.cos(np.pi * step / steps)))
