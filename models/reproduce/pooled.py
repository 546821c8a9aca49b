"""Figures over all parts of a row, with 95 % intervals: every image counts once, in however many parts."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models import statistics
from models.reproduce.answers import Kept
from models.reproduce.store import Record

Values = npt.NDArray[Any]


def by_image(kept: Sequence[Kept], values: Callable[[Kept], Values]) -> Values:
    """The mean of each image's values over the parts that held it out, (images,)."""
    held = np.concatenate([k.images for k in kept])
    found = np.concatenate([np.asarray(values(k), dtype=np.float64) for k in kept])
    _, where = np.unique(held, return_inverse=True)
    means: Values = np.bincount(where, found) / np.bincount(where)
    return means


def accuracy(records: Sequence[Record]) -> dict[str, Any]:
    """By Wilson where every image was held out once; means over seeds by the bootstrap."""
    values = by_image([r.kept for r in records], lambda k: k.right)
    if len(values) == sum(len(r.kept.images) for r in records):
        return statistics.share(values == 1)
    return statistics.mean(values)


def images(records: Sequence[Record]) -> int:
    """How many images were held out, each counted once."""
    return len(np.unique(np.concatenate([r.kept.images for r in records])))


def mean_s(records: Sequence[Record]) -> dict[str, Any]:
    return statistics.mean(by_image([r.kept for r in records], lambda k: k.s))


def difference(first: Sequence[Record], second: Sequence[Record]) -> dict[str, Any] | None:
    """First less second, of the parts that both have, image by image; None where they share none."""
    others = {r.part: r.kept for r in second}
    pairs = [(r.kept, others[r.part]) for r in first if r.part in others]
    if not pairs:
        return None
    if any(not np.array_equal(a.images, b.images) for a, b in pairs):
        raise ValueError("the two rows were not measured on the same images")
    less = {id(a): a.right.astype(np.int8) - b.right.astype(np.int8) for a, b in pairs}
    values = by_image([a for a, _ in pairs], lambda k: less[id(k)])
    itself = {(r.row, r.stage) for r in first} == {(r.row, r.stage) for r in second}
    return statistics.mean(values) if itself else statistics.difference(values)


def by_part(records: Sequence[Record], values: Sequence[float]) -> float:
    """The mean of one value a part, weighted by how many images it held out."""
    weights = [len(r.kept.images) for r in records]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def gains(ours: Sequence[Record]) -> list[tuple[float, float]]:
    """Predicted and realised accuracy of ours at every tenth of the budget: the mean over parts."""
    tenths = list(zip(*(r.told["gain"] for r in ours), strict=True))

    def mean(rows: Sequence[dict[str, float]], key: str) -> float:
        return by_part(ours, [row[key] for row in rows])

    return [(mean(rows, "predicted"), mean(rows, "realised")) for rows in tenths]
