"""`open_source`: any data set that training and evaluation can use, recognised by what it holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np

from models.data import cifar, fmow
from models.data.files import open_files
from models.data.folders import open_folders
from models.data.source import DataError, Skipped, Source, UnreadableImageError

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
    that holds no data set and an unknown split.
    """
    path = Path(path).expanduser()
    source = _recognise(path)
    if split is not None:
        source = source.select(source.in_split(split))
    if check == "decode" or (check == "auto" and len(source) <= DECODE_UP_TO):
        source = drop_unreadable(source)
    limit = max(3, len(source) // 100) if max_unreadable is None else max_unreadable
    if len(source.skipped.unreadable) > limit:
        raise DataError(f"{source.name}: more than {limit} pictures cannot be read: {source.skipped}")
    return source


def _recognise(path: Path) -> Source:
    name = path.resolve().name if path.is_dir() else path.stem
    if path.suffix == ".npz" and path.is_file():
        return cifar.open_npz(name, path.read_bytes())
    files = open_files(path)
    if fmow.is_fmow(files):
        return fmow.open_fmow(name, files)
    return cifar.recognise(name, files) or open_folders(name, files)


def drop_unreadable(source: Source) -> Source:
    """`source` without the pictures that cannot be decoded; they are listed in `.skipped`.

    Raises DataError where none can.
    """
    reasons = list(_reasons(source))
    bad = [(source.ids[i], reason) for i, reason in enumerate(reasons) if reason is not None]
    if not bad:
        return source
    skipped = Skipped((*source.skipped.unreadable, *bad), source.skipped.counts)
    good = np.array([i for i, reason in enumerate(reasons) if reason is None], dtype=np.int64)
    if not len(good):
        raise DataError(f"{source.name}: no picture can be read: {skipped}")
    return source.select(good, skipped=skipped)


def _reasons(source: Source) -> Iterator[str | None]:
    def reason(i: int) -> str | None:
        try:
            source.read(i)
        except UnreadableImageError as error:
            return str(error).removeprefix(f"{source.ids[i]}: ")
        return None

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield from pool.map(reason, range(len(source)))
