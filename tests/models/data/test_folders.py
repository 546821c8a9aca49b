"""Class folders, tars and zips of them."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from models.data.folders import place
from models.data.sources import DataError, Source, UnreadableImageError, open_source
from models.data.splits import published
from tests.models.data.pictures import class_folders, encode, picture, write


def make_tar(folder: Path, tar: Path, mode: str = "w", prefix: str = "set") -> Path:
    with tarfile.open(tar, mode) as archive:  # type: ignore[call-overload]
        archive.add(folder, prefix)
    return tar


def make_zip(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"set/{file.relative_to(folder)}")
    return path


def same(a: Source, b: Source) -> bool:
    pixels = all(np.array_equal(a.read(i), b.read(i)) for i in range(len(a)))
    return a.ids == b.ids and a.classes == b.classes and np.array_equal(a.labels, b.labels) and pixels


def test_folder_tar_and_zip_of_it_are_the_same_source(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set")
    source = open_source(folder)
    assert source.name == "set"
    assert source.classes == ("barn", "port", "zoo")
    assert source.ids[0] == "barn/barn_0.png"
    assert source.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert source.splits is None
    assert np.array_equal(source.read(5), picture(1001))
    for other in (make_tar(folder, tmp_path / "set.tar"), make_zip(folder, tmp_path / "set.zip")):
        opened = open_source(other)
        assert same(source, opened)
        assert opened.digest() == source.digest()


def test_digest_sees_pixels_labels_and_names(tmp_path: Path) -> None:
    digest = open_source(class_folders(tmp_path / "a")).digest()
    assert open_source(class_folders(tmp_path / "b")).digest() == digest
    write(tmp_path / "b/zoo/zoo_0.png", encode(picture(77)))
    assert open_source(tmp_path / "b").digest() != digest
    (tmp_path / "a/zoo/zoo_0.png").rename(tmp_path / "a/barn/zoo_0.png")
    assert open_source(tmp_path / "a").digest() != digest


def test_published_splits_are_read_off_the_folders(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        class_folders(tmp_path / "data/inner" / split, each=2)
    source = open_source(tmp_path / "data")
    assert source.classes == ("barn", "port", "zoo")
    assert source.splits is not None
    assert set(source.splits) == {"train", "val", "test"}
    only = open_source(tmp_path / "data", split="val")
    assert len(only) == 6
    assert all(i.startswith("validation/") for i in only.ids)
    with pytest.raises(DataError, match="no split dev-test"):
        open_source(tmp_path / "data", split="dev-test")


def test_one_split_alone_and_any_depth_under_a_class() -> None:
    placed = place(["x/train/n01/a/b/1.JPEG", "x/train/n02/2.JPEG"])
    assert [(p.label, p.split, p.id) for p in placed] == [
        ("n01", "train", "train/n01/a/b/1.JPEG"),
        ("n02", "train", "train/n02/2.JPEG"),
    ]


def test_classes_named_like_splits_among_others_are_classes() -> None:
    assert [p.label for p in place(["test/1.png", "track/2.png"])] == ["test", "track"]
    stations = ["train_station/1.png", "test_track/2.png", "train/3.png", "bus/4.png"]
    assert [p.label for p in place(stations)] == ["train_station", "test_track", "train", "bus"]


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        (("train", "test", "extra"), "test, train are splits, not classes beside extra"),
        (("Training", "validation", "field"), "Training, validation are"),
        (
            ("seg_train", "seg_test", "seg_pred"),
            "seg_test, seg_train are splits, not classes beside seg_pred",
        ),
        (("train_images", "val_images"), "train_images, val_images are splits, not classes:"),
    ],
)
def test_splits_that_would_pass_for_classes_are_refused(folders: tuple[str, ...], says: str) -> None:
    with pytest.raises(DataError, match=says):
        place([f"{folder}/barn/1.png" for folder in folders])


def unlabelled(root: Path, split: str, folder: str) -> None:
    for i in range(3):
        write(root / split / folder / f"{i}.png", encode(picture(5000 + i)))


def test_held_out_pictures_of_no_class_of_train_are_refused(tmp_path: Path) -> None:
    """Tiny-ImageNet as it is downloaded: `val/images`, `test/images`."""
    class_folders(tmp_path / "train")
    unlabelled(tmp_path, "test", "images")
    with pytest.raises(DataError, match="test/images is of no class that train has"):
        open_source(tmp_path)
    unlabelled(tmp_path, "val", "images")
    with pytest.raises(DataError, match="is of no class that train has"):
        open_source(tmp_path)


@pytest.mark.parametrize(("bare", "good"), [("test", "val"), ("val", "test")])
def test_a_split_without_labels_beside_one_with_some_is_left_out(
    tmp_path: Path, bare: str, good: str
) -> None:
    for split in ("train", good):
        class_folders(tmp_path / split, each=2)
    unlabelled(tmp_path, bare, "unknown")
    source = open_source(tmp_path)
    assert source.classes == ("barn", "port", "zoo")
    assert set(source.splits or ()) == {"train", good}
    assert len(source) == 12
    assert source.skipped.counts == {"pictures of a split without labels": 3}
    held_out = published(source)
    assert held_out is not None
    assert held_out[2] == good


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([], "no JPEG"),
        (["1.png", "barn/2.png"], "no class folder"),
        (["val/ILSVRC_1.JPEG", "train/n01/1.JPEG"], "synset folders"),
    ],
)  # fmt: skip
def test_what_is_no_tree_of_classes_is_refused(names: list[str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        place(names)


def test_resource_forks_and_hidden_files_are_ignored(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set")
    write(folder / "barn/._barn_0.png", b"\0\5\x16\7" * 20)
    write(folder / "__MACOSX/barn/barn_0.png", b"x")
    write(folder / ".cache/port/1.png", b"x")
    write(folder / "barn/notes.txt", b"read me")
    source = open_source(make_tar(folder, tmp_path / "set.tar"))
    assert len(source) == 12
    assert source.skipped.counts == {"files that are no pictures": 1}


def test_unreadable_pictures_are_listed_and_only_too_many_are_an_error(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set")
    whole = (folder / "zoo/zoo_1.png").read_bytes()
    write(folder / "zoo/zoo_1.png", whole[: len(whole) // 2])
    write(folder / "port/port_0.png", b"")
    source = open_source(folder)
    assert len(source) == 10
    assert [name for name, _ in source.skipped.unreadable] == ["port/port_0.png", "zoo/zoo_1.png"]
    assert "2 unreadable" in str(source.skipped)
    with pytest.raises(DataError, match=r"more than 1 .*zoo_1"):
        open_source(folder, max_unreadable=1)
    unchecked = open_source(folder, check="none")
    with pytest.raises(UnreadableImageError, match=r"port/port_0\.png: empty file"):
        unchecked.read(unchecked.ids.index("port/port_0.png"))


def test_a_compressed_tar_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "set")
    with pytest.raises(DataError, match=r"gunzip set\.tar\.gz"):
        open_source(make_tar(folder, tmp_path / "set.tar.gz", "w:gz"))


def test_hostile_tar_members_are_left_out_and_nothing_is_written(tmp_path: Path) -> None:
    data = encode(picture(1))
    tar = tmp_path / "evil.tar"
    with tarfile.open(tar, "w") as archive:
        for name in ("../../up/1.png", "/etc/abs.png", "barn/1.png", "port/2.png", "barn/1.png"):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            link = tarfile.TarInfo(f"barn/link{kind!r}.png")
            link.type, link.linkname = kind, "/etc/passwd"
            archive.addfile(link)
    source = open_source(tar)
    assert source.ids == ("barn/1.png", "port/2.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.tar"]


def test_a_truncated_tar_reads_what_is_whole(tmp_path: Path) -> None:
    tar = make_tar(class_folders(tmp_path / "set"), tmp_path / "set.tar")
    source = open_source(tar, check="none")
    with tar.open("r+b") as file:
        file.truncate(512 * 8)
    with pytest.raises(UnreadableImageError, match="tar ends"):
        source.read(len(source) - 1)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("name", ["zoo/caf\udce9.png", "caf\udce9/1.png"])
def test_names_that_nothing_could_be_written_with_are_refused_at_once(tmp_path: Path, name: str) -> None:
    """Latin-1's e with an accent, as old archives have it; the same in UTF-8 is a name like any other."""
    folder = class_folders(tmp_path / "set")
    write(folder / "zoo é/café ü.png", encode(picture(8)))
    assert "zoo é" in open_source(folder).classes
    write(folder / name, encode(picture(9)))
    with pytest.raises(DataError, match=r"caf\\udce9.* is not UTF-8: rename"):
        open_source(folder, check="none")
    with pytest.raises(DataError, match="is not UTF-8"):
        open_source(make_tar(folder, tmp_path / "set.tar"), check="none")


