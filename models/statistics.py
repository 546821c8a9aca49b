"""Figures with their 95 % intervals: shares by Wilson, means and paired differences by the bootstrap."""

from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]
_Z = 1.959963984540054
RESAMPLES = 10_000
_AT_ONCE = 500
_ONE_BY_ONE = 20_000
"""Up to so many values a resample draws each by itself, as for all intervals published so far; of fMoW's
50,000 that takes seconds and 0.4 GB. Differences and S are few different numbers, so counts of these do.
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


def resampled_means(values: Values, seed: int = 0) -> Values:
    """Of 10,000 resamples of the values (n,) with repetition."""
    rng, n = np.random.default_rng(seed), len(values)
    rounds = range(RESAMPLES // _AT_ONCE)
    if n <= _ONE_BY_ONE:
        means = [values[rng.integers(0, n, (_AT_ONCE, n))].mean(axis=1) for _ in rounds]
    else:  # how often each value is drawn is multinomial
        levels, counts = np.unique(values, return_counts=True)
        means = [rng.multinomial(n, counts / n, _AT_ONCE) @ levels / n for _ in rounds]
    return np.concatenate(means)


def figure(value: float, low: float, high: float) -> dict[str, Any]:
    """A figure as it stands in cards and reports: {value, ci95: [low, high]}."""
    return {"value": round(value, 5), "ci95": [round(low, 5), round(high, 5)]}
