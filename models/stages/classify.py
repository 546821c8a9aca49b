"""Stages `hr` and `lr`: the classifier's two streams by cross-entropy (section 4.2)."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.patchdrop import masked
from models.recipe import Stage
from models.stages.draws import Rng
from models.stages.inputs import Batch


def random_actions(count: int, ranks: Tensor, stage: Stage, rng: Rng) -> Tensor:
    """(B, P) masks: `mask_share` of them keep a uniform number 0..P of patches, the others keep all.

    `ordered` of those keep the first by `ranks` (P,), as a policy buys; the others random ones.
    """
    patches = len(ranks)
    order = rng.random((count, patches)).argsort(axis=1).argsort(axis=1)
    kept = np.where(rng.random(count) < stage.mask_share, rng.integers(0, patches + 1, count), patches)
    if stage.ordered:  # else nothing is drawn: what was trained without stays what it is
        order = np.where((rng.random(count) < stage.ordered)[:, None], ranks.cpu().numpy(), order)
    return torch.from_numpy((order < kept[:, None]).astype(np.float32))


def classification_loss(
    body: nn.Module,
    stream: str,
    batch: Batch,
    stage: Stage,
    classes: int,
    ranks: Tensor,
    rng: Rng,
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of a batch and the share of it that was right, with the stage's masks and mixup.

    `ranks` (P,): in which order patches are bought.
    """
    if stream == "hr":
        actions = random_actions(len(batch.labels), ranks, stage, rng).to(batch.hr.device)
        x = masked(batch.hr, batch.fill, actions, math.isqrt(len(ranks))) if stage.mask_share else batch.hr
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
