"""CIFAR-10 and CIFAR-100: the official Python and binary versions, an .npz of arrays, and WebP mosaics."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, cast

import numpy as np

from models.data import pixels
from models.data.files import Files
from models.data.source import DataError, Indices, Pixels, Source

SIDE = 32
PIXELS = 3 * SIDE * SIDE

_Part = tuple[str, Pixels, Indices, list[str]]
"""One split's file: split, images (n, 32, 32, 3), labels (n,), ids."""


class ArrayReader:
    """Samples that lie decoded in memory, (n, H, W, 3) uint8."""

    def __init__(self, images: Pixels) -> None:
        self.images = images

    def pixels(self, i: int) -> Pixels:
        image: Pixels = self.images[i]
        return image

    def content(self, i: int) -> bytes:
        return self.pixels(i).tobytes()

    def stamp(self, i: int) -> str:
        return hashlib.sha256(self.content(i)).hexdigest()


def recognise(name: str, files: Files) -> Source | None:
    """A Source where `files` are one of CIFAR's forms, None where they are not. Raises DataError."""
    by_base = {PurePosixPath(n).name: n for n in files.names}
    if len(by_base) != len(files.names):
        return None
    bases = set(by_base)
    if "batches.meta" in bases or {"meta", "train", "test"} <= bases:
        return _python(name, files, by_base)
    if {"batches.meta.txt", "test_batch.bin"} <= bases or {"fine_label_names.txt", "test.bin"} <= bases:
        return _binary(name, files, by_base)
    if _are_mosaics(bases):
        return _mosaics(name, files, by_base)
    return None


def open_npz(name: str, data: bytes) -> Source:
    """Arrays x_train (n, H, W, 3) uint8, y_train (n,) or (n, 1), *_test, classes. Raises DataError."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            classes = [str(c) for c in arrays["classes"]]
            parts: list[_Part] = []
            for split in ("train", "val", "test"):
                if f"x_{split}" in arrays:
                    images, labels = arrays[f"x_{split}"], arrays[f"y_{split}"].astype(np.int64)
                    labels = labels.reshape(len(labels))  # Keras has (n, 1)
                    parts.append((split, images, labels, [f"{split}/{i:05d}" for i in range(len(labels))]))
    except (KeyError, ValueError, OSError, EOFError) as error:
        raise DataError(f"{name} is no .npz of x_train, y_train, x_test, y_test, classes: {error}") from error
    for split, images, labels, _ in parts:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or len(images) != len(labels):
            raise DataError(f"{name}: x_{split} is {images.shape} {images.dtype}, not (n, H, W, 3) uint8")
    return _join(name, classes, parts)


def _join(name: str, classes: Sequence[str], parts: Sequence[_Part]) -> Source:
    if not parts or len({part[1].shape[1:] for part in parts}) != 1:
        raise DataError(f"{name}: no images, or splits of different sizes")
    labels = np.concatenate([part[2] for part in parts])
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(classes):
        raise DataError(f"{name}: a label outside its {len(classes)} classes")
    order = sorted(range(len(classes)), key=classes.__getitem__)
    rank = np.argsort(np.array(order))
    return Source(
        name,
        [classes[k] for k in order],
        rank[labels].astype(np.int64),
        [i for part in parts for i in part[3]],
        ArrayReader(np.concatenate([part[1] for part in parts])),
        splits=[part[0] for part in parts for _ in part[3]],
    )


def _planes(flat: Pixels) -> Pixels:
    """(n, 3072) channel by channel to (n, 32, 32, 3)."""
    if flat.ndim != 2 or flat.shape[1] != PIXELS:
        raise DataError(f"CIFAR rows hold {PIXELS} values, these {flat.shape}")
    return np.ascontiguousarray(flat.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


class _ArraysOnly(pickle.Unpickler):
    """Unpickles what the official batches hold, NumPy arrays and plain values, and nothing that runs code."""

    def find_class(self, module: str, name: str) -> Any:
        rebuild = np.zeros(0, np.uint8).__reduce__()[0]
        allowed = {
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("numpy.core.multiarray", "_reconstruct"): rebuild,
            ("numpy._core.multiarray", "_reconstruct"): rebuild,
            ("_codecs", "encode"): _latin1,
        }
        if (module, name) not in allowed:
            raise DataError(f"a CIFAR batch asks for {module}.{name}: refused, it is not an official one")
        return allowed[module, name]


def _latin1(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes."""
    if encoding != "latin1":
        raise DataError(f"a CIFAR batch asks for the codec {encoding}: refused")
    return text.encode("latin1")


