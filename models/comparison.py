"""Two releases on the same images: accuracy, S, per class, and whether the difference is more than chance."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from models import statistics
from models.evaluate import Outcome
from models.paired import bootstrap, holm, mcnemar

LEVEL = 0.05


def compare(first: Outcome, second: Outcome, classes: Sequence[str]) -> dict[str, Any]:
    """Both outcomes of the same images in the same order, `label` numbering `classes`; first less second.

    Accuracy is of the fused answer, with McNemar's exact test; `share` is the share of the patches bought,
    which is what a tile costs in units of its full price, with the paired bootstrap.
    """
    if len(first.s) != len(second.s) or not np.array_equal(first.label, second.label):
        raise ValueError("the two were not asked the same")
    only_first = int((first.fused & ~second.fused).sum())
    only_second = int((second.fused & ~first.fused).sum())
    found = {
        "n": len(first.s),
        "release": _side(first),
        "other": _side(second),
        "accuracy": {
            **statistics.difference(first.fused.astype(int) - second.fused.astype(int)),
            "only_release": only_first,
            "only_other": only_second,
            "p": round(mcnemar(only_first, only_second), 6),
        },
        "share": bootstrap(first.s / first.patches - second.s / second.patches),
        "per_class": _per_class(first, second, classes),
    }
    statistics.forget_resamples()  # a worker lives on
    return found


def _side(outcome: Outcome) -> dict[str, Any]:
    return {
        "accuracy": statistics.share(outcome.fused),
        "hr": statistics.share(outcome.hr),
        "lr": statistics.share(outcome.lr),
        "s_mean": statistics.mean(outcome.s),
        "share": round(float((outcome.s / outcome.patches).mean()), 6),
        "ece": outcome.calibration()["ece"],
    }


def _per_class(first: Outcome, second: Outcome, classes: Sequence[str]) -> list[dict[str, Any]]:
    found = []
    for number, name in enumerate(classes):
        here = first.label == number
        if not here.any():
            continue
        a, b = first.fused[here], second.fused[here]
        found.append(
            {
                "class": name,
                "n": int(here.sum()),
                "release": {
                    "accuracy": round(float(a.mean()), 5),
                    "s_mean": round(float(first.s[here].mean()), 4),
                },
                "other": {
                    "accuracy": round(float(b.mean()), 5),
                    "s_mean": round(float(second.s[here].mean()), 4),
                },
                "p": round(mcnemar(int((a & ~b).sum()), int((b & ~a).sum())), 6),
            }
        )
    return found


def verdict(by_ds: dict[str, dict[str, Any]], level: float = LEVEL) -> dict[str, Any]:
    """Whether the first is significantly worse in anything that counts, over all ds together (Holm).

    `less_accurate` and `more_expensive` name the ds at which it is; both are empty where it may be promoted.
    """
    accuracy = holm({ds: found["accuracy"]["p"] for ds, found in by_ds.items()}, level)
    price = holm({ds: found["share"]["p"] for ds, found in by_ds.items()}, level)
    return {
        "level": level,
        "less_accurate": [int(ds) for ds in by_ds if ds in accuracy and by_ds[ds]["accuracy"]["value"] < 0],
        "more_expensive": [int(ds) for ds in by_ds if ds in price and by_ds[ds]["share"]["value"] > 0],
    }
