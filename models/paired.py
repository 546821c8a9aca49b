"""Two answers to the same questions: is one better, or is it chance?"""

from math import exp, lgamma, log
from typing import Any

import numpy as np
import numpy.typing as npt

from models.statistics import RESAMPLES, difference, figure, resampled_means


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p of McNemar's exact test.

    Of the images that just one of the two got right, `only_first` are the first's and `only_second` the
    second's; were both as good, each would fall to either like a coin (McNemar 1947; exact binomial).
    """
    n, k = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0
    tail = sum(exp(lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) - n * log(2)) for i in range(k + 1))
    return min(1.0, 2 * tail)


def bootstrap(differences: npt.NDArray[Any], seed: int = 0) -> dict[str, Any]:
    """Mean of paired differences (n,) with its 95 % interval and a two-sided p, by the bootstrap.

    p is twice the share of resampled means on the other side of 0 (at least 1 / resamples, Davison and
    Hinkley 1997, section 4.4); 1 where all differences, between -1 and 1, are 0.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not values.any():
        return {**difference(values), "p": 1.0}
    means = resampled_means(values, seed)
    low, high = np.quantile(means, [0.025, 0.975])
    below, above = int((means <= 0).sum()), int((means >= 0).sum())
    p = min(1.0, 2 * (min(below, above) + 1) / (RESAMPLES + 1))
    return {**figure(float(values.mean()), float(low), float(high)), "p": round(p, 6)}


def holm(p_values: dict[str, float], level: float = 0.05) -> set[str]:
    """The names whose p is significant when all are looked at together (Holm 1979)."""
    found: set[str] = set()
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    for place, (name, p) in enumerate(ordered):
        if p > level / (len(ordered) - place):
            break
        found.add(name)
    return found
