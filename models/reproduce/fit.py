"""Train a learner once: resumable by epoch, and kept under the hash of all that has a say in it."""

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer

from models.disk import replacing
from models.reproduce.alone import alone
from models.reproduce.learner import Learner, Plan
from models.reproduce.slices import Slice
from models.stages.classify import learning_rate
from models.stages.draws import Draws
from models.stages.finite import check_finite
from models.stages.inputs import Indices, Inputs

_PHASE = 1000  # of the random numbers: none of the trainer's
Report = Callable[[int, dict[str, float]], None]


def fit(
    place: Path,
    learner: Learner,
    plan: Plan,
    inputs: Inputs,
    learns: Indices,
    seed: int,
    work: Slice,
    report: Report = lambda *_: None,
) -> float:
    """Train by `plan` on the images `learns`, or load `place`, where a training before has ended.

    Returns the seconds it took, in all slices together. Raises SliceOver; the same call goes on then. Raises
    ValueError for what diverges, of which nothing is kept.
    """
    with alone(place, work):
        epochs, seconds = _restored(place, learner)
        optimisers = learner.optimisers()
        for optimiser in optimisers.values():
            for group in optimiser.param_groups:
                group.setdefault("base", plan.lr)
        longest = 0.0
        while epochs < plan.epochs:
            work.room_for(longest)
            started = time.monotonic()
            figures = _epoch(learner, list(optimisers.values()), plan, inputs, learns, seed, epochs)
            check_finite(place.stem, epochs, figures)
            longest = max(longest, time.monotonic() - started)
            seconds, epochs = seconds + time.monotonic() - started, epochs + 1
            _save(place, learner, epochs, seconds, ended=epochs == plan.epochs)
            report(epochs, figures)
    for module in learner.modules().values():
        module.eval()
    return seconds


def _epoch(
    learner: Learner,
    optimisers: list[Optimizer],
    plan: Plan,
    inputs: Inputs,
    learns: Indices,
    seed: int,
    epoch: int,
) -> dict[str, float]:
    todo = list(inputs.draw(learns, plan.batch, np.random.default_rng([seed, _PHASE, epoch])))
    sums: dict[str, float] = {}
    for k, (indices, views, ds) in enumerate(todo):
        at = epoch * len(todo) + k
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(group["base"], plan.schedule, at, plan.epochs * len(todo))
        draws = Draws(seed, _PHASE, epoch, k, indices)
        batch = inputs.batch(indices, views, ds, draws, answers=True)
        for key, value in learner.step(indices, batch, draws).items():
            sums[key] = sums.get(key, 0.0) + value * len(indices)
    total = sum(len(indices) for indices, _, _ in todo)
    return {key: value / total for key, value in sums.items()}


def _save(place: Path, learner: Learner, epochs: int, seconds: float, *, ended: bool) -> None:
    state: dict[str, Any] = {
        "epochs": epochs,
        "seconds": seconds,
        "modules": {name: m.state_dict() for name, m in learner.modules().items()},
        "optimisers": {} if ended else {name: o.state_dict() for name, o in learner.optimisers().items()},
    }
    with replacing(place) as file:
        torch.save(state, file)


def _restored(place: Path, learner: Learner) -> tuple[int, float]:
    if not place.exists():
        return 0, 0.0
    try:
        # not onto the learner's device: one without room would look like an unreadable file
        state = torch.load(place, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError) as error:
        # a machine that went down may have left it so
        print(f"{place} cannot be read ({error}): it is trained anew", flush=True)
        return 0, 0.0
    for name, module in learner.modules().items():
        module.load_state_dict(state["modules"][name])
    for name, optimiser in learner.optimisers().items():
        if name in state["optimisers"]:
            optimiser.load_state_dict(state["optimisers"][name])
    return int(state["epochs"]), float(state["seconds"])
