"""The policy `answer-curve` in stages `pt`, `ft1`, `ft2`: how likely is a right answer with S patches?

Judges say for some S whether they are right about an image they have not learned from, and the policy learns
the chance of it from what both streams say without HR; a policy of several looks also from what they say with
the patches of each smaller S.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from models.patchdrop import most_likely
from models.recipe import Stage
from models.stages.draws import Draws, rand
from models.stages.inputs import Batch
from models.stages.members import Indices, Members
from models.system import System


class Seen(NamedTuple):
    """What was seen of some images: S tried (B, K), ascending from 0, was the answer right (B, K), and what
    the streams say: LR (B, N), HR (B, L, N) at the first L of these S, one for each S from which the policy
    may look.
    """

    sizes: Tensor
    right: Tensor
    lr: Tensor
    hr: Tensor


@dataclass(frozen=True)
class Trials:
    """What was tried on a batch. `sampled` (B, P) is one of the masks: what the HR classifier is fine-tuned
    on.
    """

    seen: Seen
    sampled: Tensor
    figures: dict[str, float]


def sizes_of(samples: int, count: int, patches: int, generator: torch.Generator | Draws) -> Tensor:
    """(K, B) numbers of patches: 0, and one from each of K - 1 equal ranges of 1..P."""
    step = patches / (samples - 1)
    bins = torch.arange(samples - 1)[:, None] * step
    drawn = (bins + rand((samples - 1, count), generator) * step).floor().long() + 1
    return torch.cat([torch.zeros(1, count, dtype=torch.long), drawn.clamp_max(patches)])


@torch.no_grad()
def trials(
    system: System,
    members: Members,
    indices: Indices,
    batch: Batch,
    stage: Stage,
    name: str,
    generator: torch.Generator | Draws,
) -> Trials:
    """Ask the judges with several S for every image; in pt and ft1 the HR stream alone answers."""
    assert batch.fill is not None
    grid = system.architecture.grid
    lr = members.lr_log_probabilities(indices, batch.answering).exp()
    sizes = sizes_of(stage.samples, len(indices), grid**2, generator).to(batch.hr.device)
    actions = system.first(sizes)
    hrs = [members.hr_probabilities(indices, batch.seen(a, grid), a) for a in actions]
    fusion = system.fusion
    said = [
        (fusion.fuse(hr, lr, a) if name == "ft2" else fusion.hr_answer(hr, a)).argmax(dim=1)
        for hr, a in zip(hrs, actions, strict=True)
    ]
    right = (torch.stack(said) == batch.labels).float()
    bought = most_likely(system.purchases(system.chances_from(lr, hrs[0])))
    figures = {"accuracy": float(right.mean()), "patches": float(bought.sum(dim=1).mean())}
    from_here = hrs if system.architecture.looks > 1 else hrs[:1]
    return Trials(Seen(sizes.T, right.T, lr, torch.stack(from_here, dim=1)), actions[-1], figures)


def curve_loss(system: System, seen: Seen) -> Tensor:
    """Cross-entropy between the chance of a right answer at each S tried and whether it was right, told from
    every S at which the policy may look and that is not larger.
    """
    ahead, right = [], []
    for look in range(seen.hr.shape[1]):
        chances = system.chances_from(seen.lr, seen.hr[:, look], seen.sizes[:, look])
        ahead.append(chances.gather(1, seen.sizes[:, look:]))
        right.append(seen.right[:, look:])
    told = torch.cat(ahead, dim=1).clamp(1e-6, 1 - 1e-6)
    with torch.autocast(told.device.type, enabled=False):  # it refuses this loss, whatever the precision
        return functional.binary_cross_entropy(told, torch.cat(right, dim=1))
