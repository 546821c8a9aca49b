"""Figures with their 95 % intervals: shares by Wilson, means and paired differences by the bootstrap."""

from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]
_Z = 1.959963984540054
_RESAMPLES = 10_000


def share(right: Values) -> dict[str, Any]:
    """Share of true values with Wilson's interval; right (n,) bool, n at least 1."""
    n, p = len(right), float(np.mean(right))
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    return figure(p, max(0.0, centre - half), min(1.0, centre + half))


def mean(values: Values, seed: int = 0) -> dict[str, Any]:
    """Mean with the percentile bootstrap's interval; values (n,), paired differences as a - b."""
    rng, values = np.random.default_rng(seed), np.asarray(values, dtype=np.float64)
    means = np.concatenate(
        [
            values[rng.integers(0, len(values), (500, len(values)))].mean(axis=1)
            for _ in range(_RESAMPLES // 500)
        ]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return figure(float(values.mean()), float(low), float(high))


def figure(value: float, low: float, high: float) -> dict[str, Any]:
    """A figure as it stands in cards and reports: {value, ci95: [low, high]}."""
    return {"value": round(value, 5), "ci95": [round(low, 5), round(high, 5)]}
