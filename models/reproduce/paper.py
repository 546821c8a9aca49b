"""The paper's own figures, as printed (tables 1 to 4): accuracy in percent and S by stage."""

import re
from collections.abc import Mapping
from typing import Any

Printed = dict[str, tuple[tuple[float, ...], tuple[float, ...]]]
"""Row: accuracies and S at Pt, Ft-1, Ft-2; or one of each where all stages are the same."""

CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet": 1000, "fmow": 62}
"""The data sets that the tables are of."""

PRINTED_DS = 4
"""What the tables are of."""

FMOW: Printed = {
    "lr-cnn": ((61.4,), (0,)),
    "srgan": ((62.3,), (0,)),
    "kd": ((63.1,), (0,)),
    "pcn": ((63.5,), (0,)),
    "hr-cnn": ((67.3,), (16,)),
    "fixed-h": ((47.7, 63.3, 64.9), (7, 6, 6)),
    "fixed-v": ((48.3, 63.2, 64.7), (7, 6, 6)),
    "stochastic": ((29.1, 57.1, 63.6), (7, 6, 6)),
    "stn": ((46.5, 61.8, 64.8), (7, 6, 6)),
    "patchdrop": ((53.4, 67.1, 68.3), (7, 5.9, 5.2)),
}

CIFAR10: Printed = {
    "lr-cnn": ((75.8,), (0,)),
    "srgan": ((78.8,), (0,)),
    "kd": ((81.8,), (0,)),
    "pcn": ((83.3,), (0,)),
    "hr-cnn": ((92.3,), (16,)),
    "fixed-h": ((71.2, 83.8, 85.2), (9, 8, 7)),
    "fixed-v": ((64.7, 83.4, 85.1), (9, 8, 7)),
    "stochastic": ((40.6, 82.1, 83.7), (9, 8, 7)),
    "stn": ((66.9, 85.2, 87.1), (9, 8, 7)),
    # the S of all three stages stand in one cell: 8.5, 7.9, 6.9
    "patchdrop": ((80.6, 91.9, 91.5), (8.5, 7.9, 6.9)),
}

CIFAR100: Printed = {
    "lr-cnn": ((55.1,), (0,)),
    "srgan": ((56.1,), (0,)),
    "kd": ((61.1,), (0,)),
    "pcn": ((62.6,), (0,)),
    "hr-cnn": ((69.3,), (16,)),
    "fixed-h": ((48.5, 65.8, 67.0), (9, 10, 10)),
    "fixed-v": ((46.2, 65.5, 67.2), (9, 10, 10)),
    "stochastic": ((27.6, 63.2, 64.8), (9, 10, 10)),
    "stn": ((41.1, 64.3, 66.4), (9, 10, 10)),
    "patchdrop": ((57.3, 69.3, 70.4), (9, 9.9, 9.1)),
}

IMAGENET: Printed = {
    "lr-cnn": ((58.1,), (0,)),
    "srgan": ((63.1,), (0,)),
    "kd": ((62.4,), (0,)),
    "pcn": ((63.9,), (0,)),
    "hr-cnn": ((76.5,), (16,)),
    "fixed-h": ((48.8, 68.6, 70.4), (10, 9, 8)),
    "fixed-v": ((48.4, 68.4, 70.8), (10, 9, 8)),
    "stochastic": ((38.6, 66.2, 68.4), (10, 9, 8)),
    "stn": ((58.6, 69.4, 71.4), (10, 9, 8)),
    "patchdrop": ((60.2, 74.9, 76.0), (10.1, 9.1, 7.9)),
}

BAGNETS = {
    "bagnet": "85.6 at 16, 192 ms",
    "cnn": "92.3 at 16, 77 ms",
    "fixed-h pt": "67.7 at 10",
    "fixed-h ft1": "86.3 at 9, 98 ms",
    "fixed-v pt": "68.3 at 10",
    "fixed-v ft1": "86.2 at 9, 98 ms",
    "stochastic pt": "49.1 at 10",
    "stochastic ft1": "83.1 at 9, 98 ms",
    "stn pt": "67.5 at 10",
    "stn ft1": "86.8 at 9, 112 ms",
    "conditional pt": "77.4 at 9.5",
    "conditional ft1": "92.7 at 8.5, 98 ms",
}
"""Table 3, on CIFAR-10."""

HARD = {
    "cifar10": {"none": "92.3", "cutout": "93.5", "hard positives": "93.9"},
    "cifar100": {"none": "69.3", "cutout": "70.4", "hard positives": "71.0"},
    "imagenet": {"none": "76.5", "cutout": "76.5", "hard positives": "78.1"},
    "fmow": {"none": "67.3", "cutout": "67.6", "hard positives": "69.6"},
}
"""Table 4."""


def of_setting(head: Mapping[str, Any], row: str, setting: str) -> str:
    """What tables 3 and 4 print for the data set of a table's head; empty where they do not have it."""
    known = data_set(head)
    tables = {"bagnet": BAGNETS if known == "cifar10" else {}, "hard": HARD.get(known, {})}
    return tables.get(row, {}).get(setting, "")


def printed(head: Mapping[str, Any]) -> Printed:
    """The paper's row figures for the data set of a table's head; none where the paper does not have it."""
    known = {"fmow": FMOW, "cifar10": CIFAR10, "cifar100": CIFAR100, "imagenet": IMAGENET}
    return known.get(data_set(head), {})


def data_set(head: Mapping[str, Any]) -> str:
    """Which of the paper's data sets a table's head tells of, by its own names of files and folders
    (`cifar-10-batches-py`, `CIFAR100`, `fmow-rgb`, `ILSVRC2012`) and by as many `classes` as it has; empty
    where it is none of them, or some of its classes.
    """
    first = re.split(r"[-_. ]", re.sub(r"cifar[-_ ]", "cifar", head["data"].lower()))[0]
    first = re.sub(r"^ilsvrc\d*$|^imagenet1k$", "imagenet", first)
    return first if first in CLASSES and head.get("classes") == CLASSES[first] else ""