def _unpickle(data: bytes) -> dict[str, Any]:
    try:
        loaded = _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"a damaged CIFAR batch: {error}") from error
    if not isinstance(loaded, dict):
        raise DataError("a CIFAR batch that holds no dictionary")
    return {_text(key): value for key, value in loaded.items()}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _python(name: str, files: Files, by_base: dict[str, str]) -> Source:
    hundred = "batches.meta" not in by_base
    meta = _unpickle(files.read(by_base["meta" if hundred else "batches.meta"]))
    label_key = "fine_labels" if hundred else "labels"
    classes = [_text(c) for c in meta["fine_label_names" if hundred else "label_names"]]
    batches = ["train"] if hundred else sorted(b for b in by_base if b.startswith("data_batch_"))
    parts: list[_Part] = []
    for base in [*batches, "test" if hundred else "test_batch"]:
        if base not in by_base:
            raise DataError(f"{name}: {base} is missing")
        batch = _unpickle(files.read(by_base[base]))
        images = _planes(np.asarray(batch["data"], dtype=np.uint8))
        labels = np.asarray(batch[label_key], dtype=np.int64)
        split = "test" if base.startswith("test") else "train"
        parts.append((split, images, labels, [f"{base}/{i:05d}" for i in range(len(labels))]))
    return _join(name, classes, parts)


def _binary(name: str, files: Files, by_base: dict[str, str]) -> Source:
    hundred = "fine_label_names.txt" in by_base
    names = by_base["fine_label_names.txt" if hundred else "batches.meta.txt"]
    classes = files.read(names).decode().split()
    # CIFAR-100 puts the coarse label before the fine one.
    head = 2 if hundred else 1
    parts: list[_Part] = []
    for base in sorted(b for b in by_base if b.endswith(".bin")):
        raw = np.frombuffer(files.read(by_base[base]), dtype=np.uint8)
        if not raw.size or raw.size % (head + PIXELS):
            raise DataError(f"{name}: {base} is no whole number of {head + PIXELS}-byte records")
        rows = raw.reshape(-1, head + PIXELS)
        split = "test" if base.startswith("test") else "train"
        stem = base.removesuffix(".bin")
        ids = [f"{stem}/{i:05d}" for i in range(len(rows))]
        parts.append((split, _planes(rows[:, head:]), rows[:, head - 1].astype(np.int64), ids))
    return _join(name, classes, parts)


def _are_mosaics(bases: set[str]) -> bool:
    webp = {PurePosixPath(b).stem for b in bases if b.endswith(".webp")}
    train = {w.removeprefix("train_") for w in webp if w.startswith("train_")}
    test = {w.removeprefix("test_") for w in webp if w.startswith("test_")}
    return len(test) > 1 and train == test and len(webp) == 2 * len(test)


def _mosaics(name: str, files: Files, by_base: dict[str, str]) -> Source:
    """`{train,test}_CLASS.webp`: rows of 32 px images, all of one class."""
    classes = sorted(b[len("test_") : -len(".webp")] for b in by_base if b.startswith("test_"))
    parts: list[_Part] = []
    for split in ("train", "test"):
        for k, label in enumerate(classes):
            mosaic = pixels.decode(files.read(by_base[f"{split}_{label}.webp"]))
            rows, columns = mosaic.shape[0] // SIDE, mosaic.shape[1] // SIDE
            if mosaic.shape != (rows * SIDE, columns * SIDE, 3):
                raise DataError(f"{name}: {split}_{label}.webp is no mosaic of {SIDE} px images")
            images = mosaic.reshape(rows, SIDE, columns, SIDE, 3).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)
            labels = cast("Indices", np.full(len(images), k, dtype=np.int64))
            parts.append((split, images, labels, [f"{split}/{label}/{i:05d}" for i in range(len(images))]))
    return _join(name, classes, parts)
