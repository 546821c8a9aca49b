"""What a heap of files is: class folders, an fMoW tree, or pictures listed in a table."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final

from app.core.errors import EmptyClasses, UnknownLabels, UnknownLayout
from models.data import fmow
from models.data.files import wanted
from models.data.folders import SPLITS, is_image, place
from models.data.source import DataError, Source
from workers.reading.heap import Heap
from workers.reading.names import clean_label, shown
from workers.reading.tables import find_tables, read_tables

LISTED: Final = 20


@dataclass(frozen=True)
class Sample:
    """A labelled picture: ``name`` in the heap, ``member`` in the snapshot; ``row`` of an fMoW source."""

    member: str
    name: str
    label: str
    split: str | None
    row: int = -1


@dataclass
class Found:
    """The samples of a dataset in the order of their members, and what was passed over.

    ``extra``: files kept beside the pictures, member -> name. ``classes_fixed``: classes may be empty.
    """

    form: str
    classes: tuple[str, ...]
    samples: list[Sample]
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    ignored: dict[str, int] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    classes_fixed: bool = False
    source: Source | None = None


def find(heap: Heap, table: str | None, classes: Sequence[str] | None) -> Found:
    """Recognise a closed heap by its content; ``table``: this list and no other form.

    Raises the DatasetRefused classes. ``classes``, where given, must be just those there are.
    """
    if table is None and fmow.is_fmow(heap):
        found = _fmow(heap)
    elif tables := [table] if table is not None else find_tables(heap):
        found = _listed(heap, tables)
    else:
        found = _folders(heap)
    found.unreadable = [*heap.damaged, *found.unreadable]
    found.ignored = {**heap.ignored, **found.ignored}
    found.samples.sort(key=lambda sample: (sample.member, sample.row))
    if classes is not None:
        _must_be(found, classes)
    return found


def _must_be(found: Found, classes: Sequence[str]) -> None:
    wanted_ones = {clean_label(name) for name in classes}
    if unknown := sorted(set(found.classes) - wanted_ones):
        raise UnknownLabels(
            f"{len(unknown)} classes are none of those asked for: {_some(unknown)}", labels=unknown[:LISTED]
        )
    if missing := sorted(wanted_ones - set(found.classes)):
        raise EmptyClasses(f"No picture is of: {_some(missing)}", classes=missing[:LISTED])


def _folders(heap: Heap) -> Found:
    images = [name for name in heap.names if is_image(name)]
    damaged = [name for name, _ in heap.damaged if is_image(name)]
    try:
        placed = place([*images, *damaged])
    except DataError as error:
        nested = heap.ignored.get("archives within, not opened", 0)
        hint = f"; {nested} archives lie within: unpack them first" if nested else ""
        raise UnknownLayout(f"{_plain(error)}{hint}") from error
    labels = {one.label for one in placed}
    words = sorted({one.label for one in placed if one.split is None and one.label.lower() in SPLITS})
    if words:
        raise UnknownLayout(
            f"Folders named like splits lie beside classes ({_some(words)}): either every picture is in "
            "SPLIT/CLASS/ or none is."
        )
    for label in labels:
        if clean_label(label) != label:
            raise UnknownLabels(
                f"A class begins or ends with a space: {shown(label)!r}", labels=[shown(label)]
            )
    first = placed[0]
    _no_empty_folders(heap, first.name[: -len(first.id)], first.split is not None, labels)
    samples = [Sample(one.id, one.name, one.label, one.split) for one in placed[: len(images)]]
    other = sum(1 for name in heap.names if not is_image(name))
    ignored = {"files that are no pictures": heap.ignored.get("files that are no pictures", 0) + other}
    return Found("folders", tuple(sorted(labels)), samples, ignored=ignored if other else {})


def _no_empty_folders(heap: Heap, prefix: str, split_level: bool, labels: set[str]) -> None:
    depth = 2 if split_level else 1
    empty = set()
    named = {*heap.names, *(f"{folder}/any" for folder in heap.folders)}
    for folder in {str(parent) for name in named for parent in PurePosixPath(name).parents}:
        parts = folder[len(prefix) :].split("/")
        inside = folder.startswith(prefix) and len(folder) > len(prefix) and folder != "."
        if inside and len(parts) == depth and parts[-1] not in labels and wanted(folder):
            empty.add(parts[-1])
    if empty:
        raise EmptyClasses(
            f"{len(empty)} class folders hold no picture: {_some(sorted(empty))}",
            classes=[shown(name) for name in sorted(empty)[:LISTED]],
        )


def _fmow(heap: Heap) -> Found:
    try:
        source = fmow.open_fmow("fmow", heap)
    except DataError as error:
        unknown = "none of the 62 classes" in str(error)
        raise (UnknownLabels if unknown else UnknownLayout)(_plain(error)) from error
    pictures = [one.partition("#")[0] for one in source.ids]
    jsons = [n for n in heap.names if n.endswith(("_rgb.json", "_gt_mapping.json"))]
    cut = len(_shared([*pictures, *jsons]))
    splits: Sequence[str | None] = source.splits or [None] * len(source)
    samples = [
        Sample(source.ids[i][cut:], name, source.classes[source.labels[i]], splits[i], i)
        for i, name in enumerate(pictures)
    ]
    return Found(
        "fmow",
        source.classes,
        samples,
        unreadable=list(source.skipped.unreadable),
        ignored=dict(source.skipped.counts),
        extra={name[cut:]: name for name in jsons},
        classes_fixed=True,
        source=source,
    )


def _shared(names: Sequence[str]) -> str:
    """The leading folders that only wrap an fMoW tree: none of them is a split or a class."""
    common = posixpath.commonpath([posixpath.dirname(name) for name in names])
    parts: list[str] = []
    for part in common.split("/") if common else []:
        if part.lower() in SPLITS or part == "seq" or part in fmow.CLASSES:
            break
        parts.append(part)
    return "".join(f"{part}/" for part in parts)


def _listed(heap: Heap, tables: Sequence[str]) -> Found:
    rows = read_tables(heap, tables)
    samples, unreadable = [], []
    damaged = dict(heap.damaged)
    for row in rows:
        split = f"{row.split}/" if row.split else ""
        if row.name in damaged:
            continue
        if not is_image(row.name) or not wanted(row.name):
            unreadable.append((row.name, "neither a .jpg, .png, .webp nor .tif, or hidden"))
            continue
        samples.append(Sample(f"{split}{row.label}/{row.path}", row.name, row.label, row.split))
    classes = tuple(sorted({row.label for row in rows}))
    if not any(row.split for row in rows) and all(label.lower() in SPLITS for label in classes):
        raise UnknownLabels(f"All classes are named like splits: {_some(classes)}", labels=list(classes))
    used = {row.name for row in rows}
    unlisted = sum(1 for name in heap.names if is_image(name) and name not in used)
    return Found(
        "table",
        classes,
        samples,
        unreadable=unreadable,
        ignored={"pictures not listed": unlisted} if unlisted else {},
    )


def _some(names: Sequence[str]) -> str:
    more = len(names) - 5
    return ", ".join(shown(name) for name in names[:5]) + (f" and {more} more" if more > 0 else "")


def _plain(error: DataError) -> str:
    return shown(str(error), 500)
