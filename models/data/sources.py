"""`open_source`: any data set that training and evaluation can use, recognised by what it holds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from models.data import cifar, fmow
from models.data.files import open_files
from models.data.folders import open_folders
from models.data.source import DataError, Source, UnreadableImageError
from models.data.threads import in_threads

__all__ = ["DataError", "Source", "UnreadableImageError", "drop_unreadable", "open_source"]

Check = Literal["auto", "decode", "none"]

DECODE_UP_TO = 20_000
"""Data sets up to this size are decoded once on opening, so that broken pictures show at once."""


def open_source(
    path: str | Path, *, split: str | None = None, check: Check = "auto", max_unreadable: int | None = None
) -> Source:
    """Open a data set, recognised by its content: class folders, CIFAR, ImageNet, fMoW, or a tar or zip.

    `split` keeps one published split only. `check` says whether every picture is decoded once to find
    unreadable ones (`auto`: up to 20,000 pictures). Unreadable pictures are left out and listed in
    `.skipped`; more than `max_unreadable` of them (default: 1 %, at least 3) raise DataError, as do a path
    that holds no data set, an unknown split and names that are not UTF-8.
    """
    path = Path(path).expanduser()
    source = _recognise(path)
    _check_names(source)
    if split is not None:
        chosen = source.in_split(split)
        if not len(chosen):
            known = ", ".join(sorted(set(source.splits or ()))) or "no published splits"
            raise DataError(f"{source.name} has no split {split}; it has {known}")
        source = source.select(chosen)
    if check == "decode" or (check == "auto" and len(source) <= DECODE_UP_TO):
        source = drop_unreadable(source)
    return source.limited(max_unreadable)


def _recognise(path: Path) -> Source:
    name = path.resolve().name if path.is_dir() else path.stem
    if path.suffix == ".npz" and path.is_file():
        return cifar.open_npz(name, path.read_bytes())
    files = open_files(path)
    if fmow.is_fmow(files):
        return fmow.open_fmow(name, files)
    return cifar.recognise(name, files) or open_folders(name, files)


def _check_names(source: Source) -> None:
    """Raise DataError for a name that no card or hash could be written with at the end of a training."""
    for name in (source.name, *source.classes, *source.ids):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"{name!r} is not UTF-8: rename the folder or file") from None


def drop_unreadable(source: Source) -> Source:
    """`source` without the pictures that cannot be decoded; they are listed in `.skipped`."""

    def reason(i: int) -> str | None:
        try:
            source.read(i)
        except UnreadableImageError as error:
            return str(error)
        return None

    reasons = enumerate(in_threads(reason, len(source)))
    return source.without({i: why for i, why in reasons if why is not None})
