"""Stages `pt`, `ft1`, `ft2`: REINFORCE on the policy (Eq. 8-11), jointly with the HR stream in ft1, ft2."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.patchdrop import bounded, log_likelihood, masked, most_likely
from models.recipe import Stage
from models.reward import leave_one_out, reward, self_critical
from models.stages.inputs import Batch
from models.stages.members import Indices, Members
from models.system import System


@dataclass(frozen=True)
class Step:
    """What a step did: losses to descend (None: nothing to train), and figures for the log."""

    policy_loss: Tensor
    classifier_loss: Tensor | None
    reward: float
    accuracy: float
    patches: float


def step(
    system: System,
    members: Members,
    indices: Indices,
    batch: Batch,
    stage: Stage,
    name: str,
    alpha: float,
    generator: torch.Generator,
) -> Step:
    """One step of stage `name` on a batch. Only ft2 reads the LR stream (section 4.2)."""
    grid, samples = system.architecture.grid, stage.samples
    lr_log = None if batch.lr is None else members.lr_log_probabilities(indices, batch.lr)
    s = policy_probabilities(system, batch, lr_log)
    behaviour = bounded(
        s, alpha
    )  # Eq. 11: what the actions are drawn from, and what the gradient goes through
    drawn = torch.rand((samples, *s.shape), generator=generator).to(s.device)
    actions = (drawn < behaviour.detach()).float()
    greedy = most_likely(s.detach())
    tried = [*actions, greedy] if stage.baseline == "self-critical" else [*actions]
    answer = lr_log.exp() if name == "ft2" and lr_log is not None else None
    rewards, right = zip(
        *(_rewards(system, members, indices, batch, a, answer, stage) for a in tried), strict=True
    )
    sampled = torch.stack(rewards[:samples])
    if stage.baseline == "self-critical":
        advantage = self_critical(sampled, rewards[-1])  # Eq. 10
    else:
        advantage = leave_one_out(sampled)
    policy_loss = -(advantage * log_likelihood(behaviour, actions)).mean()  # Eq. 9
    classifier_loss = None
    if name != "pt":
        members.main.hr.train()
        classifier_loss = _classifier_loss(
            system, members, batch, masked(batch.hr, batch.fill, actions[0], grid), actions[0], name, stage
        )
    return Step(
        policy_loss,
        classifier_loss,
        float(sampled.mean()),
        float(torch.stack(right).mean()),
        float(greedy.sum(dim=1).mean()),
    )


def policy_probabilities(system: System, batch: Batch, lr_log: Tensor | None) -> Tensor:
    """s_p (B, P) from the policy's features, in fp32, as the log of Eq. 9 wants."""
    body = system.policy.body
    logits: Tensor = body(batch.policy, lr_log) if system.policy_needs_lr else body(batch.policy)
    return logits.float().sigmoid()


@torch.no_grad()
def _rewards(
    system: System,
    members: Members,
    indices: Indices,
    batch: Batch,
    actions: Tensor,
    lr_answer: Tensor | None,
    stage: Stage,
) -> tuple[Tensor, Tensor]:
    """(B,) rewards of the actions and whether the class was right."""
    hr = members.hr_probabilities(indices, masked(batch.hr, batch.fill, actions, system.architecture.grid))
    fused = hr if lr_answer is None else system.fusion.fuse(hr, lr_answer, actions)
    right = (fused.argmax(dim=1) == batch.labels).float()
    judged = right if stage.reward == "class" else fused.gather(1, batch.labels[:, None])[:, 0]
    return reward(actions, judged, stage.sigma), right


def _classifier_loss(
    system: System, members: Members, batch: Batch, features: Tensor, actions: Tensor, name: str, stage: Stage
) -> Tensor:
    """Cross-entropy of the HR stream's answer (ft1), or of both streams' (ft2; f_cl^l stays fixed)."""
    logits = members.main.hr(features).float()
    if name == "ft1" or members.main.lr is None or batch.lr is None:
        return functional.cross_entropy(logits, batch.labels, label_smoothing=stage.smoothing)
    members.main.lr.eval()
    with torch.no_grad():
        lr = members.main.lr(batch.lr).float().softmax(dim=1)
    fused = system.fusion.fuse(logits.softmax(dim=1), lr, actions).clamp_min(1e-8).log()
    target = (
        functional.one_hot(batch.labels, fused.shape[1]) * (1 - stage.smoothing)
        + stage.smoothing / fused.shape[1]
    )
    return -(target * fused).sum(dim=1).mean()


def alpha_at(stage: Stage, epoch: int) -> float:
    """Eq. 11's alpha at an epoch: from its first to its last value linearly (section 5.1)."""
    first, last = stage.alpha
    return first + (last - first) * (epoch / max(1, stage.epochs - 1))


def held_out_weights(
    system: System, members: Members, pairs: Any, rng: np.random.Generator
) -> tuple[float, ...]:
    """The fusion `by_s`: for each S the HR weight with the best mean log-probability of the right class.

    `pairs` yields (indices, batch) of images that their judges have not learned from; S random patches each.
    Weights are then made monotone in S, as more HR never makes HR worth less.
    """
    grid, candidates = system.architecture.grid, torch.linspace(0, 1, 41)
    scores = torch.zeros(grid**2 + 1, len(candidates))
    with torch.no_grad():
        for indices, batch in pairs:
            lr = members.lr_log_probabilities(indices, batch.lr).exp()
            for count in range(grid**2 + 1):
                order = torch.from_numpy(rng.random((len(indices), grid**2)).argsort(axis=1).argsort(axis=1))
                actions = (order < count).float().to(lr.device)
                hr = members.hr_probabilities(indices, masked(batch.hr, batch.fill, actions, grid))
                of_hr, of_lr = (p.gather(1, batch.labels[:, None])[:, 0].cpu() for p in (hr, lr))
                mixed = candidates[:, None] * of_hr + (1 - candidates[:, None]) * of_lr
                scores[count] += mixed.clamp_min(1e-6).log().sum(dim=1)
    best = candidates[scores.argmax(dim=1)]
    return tuple(round(float(w), 3) for w in best.cummax(dim=0).values)
