"""What all pictures of a dataset are together: counts, sizes, duplicates, and whether it can be used."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.core.errors import EmptyClasses, LeakingSplits, MixedBands, OneClass, UnreadablePictures
from models.data.duplicates import near_pairs
from models.data.splits import COMPARE_UP_TO
from workers.reading.forms import Found
from workers.reading.names import shown
from workers.reading.pictures import Look, thumbs_of

LISTED: Final = 100
"""So many unreadable pictures and groups of duplicates are listed in the summary; the inventory has all."""

NAMED: Final = 20


@dataclass(frozen=True)
class Tolerance:
    """What the client puts up with. None: 1 % of the pictures, at least 3."""

    max_unreadable: int | None = None
    max_leaks: int = 0
    mixed_bands: bool = False


@dataclass(frozen=True)
class Group:
    """Looks (by index) that show the same picture; ``exact``: to the pixel."""

    members: tuple[int, ...]
    exact: bool


def check_readable(looks: Sequence[Look], unreadable: Sequence[tuple[str, str]], most: int | None) -> None:
    """Raises UnreadablePictures where there are more than allowed, or nothing else is left."""
    total = len(looks) + len(unreadable)
    limit = max(3, total // 100) if most is None else most
    if len(unreadable) > limit or not looks:
        raise UnreadablePictures(
            f"{len(unreadable)} of {total} pictures cannot be read; {limit} are allowed (max_unreadable).",
            unreadable=_reasons(unreadable[:NAMED]),
        )


def check_classes(found: Found, looks: Sequence[Look]) -> list[str]:
    """Raises OneClass, EmptyClasses; returns warnings."""
    there = {look.sample.label for look in looks}
    if len(there) < 2:
        raise OneClass(f"All {len(looks)} pictures are of the class {shown(next(iter(there)))}.")
    empty = sorted(set(found.classes) - there)
    if empty and not found.classes_fixed:
        raise EmptyClasses(
            f"No picture of {len(empty)} classes can be read: {', '.join(empty[:5])}",
            classes=empty[:NAMED],
        )
    warnings = ["classes_without_pictures"] if empty else []
    splits = {look.sample.split for look in looks}
    if "train" in splits:
        learned = {look.sample.label for look in looks if look.sample.split == "train"}
        if unlearned := sorted(there - learned):
            raise EmptyClasses(
                f"{len(unlearned)} classes have held-out pictures and none to learn from: "
                f"{', '.join(unlearned[:5])}",
                classes=unlearned[:NAMED],
            )
    pairs = {(look.sample.label, look.sample.split) for look in looks}
    if len(pairs) < len(there) * len(splits):
        warnings.append("classes_missing_in_a_split")
    return warnings


def check_bands(looks: Sequence[Look], *, allowed: bool) -> list[str]:
    """Raises MixedBands; returns warnings."""
    counts = Counter(look.bands for look in looks)
    if len(counts) < 2:
        return []
    if allowed:
        return ["mixed_bands"]
    said = ", ".join(f"{n} pictures of {bands}" for bands, n in sorted(counts.items()))
    rare = min(counts, key=lambda bands: (counts[bands], bands))
    raise MixedBands(
        f"The pictures differ in their number of bands: {said}. Set mixed_bands to take the first three of "
        "each, or the only one.",
        bands={str(bands): n for bands, n in sorted(counts.items())},
        for_instance=[shown(look.sample.name) for look in looks if look.bands == rare][:NAMED],
    )


def same_pictures(looks: Sequence[Look]) -> list[Group]:
    """Groups of two or more that show the same picture, exactly or (up to 100,000 pictures) nearly."""
    first: dict[bytes, int] = {}
    exact = [(first.setdefault(look.digest, i), i) for i, look in enumerate(looks)]
    near: Iterable[tuple[int, int]] = near_pairs(thumbs_of(looks)) if len(looks) <= COMPARE_UP_TO else ()
    parent = list(range(len(looks)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for pairs in (exact, near):
        for a, b in pairs:
            low, high = sorted((root(a), root(b)))
            parent[high] = low
    groups: dict[int, list[int]] = defaultdict(list)
    for i in range(len(looks)):
        groups[root(i)].append(i)
    return [
        Group(tuple(members), len({looks[i].digest for i in members}) == 1)
        for members in groups.values()
        if len(members) > 1
    ]


def check_splits(looks: Sequence[Look], groups: Sequence[Group], most: int) -> None:
    """Raises LeakingSplits where more than ``most`` held-out pictures are in another split as well."""
    leaking = [group for group in groups if len({looks[i].sample.split for i in group.members}) > 1]
    leaks = sum(1 for group in leaking for i in group.members if looks[i].sample.split != "train")
    if leaks > most:
        raise LeakingSplits(
            f"{leaks} held-out pictures are in another split too; {most} are allowed (max_leaks).",
            duplicates=[_said(group, looks) for group in leaking[:NAMED]],
        )


def summary(
    found: Found, looks: Sequence[Look], unreadable: Sequence[tuple[str, str]], groups: Sequence[Group]
) -> dict[str, Any]:
    """The inventory in short, as clients get it."""
    per = Counter((look.sample.label, look.sample.split) for look in looks)
    splits = Counter(look.sample.split for look in looks if look.sample.split)
    crossing = [g for g in groups if len({looks[i].sample.split for i in g.members}) > 1]
    torn = [g for g in groups if g.exact and len({looks[i].sample.label for i in g.members}) > 1]
    return {
        "classes": [
            {
                "name": label,
                "pictures": sum(n for (of, _), n in per.items() if of == label),
                "splits": {split: per[label, split] for split in sorted(splits) if per[label, split]},
            }
            for label in found.classes
        ],
        "splits": dict(sorted(splits.items())) or None,
        "sizes": _sizes(looks),
        "bands": {str(k): n for k, n in sorted(Counter(look.bands for look in looks).items())},
        "types": dict(sorted(Counter(look.kind for look in looks).items())),
        "gsd_m": _spread([look.gsd_m for look in looks if look.gsd_m is not None]),
        "bytes": sum(look.size for look in looks),
        "unreadable": {"pictures": len(unreadable), "listed": _reasons(unreadable[:LISTED])},
        "ignored": dict(sorted(found.ignored.items())),
        "duplicates": {
            "compared": "exactly and nearly" if len(looks) <= COMPARE_UP_TO else "exactly",
            "groups": len(groups),
            "pictures": sum(len(group.members) for group in groups),
            "across_splits": len(crossing),
            "of_several_classes": len(torn),
            "listed": [_said(group, looks) for group in sorted(groups, key=_worst_first(looks))[:LISTED]],
        },
    }


def _worst_first(looks: Sequence[Look]) -> Callable[[Group], tuple[int, int]]:
    return lambda g: (-len({(looks[i].sample.split, looks[i].sample.label) for i in g.members}), g.members[0])


def _said(group: Group, looks: Sequence[Look]) -> dict[str, Any]:
    members = [looks[i].sample for i in group.members[:NAMED]]
    return {
        "pictures": [shown(sample.member) for sample in members],
        "exact": group.exact,
        "classes": sorted({sample.label for sample in members}),
        "splits": sorted({sample.split for sample in members if sample.split}),
    }


def _reasons(unreadable: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": shown(name), "reason": shown(reason)} for name, reason in unreadable]


def _sizes(looks: Sequence[Look]) -> dict[str, Any]:
    by_size = Counter((look.width, look.height) for look in looks)
    widths, heights = [look.width for look in looks], [look.height for look in looks]
    return {
        "min": [min(widths), min(heights)],
        "median": [round(statistics.median(widths)), round(statistics.median(heights))],
        "max": [max(widths), max(heights)],
        "distinct": len(by_size),
    }


def _spread(values: Sequence[float]) -> dict[str, float | int] | None:
    if not values:
        return None
    return {
        "min": round(min(values), 6),
        "median": round(statistics.median(values), 6),
        "max": round(max(values), 6),
        "pictures": len(values),
    }
