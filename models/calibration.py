"""Whether probabilities mean what they say: the expected calibration error and its reliability diagram."""

from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 15
"""Of equal width, as in Guo et al. 2017, On Calibration of Modern Neural Networks, section 3."""


def calibration(
    confidence: npt.NDArray[np.floating[Any]], right: npt.NDArray[np.bool_], bins: int = BINS
) -> dict[str, Any]:
    """ECE and its bins: confidence (n,) in [0, 1] of the answer given, right (n,) whether it was.

    The error is the mean distance of a bin's share of right answers from its mean confidence, weighted by
    its size (Guo et al. 2017, eq. 3). NaN confidences, where no answer was given, do not count; where none
    is left `ece` is None. Empty bins are left out.
    """
    known = np.isfinite(confidence)
    confidence, right = confidence[known].astype(np.float64), right[known]
    n = len(confidence)
    if not n:
        return {"ece": None, "n": 0, "bins": []}
    places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    found, error = [], 0.0
    for k in np.unique(places):
        here = places == k
        said, was = float(confidence[here].mean()), float(right[here].mean())
        error += abs(said - was) * int(here.sum()) / n
        found.append(
            {
                "from": round(k / bins, 4),
                "to": round((k + 1) / bins, 4),
                "n": int(here.sum()),
                "confidence": round(said, 5),
                "accuracy": round(was, 5),
            }
        )
    return {"ece": round(error, 5), "n": n, "bins": found}
