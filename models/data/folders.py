"""Class folders: `[SPLIT/]CLASS/any/depth/picture.jpg`; ImageNet's `train/SYNSET/` is one such."""

from __future__ import annotations

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
    """A Source over class folders. Raises DataError for fewer than two classes."""
    images = [n for n in files.names if is_image(n)]
    if not images and any(n.lower().endswith(".tar") for n in files.names):
        raise DataError(f"{name} holds tars within: unpack them into one folder a class first")
    placed = place(images)
    classes = sorted({p.label for p in placed})
    if len(classes) < 2:
        raise DataError(f"{name} has one class only ({classes[0]}): a classifier needs two")
    number = {label: k for k, label in enumerate(classes)}
    other = len(files.names) - len(images)
    return Source(
        name,
        classes,
        [number[p.label] for p in placed],
        [p.id for p in placed],
        FileReader(files, [p.name for p in placed]),
        splits=None if placed[0].split is None else [p.split or "" for p in placed],
        skipped=Skipped(counts={"files that are no pictures": other} if other else {}),
    )
