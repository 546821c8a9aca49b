"""Archives that are after the server: nothing is written outside, nothing is unpacked without end."""

import gzip
import io
import json
import os
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import (
    ArchiveBomb,
    ArchiveRefused,
    DatasetRefused,
    DatasetTooLarge,
    UnknownLayout,
    UnsafeNames,
)
from app.labels.names import UNSEEN
from tests.archives import folders, member, tar, tar_gz, zipped
from tests.workers.reading.reader import read_archive, read_folder
from workers.reading import archives, heap
from workers.reading.names import clean_name

GOOD = folders()
MEBIBYTE = 1024 * 1024


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize(
    "name",
    [
        "../../escaped.png",
        "forest/../../escaped.png",
        "/tmp/escaped.png",
        "C:/escaped.png",
        "forest\\escaped.png",
        "forest/a\x01.png",
        "forest/\u202egnp.a.png",
        "forest/a\nb.png",
        f"forest/{'x' * 300}.png",
    ],
)
@pytest.mark.parametrize("pack", [tar, tar_gz, zipped])
def test_names_that_lead_out_or_cannot_be_seen(tmp_path: Path, pack: Any, name: str) -> None:
    with pytest.raises(UnsafeNames) as caught:
        read_archive(tmp_path, pack({**GOOD, name: b"x"}))
    assert not any(c in caught.value.detail for c in "\x01\n\u202e")
    assert not Path("/tmp/escaped.png").exists()
    assert all("escaped" not in path.name for path in everything(tmp_path))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(UnsafeNames, match="plain files only"):
        read_archive(tmp_path, tar(GOOD, extra=[member("forest/z.png", kind, "/etc/passwd")]))


def test_links_in_a_zip(tmp_path: Path) -> None:
    buffer = io.BytesIO(zipped(GOOD))
    with zipfile.ZipFile(buffer, "a") as archive:
        link = zipfile.ZipInfo("forest/z.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UnsafeNames, match="plain files only"):
        read_archive(tmp_path, buffer.getvalue())


def test_a_file_that_is_there_twice(tmp_path: Path) -> None:
    twice = tarfile.TarInfo("./forest//0.png")
    with pytest.raises(UnsafeNames, match="twice"):
        read_archive(tmp_path, tar(GOOD, extra=[twice]))
    # the same letter, composed and not
    with pytest.raises(UnsafeNames, match="twice"):
        read_archive(tmp_path, zipped({**GOOD, "forest/\u00e9.png": b"", "forest/e\u0301.png": b""}))


def test_a_zip_that_is_encrypted(tmp_path: Path) -> None:
    content = bytearray(zipped(GOOD))
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(signature)
        while start >= 0:
            content[start + at] |= 1
            start = content.find(signature, start + 4)
    with pytest.raises(ArchiveRefused, match="encrypted"):
        read_archive(tmp_path, bytes(content))


@pytest.fixture
def _little_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (archives, heap):
        monkeypatch.setattr(module, "HARMLESS_BYTES", 4 * MEBIBYTE)


@pytest.mark.usefixtures("_little_is_harmless")
def test_a_zip_that_declares_too_much(tmp_path: Path) -> None:
    with pytest.raises(ArchiveBomb):
        read_archive(tmp_path, zipped({**GOOD, "forest/blank.png": bytes(16 * MEBIBYTE)}))
    blank = zipped({**GOOD, "forest/blank.png": bytes(3 * MEBIBYTE)})
    with pytest.raises(DatasetTooLarge):
        read_archive(tmp_path, blank, max_bytes=2 * MEBIBYTE)


def test_a_zip_that_holds_more_than_it_declares(tmp_path: Path) -> None:
    content = zipped({**GOOD, "forest/blank.png": bytes(50_000_000)})
    lie = content.replace(struct.pack("<L", 50_000_000), struct.pack("<L", 1000))
    assert lie != content
    found = read_archive(tmp_path, lie, max_bytes=1_000_000)
    # what was declared is taken, and is no picture
    assert [entry["name"] for entry in found["summary"]["unreadable"]["listed"]] == ["forest/blank.png"]


@pytest.mark.usefixtures("_little_is_harmless")
def test_a_gzip_without_end(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(MEBIBYTE)) for _ in range(64)) + packer.flush()
    with pytest.raises(ArchiveBomb):
        read_archive(tmp_path, bomb)
    sizes = [path.stat().st_size for path in everything(tmp_path) if path.is_file()]
    assert sum(sizes) < 32 * MEBIBYTE


