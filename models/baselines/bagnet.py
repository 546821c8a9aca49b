"""BagNet and the conditional BagNet of section 6 (table 3): the policy says which patches the CNN is run on.

First the BagNet learns from all patches, then the policy alone (Pt), then both (Ft-1), by Eq. 8-11. As the
evidence of patches is summed, one pass over all patches tells the reward of any choice: many actions are
tried an image at the price of one, and the baseline is the mean of the others (less variance than Eq. 10's).

The paper's row has only the patches' evidence. A second row lets the policy, which has seen all of x_l, add
its own: it has as many more outputs as there are classes, and its time is the same. It learns that evidence
before Pt, beside random patches': the first rewards say something then (docs/lab-notes.md).
"""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from models.baselines.common import descend, optimiser
from models.networks import build
from models.networks.bagnet import LEVELS, BagNet, Levels
from models.networks.folding import folded
from models.patchdrop import bounded, log_likelihood, most_likely
from models.recipe import Stage
from models.reproduce.answers import Answers
from models.reproduce.bench import Bench
from models.reproduce.learner import Learner
from models.reward import leave_one_out, reward
from models.stages.draws import Draws, rand
from models.stages.inputs import Batch, Indices

SAMPLES = 8
"""Actions tried for each image."""


class ConditionalBagNet(nn.Module):
    """f_p on x_l (B, 3, h, h), then the BagNet on the patches of x_h (B, 3, H, H) that it took.

    -> logits (B, N) and actions (B, P). `glance`: the policy's own evidence is added.
    """

    def __init__(self, policy: nn.Module, bag: BagNet, *, glance: bool = False) -> None:
        super().__init__()
        self.policy, self.bag, self.glance = policy, bag, glance

    def asked(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        """s_p (B, P) in fp32, and the policy's own evidence (B, N): 0 where it has no say."""
        said = self.policy(lr).float()
        patches = self.bag.grid**2
        own = said[:, patches:] if self.glance else said.new_zeros(len(said), self.bag.classes)
        return said[:, :patches].sigmoid(), own

    def forward(self, lr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
        s, own = self.asked(lr)
        actions = most_likely(s)
        return self.bag(hr, actions) + own, actions


def bag_of(bench: Bench, levels: Levels = LEVELS) -> BagNet:
    """A BagNet for the bench's images, untrained. Raises ValueError where a stem stands before the pixels."""
    if not isinstance(bench.system.hr.stem, nn.Identity):
        raise ValueError("the BagNet here reads pixels of small pictures, as CIFAR's")
    torch.manual_seed(bench.seed)
    bag = BagNet(bench.classes, bench.recipe.images.grid, levels).to(bench.device)
    return bag.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def conditional(bench: Bench, bag: BagNet, *, glance: bool) -> ConditionalBagNet:
    """The recipe's policy network, untrained, before a BagNet."""
    torch.manual_seed(bench.seed)
    outputs = bench.patches + (bench.classes if glance else 0)
    name, grid = bench.recipe.networks.policy, bench.recipe.images.grid
    policy = build.classifier(name, outputs, patchwise=False, grid=grid).body
    found = ConditionalBagNet(policy, bag, glance=glance).to(bench.device)
    return found.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class Whole(Learner):
    """The BagNet on all patches of every image, by cross-entropy."""

    def __init__(self, bench: Bench, bag: BagNet, rate: float) -> None:
        self.bench, self.bag = bench, bag
        self._optimiser = optimiser(bench, (bag.parameters(), rate))

    def modules(self) -> dict[str, nn.Module]:
        return {"bag": self.bag}

    def optimisers(self) -> dict[str, Optimizer]:
        return {"bag": self._optimiser}

    def actions(self, indices: Indices, batch: Batch, draws: Draws) -> Tensor | None:
        """The patches (B, P) learned from; None: all."""
        del indices, batch, draws
        return None

    def step(self, indices: Indices, batch: Batch, draws: Draws) -> dict[str, float]:
        self.bag.train()
        actions = self.actions(indices, batch, draws)
        with self.bench.autocast():
            said = self.bag(batch.hr, actions).float()
        loss = functional.cross_entropy(said, batch.labels)
        if actions is None or bool(actions.any()):  # nothing taken, nothing to learn
            descend(self._optimiser, loss)
        right = (said.argmax(dim=1) == batch.labels).float().mean()
        return {"loss": float(loss.detach()), "accuracy": float(right)}


class Glance(Learner):
    """The policy's own evidence beside that of random patches, of a BagNet that stands still."""

    def __init__(self, bench: Bench, network: ConditionalBagNet, rate: float) -> None:
        self.bench, self.network = bench, network
        self._bag = cast("BagNet", folded(network.bag))
        self._optimiser = optimiser(bench, (network.policy.parameters(), rate))

    def modules(self) -> dict[str, nn.Module]:
        return {"policy": self.network.policy}

    def optimisers(self) -> dict[str, Optimizer]:
        return {"glance": self._optimiser}

    def step(self, indices: Indices, batch: Batch, draws: Draws) -> dict[str, float]:
        del indices
        assert batch.policy is not None
        with self.bench.autocast(), torch.no_grad():
            evidence = self._bag.per_patch(batch.hr).float()
        drawn = rand((1, len(evidence), evidence.shape[1] + 1), draws)[0].to(evidence.device)
        actions = (drawn[:, 1:] < drawn[:, :1]).float()  # any number of patches, each as likely
        self.network.policy.train()
        with self.bench.autocast():
            _, own = self.network.asked(batch.policy)
        said = (evidence * actions[..., None]).sum(dim=1) + own
        loss = functional.cross_entropy(said, batch.labels)
        descend(self._optimiser, loss)
        right = (said.argmax(dim=1) == batch.labels).float().mean()
        return {"loss": float(loss.detach()), "accuracy": float(right)}


class Chosen(Learner):
    """The policy before a BagNet: alone (Pt), or `jointly` with it (Ft-1). Eq. 8-11."""

    def __init__(
        self, bench: Bench, network: ConditionalBagNet, stage: Stage, rate: float, *, jointly: bool
    ) -> None:
        self.bench, self.network, self.stage, self.jointly = bench, network, stage, jointly
        groups = [(network.policy.parameters(), rate)]
        if jointly:
            groups.append((network.bag.parameters(), rate))
        self._optimiser = optimiser(bench, *groups)
        self._quick: BagNet | None = None

    def modules(self) -> dict[str, nn.Module]:
        return {"policy": self.network.policy, "bag": self.network.bag}

    def optimisers(self) -> dict[str, Optimizer]:
        return {"chosen": self._optimiser}

    def step(self, indices: Indices, batch: Batch, draws: Draws) -> dict[str, float]:
        del indices
        assert batch.policy is not None
        evidence = self._evidence(batch.hr)
        self.network.policy.train()
        with self.bench.autocast():
            s, own = self.network.asked(batch.policy)
        behaviour = bounded(s, self.stage.alpha[0])
        drawn = rand((self.stage.samples, *s.shape), draws).to(s.device)
        actions = (drawn < behaviour.detach()).float()
        advantage, accuracy = self._advantage(actions, evidence, own.detach(), batch.labels)
        loss = -(advantage * log_likelihood(behaviour, actions)).mean()
        sampled = actions[0]
        if self.jointly:
            self.network.bag.train()
            with self.bench.autocast():
                said = self.network.bag(batch.hr, sampled).float()
            loss = loss + functional.cross_entropy(said + own, batch.labels)
        elif self.network.glance:
            said = (evidence * sampled[..., None]).sum(dim=1)
            loss = loss + functional.cross_entropy(said + own, batch.labels)
        descend(self._optimiser, loss)
        patches = float(most_likely(s.detach()).sum(dim=1).mean())
        return {"loss": float(loss.detach()), "accuracy": accuracy, "patches": patches}

    @torch.no_grad()
    def _evidence(self, hr: Tensor) -> Tensor:
        """(B, P, N) of all patches in fp32, from the BagNet as it stands."""
        if self.jointly:
            bag = self.network.bag.eval()
        else:
            if self._quick is None:
                self._quick = cast("BagNet", folded(self.network.bag))
            bag = self._quick
        with self.bench.autocast():
            return bag.per_patch(hr).float()

    def _advantage(
        self, actions: Tensor, evidence: Tensor, own: Tensor, labels: Tensor
    ) -> tuple[Tensor, float]:
        """(K, B) of each action over the mean of the others, and the share of right answers."""
        said = torch.einsum("kbp,bpn->kbn", actions, evidence) + own
        right = (said.argmax(dim=-1) == labels).float()
        rewards = reward(actions.flatten(0, 1), right.flatten(), self.stage.sigma).view_as(right)
        return leave_one_out(rewards), float(right.mean())


def whole(bench: Bench) -> tuple[str, BagNet]:
    """The BagNet trained on all patches, and the hash of its training. Raises SliceOver."""
    plan, bag = bench.plan("bagnet"), bag_of(bench)
    return bench.fit("bagnet", Whole(bench, bag, plan.lr), plan), bag


def glanced(bench: Bench, key: str, network: ConditionalBagNet) -> str:
    """Train the policy's own evidence before the BagNet of the training `key`. Raises SliceOver."""
    plan = bench.plan("bagnet-glance")
    return bench.fit("bagnet-glance", Glance(bench, network, plan.lr), plan, (key,))


def tried(bench: Bench, name: str) -> Stage:
    """The recipe's `pt` or `ft1`, with several actions an image; its first alpha, as CIFAR's is constant."""
    return replace(bench.recipe.stages[name], samples=SAMPLES)


def chosen(bench: Bench, key: str, network: ConditionalBagNet, name: str, sigma: float | None = None) -> str:
    """Train `pt` or `ft1` of a conditional BagNet made of the training `key`. Raises SliceOver."""
    stage = tried(bench, name)
    if sigma is not None:
        stage = replace(stage, sigma=sigma)
    plan = bench.plan(f"bagnet-{name}")
    learner = Chosen(bench, network, stage, plan.lr, jointly=name == "ft1")
    told = (key, str(network.glance), str(stage.sigma), str(stage.alpha[0]), str(stage.samples))
    return bench.fit(f"bagnet-{name}", learner, plan, told)


@torch.no_grad()
def answers(bench: Bench, network: ConditionalBagNet) -> Answers:
    """What is said of the held-out images with the patches that the policy takes."""
    network.eval()
    said, taken = [], []
    for _, batch in bench.unseen():
        logits, actions = network(batch.policy, batch.hr)
        said.append(logits.float().softmax(dim=1).cpu())
        taken.append(actions.cpu())
    return Answers(torch.cat(said), torch.cat(taken))


@torch.no_grad()
def answers_with(bench: Bench, bag: BagNet, actions: Tensor) -> Answers:
    """What the BagNet says of the held-out images with the patches `actions` (n, P)."""
    bag.eval()
    said, start = [], 0
    for indices, batch in bench.unseen():
        part = actions[start : start + len(indices)].to(batch.hr.device)
        said.append(bag(batch.hr, part).float().softmax(dim=1).cpu())
        start += len(indices)
    return Answers(torch.cat(said), actions.cpu())
