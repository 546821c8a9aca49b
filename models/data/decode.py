"""Sources to square uint8 tensors: in memory, or mapped from a file."""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.data.source import DataError, Indices, Pixels, Source, UnreadableImageError
from models.data.threads import in_threads
from models.disk import replacing, reserve

Fit = Literal["squash", "crop"]
Resample = Literal["bicubic", "area"]
Progress = Callable[[int, int], None]
"""Told how many of how many pictures are decoded."""

IN_MEMORY = 8 * 2**30
"""Bytes of decoded images that are held in memory; ImageNet and fMoW go to a file."""

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
    chosen = source if indices is None else source.select(indices)
    out = torch.empty((len(chosen), 3, px, px), dtype=torch.uint8)
    bad = _fill(chosen, out.numpy(), fit, resample, workers, None)
    if bad:
        first = next(iter(bad.values()))
        raise DataError(f"{source.name}: {len(bad)} pictures cannot be read, for instance {first}")
    return out


def prepare(
    source: Source,
    px: int,
    folder: Path,
    *,
    fit: Fit = "squash",
    resample: Resample = "bicubic",
    workers: int | None = None,
    progress: Progress | None = None,
    in_memory: int = IN_MEMORY,
) -> tuple[Source, Tensor]:
    """Decode a whole source once, for training: what could be read of it, and that as (n, 3, px, px) uint8.

    Up to `in_memory` bytes the images lie in memory; larger sets are written to a file in `folder`, named by
    the source's fingerprint, and mapped, so that later calls start at once. Unreadable pictures are left out
    and listed in the source's `.skipped`. Raises DataError where they are too many (Source.limited).
    """
    shape = (len(source), 3, px, px)
    if math.prod(shape) <= in_memory:
        images = torch.empty(shape, dtype=torch.uint8)
        bad = _fill(source, images.numpy(), fit, resample, workers, progress)
        return source.without(bad).limited(), images[_others(bad, len(source))] if bad else images
    key = hashlib.sha256(f"{source.fingerprint()} {px} {fit} {resample}".encode()).hexdigest()[:16]
    path = folder / f"{source.name}-{px}-{key}.u8"
    told = path.with_suffix(".json")
    if not told.exists():
        bad = _write(source, path, shape, fit, resample, workers, progress)
        with replacing(told) as file:
            file.write(json.dumps({str(i): why for i, why in bad.items()}).encode())
    bad = {int(i): why for i, why in json.loads(told.read_text()).items()}
    kept = source.without(bad).limited()
    return kept, _mapped(path, (len(kept), *shape[1:]))


def _mapped(path: Path, shape: tuple[int, ...]) -> Tensor:
    """The file as a tensor for reading: to write into it ends the process.

    Not copy-on-write, though torch prefers writable memory: Linux refuses such a map where it is larger than
    the machine's memory, as ImageNet (193 GB) mostly is.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(np.memmap(path, np.uint8, "r", shape=shape))


def _write(
    source: Source,
    path: Path,
    shape: tuple[int, ...],
    fit: Fit,
    resample: Resample,
    workers: int | None,
    progress: Progress | None,
) -> dict[int, str]:
    """Write the readable images one after another; the file appears when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    try:
        out = np.memmap(partial, np.uint8, "w+", shape=shape)
        reserve(partial)
        bad = _fill(source, out, fit, resample, workers, progress)
        good = _others(bad, len(source))
        for row in range(min(bad, default=len(good)), len(good)):
            out[row] = out[good[row]]
        out.flush()
        del out
        os.truncate(partial, len(good) * math.prod(shape[1:]))
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    return bad


def _others(bad: Mapping[int, str], n: int) -> Indices:
    return np.array([i for i in range(n) if i not in bad], dtype=np.int64)


def _fill(
    source: Source, out: Pixels, fit: Fit, resample: Resample, workers: int | None, progress: Progress | None
) -> dict[int, str]:
    """Decode every sample into its row of (n, 3, px, px); index and reason of those that cannot be."""
    px, bad = out.shape[-1], dict[int, str]()

    def one(i: int) -> None:
        try:
            out[i] = square(source.read(i), px, fit, resample).transpose(2, 0, 1)
        except UnreadableImageError as error:
            bad[i] = str(error)

    for done, _ in enumerate(in_threads(one, len(source), workers), 1):
        if progress is not None and (done % 256 == 0 or done == len(source)):
            progress(done, len(source))
    return dict(sorted(bad.items()))
