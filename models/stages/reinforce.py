"""Stages `pt`, `ft1`, `ft2`: REINFORCE on the policy (Eq. 8-11), jointly with the HR stream in ft1, ft2."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.patchdrop import bounded, log_likelihood, masked, most_likely
from models.recipe import Stage
from models.reward import leave_one_out, reward, self_critical
from models.stages.draws import Draws, rand
from models.stages.inputs import Batch
from models.stages.members import Indices, Members
from models.system import System, log_mean

_CLIP = 0.2


@dataclass(frozen=True)
class Experience:
    """What was tried on a batch: actions (K, B, P), their advantages and log-likelihoods (K, B).

    `s` (B, P) is the policy's answer with its gradient, `sampled` (B, P) one draw from it: what the HR
    classifier is fine-tuned on.
    """

    s: Tensor
    actions: Tensor
    sampled: Tensor
    advantage: Tensor
    log_likelihood: Tensor
    lr_log: Tensor | None
    figures: dict[str, float]


def experience(
    system: System,
    members: Members,
    indices: Indices,
    batch: Batch,
    stage: Stage,
    name: str,
    alpha: float,
    generator: torch.Generator | Draws,
) -> Experience:
    """Draw actions from the bounded policy (Eq. 5, 11) and reward them. Only ft2 reads the LR stream."""
    lr_log = members.lr_log_probabilities(indices, batch.answering) if batch.answering else None
    said = policy_probabilities(system, batch, lr_log)
    s = said.detach()
    behaviour = bounded(s, alpha)
    drawn = rand((stage.samples, *s.shape), generator).to(s.device)
    actions = (drawn < behaviour).float()
    sampled = actions[0]
    greedy = most_likely(s)
    critical = stage.baseline == "self-critical"
    tried = [*actions, greedy] if critical else [*actions]
    answer = lr_log.exp() if name == "ft2" and lr_log is not None else None
    judged = [_rewards(system, members, indices, batch, a, answer, stage) for a in tried]
    rewards = torch.stack([r for r, _ in judged])
    gained = rewards[: stage.samples]
    advantage = self_critical(gained, rewards[-1]) if critical else leave_one_out(gained)
    figures = {
        "reward": float(gained.mean()),
        "accuracy": float(torch.stack([right for _, right in judged]).mean()),
        "patches": float(greedy.sum(dim=1).mean()),
    }
    return Experience(said, actions, sampled, advantage, log_likelihood(behaviour, actions), lr_log, figures)


def policy_loss(
    system: System, batch: Batch, tried: Experience, alpha: float, *, again: bool = False
) -> Tensor:
    """The negative of Eq. 9's objective; `again`: the clipped surrogate for rewards that were used before."""
    s = policy_probabilities(system, batch, tried.lr_log) if again else tried.s
    now = log_likelihood(bounded(s, alpha), tried.actions)
    if not again:
        return -(tried.advantage * now).mean()
    ratio = (now - tried.log_likelihood).exp()
    clipped = ratio.clamp(1 - _CLIP, 1 + _CLIP)
    return -torch.minimum(ratio * tried.advantage, clipped * tried.advantage).mean()


def classifier_loss(
    system: System, members: Members, batch: Batch, actions: Tensor, name: str, stage: Stage
) -> Tensor:
    """Cross-entropy of the HR stream's answer (ft1), or of both streams' (ft2; f_cl^l stays fixed)."""
    members.main.hr.train()
    logits = members.main.hr(masked(batch.hr, batch.fill, actions, system.architecture.grid)).float()
    if name == "ft1" or members.main.lr is None:
        return functional.cross_entropy(logits, batch.labels, label_smoothing=stage.smoothing)
    members.main.lr.eval()
    with torch.no_grad():
        lr = log_mean([members.main.lr(features) for features in batch.answering]).exp()
    fused = system.fusion.fuse(logits.softmax(dim=1), lr, actions).clamp_min(1e-8).log()
    target = functional.one_hot(batch.labels, fused.shape[1]) * (1 - stage.smoothing)
    return -((target + stage.smoothing / fused.shape[1]) * fused).sum(dim=1).mean()


def policy_probabilities(system: System, batch: Batch, lr_log: Tensor | None) -> Tensor:
    """s_p (B, P) from the policy's features, in fp32, as the log of Eq. 9 wants."""
    body = system.policy.body
    logits: Tensor = body(batch.policy, lr_log) if system.policy_needs_lr else body(batch.policy)
    return logits.float().sigmoid()


def answered(
    system: System,
    members: Members,
    indices: Indices,
    batch: Batch,
    actions: Tensor,
    lr_answer: Tensor | None,
) -> Tensor:
    """(B, N) what each image's judge says with the patches in `actions`; of HR alone without an LR answer."""
    hr = members.hr_probabilities(indices, batch.seen(actions, system.architecture.grid), actions)
    fusion = system.fusion
    return fusion.hr_answer(hr, actions) if lr_answer is None else fusion.fuse(hr, lr_answer, actions)


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
    fused = answered(system, members, indices, batch, actions, lr_answer)
    right = (fused.argmax(dim=1) == batch.labels).float()
    judged = right if stage.reward == "class" else fused.gather(1, batch.labels[:, None])[:, 0]
    return reward(actions, judged, stage.sigma), right


def alpha_at(stage: Stage, epoch: int) -> float:
    """Eq. 11's alpha at an epoch: from its first to its last value linearly (section 5.1)."""
    first, last = stage.alpha
    return first + (last - first) * (epoch / max(1, stage.epochs - 1))