def test_too_many_files_of_no_size(tmp_path: Path) -> None:
    many = {f"forest/{number}.txt": b"" for number in range(1200)}
    for pack in (tar, tar_gz, zipped):
        with pytest.raises(DatasetTooLarge, match="1000 files"):
            read_archive(tmp_path, pack(many))


def test_archives_within_archives_stay_closed(tmp_path: Path) -> None:
    with pytest.raises(UnknownLayout, match="unpack"):
        read_archive(tmp_path, tar({"forest/a.zip": zipped(GOOD), "harbor/b.tar": tar(GOOD)}))
    with pytest.raises(ArchiveRefused):
        read_archive(tmp_path, gzip.compress(tar_gz(GOOD)))
    found = read_archive(tmp_path, tar({**GOOD, "more.zip": zipped(GOOD)}))
    assert found["summary"]["ignored"] == {"archives within, not opened": 1}


def test_a_tar_that_claims_to_be_huge(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("forest/huge.txt")
    entry.size = 2**62
    with pytest.raises(DatasetRefused):
        read_archive(tmp_path, tar(GOOD, extra=[entry]))


def chained_names(count: int) -> bytes:
    """Long names of long names, each of which tarfile reads within the one before."""
    link = tarfile.TarInfo("././@LongLink")
    link.type, link.size = tarfile.GNUTYPE_LONGNAME, 5
    return count * (link.tobuf(tarfile.GNU_FORMAT) + b"a/b\0\0".ljust(512, b"\0"))


def chained_headers(count: int) -> bytes:
    record = b"11 foo=bar\n"
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, len(record)
    return count * (header.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0"))


@pytest.mark.parametrize("chain", [chained_names, chained_headers])
def test_a_tar_of_headers_within_headers(tmp_path: Path, chain: Callable[[int], bytes]) -> None:
    with pytest.raises(ArchiveRefused, match="damaged"):
        read_archive(tmp_path, chain(2000) + tar(GOOD))


def test_a_zip_of_a_later_version(tmp_path: Path) -> None:
    content = bytearray(zipped(GOOD))
    content[content.find(b"PK\x01\x02") + 6] = 90
    with pytest.raises(ArchiveRefused, match="version"):
        read_archive(tmp_path, bytes(content))


def test_a_damaged_member_is_one_unreadable_picture(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        content = bytearray(zipped(GOOD, compress_type=method))
        start = content.find(b"forest/0.png") + len("forest/0.png") + 20
        content[start : start + 60] = bytes(range(100, 160))
        found = read_archive(tmp_path, bytes(content), tolerance={"max_unreadable": 1})
        assert [entry["name"] for entry in found["summary"]["unreadable"]["listed"]] == ["forest/0.png"]


def test_more_boxes_than_files_are_allowed(tmp_path: Path) -> None:
    """A small file may name any number of them, and each is cut out of its picture."""
    boxes = [{"ID": k, "box": [k % 9, k % 7, 8, 8], "category": "zoo"} for k in range(1200)]
    described = json.dumps({"gsd": 1.0, "bounding_boxes": boxes}).encode()
    place = "train/zoo/zoo_0/zoo_0_0_rgb"
    with pytest.raises(DatasetTooLarge, match="1000 samples"):
        read_archive(tmp_path, tar({f"{place}.png": next(iter(GOOD.values())), f"{place}.json": described}))


@pytest.mark.parametrize("endless", ["9" * 400, "[" * 20_000 + "]" * 20_000])
def test_a_json_of_fmow_without_end_is_one_that_cannot_be_read(tmp_path: Path, endless: str) -> None:
    def described(label: str, side: str = "9", gsd: str = "1") -> bytes:
        box = f'{{"ID": 0, "category": "{label}", "box": [0, 0, 9, {side}]}}'
        return f'{{"gsd": {gsd}, "bounding_boxes": [{box}]}}'.encode()

    jsons = [described("zoo"), described("dam"), described("dam", gsd=endless), described("zoo", endless)]
    files: dict[str, bytes] = {}
    for number, (picture, of_it) in enumerate(zip(GOOD.values(), jsons, strict=False)):
        place = f"train/zoo/zoo_{number}/zoo_{number}_0_rgb"
        files |= {f"{place}.png": picture, f"{place}.json": of_it}
    found = read_archive(tmp_path, tar(files), tolerance={"max_unreadable": 2})
    unreadable = {one["name"] for one in found["summary"]["unreadable"]["listed"]}
    assert "train/zoo/zoo_3/zoo_3_0_rgb.json" in unreadable
    assert found["n_pictures"] + len(unreadable) == 4


def test_a_mapping_of_fmow_without_end_is_no_list(tmp_path: Path) -> None:
    files = {"test/0/0_0_rgb.png": GOOD["forest/0.png"], "test/0/0_0_rgb.json": b"{}"}
    files["test_gt_mapping.json"] = b"[" * 20_000 + b"]" * 20_000
    with pytest.raises(UnknownLayout, match="test_gt_mapping"):
        read_archive(tmp_path, tar(files))


@pytest.mark.parametrize("pack", [tar, tar_gz, zipped])
def test_an_archive_that_is_cut_short(tmp_path: Path, pack: Any) -> None:
    content = pack(GOOD)
    for share in (0.2, 0.35, 0.5):
        with pytest.raises(DatasetRefused):
            read_archive(tmp_path, content[: int(len(content) * share)])


@settings(max_examples=settings().max_examples // 2)
@given(data=st.data())
def test_damage_gives_a_dataset_or_a_problem(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    scratch = tmp_path_factory.mktemp("damage")
    outside = everything(scratch.parent)
    content = bytearray(data.draw(st.sampled_from([tar(GOOD), tar_gz(GOOD), zipped(GOOD)])))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    detail, found = "", None
    try:
        found = read_archive(scratch, bytes(content))
    except DatasetRefused as problem:
        detail = problem.detail
    assert is_seen(detail)
    if found is not None:
        assert found["n_pictures"] + found["summary"]["unreadable"]["pictures"] <= 2 * len(GOOD)
    assert {path for path in everything(scratch.parent) - outside if scratch not in path.parents} == set()


@given(st.text(max_size=60))
def test_a_clean_name_stays_inside_and_is_clean_already(name: str) -> None:
    try:
        clean = clean_name(name)
    except UnsafeNames as problem:
        clean, said = None, problem.detail
    if clean is None:
        assert is_seen(said)
        return
    assert clean_name(clean) == clean
    assert Path(os.path.normpath(Path("/root") / clean)).is_relative_to("/root")
    assert not clean.startswith("/")
    assert ".." not in clean.split("/")
    assert is_seen(clean)


def is_seen(text: str) -> bool:
    return not any(unicodedata.category(c) in UNSEEN for c in text)


def test_links_in_a_folder_lead_nowhere_else(tmp_path: Path) -> None:
    root, secret = tmp_path / "open", tmp_path / "secret.png"
    secret.write_bytes(next(iter(GOOD.values())))
    for name, content in GOOD.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    inside = read_folder(tmp_path, root)
    (root / "forest" / "linked.png").symlink_to(root / "harbor" / "0.png")
    (root / "forest" / "loop").symlink_to(root / "forest")
    linked = read_folder(tmp_path, root)
    assert linked["n_pictures"] == inside["n_pictures"] + 1
    (root / "forest" / "secret.png").symlink_to(secret)
    with pytest.raises(UnsafeNames, match="out of the folder"):
        read_folder(tmp_path, root)
    (root / "forest" / "secret.png").unlink()
    os.mkfifo(root / "forest" / "pipe.png")
    with pytest.raises(UnsafeNames, match="no plain file"):
        read_folder(tmp_path, root)
