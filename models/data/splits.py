"""Stratified, seeded splits that keep what belongs together on one side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.data.duplicates import duplicate_groups
from models.data.source import DataError, Indices, Source

COMPARE_UP_TO = 100_000
"""Up to this many samples pictures are compared for duplicates; larger sets bring places or splits."""


def keep_together(source: Source, workers: int | None = None) -> Indices:
    """(n,) int64 groups for the functions below: samples of one place (fMoW), else of the same picture."""
    if source.places is not None:
        _, groups = np.unique(np.array(source.places), return_inverse=True)
        return groups.astype(np.int64)
    if len(source) <= COMPARE_UP_TO:
        return duplicate_groups(source, workers)
    return np.arange(len(source), dtype=np.int64)


def not_compared(source: Source) -> list[str]:
    """Says so where copies of a picture may lie on both sides of a split that is drawn."""
    if source.places is not None or len(source) <= COMPARE_UP_TO or published(source) is not None:
        return []
    return [
        f"{len(source)} pictures are too many to be compared: copies of one picture may be learned from and "
        "held out"
    ]


def of_few_places(source: Source, held_out: Sequence[Indices]) -> list[str]:
    """Says so where several held-out pictures show one place: intervals take each for an image of its own."""
    if source.places is None:
        return []
    tests = np.unique(np.concatenate(held_out))
    places = len({source.places[i] for i in tests})
    if places == len(tests):
        return []
    return [
        f"the {len(tests)} held-out pictures show {places} places; intervals take them for independent of "
        "each other and are narrower than they should be"
    ]


def published(source: Source) -> tuple[Indices, Indices, str] | None:
    """What to learn from, what to hold out, and its name; None for a data set published without splits.

    Held out is `test` where it has labels, without which no source has it, else `val`. A `val` beside a
    labelled `test` is in neither part, nor is the `seq` of fMoW.
    """
    learns = source.in_split("train")
    for name in ("test", "val"):
        held_out = source.in_split(name)
        if len(learns) and len(held_out):
            return learns, held_out, name
    return None


def kfold(labels: Indices, groups: Indices, k: int, seed: int) -> list[Indices]:
    """k disjoint, sorted index arrays that cover all samples, each class spread evenly, groups whole.

    Fold i is what is held out in turn i. Raises DataError for k < 2 or more folds than groups.
    """
    if not 2 <= k <= (many := len(np.unique(groups))):
        raise DataError(f"{k} folds need as many different pictures or places; there are {many}")
    return parts(labels, groups, [1 / k] * k, seed)


def halves(labels: Indices, groups: Indices, seed: int, share: float = 0.5) -> tuple[Indices, Indices]:
    """Two disjoint, sorted index arrays, the second with `share` of the samples (as near as groups allow)."""
    if not 0 < share < 1:
        raise DataError(f"a share must lie between 0 and 1, not {share}")
    first, second = parts(labels, groups, [1 - share, share], seed)
    return first, second


def drawn(labels: Indices, groups: Indices, sizes: Sequence[int], seed: int) -> list[Indices]:
    """Disjoint parts of about `sizes` samples each, stratified, groups whole; what is left over is in none.

    PatchDrop's fMoW split is of sizes (350_000, 50_000, 50_000). Where the sizes ask for more than there is,
    they are scaled down together.
    """
    if not sizes or min(sizes) < 1:
        raise DataError(f"sizes must be positive, not {tuple(sizes)}")
    total = max(len(labels), sum(sizes))
    shares = [size / total for size in sizes]
    return parts(labels, groups, [*shares, max(0.0, 1 - sum(shares))], seed)[: len(sizes)]


def parts(labels: Indices, groups: Indices, shares: Sequence[float], seed: int) -> list[Indices]:
    """Disjoint, sorted index arrays that cover all samples, part j with `shares[j]` of each class.

    Groups go whole into the part that lacks most of their class, large groups first, then in an order drawn
    by `seed`; a group of several classes counts by its first sample's. Raises DataError for unequal lengths.
    """
    labels, groups = np.asarray(labels), np.asarray(groups)
    if len(labels) != len(groups) or not len(labels):
        raise DataError(f"{len(labels)} labels for {len(groups)} groups")
    members = _members(groups)
    rng = np.random.default_rng(seed)
    order = sorted(rng.permutation(len(members)).tolist(), key=lambda g: -len(members[g]))
    by_class: dict[int, list[int]] = {}
    for g in order:
        by_class.setdefault(int(labels[members[g][0]]), []).append(g)
    taken: list[list[Indices]] = [[] for _ in shares]
    lack = [0.0] * len(shares)
    for label in sorted(by_class):
        size = sum(len(members[g]) for g in by_class[label])
        lack_of_class = [share * size for share in shares]
        lack = [a + b for a, b in zip(lack, lack_of_class, strict=True)]
        for g in by_class[label]:
            ranks = [*zip(_rounded(lack_of_class), _rounded(lack), strict=True)]
            best = max(range(len(shares)), key=ranks.__getitem__)
            taken[best].append(members[g])
            lack_of_class[best] -= len(members[g])
            lack[best] -= len(members[g])
    empty = np.empty(0, dtype=np.int64)
    return [np.sort(np.concatenate([empty, *t])) for t in taken]


def _rounded(lack: Sequence[float]) -> list[float]:
    """Equal lacks must tie, whatever the sums before them rounded to."""
    return [round(value, 6) for value in lack]


def _members(groups: Indices) -> list[Indices]:
    """The sample indices of each group, groups in order of their value."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order])) + 1
    return [m.astype(np.int64) for m in np.split(order, starts)]
