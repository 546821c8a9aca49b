"""What is hidden from a classifier that learns: the patches with the highest s_p, or CutOut's square."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.baselines.hard import CUTOUT, HARD, NONE, WAYS, Augmented, cut_out, hardest, rows_by, untrained
from models.reproduce.bench import Bench
from models.reproduce.learner import Plan
from models.stages.draws import Draws
from models.stages.inputs import Batch, Indices
from tests.models.baselines.made_up import accuracy, made_up, striped

seeds = st.integers(0, 2**16)


@given(seeds, st.integers(1, 6))
def test_the_m_likeliest_patches_are_hidden(seed: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    s = torch.rand(count, 16, generator=generator)
    many = torch.randint(1, 5, (count,), generator=generator)
    kept = hardest(s, many)
    assert torch.equal((kept == 0).sum(dim=1), many)
    for row, mask in zip(s, kept, strict=True):
        assert float(row[mask == 0].min()) >= float(row[mask == 1].max())


@given(st.sampled_from([8, 32]), st.integers(0, 31), st.integers(0, 31))
def test_cutout_is_a_square_of_half_the_side_cut_at_the_border(px: int, row: int, column: int) -> None:
    row, column = row % px, column % px
    found = cut_out(torch.ones(2, 3, px, px), torch.tensor([row, 0]), torch.tensor([column, 0]))
    wanted = torch.ones(px, px)
    half = px // 4
    wanted[max(0, row - half) : row + half, max(0, column - half) : column + half] = 0
    assert torch.equal(found[0], wanted.expand(3, px, px))
    assert int((found[1] == 0).sum()) == 3 * half**2


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    pictures, labels, _ = striped(96, period=4)
    folder: Path = tmp_path_factory.mktemp("hard")
    return made_up(folder, pictures, labels, {"hard": Plan(40, 16, 1e-2)}, epochs=1)


def batch_of(bench: Bench, count: int) -> tuple[Indices, Batch]:
    indices = bench.learns[:count]
    zeros = np.zeros(len(indices), dtype=np.int64)
    return indices, bench.inputs.batch(indices, zeros, zeros + bench.ds)


def test_what_each_way_hides(bench: Bench) -> None:
    indices, batch = batch_of(bench, 60)
    policy = bench.system.policy.body.eval()
    assert batch.policy is not None
    with torch.no_grad():
        order = policy(batch.policy).argsort(dim=1, descending=True)
    many = []
    for way in WAYS:
        learner = Augmented(bench, way, untrained(bench), policy, 1e-3)
        x = learner.hidden(batch, Draws(0, 0, 0, 0, indices))
        gone = (x == 0).all(dim=1)
        assert torch.equal(x[~gone[:, None].expand_as(x)], batch.hr[~gone[:, None].expand_as(x)])
        if way == NONE:
            assert not bool(gone.any())
        elif way == CUTOUT:
            assert 64 <= int(gone.sum(dim=(1, 2)).min()) <= int(gone.sum(dim=(1, 2)).max()) <= 256
        else:
            cells = gone.view(-1, 4, 8, 4, 8).permute(0, 1, 3, 2, 4).flatten(3)
            assert torch.equal(cells.all(dim=-1), cells.any(dim=-1))  # patches, whole ones
            for mask, ranked in zip(cells.all(dim=-1).flatten(1), order, strict=True):
                many.append(int(mask.sum()))
                assert set(ranked[: many[-1]].tolist()) == set(mask.nonzero()[:, 0].tolist())
    assert set(many) == {1, 2, 3, 4}


def test_all_three_start_alike_and_are_asked_about_whole_images(bench: Bench) -> None:
    first, second = untrained(bench).state_dict(), untrained(bench).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    found = rows_by(bench, bench.system.policy.body.eval())
    assert tuple(found) == (NONE, CUTOUT, HARD)
    for answers in found.values():
        assert bool((answers.actions == 1).all())
        assert accuracy(bench, answers.probabilities) > 0.8
    said = [answers.probabilities for answers in found.values()]
    assert not torch.equal(said[0], said[1])
    assert not torch.equal(said[0], said[2])
