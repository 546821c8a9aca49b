"""Splits: cover everything once, keep groups whole, spread classes evenly, repeat by seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.source import DataError
from models.data.sources import open_source
from models.data.splits import drawn, halves, kfold, parts, published
from tests.models.data.pictures import class_folders

PLAIN = np.repeat(np.arange(4), 25)
ALONE = np.arange(100)


def test_folds_of_lone_samples_are_even_in_every_class() -> None:
    folds = kfold(PLAIN, ALONE, 5, seed=0)
    assert np.array_equal(np.sort(np.concatenate(folds)), ALONE)
    for fold in folds:
        assert np.bincount(PLAIN[fold]).tolist() == [5] * 4


def test_the_seed_decides() -> None:
    first, again, other = (kfold(PLAIN, ALONE, 5, seed) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20)), min_size=12, max_size=120),
    st.integers(2, 6),
    st.integers(0, 9),
)
def test_groups_stay_whole_and_all_is_covered(rows: list[tuple[int, int]], k: int, seed: int) -> None:
    labels, groups = np.array(rows).T
    if len(np.unique(groups)) < k:
        with pytest.raises(DataError, match="folds"):
            kfold(labels, groups, k, seed)
        return
    folds = kfold(labels, groups, k, seed)
    assert np.array_equal(np.sort(np.concatenate(folds)), np.arange(len(labels)))
    sides = [set(groups[f].tolist()) for f in folds]
    assert sum(len(s) for s in sides) == len(set(groups.tolist()))


@given(st.integers(2, 60), st.integers(2, 5))
def test_lone_samples_of_a_class_differ_by_one_at_most(n: int, k: int) -> None:
    if n < k:
        return
    sizes = [len(f) for f in kfold(np.zeros(n, np.int64), np.arange(n), k, seed=1)]
    assert max(sizes) - min(sizes) <= 1


def test_halves_and_shares() -> None:
    left, right = halves(PLAIN, ALONE, seed=2)
    assert abs(len(left) - len(right)) <= 4
    rest, held = halves(PLAIN, ALONE, seed=2, share=0.2)
    assert np.bincount(PLAIN[held]).tolist() == [5] * 4
    assert len(rest) == 80
    with pytest.raises(DataError, match="share"):
        halves(PLAIN, ALONE, seed=2, share=1.0)


def test_drawn_sizes_leave_the_rest_out() -> None:
    train, val, test = drawn(PLAIN, ALONE, (70, 10, 10), seed=0)
    assert abs(len(train) - 70) <= 2
    assert abs(len(val) - 10) <= 2
    assert abs(len(test) - 10) <= 2
    assert not set(train) & set(val) | set(train) & set(test) | set(val) & set(test)
    scaled = drawn(PLAIN, ALONE, (700, 100, 200), seed=0)
    assert [len(s) for s in scaled] == pytest.approx([70, 10, 20], abs=2)
    with pytest.raises(DataError, match="positive"):
        drawn(PLAIN, ALONE, (10, 0), seed=0)


def test_published_splits_hold_out_test_before_val(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        class_folders(tmp_path / split, each=2)
    source = open_source(tmp_path)
    assert source.splits is not None
    whole = published(source)
    assert whole is not None
    assert ({source.splits[i] for i in whole[0]}, {source.splits[i] for i in whole[1]}) == (
        {"train"},
        {"test"},
    )
    without_test = published(source.select(source.in_split("train", "val")))
    assert without_test is not None
    assert without_test[2] == "val"
    assert published(source.select(source.in_split("val", "test"))) is None
    assert published(open_source(tmp_path / "train")) is None


def test_labels_and_groups_must_match() -> None:
    with pytest.raises(DataError, match="labels"):
        parts(PLAIN, ALONE[:-1], [0.5, 0.5], seed=0)
