"""What every data set looks like to training and evaluation: labelled pictures with stable names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]


class DataError(Exception):
    """A data set that cannot be used as it is; the message says why and, where there is one, the way out."""


class UnreadableImageError(DataError):
    """One picture that cannot be decoded; collected and counted, fatal only past a limit."""


@dataclass(frozen=True)
class Skipped:
    """What a data set holds that is not used.

    `unreadable` names each picture that could not be decoded, with the reason; `counts` counts everything
    else that was passed over, by reason (for instance fMoW boxes of 2 px or less).
    """

    unreadable: tuple[tuple[str, str], ...] = ()
    counts: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.unreadable) or any(self.counts.values())

    def __str__(self) -> str:
        parts = [f"{n} {reason}" for reason, n in sorted(self.counts.items()) if n]
        if self.unreadable:
            named = "; ".join(f"{name} ({reason})" for name, reason in self.unreadable[:5])
            more = len(self.unreadable) - 5
            parts.append(
                f"{len(self.unreadable)} unreadable: {named}" + (f"; and {more} more" if more > 0 else "")
            )
        return ", ".join(parts) or "nothing skipped"


class Reader(Protocol):
    """Gives sample i's pixels, the bytes that are its content, and a cheap sign that changes with them."""

    def pixels(self, i: int) -> Pixels: ...

    def content(self, i: int) -> bytes: ...

    def stamp(self, i: int) -> str: ...


class Source:
    """Labelled pictures: `len(source)`, `source.read(i)`, `source.labels[i]`, `source.ids[i]`.

    name      of the data set, for cards and logs
    classes   sorted class names; `labels` index into them
    labels    (n,) int64
    ids       (n,) names that stay the same wherever the data set lies
    splits    (n,) the published split of each sample, or None where the data set comes without
    places    (n,) the place on the ground that each sample shows, or None where the data set does not say
    skipped   what was passed over, and why
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        labels: Sequence[int] | Indices,
        ids: Sequence[str],
        reader: Reader,
        *,
        splits: Sequence[str] | None = None,
        places: Sequence[str] | None = None,
        skipped: Skipped | None = None,
        rows: Indices | None = None,
    ) -> None:
        self.name = name
        self.classes = tuple(classes)
        self.labels: Indices = np.asarray(labels, dtype=np.int64)
        self.ids = tuple(ids)
        self.splits = None if splits is None else tuple(splits)
        self.places = None if places is None else tuple(places)
        self.skipped = skipped or Skipped()
        self._reader = reader
        self._rows = np.arange(len(self.ids)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Source({self.name!r}, {len(self)} samples, {len(self.classes)} classes)"

    def read(self, i: int) -> Pixels:
        """Sample i decoded, (H, W, 3) uint8. Raises UnreadableImageError."""
        try:
            return self._reader.pixels(int(self._rows[i]))
        except UnreadableImageError as error:
            raise UnreadableImageError(f"{self.ids[i]}: {error}") from None

    def select(self, indices: Sequence[int] | Indices, *, skipped: Skipped | None = None) -> Source:
        """The same data set cut down to `indices`, classes unchanged."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Source(
            self.name,
            self.classes,
            self.labels[chosen],
            [self.ids[i] for i in chosen],
            self._reader,
            splits=None if self.splits is None else [self.splits[i] for i in chosen],
            places=None if self.places is None else [self.places[i] for i in chosen],
            skipped=skipped or self.skipped,
            rows=self._rows[chosen],
        )

    def of_classes(self, numbers: Sequence[int] | Indices) -> Source:
        """The same data set cut down to these classes, which are numbered anew, in the order given."""
        of = np.full(len(self.classes), -1, dtype=np.int64)
        of[np.asarray(numbers)] = np.arange(len(numbers))
        found = self.select(np.flatnonzero(of[self.labels] >= 0))
        found.classes = tuple(self.classes[k] for k in numbers)
        found.labels = of[found.labels]
        return found

    def in_split(self, *names: str) -> Indices:
        """Indices of the samples whose published split is one of `names`; none where there are no splits."""
        here = np.isin(np.array(self.splits or [""] * len(self)), names)
        return np.flatnonzero(here).astype(np.int64)

    def without(self, bad: Mapping[int, str]) -> Source:
        """The same data set without the samples in `bad` (index -> reason), now listed in `.skipped`."""
        if not bad:
            return self
        listed = tuple((self.ids[i], bad[i].removeprefix(f"{self.ids[i]}: ")) for i in sorted(bad))
        skipped = Skipped((*self.skipped.unreadable, *listed), self.skipped.counts)
        return self.select([i for i in range(len(self)) if i not in bad], skipped=skipped)

    def limited(self, max_unreadable: int | None = None) -> Source:
        """Itself. Raises DataError where more pictures than that are unreadable (default: 1 %, or 3)."""
        limit = max(3, len(self) // 100) if max_unreadable is None else max_unreadable
        if len(self.skipped.unreadable) > limit or not len(self):
            raise DataError(f"{self.name}: more than {limit} pictures cannot be read: {self.skipped}")
        return self

    def digest(self) -> str:
        """sha256 over (id, class, content hash) in order of id: which pictures a release was made from.

        Independent of where and how the data set is stored: a folder and a tar of it give the same digest.
        """
        whole = hashlib.sha256()
        for i in sorted(range(len(self)), key=self.ids.__getitem__):
            content = hashlib.sha256(self._reader.content(int(self._rows[i]))).hexdigest()
            whole.update(f"{self.ids[i]}\0{self.classes[self.labels[i]]}\0{content}\n".encode())
        return whole.hexdigest()

    def fingerprint(self) -> str:
        """As `digest`, but by what tells cheaply that files changed (size, time): names caches, not data."""
        whole = hashlib.sha256()
        for i, row in enumerate(self._rows.tolist()):
            whole.update(f"{self.ids[i]}\0{self._reader.stamp(row)}\n".encode())
        return whole.hexdigest()
