"""The rows PatchDrop: stages Pt, Ft-1 and Ft-2 by the product's own trainer (Algorithm 1, Eq. 8-11)."""

import copy
import os
import shutil

import torch
from torch import Tensor

from models.patchdrop import most_likely
from models.reproduce import classifiers
from models.reproduce.answers import Answers
from models.reproduce.bench import Bench
from models.reproduce.dropping import STAGES, answers
from models.system import System


def patchdrop(bench: Bench, sigma: float | None = None) -> dict[str, Answers]:
    """{stage: Answers} of the greedy policy (section 4.2); `sigma` of ft1 and ft2 where it is not the
    recipe's. Raises SliceOver.
    """
    return {stage: answers_of(bench, system, stage) for stage, system in systems(bench, sigma).items()}


def systems(bench: Bench, sigma: float | None = None, stages: tuple[str, ...] = STAGES) -> dict[str, System]:
    """The policy and the HR classifier at the end of each stage. Raises SliceOver."""
    recipe = classifiers.policy_stages(bench.recipe, sigma)
    found: dict[str, System] = {}
    before = None
    for stage in stages:
        system = bench.study.system(recipe, bench.seed)
        for stream in ("hr", "lr"):
            body = getattr(bench.system, stream).body
            getattr(system, stream).body.load_state_dict(copy.deepcopy(body.state_dict()))
        place = classifiers.unit_place(bench.study, f"patchdrop-{stage}", key(bench, stage, sigma))
        if before is not None and not place.exists():
            started = place.with_name(f".{place.name}.{os.getpid()}")
            shutil.copy(before, started)
            started.replace(place)  # whole or not at all
        through = STAGES[: STAGES.index(stage) + 1]
        classifiers.run_trainer(bench.study, recipe, system, bench.learns, bench.seed, place, through)
        found[stage], before = system, place
    return found


def key(bench: Bench, stage: str, sigma: float | None = None) -> str:
    """The hash that names the training up to the end of a stage."""
    digest = classifiers.policy_stages(bench.recipe, sigma).digest(stage)
    return bench.study.key(digest, bench.seed, bench.learns.tolist(), bench.base.key)


@torch.no_grad()
def probabilities(bench: Bench, system: System) -> Tensor:
    """s_p (n, P) of the held-out images (Eq. 6)."""
    body = system.policy.body
    found = [body(batch.policy).float().sigmoid().cpu() for _, batch in bench.unseen()]
    return torch.cat(found)


def answers_of(bench: Bench, system: System, stage: str) -> Answers:
    actions = most_likely(probabilities(bench, system))
    return answers(bench, system.hr.body, stage, actions)