def test_linked_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    real = class_folders(tmp_path / "elsewhere", each=2)
    for split in ("train", "val"):
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / split).symlink_to(real)
    (real / "barn/again").symlink_to(real)
    (real / "port/over").symlink_to(real / "zoo")
    (real / "zoo/back").symlink_to(real / "port")
    source = open_source(tmp_path / "set")
    assert (
        sum(i.startswith("val/") for i in source.ids) == sum(i.startswith("train/") for i in source.ids) == 10
    )
    assert "train/zoo/back/port_0.png" in source.ids


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK\3\4 broken"])
def test_a_file_that_is_no_data_set_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(content)
    with pytest.raises(DataError, match="neither a folder nor a tar"):
        open_source(path)


def test_missing_empty_and_single_class_data_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_source(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no JPEG"):
        open_source(tmp_path / "empty")
    with pytest.raises(DataError, match="one class only"):
        open_source(class_folders(tmp_path / "one", classes=("barn",)))
    write(tmp_path / "nested/n01440764.tar", b"x")
    with pytest.raises(DataError, match="tars within"):
        open_source(tmp_path / "nested")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_member_of_a_zip_is_one_unreadable_picture(tmp_path: Path, method: int) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(class_folders(tmp_path / "set").rglob("*.png")):
            archive.write(file, f"set/{file.relative_to(tmp_path / 'set')}")
    content = bytearray(path.read_bytes())
    start = content.find(b"set/barn/barn_0.png") + len("set/barn/barn_0.png") + 20
    content[start : start + 60] = bytes(range(100, 160))
    path.write_bytes(content)
    source = open_source(path)
    for i, name in enumerate(source.ids):
        if name.endswith("barn_0.png"):
            with pytest.raises(UnreadableImageError):
                source.read(i)
        else:
            source.read(i)


def test_archives_that_cannot_be_opened_are_refused(tmp_path: Path) -> None:
    path = make_zip(class_folders(tmp_path / "set"), tmp_path / "set.zip")
    content = bytearray(path.read_bytes())
    content[content.find(b"PK\x01\x02") + 6] = 90  # a version of zip that is none yet
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"set\.zip"):
        open_source(path)
