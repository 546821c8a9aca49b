"""Stage Pt as a reader of Algorithm 1 would write it: the yardstick that the trainer is timed against."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models import grid as grids
from models.networks import build
from models.recipe import Stage
from models.system import System


def masked_patch_by_patch(hr: Tensor, actions: Tensor) -> Tensor:
    """x_h^m = x_h * a_1, one patch after the other: hr (B, 3, H, H), actions (B, P)."""
    found = hr.clone()
    for patch, (rows, columns) in enumerate(grids.windows(hr.shape[-1])):
        found[:, :, rows, columns] *= actions[:, patch, None, None, None]
    return found


@dataclass
class Plain:
    """The yardstick: a step of Algorithm 1's first loop as a reader of section 4.2 would write it down.

    fp32, torch's default memory layout, Eq. 11 and not Algorithm 1's slip (decision 1). The classifier is
    asked twice, for the sampled action and for the baseline's. It is asked without a gradient, as no reader
    would let the fixed classifier have one.
    """

    policy: nn.Module
    classifier: nn.Module
    optimiser: torch.optim.Optimizer
    stage: Stage

    def step(self, lr: Tensor, hr: Tensor, labels: Tensor) -> None:
        alpha = self.stage.alpha[0]
        s = torch.sigmoid(self.policy(lr))
        bounded = alpha * s + (1 - alpha) * (1 - s)
        actions = torch.bernoulli(bounded.detach())
        loss = self.loss(s, bounded, actions, hr, labels)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()

    def loss(self, s: Tensor, bounded: Tensor, actions: Tensor, hr: Tensor, labels: Tensor) -> Tensor:
        """The negative of Eq. 9's objective with the advantage of Eq. 10."""
        baseline = (s.detach() > 0.5).float()
        advantage = self.reward(hr, actions, labels) - self.reward(hr, baseline, labels)
        chosen = bounded * actions + (1 - bounded) * (1 - actions)
        return -(advantage * torch.log(chosen).sum(dim=1)).mean()

    @torch.no_grad()
    def reward(self, hr: Tensor, actions: Tensor, labels: Tensor) -> Tensor:
        said = self.classifier(masked_patch_by_patch(hr, actions)).argmax(dim=1)
        gained = 1 - (actions.sum(dim=1) / actions.shape[1]) ** 2
        return torch.where(said == labels, gained, torch.full_like(gained, -self.stage.sigma))


def plain(system: System, stage: Stage) -> Plain:
    """The yardstick with copies of a system's networks, in torch's default layout."""
    a = system.architecture
    bodies = []
    for name, outputs, trained in ((a.policy, a.grid**2, system.policy), (a.hr, a.classes, system.hr)):
        network = build.classifier(name, outputs, patchwise=False, grid=a.grid)
        network.load_state_dict(trained.state_dict())
        bodies.append(network.body.to(system.mean.device))
    policy, classifier = bodies[0].train(), bodies[1].eval()
    return Plain(policy, classifier, torch.optim.Adam(policy.parameters(), lr=stage.lr), stage)
