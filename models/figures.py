"""A release's figures: from its training, or pooled over folds that each training has not seen."""

import hashlib
import json
from typing import Any

import numpy as np

from models import release as releases
from models.evaluate import Outcome, outcomes
from models.job import Job, Split, blank_card
from models.progress import Progress
from models.stages.inputs import Indices
from models.stages.members import Judges, Member
from models.training import trained


def fold_classifiers(job: Job, split: Split) -> Judges:
    """Each fold's classifier, for whom the fold is unseen: it judges what any policy buys there."""
    members, of = [], np.zeros(len(job.labels), dtype=np.int64)
    for k, (learns, test) in enumerate(split.tests):
        system = trained(job, learns, f"classifier-{k}", k, stages=("hr", "lr"))
        lr = None if system.lr is None else system.lr.body
        members.append(Member(system.hr.body, lr, learns, system.whole))
        of[test] = k
    return Judges(tuple(members), of)


def figures(job: Job, split: Split, judges: Judges | None) -> dict[str, Any]:
    """Accuracy and S at every ds, on images unseen in training; stored weights (fp16), computed in fp32."""
    found: dict[int, list[Outcome]] = {factor: [] for factor in job.recipe.images.ds}
    crossed = len(split.tests) > 1
    for k, (learns, test) in enumerate(split.tests):
        name, seed = (f"fold-{k}", k) if crossed else ("release", job.seed)
        for factor, outcome in _outcomes(job, learns, test, name, seed, judges).items():
            found[factor].append(outcome)
    joined = {factor: Outcome.joined(parts) for factor, parts in found.items()}
    return {
        "precision": "fp32",
        "by_ds": {str(factor): outcome.figures(job.source.classes) for factor, outcome in joined.items()},
    }


def _key(job: Job, learns: Indices, test: Indices, seed: int) -> str:
    """The hash of all that has a say in what a training's release answers; work folders are used again."""
    recipe = job.recipe
    images = [job.images_sha256, learns.tolist(), test.tolist()]
    by = [recipe.digest(), recipe.training.missed_cost, seed, job.shadows, job.trained_in, job.parent_sha256]
    return hashlib.sha256(json.dumps([*images, *by]).encode()).hexdigest()


def _outcomes(
    job: Job, learns: Indices, test: Indices, name: str, seed: int, judges: Judges | None
) -> dict[int, Outcome]:
    """Of one fold: measured once, then read from the work folder."""
    kept = job.work / f"{name}-outcome-{_key(job, learns, test, seed)[:16]}.npz"
    ds = job.recipe.images.ds
    if not kept.exists():
        system = trained(job, learns, name, seed, judges)
        folder = job.work / f"{name}.release"
        releases.save(folder, blank_card(job, name), system)
        show = job.events.doing("measuring")
        with Progress(f"measuring {name}") as progress:

            def both(done: int, total: int) -> None:
                progress.show(done, total)
                show(done, total)

            found = outcomes(
                releases.Release.load(folder, str(job.device)),
                job.images,
                job.labels,
                ds,
                progress=both,
                curve=True,
                only=test,
            )
        arrays = {
            f"{factor}-{key}": getattr(o, key) for factor, o in found.items() for key in Outcome.arrays()
        }
        temporary = kept.with_name(f"{kept.stem}.part.npz")
        np.savez(temporary, **arrays)
        temporary.replace(kept)
    with np.load(kept) as saved:
        return {
            factor: Outcome(
                *(saved[f"{factor}-{key}"] for key in Outcome.arrays()), patches=job.recipe.images.grid**2
            )
            for factor in ds
        }
