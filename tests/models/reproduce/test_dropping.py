"""Rules that drop patches: S of each stage rounded up, and Eq. 7 after Ft-2 alone."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.patchdrop import masked
from models.recipe import Stage
from models.reproduce import choosing
from models.reproduce.bench import Bench
from models.reproduce.dropping import STAGES, Chooser, Finetuned, finetuned, fixed
from models.stages.draws import Draws
from models.stages.inputs import Batch, Indices
from tests.models.baselines.made_up import made_up, same, striped, weights


def bench_of(folder: Path, epochs: int) -> Bench:
    """Classifiers of six epochs, and a fine-tuning of `epochs`."""
    pictures, labels, _ = striped(64, period=8)
    bench = made_up(folder, pictures, labels, {}, epochs=6)
    stages = {stage: Stage(epochs=epochs, batch=16, lr=1e-2) for stage in STAGES}
    study = bench.study
    paper = replace(study.profile.paper, stages={**study.profile.paper.stages, **stages})
    return Bench(replace(study, profile=replace(study.profile, paper=paper)), bench.part, bench.ds)


@pytest.fixture(scope="module")
def untuned(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench_of(tmp_path_factory.mktemp("untuned"), 0)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench_of(tmp_path_factory.mktemp("tuned"), 1)


def test_s_of_each_stage_is_rounded_up(untuned: Bench) -> None:
    """And what the mean over images adds to a whole number is not a patch more."""
    s = {"pt": 2.2, "ft1": 4.9, "ft2": 3.0 + 1e-9}
    found = finetuned(untuned, "fixed-h", fixed(choosing.FIXED_H), s)
    for stage, count in (("pt", 3), ("ft1", 5), ("ft2", 3)):
        wanted = choosing.first(choosing.FIXED_H, count, len(untuned.tests))
        assert torch.equal(found[stage].actions, wanted)


def test_both_streams_answer_after_ft2_alone(untuned: Bench) -> None:
    """Eq. 7, with a classifier that no epoch has changed: the same patches, so the same HR answer before."""
    found = finetuned(untuned, "fixed-h", fixed(choosing.FIXED_H), dict.fromkeys(STAGES, 4.0))
    hr, lr = untuned.system.hr.body, untuned.system.lr
    assert lr is not None
    alone = []
    for _, batch in untuned.unseen():
        taken = choosing.first(choosing.FIXED_H, 4, len(batch.hr))
        alone.append(hr(masked(batch.hr, None, taken)).float().softmax(dim=1))
    wanted = torch.cat(alone).detach()
    assert torch.allclose(found["pt"].probabilities, wanted, atol=1e-6)
    assert torch.allclose(found["ft1"].probabilities, wanted, atol=1e-6)
    without = untuned.without(lr.body).probabilities
    assert float((without - wanted).abs().max()) > 0.01
    assert torch.allclose(found["ft2"].probabilities, 4 / 16 * wanted + 12 / 16 * without, atol=1e-5)


def test_each_stage_is_tuned_with_its_own_patches(tuned: Bench) -> None:
    asked: list[tuple[int, Indices]] = []

    def noted(s: int) -> Chooser:
        chooser = fixed(choosing.FIXED_V)(s)

        def choose(indices: Indices, draws: Draws) -> Tensor:
            asked.append((s, indices))
            return chooser(indices, draws)

        return choose

    assert tuned.system.lr is not None
    before = weights(tuned.system.hr), weights(tuned.system.lr)
    found = finetuned(tuned, "noted", noted, {"pt": 8.0, "ft1": 5.5, "ft2": 1.0})
    learned = {s: np.sort(np.concatenate([i for at, i in asked if at == s])) for s in (8, 6, 1)}
    assert learned[8].tolist() == tuned.tests.tolist()  # Pt trains no classifier
    for s in (6, 1):
        assert learned[s].tolist() == sorted([*tuned.learns.tolist(), *tuned.tests.tolist()])
    assert not torch.allclose(found["ft1"].probabilities, found["pt"].probabilities, atol=1e-3)
    assert same(weights(tuned.system.hr), before[0])  # of other rows too
    assert same(weights(tuned.system.lr), before[1])
    again = finetuned(tuned, "noted", noted, {"pt": 8.0, "ft1": 5.5, "ft2": 1.0})
    assert all(torch.equal(again[stage].probabilities, found[stage].probabilities) for stage in STAGES)
    other = finetuned(tuned, "noted", noted, {"pt": 8.0, "ft1": 9.0, "ft2": 1.0})
    # Ft-2 goes on from Ft-1
    assert not torch.equal(other["ft2"].probabilities, found["ft2"].probabilities)


@pytest.mark.parametrize("stage", ["ft1", "ft2"])
def test_ft2_learns_from_what_both_streams_say(tuned: Bench, stage: str) -> None:
    body, lr = copy.deepcopy(tuned.system.hr.body), tuned.system.lr
    assert lr is not None
    learner = Finetuned(tuned, body, stage, fixed(choosing.FIXED_H)(4))
    indices = tuned.learns[:16]
    zeros = np.zeros(len(indices), dtype=np.int64)
    batch: Batch = tuned.inputs.batch(indices, zeros, zeros + tuned.ds, answers=True)
    assert batch.lr is not None
    taken = choosing.first(choosing.FIXED_H, 4, len(indices))
    with torch.no_grad(), tuned.autocast():
        hr = copy.deepcopy(body).train()(masked(batch.hr, None, taken)).float().softmax(dim=1)
        without = lr.body(batch.lr).float().softmax(dim=1)
    said = hr if stage == "ft1" else 4 / 16 * hr + 12 / 16 * without
    wanted = -said.gather(1, batch.labels[:, None]).log().mean()
    told = learner.step(indices, batch, Draws(0, 0, 0, 0, indices))
    assert told["loss"] == pytest.approx(float(wanted), rel=1e-3)
    assert told["accuracy"] == pytest.approx(
        float((said.argmax(dim=1) == batch.labels).float().mean()), abs=1e-6
    )
