"""Which images each row learns from and which it is measured on."""

from dataclasses import dataclass

import numpy as np

from models.data.source import Indices, Source
from models.data.splits import halves, keep_together, kfold, published

FOLDS, SEEDS = 5, 3
_FEW = 2_500
"""Up to so many images every one is held out once, in folds; of more, halves say enough."""


@dataclass(frozen=True)
class Part:
    """One fold or seed: everything in it is trained with `seed` on `learns` and measured on `tests`."""

    number: int
    seed: int
    learns: Indices
    tests: Indices


@dataclass(frozen=True)
class Protocol:
    """All parts; `folds` says that they hold out every image once, `said` what was done, in words.

    `groups` (n,): images of one place, or copies of one picture, which no split may tear apart.
    """

    parts: tuple[Part, ...]
    folds: bool
    said: str
    groups: Indices


def protocol(source: Source) -> Protocol:
    """The published split with 3 seeds; else 5 folds of few images, or 3 stratified halves of more."""
    if (known := published(source)) is not None:
        learns, tests, name = known
        parts = tuple(Part(seed, seed, learns, tests) for seed in range(SEEDS))
        alone = np.arange(len(source), dtype=np.int64)
        together = alone if source.places is None else keep_together(source)
        return Protocol(parts, False, f"the published split ({name} held out), {SEEDS} seeds", together)
    groups = keep_together(source)
    if len(source) <= _FEW:
        everything = np.arange(len(source))
        held = kfold(source.labels, groups, FOLDS, 0)
        parts = tuple(Part(k, k, np.setdiff1d(everything, part), part) for k, part in enumerate(held))
        return Protocol(parts, True, f"{FOLDS} stratified folds, fold i with seed i", groups)
    drawn = (halves(source.labels, groups, seed) for seed in range(SEEDS))
    parts = tuple(Part(seed, seed, *pair) for seed, pair in enumerate(drawn))
    return Protocol(parts, False, f"stratified halves, {SEEDS} seeds", groups)


def used(source: Source) -> Source:
    """What some part learns from or is measured on: without a `val` beside train and test, fMoW's `seq`."""
    if (known := published(source)) is None:
        return source
    chosen = np.sort(np.concatenate(known[:2]))
    return source if len(chosen) == len(source) else source.select(chosen)


def of_few_classes(source: Source, count: int) -> Source:
    """At most `count` classes, each of them learned from and held out, for `fewer` images than classes."""
    if not count or count >= len(np.unique(source.labels)):
        return source
    known, labels = published(source), source.labels
    there = np.unique(labels) if known is None else np.intersect1d(labels[known[0]], labels[known[1]])
    drawn = np.random.default_rng(0).permutation(there)[:count]
    return source.of_classes(np.sort(drawn))


def fewer(source: Source, limit: int) -> Source:
    """At most `limit` images of each published split, or twice that of a data set without: for trials.

    Raises ValueError for less than one of each class: each split would have other classes.
    """
    if not limit:
        return source
    if limit < (classes := len(np.unique(source.labels))):
        raise ValueError(f"{limit} images are too few for the {classes} classes of {source.name}")
    rng = np.random.default_rng(0)
    has_splits = published(source) is not None
    splits = np.array(source.splits if has_splits and source.splits else ["all"] * len(source))
    chosen = []
    for split in np.unique(splits):
        here = np.flatnonzero(splits == split)
        count = limit if has_splits else 2 * limit
        turns = dict(zip(here.tolist(), _turns(source.labels[here]).tolist(), strict=True))
        by_turn = sorted(rng.permutation(here).tolist(), key=turns.__getitem__)
        chosen.append(np.array(by_turn[:count]))
    return source.select(np.sort(np.concatenate(chosen)))


def _turns(labels: Indices) -> Indices:
    """(n,) how many of its class come before each image: by it, classes take turns."""
    turns = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        here = np.flatnonzero(labels == label)
        turns[here] = np.arange(len(here))
    return turns
