"""Sources to square uint8 tensors: all at once, one by one, or through a memory-mapped cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from models.data.source import DataError, Indices, Pixels, Source, UnreadableImageError

Fit = Literal["squash", "crop"]
Resample = Literal["bicubic", "area"]

CROP_MARGIN = 256 / 224
"""`crop` brings the shorter side to this multiple of px, then the centre is cut out (section 5.3)."""


def square(pixels: Pixels, px: int, fit: Fit = "squash", resample: Resample = "bicubic") -> Pixels:
    """(H, W, 3) to (px, px, 3) uint8.

    squash   the whole image becomes the square
    crop     the shorter side becomes px * 256 / 224, then the central px x px is kept
    bicubic  with antialiasing
    area     area average where it shrinks, bilinear where it grows, as the service does to HR it is sent
    """
    height, width = pixels.shape[:2]
    box = (0.0, 0.0, float(width), float(height))
    if fit == "crop":
        side = min(height, width) / CROP_MARGIN
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    elif (height, width) == (px, px):
        return pixels
    shrinks = min(box[2] - box[0], box[3] - box[1]) >= px
    method = Image.Resampling.BICUBIC
    if resample == "area":
        method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize((px, px), method, box=box))


def load_square(
    source: Source,
    indices: Sequence[int] | Indices | None = None,
    px: int = 224,
    workers: int | None = None,
    *,
    fit: Fit = "squash",
    resample: Resample = "bicubic",
) -> Tensor:
    """Decode `indices` (default: all) of a source into (n, 3, px, px) uint8, in that order, with threads.

    Raises DataError naming the pictures that cannot be decoded.
    """
    chosen = range(len(source)) if indices is None else indices
    out = torch.empty((len(chosen), 3, px, px), dtype=torch.uint8)
    _fill(source, chosen, out.numpy(), px, workers, fit, resample)
    return out


def _fill(
    source: Source,
    indices: Sequence[int] | Indices,
    out: Pixels,
    px: int,
    workers: int | None,
    fit: Fit,
    resample: Resample,
) -> None:
    def one(row: int) -> str | None:
        try:
            out[row] = square(source.read(int(indices[row])), px, fit, resample).transpose(2, 0, 1)
        except UnreadableImageError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        bad = [reason for reason in pool.map(one, range(len(indices))) if reason]
    if bad:
        raise DataError(f"{source.name}: {len(bad)} pictures cannot be read, for instance {bad[0]}")


def cached_square(
    source: Source,
    folder: Path,
    px: int = 224,
    workers: int | None = None,
    *,
    fit: Fit = "squash",
    resample: Resample = "bicubic",
) -> Tensor:
    """load_square for a source too large for memory: (n, 3, px, px) uint8, mapped from a file in `folder`.

    The file is named by the source's digest and the parameters, and is written once; later calls only map it.
    """
    key = f"{source.digest()} {'|'.join(source.ids)} {px} {fit} {resample}"
    path = folder / f"{source.name}-{px}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.part")
        try:
            shape = (len(source), 3, px, px)
            out = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
            _fill(source, range(len(source)), out, px, workers, fit, resample)
            out.flush()
            del out
            partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)
    # Copy-on-write: torch wants writable memory, and nothing written through it may reach the file.
    return torch.from_numpy(np.load(path, mmap_mode="c"))


class LazyImages(Dataset[tuple[Tensor, int]]):
    """A source decoded when asked, for sets that fit nowhere else: item i is ((3, px, px) uint8, label).

    In training, `replace_unreadable` pictures at most (counted in each loader process) are replaced by the
    sample after them and noted in `.unreadable`; past that, and in evaluation, where it is 0, DataError is
    raised.
    """

    def __init__(
        self,
        source: Source,
        px: int = 224,
        *,
        fit: Fit = "squash",
        resample: Resample = "bicubic",
        replace_unreadable: int = 0,
    ) -> None:
        self.source = source
        self.px = px
        self.fit: Fit = fit
        self.resample: Resample = resample
        self.replace_unreadable = replace_unreadable
        self.unreadable: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        for step in range(len(self)):
            i = (index + step) % len(self)
            try:
                pixels = square(self.source.read(i), self.px, self.fit, self.resample)
            except UnreadableImageError as error:
                self._note(i, str(error))
                continue
            planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
            return torch.from_numpy(planes), int(self.source.labels[i])
        raise DataError(f"{self.source.name}: no picture can be read")

    def _note(self, i: int, reason: str) -> None:
        self.unreadable[i] = reason
        if len(self.unreadable) > self.replace_unreadable:
            raise DataError(f"{self.source.name}: {len(self.unreadable)} pictures cannot be read: {reason}")
