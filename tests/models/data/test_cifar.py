"""CIFAR in every form it is passed around in."""

from __future__ import annotations

import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from models.data.sources import DataError, open_source
from tests.models.data.pictures import picture

TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
Pixels = npt.NDArray[np.uint8]


def images(n: int, seed: int) -> Pixels:
    return np.stack([picture(seed + i, 32, 32) for i in range(n)])


def flat(pixels: Pixels) -> Pixels:
    return pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)


def dump(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol=2))


def python_version(folder: Path) -> tuple[Pixels, Pixels]:
    train, test = images(20, 0), images(10, 500)
    labels = [i % 10 for i in range(10)]
    for batch in (1, 2):
        part = train[(batch - 1) * 10 : batch * 10]
        dump(folder / f"data_batch_{batch}", {b"data": flat(part), b"labels": labels, b"batch_label": b"x"})
    dump(folder / "test_batch", {b"data": flat(test), b"labels": labels})
    dump(folder / "batches.meta", {b"label_names": [name.encode() for name in TEN]})
    return train, test


def test_the_python_version(tmp_path: Path) -> None:
    train, test = python_version(tmp_path / "cifar-10-batches-py")
    source = open_source(tmp_path / "cifar-10-batches-py")
    assert source.classes == TEN
    assert np.array_equal(np.stack([source.read(i) for i in source.in_split("train")]), train)
    assert np.array_equal(np.stack([source.read(i) for i in source.in_split("test")]), test)
    assert source.labels.tolist() == [i % 10 for i in range(30)]
    with tarfile.open(tmp_path / "cifar-10-python.tar", "w") as archive:
        archive.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    assert open_source(tmp_path / "cifar-10-python.tar").digest() == source.digest()


def test_the_binary_version_of_both(tmp_path: Path) -> None:
    pixels = images(10, 0)
    labels = np.arange(10, dtype=np.uint8)[:, None]
    for base in ("data_batch_1.bin", "test_batch.bin"):
        (tmp_path / "ten").mkdir(exist_ok=True)
        (tmp_path / "ten" / base).write_bytes(np.concatenate([labels, flat(pixels)], axis=1).tobytes())
    (tmp_path / "ten/batches.meta.txt").write_text("\n".join(TEN) + "\n\n")
    ten = open_source(tmp_path / "ten", split="test")
    assert np.array_equal(np.stack([ten.read(i) for i in range(10)]), pixels)
    assert ten.labels.tolist() == list(range(10))

    (tmp_path / "hundred").mkdir()
    for base in ("train.bin", "test.bin"):
        rows = np.concatenate([labels * 0 + 3, labels[::-1], flat(pixels)], axis=1)
        (tmp_path / "hundred" / base).write_bytes(rows.tobytes())
    (tmp_path / "hundred/coarse_label_names.txt").write_text("\n".join("abcd"))
    (tmp_path / "hundred/fine_label_names.txt").write_text("\n".join(TEN))
    hundred = open_source(tmp_path / "hundred", split="train")
    assert hundred.labels.tolist() == list(range(9, -1, -1))


def test_cifar100_pickles_with_classes_out_of_order(tmp_path: Path) -> None:
    pixels = images(4, 0)
    for base in ("train", "test"):
        batch = {b"data": flat(pixels), b"fine_labels": [0, 1, 2, 0], b"coarse_labels": [0] * 4}
        dump(tmp_path / base, batch)
    dump(
        tmp_path / "meta", {b"fine_label_names": [b"whale", b"apple", b"man"], b"coarse_label_names": [b"x"]}
    )
    source = open_source(tmp_path, split="test")
    assert source.classes == ("apple", "man", "whale")
    assert [source.classes[k] for k in source.labels] == ["whale", "apple", "man", "whale"]


def test_mosaics_and_the_npz_cut_from_them_agree(tmp_path: Path) -> None:
    folder = tmp_path / "mosaics"
    folder.mkdir()
    arrays: dict[str, Any] = {"classes": np.array(["cat", "dog"])}
    for split, n in (("train", 100), ("test", 50)):
        pixels = images(2 * n, n)
        for k, name in enumerate(("cat", "dog")):
            rows = pixels[k * n : (k + 1) * n].reshape(n // 50, 50, 32, 32, 3)
            mosaic = rows.swapaxes(1, 2).reshape(n // 50 * 32, 50 * 32, 3)
            Image.fromarray(mosaic).save(folder / f"{split}_{name}.webp", lossless=True)
        arrays |= {f"x_{split}": pixels, f"y_{split}": np.repeat([0, 1], n)}
    (folder / "unpack.py").write_text("# cuts the mosaics\n")
    np.savez(tmp_path / "cifar.npz", **arrays)
    np.savez(tmp_path / "keras.npz", **{k: v[:, None] if k[0] == "y" else v for k, v in arrays.items()})
    assert (
        open_source(tmp_path / "keras.npz").labels.tolist()
        == open_source(tmp_path / "cifar.npz").labels.tolist()
    )
    cut, packed = open_source(folder), open_source(tmp_path / "cifar.npz")
    assert cut.classes == packed.classes == ("cat", "dog")
    assert np.array_equal(cut.labels, packed.labels)
    assert cut.splits == packed.splits
    assert all(np.array_equal(cut.read(i), packed.read(i)) for i in range(len(cut)))


class Runs:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


def test_a_batch_that_runs_code_is_refused_before_it_does(tmp_path: Path) -> None:
    python_version(tmp_path / "cifar")
    dump(tmp_path / "cifar/data_batch_1", {b"data": Runs(f"touch {tmp_path}/ran")})
    with pytest.raises(DataError, match=r"asks for posix\.system: refused"):
        open_source(tmp_path / "cifar")
    assert not (tmp_path / "ran").exists()


def test_damaged_batches_are_refused(tmp_path: Path) -> None:
    python_version(tmp_path / "cifar")
    whole = (tmp_path / "cifar/test_batch").read_bytes()
    (tmp_path / "cifar/test_batch").write_bytes(whole[:100])
    with pytest.raises(DataError, match="damaged"):
        open_source(tmp_path / "cifar")
    dump(tmp_path / "cifar/test_batch", {b"data": np.zeros((2, 99), np.uint8), b"labels": [0, 1]})
    with pytest.raises(DataError, match="3072"):
        open_source(tmp_path / "cifar")
    dump(tmp_path / "cifar/test_batch", {b"data": flat(images(2, 0)), b"labels": [0, 10]})
    with pytest.raises(DataError, match="label outside"):
        open_source(tmp_path / "cifar")
    (tmp_path / "cifar/test_batch").unlink()
    with pytest.raises(DataError, match="test_batch is missing"):
        open_source(tmp_path / "cifar")


def test_an_npz_of_something_else_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", weights=np.zeros(3))
    with pytest.raises(DataError, match=r"no \.npz of"):
        open_source(tmp_path / "a.npz")
    np.savez(
        tmp_path / "b.npz",
        classes=np.array(["a", "b"]),
        x_train=np.zeros((2, 8, 8)),
        y_train=np.array([0, 1]),
    )
    with pytest.raises(DataError, match=r"not \(n, H, W, 3\) uint8"):
        open_source(tmp_path / "b.npz")


def test_the_whole_of_cifar10(data_folder: Path) -> None:
    source = open_source(data_folder / "cifar10", split="train")
    assert len(source) == 50_000
    assert source.classes == TEN
    assert np.bincount(source.labels).tolist() == [5000] * 10
    sample = np.stack([source.read(i) for i in range(0, 50_000, 10)]) / 255
    assert sample.mean(axis=(0, 1, 2)) == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.01)
