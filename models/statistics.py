"""Figures with their 95 % intervals: shares by Wilson, means and paired differences by the bootstrap."""

from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]
_Z = 1.959963984540054
RESAMPLES = 10_000
_AT_ONCE = 500
_ONE_BY_ONE = 20_000
"""Up to so many values a resample draws each by itself, as for all intervals published so far (0.2 GB); of
more it counts how often each of the few different numbers of which differences and S consist is drawn.
"""


def share(right: Values) -> dict[str, Any]:
    """Share of true values with Wilson's interval; right (n,) bool, n at least 1."""
    n, p = len(right), float(np.mean(right))
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    return figure(p, max(0.0, centre - half), min(1.0, centre + half))


def mean(values: Values, seed: int = 0) -> dict[str, Any]:
    """Mean with the percentile bootstrap's interval; values (n,), paired differences as a - b."""
    values = np.asarray(values, dtype=np.float64)
    low, high = np.quantile(resampled_means(values, seed), [0.025, 0.975])
    return figure(float(values.mean()), float(low), float(high))


def difference(values: Values) -> dict[str, Any]:
    """Mean of the paired differences (n,), between -1 and 1, of two answers, with its interval.

    Where the two never differed resampling would say that they never will: then it is as far as the share of
    images at which they differ may go, by Wilson.
    """
    if np.any(values):
        return mean(values)
    most = share(np.zeros(len(values), dtype=bool))["ci95"][1]
    return figure(0.0, -most, most)


def resampled_means(values: Values, seed: int = 0) -> Values:
    """Of 10,000 resamples of the values (n,) with repetition.

    More than 20,000 values are to be few different numbers: each of these takes time and memory then.
    """
    n = len(values)
    if n <= _ONE_BY_ONE:
        drawn = _drawn(n, seed)
        parts = (drawn[at : at + _AT_ONCE] for at in range(0, RESAMPLES, _AT_ONCE))
        return np.concatenate([part.astype(np.float64) @ values / n for part in parts])
    # how often each of the different numbers is drawn is multinomial
    levels, counts = np.unique(values, return_counts=True)
    rng = np.random.default_rng(seed)
    rounds = range(RESAMPLES // _AT_ONCE)
    return np.concatenate([rng.multinomial(n, counts / n, _AT_ONCE) @ levels / n for _ in rounds])


@lru_cache(maxsize=1)
def _drawn(n: int, seed: int) -> npt.NDArray[np.uint8]:
    """How often each of n values is in each resample, (10,000, n): the same for all rows of a table."""
    rng, found = np.random.default_rng(seed), np.empty((RESAMPLES, n), dtype=np.uint8)
    first = np.arange(_AT_ONCE)[:, None] * n
    for at in range(0, RESAMPLES, _AT_ONCE):
        places = first + rng.integers(0, n, (_AT_ONCE, n))
        found[at : at + _AT_ONCE] = np.bincount(places.ravel(), minlength=first.size * n).reshape(-1, n)
    return found


def forget_resamples() -> None:
    """Free what was drawn last: kept for the next figure of as many values, it takes up to 0.2 GB."""
    _drawn.cache_clear()


def figure(value: float, low: float, high: float) -> dict[str, Any]:
    """A figure as it stands in cards and reports: {value, ci95: [low, high]}."""
    return {"value": round(value, 5), "ci95": [round(low, 5), round(high, 5)]}
