"""Class folders: `[SPLIT/]CLASS/any/depth/picture.jpg`; ImageNet's `train/SYNSET/` is one such."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from models.data import pixels
from models.data.files import Files
from models.data.source import DataError, Pixels, Skipped, Source

SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Folder names that mean a published split, and the split they mean."""

_AFFIXED = re.compile(rf"((?:.*[-_. ])?)({'|'.join(SPLITS)})((?:[-_. ].*)?)")
"""`seg_train`, `train_images`: what stands before a split's name, the name, and what stands after it."""


@dataclass(frozen=True)
class Placed:
    """A picture's place: class and split by its folders; `id` lacks the folders that all pictures share."""

    name: str
    id: str
    label: str
    split: str | None


def is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in pixels.EXTENSIONS


def place(names: Sequence[str]) -> list[Placed]:
    """Read class and split off the paths of pictures. Raises DataError where the folders name no classes."""
    paths = [PurePosixPath(name).parts for name in names]
    if not paths:
        raise DataError("no JPEG, PNG, WebP or TIFF found")
    shared = _shared_folders(paths)
    rest = [parts[shared:] for parts in paths]
    split_level = all(len(parts) > 1 and parts[0].lower() in SPLITS for parts in rest)
    if not split_level:
        _refuse_splits_as_classes({parts[0] for parts in rest if len(parts) > 1})
    unlabelled = [n for n, parts in zip(names, rest, strict=True) if len(parts) < (3 if split_level else 2)]
    if unlabelled:
        hint = "; ImageNet's flat val/ must first be sorted into synset folders" if split_level else ""
        raise DataError(
            f"{len(unlabelled)} pictures lie in no class folder, for instance {unlabelled[0]}: "
            f"expected CLASS/picture or SPLIT/CLASS/picture{hint}"
        )
    return [
        Placed(
            name,
            "/".join(parts),
            parts[1] if split_level else parts[0],
            SPLITS[parts[0].lower()] if split_level else None,
        )
        for name, parts in zip(names, rest, strict=True)
    ]


def _refuse_splits_as_classes(folders: set[str]) -> None:
    """Raise DataError where folders that are taken for classes are splits: `train` beside `val` or `test`,
    alone or with the same words around them. One of them without the others may well be a class.
    """
    splits: dict[tuple[str, str], dict[str, str]] = {}
    for folder in sorted(folders):
        if (found := _AFFIXED.fullmatch(folder.lower())) is not None:
            before, word, after = found.groups()
            splits.setdefault((before, after), {})[SPLITS[word]] = folder
    for named in splits.values():
        if "train" in named and len(named) > 1:
            others = sorted(folders - set(named.values()))
            beside = f" beside {', '.join(others[:5])}" if others else ""
            raise DataError(
                f"the folders {', '.join(sorted(named.values()))} are splits, not classes{beside}: name them "
                "train, val and test, with one folder a class in each, and leave nothing else beside them"
            )


def unlabelled_splits(placed: Sequence[Placed]) -> set[str]:
    """The held-out splits without a class that `train` has: they were published without labels.

    Raises DataError naming their folder where no other split is held out: all its answers would be wrong.
    """
    classes: dict[str, set[str]] = {}
    for one in placed:
        classes.setdefault(one.split or "", set()).add(one.label)
    learned, held_out = classes.get("train", set()), {"val", "test"} & set(classes)
    bare = {split for split in held_out if learned and not classes[split] & learned}
    if bare and bare == held_out:
        first = next(one for one in placed if one.split in bare)
        folder = "/".join(PurePosixPath(first.id).parts[:2])
        raise DataError(
            f"{folder} is of no class that train has, so no held-out picture could be answered right: "
            "sort them into folders of train's classes, or take the split away"
        )
    return bare


def _shared_folders(paths: Sequence[tuple[str, ...]]) -> int:
    """How many leading folders only wrap the data set: all pictures share them, none is a split or class."""
    depth = 0
    while all(len(parts) > depth + 2 for parts in paths):
        first = {parts[depth] for parts in paths}
        if len(first) > 1 or next(iter(first)).lower() in SPLITS:
            break
        depth += 1
    return depth


class FileReader:
    """Decodes one file a sample."""

    def __init__(self, files: Files, names: Sequence[str]) -> None:
        self.files = files
        self.names = names

    def pixels(self, i: int) -> Pixels:
        return pixels.decode(self.content(i))

    def content(self, i: int) -> bytes:
        return self.files.read(self.names[i])

    def stamp(self, i: int) -> str:
        return self.files.stamp(self.names[i])


def open_folders(name: str, files: Files) -> Source:
    """A Source over class folders; a `test` without labels beside a `val` with some, or a `val` beside such a
    `test`, is left out. Raises DataError for fewer than two classes.
    """
    images = [n for n in files.names if is_image(n)]
    if not images and any(n.lower().endswith(".tar") for n in files.names):
        raise DataError(f"{name} holds tars within: unpack them into one folder a class first")
    every = place(images)
    bare = unlabelled_splits(every)
    placed = [p for p in every if p.split not in bare]
    classes = sorted({p.label for p in placed})
    if len(classes) < 2:
        raise DataError(f"{name} has one class only ({classes[0]}): a classifier needs two")
    number = {label: k for k, label in enumerate(classes)}
    counts = {"files that are no pictures": len(files.names) - len(images)}
    counts["pictures of a split without labels"] = len(every) - len(placed)
    return Source(
        name,
        classes,
        [number[p.label] for p in placed],
        [p.id for p in placed],
        FileReader(files, [p.name for p in placed]),
        splits=None if placed[0].split is None else [p.split or "" for p in placed],
        skipped=Skipped(counts={reason: n for reason, n in counts.items() if n}),
    )
