"""What a reading finds, what it refuses, and that the same content always makes the same bytes."""

import hashlib
import json
import random
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import (
    DatasetRefused,
    EmptyClasses,
    LeakingSplits,
    MissingPictures,
    MixedBands,
    OneClass,
    UnknownLabels,
    UnknownLayout,
    UnreadablePictures,
    UnsafeNames,
)
from models.data.sources import open_source
from models.data.splits import published
from tests.archives import folders, split_folders, tar, tar_gz, zipped
from tests.imagery import geotiff, scene
from tests.models.data.fmow_tree import write_fmow_tree
from tests.models.data.pictures import encode, picture
from tests.workers.reading.reader import read_archive, read_folder

GOOD = folders()
SPLIT = split_folders()


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = read_archive(tmp_path_factory.mktemp("first"), tar(SPLIT))
    return str(found["content_sha256"])


@settings(max_examples=settings().max_examples // 3)
@given(
    order=st.randoms(use_true_random=False),
    mtime=st.integers(0, 2**31),
    form=st.sampled_from(["tar", "tar.gz", "zip", "folder"]),
    prefix=st.sampled_from(["", "set/", "a/b/"]),
    noise=st.booleans(),
)
def test_neither_order_times_container_nor_wrapping_change_the_hash(
    tmp_path_factory: pytest.TempPathFactory,
    order: random.Random,
    mtime: int,
    form: str,
    prefix: str,
    noise: bool,
    expected: str,
) -> None:
    scratch = tmp_path_factory.mktemp("same")
    files = SPLIT
    names = list(files)
    order.shuffle(names)
    packed = {f"{prefix}{name}": files[name] for name in names}
    if noise:
        packed |= {f"{prefix}.DS_Store": b"x", "__MACOSX/._a.png": b"y", f"{prefix}notes.txt": b"z"}
    if form == "folder":
        found = read_folder(scratch, tree(scratch / "root", packed))
    else:
        pack = {"tar": lambda f: tar(f, mtime), "tar.gz": tar_gz, "zip": zipped}[form]
        found = read_archive(scratch, pack(packed))
    assert found["content_sha256"] == expected
    shutil.rmtree(scratch)


@settings(max_examples=settings().max_examples // 5)
@given(st.data())
def test_any_change_of_content_changes_the_hash(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    scratch = tmp_path_factory.mktemp("other")
    files = dict(GOOD)
    name = data.draw(st.sampled_from(sorted(files)))
    change = data.draw(st.sampled_from(["pixels", "name", "class", "gone"]))
    content = files.pop(name)
    if change == "pixels":
        files[name] = encode(picture(999_999))
    elif change == "name":
        files[name.replace(".png", "-b.png")] = content
    elif change == "class":
        files[name.replace("forest", "x").replace("harbor", "forest").replace("x", "harbor") + ".png"] = (
            content
        )
    found = read_archive(scratch, tar(files))
    assert found["content_sha256"] != read_archive(scratch, tar(GOOD))["content_sha256"]
    shutil.rmtree(scratch)


def test_the_hash_is_of_the_snapshot_and_training_reads_it(tmp_path: Path) -> None:
    files = split_folders()
    found = read_archive(tmp_path, zipped(files))
    snapshot = found["at"] / "snapshot.tar"
    assert hashlib.sha256(snapshot.read_bytes()).hexdigest() == found["content_sha256"]
    source = open_source(snapshot)
    parts = published(source)
    assert parts is not None
    learns, held_out, name = parts
    assert (len(learns), len(held_out), name) == (8, 4, "test")
    # the digest that cards hold is that of the archive itself
    archive = tmp_path / "set.tar"
    archive.write_bytes(tar(files))
    assert source.digest() == open_source(archive).digest()
    lines = [json.loads(line) for line in (found["at"] / "inventory.jsonl").read_text().splitlines()]
    assert [line["picture"] for line in lines] == sorted(files)
    assert {line["sha256"] for line in lines} == {hashlib.sha256(data).hexdigest() for data in files.values()}


def test_a_csv_and_a_geojson_list_pictures(tmp_path: Path) -> None:
    files = split_folders()
    names = list(files)
    flat = {f"images/{k:02d}.png": files[name] for k, name in enumerate(names)}
    rows = [(f"images/{k:02d}.png", name.split("/")[1], name.split("/")[0]) for k, name in enumerate(names)]
    table = "path,label,split\n" + "".join(f"{path},{label},{split}\n" for path, label, split in rows)
    features = [
        {
            "type": "Feature",
            "geometry": None,
            "properties": {"Image": path, "Class": label, "Split": split},
        }
        for path, label, split in rows
    ]
    geojson = json.dumps({"type": "FeatureCollection", "features": features})
    listed = read_archive(
        tmp_path, tar({**flat, "labels.csv": table.encode(), "x.png": next(iter(files.values()))})
    )
    assert (listed["form"], listed["n_train"], listed["n_val"], listed["n_test"]) == ("table", 8, 4, 4)
    assert listed["summary"]["ignored"]["pictures not listed"] == 1
    other = read_archive(tmp_path, zipped({**flat, "labels.geojson": geojson.encode()}))
    assert other["content_sha256"] == listed["content_sha256"]
    # one list for each split, called after it
    apart = {
        f"{split}.csv": ("file,category\n" + "".join(f"{p},{c}\n" for p, c, s in rows if s == split)).encode()
        for split in ("train", "val", "test")
    }
    assert read_archive(tmp_path, tar({**flat, **apart}))["content_sha256"] == listed["content_sha256"]
    root = tree(tmp_path / "root", {**flat, "labels.csv": table.encode(), "private/other.png": b""})
    only = read_folder(tmp_path, root, table=str(root / "labels.csv"))
    assert only["content_sha256"] == listed["content_sha256"]


@pytest.mark.parametrize(
    ("table", "problem", "said"),
    [
        ("path,label\na/0.png,forest\nmissing.png,harbor\n", MissingPictures, "missing.png"),
        ("path,label\n../up.png,forest\n", UnsafeNames, "climbs out"),
        ("path,label\n/etc/passwd,forest\n", UnsafeNames, "absolute"),
        ("path,label\na/0.png,forest\na/0.png,harbor\n", UnsafeNames, "twice"),
        ("path,label\na/0.png,\n", UnknownLayout, "no label"),
        ("path,label\na/0.png,../x\n", UnknownLabels, "name of a class"),
        ("path,label,split\na/0.png,forest,nowhere\n", UnknownLayout, "no split"),
        ("path,label,split\na/0.png,forest,train\na/1.png,harbor,\n", UnknownLayout, "some have none"),
        ("path,label\na/0.png,train\na/1.png,test\n", UnknownLabels, "like splits"),
    ],
)
def test_lists_that_cannot_be_right(tmp_path: Path, table: str, problem: Any, said: str) -> None:
    files = {f"a/{k}.png": encode(picture(k)) for k in range(4)}
    with pytest.raises(problem, match=said):
        read_archive(tmp_path, tar({**files, "labels.csv": table.encode()}))


def test_an_fmow_tree(tmp_path: Path) -> None:
    root = write_fmow_tree(tmp_path / "fmow", 1, 0)
    found = read_folder(tmp_path, root)
    assert found["form"] == "fmow"
    assert len(found["classes"]) == 62
    assert (found["n_train"], found["n_val"]) == (62, 62)
    assert found["summary"]["gsd_m"]["median"] == 0.5
    ours, theirs = open_source(found["at"] / "snapshot.tar"), open_source(root)
    assert ours.places == theirs.places
    assert ours.digest() == theirs.digest()
    packed = {
        path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }
    assert read_archive(tmp_path, tar(packed))["content_sha256"] == found["content_sha256"]


def test_geotiffs_keep_their_place_and_say_their_gsd(tmp_path: Path) -> None:
    files = {
        f"{name}/{k}.tif": geotiff(scene(16, 16, bands=4, seed=10 * n + k).astype(np.uint16) * 9, 0.6)
        for n, name in enumerate(("forest", "harbor"))
        for k in range(2)
    }
    found = read_archive(tmp_path, tar(files))
    assert found["summary"]["bands"] == {"4": 4}
    assert found["summary"]["types"] == {"uint16": 4}
    spread = found["summary"]["gsd_m"]
    assert spread["pictures"] == 4
    assert spread["median"] == pytest.approx(0.6, rel=2e-3)


def test_one_class(tmp_path: Path) -> None:
    with pytest.raises(OneClass):
        read_archive(tmp_path, tar(folders(("forest",))))


def test_empty_classes(tmp_path: Path) -> None:
    with pytest.raises(EmptyClasses, match="runway"):
        read_archive(tmp_path, tar({**GOOD, "runway/notes.txt": b""}))
    for k in range(2):
        root = tree(tmp_path / str(k), GOOD if k else {f"set/{name}": data for name, data in GOOD.items()})
        (root / ("runway" if k else "set/runway")).mkdir()
        with pytest.raises(EmptyClasses, match="runway"):
            read_folder(tmp_path, root)
    with pytest.raises(EmptyClasses, match="No picture of 1 classes can be read"):
        read_archive(tmp_path, tar({**GOOD, "runway/a.png": b"broken"}))
    with pytest.raises(EmptyClasses, match="none to learn from"):
        read_archive(tmp_path, tar({**split_folders(), "val/runway/a.png": encode(picture(7))}))


def test_classes_that_were_asked_for(tmp_path: Path) -> None:
    assert read_archive(tmp_path, tar(GOOD), classes=["harbor", "forest"])["classes"] == ["forest", "harbor"]
    with pytest.raises(UnknownLabels, match="harbor"):
        read_archive(tmp_path, tar(GOOD), classes=["forest", "port"])
    with pytest.raises(EmptyClasses, match="port"):
        read_archive(tmp_path, tar(GOOD), classes=["forest", "harbor", "port"])


def test_splits_beside_classes(tmp_path: Path) -> None:
    with pytest.raises(UnknownLayout, match="beside classes"):
        read_archive(tmp_path, tar({**GOOD, "train/a.png": encode(picture(3))}))


@pytest.mark.parametrize("exact", [True, False])
def test_splits_that_leak(tmp_path: Path, exact: bool) -> None:
    files = dict(SPLIT)
    shown = picture(77, 96, 80)
    files["train/forest/0.png"] = encode(shown)
    files["val/forest/again.png"] = encode(shown) if exact else encode(shown, "JPEG", quality=95)
    with pytest.raises(LeakingSplits) as caught:
        read_archive(tmp_path, tar(files))
    (group,) = caught.value.extra["duplicates"]
    assert group["pictures"] == ["train/forest/0.png", "val/forest/again.png"]
    assert group["exact"] is exact
    allowed = read_archive(tmp_path, tar(files), tolerance={"max_leaks": 1})
    assert allowed["summary"]["duplicates"]["across_splits"] == 1


def test_the_same_picture_in_two_classes_is_a_warning(tmp_path: Path) -> None:
    found = read_archive(tmp_path, tar({**GOOD, "harbor/again.png": GOOD["forest/1.png"]}))
    assert found["warnings"] == ["same_picture_in_two_classes"]
    assert found["summary"]["duplicates"]["of_several_classes"] == 1


def test_mixed_numbers_of_bands(tmp_path: Path) -> None:
    grey = encode(picture(5)[:, :, 0])
    with pytest.raises(MixedBands) as caught:
        read_archive(tmp_path, tar({**GOOD, "forest/grey.png": grey}))
    assert caught.value.extra["bands"] == {"1": 1, "3": 8}
    assert caught.value.extra["for_instance"] == ["forest/grey.png"]
    found = read_archive(tmp_path, tar({**GOOD, "forest/grey.png": grey}), tolerance={"mixed_bands": True})
    assert found["warnings"] == ["mixed_bands"]


def test_corrupt_pictures_are_listed_and_left_out_up_to_a_limit(tmp_path: Path) -> None:
    whole = GOOD["forest/0.png"]
    broken = {"forest/cut.png": whole[:200], "harbor/text.png": b"no picture", "harbor/empty.png": b""}
    found = read_archive(tmp_path, tar({**GOOD, **broken}))
    assert {entry["name"] for entry in found["summary"]["unreadable"]["listed"]} == set(broken)
    assert found["warnings"] == ["unreadable_pictures"]
    assert found["content_sha256"] == read_archive(tmp_path, tar(GOOD))["content_sha256"]
    with pytest.raises(UnreadablePictures) as caught:
        read_archive(tmp_path, tar({**GOOD, **broken}), tolerance={"max_unreadable": 2})
    assert {entry["name"] for entry in caught.value.extra["unreadable"]} == set(broken)


def test_a_picture_that_unpacks_to_too_much_is_unreadable(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))

    header = struct.pack(">LLBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    found = read_archive(tmp_path, tar({**GOOD, "forest/bomb.png": bomb}))
    (entry,) = found["summary"]["unreadable"]["listed"]
    assert "pixels" in entry["reason"]


def test_an_archive_of_nothing(tmp_path: Path) -> None:
    for content in (tar({}), zipped({}), tar({"a.txt": b"x"})):
        with pytest.raises(DatasetRefused):
            read_archive(tmp_path, content)
