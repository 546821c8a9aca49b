"""A bench for ours: tiny networks, a policy that reads answers, seconds of real training."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.recipe import parse_recipe
from models.reproduce.bench import Bench
from models.reproduce.learner import Plan
from tests.models.baselines.made_up import DS, PX, Numbers, made_up, striped

PLANS = {"masked": Plan(2, 16, 1e-2), "onward": Plan(0), "ours": Plan(1)}


def in_twos(count: int) -> Numbers:
    """(n,) groups: two images of one place, of the same class and both learned from or both held out."""
    at = np.arange(count)
    groups: Numbers = at // 4 * 2 + at % 2
    return np.where(at % 8 < 4, groups, at + count)


def bench_for_ours(
    work: Path,
    *,
    count: int = 64,
    epochs: int = 2,
    order: str = "rings",
    looks: int = 1,
    policy_epochs: int = 1,
    whole: bool = False,
    plans: Mapping[str, Plan] = PLANS,
) -> Bench:
    """Stripes that are gone from LR, in `made_up`'s one part that is of no folds."""
    pictures, labels, _ = striped(count, period=4)
    bench = made_up(work, pictures, labels, plans, epochs=epochs)
    ours = parse_recipe(
        {
            "name": "made up for ours",
            "images": {"hr_px": PX, "lr_px": PX // DS, "ds": [DS], "augment": "flip", "fill": "lr"},
            "networks": {
                "policy": "answer-curve",
                "hr": "tiny",
                "lr": "tiny",
                "lr_views": 2,
                "hr_views": 2,
                "order": order,
                "looks": looks,
                "whole": whole,
            },
            "training": {"fusion": "log_pool", "missed_cost": 30.0},
            "stages": {
                "hr": {"epochs": 0},
                "lr": {"epochs": 0},
                "ft2": {
                    "epochs": policy_epochs,
                    "batch": 16,
                    "lr": 0.0,
                    "policy_lr": 1e-2,
                    "samples": 4,
                    "estimator": "curve",
                    "reuse": 2,
                },
            },
        }
    )
    study = bench.study
    profile = replace(study.profile, ours=ours)
    together = replace(study.protocol, groups=in_twos(count))
    return Bench(replace(study, profile=profile, protocol=together), bench.part, bench.ds)
