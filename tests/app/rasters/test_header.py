"""Sizes are believed from the header alone, before anything is unpacked."""

import struct
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import (
    BadDtype,
    DecompressionBomb,
    NotATiff,
    ProblemError,
    RasterTooLarge,
    TruncatedRaster,
)
from app.rasters.header import check_header
from app.rasters.info import Limits
from tests.app.rasters.making import bare_tiff, noise, write_tiff

SHORT, LONG = 3, 4
SSHORT, SLONG, SLONG8 = 8, 9, 17


def tags(width: int, height: int, **more: int) -> list[tuple[int, int, list[int]]]:
    found = {256: width, 257: height, 258: 8, 259: 8, 277: 1, 278: height, 273: 200, 279: 10}
    found |= {int(k[1:]): v for k, v in more.items()}
    return [(tag, LONG, [value]) for tag, value in sorted(found.items())]


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_small_plain_image_passes_in_every_flavour(tmp_path: Path, big: bool, order: str) -> None:
    path = tmp_path / "plain.tif"
    path.write_bytes(bare_tiff(tags(8, 8), big=big, order=order, data=bytes(400)))
    check_header(path, Limits())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", NotATiff),
        (b"II", NotATiff),
        (b"not a tiff at all", NotATiff),
        (b"<VRTDataset rasterXSize='1'/>", NotATiff),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), NotATiff),
        (b"II\x2a\x00", TruncatedRaster),
        (b"II\x2a\x00\x08\x00\x00\x00", TruncatedRaster),
        (b"II\x2b\x00\x08\x00\x00\x00", TruncatedRaster),
        (b"MM\x00\x2a\xff\xff\xff\xff" + bytes(8), TruncatedRaster),
        (b"II\x2a\x00\x00\x00\x00\x00", TruncatedRaster),
        (bare_tiff(tags(0, 5)), TruncatedRaster),
        (bare_tiff(tags(100_000, 100_000)), DecompressionBomb),
        (bare_tiff(tags(16, 16, _322=65_520, _323=65_520, _324=0, _325=0)), DecompressionBomb),
        (bare_tiff(tags(16, 16, _322=0, _323=16, _324=0, _325=0)), TruncatedRaster),
        (bare_tiff(tags(600_000, 4, _278=4), data=bytes(4000)), RasterTooLarge),
        (bare_tiff(tags(8, 8, _277=65)), RasterTooLarge),
        (bare_tiff(tags(8, 8, _339=6)), BadDtype),
        (bare_tiff(tags(8, 8), data=b""), TruncatedRaster),
        (bare_tiff(tags(2000, 2000, _322=1, _323=1, _324=0, _325=0)), RasterTooLarge),
        (bare_tiff(tags(8, 400_000, _278=1), data=bytes(4000)), TruncatedRaster),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_refused(tmp_path: Path, content: bytes, problem: type[ProblemError]) -> None:
    path = tmp_path / "wrong.tif"
    path.write_bytes(content)
    with pytest.raises(problem):
        check_header(path, Limits())


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tag", [256, 257, 258, 277, 278])
def test_a_tag_that_stands_twice_is_refused(tmp_path: Path, tag: int, order: str, big: bool) -> None:
    twice = sorted([*tags(8, 8), (tag, LONG, [1])], key=lambda entry: entry[0])
    path = tmp_path / "twice.tif"
    path.write_bytes(bare_tiff(twice, big=big, order=order, data=bytes(400)))
    with pytest.raises(TruncatedRaster, match=f"tag {tag} twice"):
        check_header(path, Limits())


@pytest.mark.parametrize(
    ("kind", "big"), [(SSHORT, False), (SLONG, False), (SSHORT, True), (SLONG, True), (SLONG8, True)]
)
@pytest.mark.parametrize("tag", [254, 256, 277, 284, 322])
def test_a_tag_of_a_type_that_is_not_read_is_refused(tmp_path: Path, tag: int, kind: int, big: bool) -> None:
    signed = sorted([entry for entry in tags(8, 8) if entry[0] != tag] + [(tag, kind, [8])])
    path = tmp_path / "signed.tif"
    path.write_bytes(bare_tiff(signed, big=big, data=bytes(400)))
    with pytest.raises(TruncatedRaster, match=f"tag {tag} is of type {kind}"):
        check_header(path, Limits())


@pytest.mark.parametrize("values", [[], [8, 60_000]])
def test_a_size_is_one_number(tmp_path: Path, values: list[int]) -> None:
    several = [(tag, kind, values if tag == 278 else value) for tag, kind, value in tags(8, 8)]
    path = tmp_path / "several.tif"
    path.write_bytes(bare_tiff(several, data=bytes(400)))
    with pytest.raises(TruncatedRaster, match=f"tag 278 has {len(values)} values"):
        check_header(path, Limits())


def test_a_mask_is_held_to_the_same_limits(tmp_path: Path) -> None:
    first = bare_tiff(tags(8, 8), data=bytes(400))
    mask = bare_tiff(tags(8, 8, _254=4, _322=65_520, _323=65_520, _324=0, _325=0))
    # the first directory's link leads to the second, whose own offsets are inline
    link = 8 + 2 + 12 * len(tags(8, 8))
    joined = bytearray(first + mask[8:])
    joined[link : link + 4] = struct.pack("<I", len(first))
    path = tmp_path / "mask.tif"
    path.write_bytes(joined)
    with pytest.raises(DecompressionBomb):
        check_header(path, Limits())


def test_directories_in_a_circle_end(tmp_path: Path) -> None:
    content = bytearray(bare_tiff(tags(8, 8), data=bytes(400)))
    link = 8 + 2 + 12 * len(tags(8, 8))
    content[link : link + 4] = struct.pack("<I", 8)
    path = tmp_path / "circle.tif"
    path.write_bytes(content)
    check_header(path, Limits())


@pytest.mark.parametrize(
    "options", [{}, {"tiled": True, "blockxsize": 16, "blockysize": 16}, {"interleave": "band"}]
)
@pytest.mark.parametrize("bigtiff", ["YES", "NO"])
def test_what_gdal_writes_passes_and_its_front_half_does_not(
    tmp_path: Path, options: dict[str, Any], bigtiff: str
) -> None:
    path = write_tiff(tmp_path / "good.tif", noise(3, 40, 50), bigtiff=bigtiff, compress="deflate", **options)
    check_header(path, Limits())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(TruncatedRaster):
        check_header(path, Limits())
