"""TIFFs as satellite imagery comes: deep, of many bands, planar, tiled, in either byte order."""

from __future__ import annotations

import io
import itertools
import struct
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rasterio.io import MemoryFile

from models.data.pixels import decode, stretch
from models.data.source import UnreadableImageError
from tests.models.data.pictures import encode

# Drawn images have no place on the ground.
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

BANDS = np.random.default_rng(0).integers(0, 2047, (5, 70, 90)).astype(np.uint16)
LAYOUTS: tuple[dict[str, Any], ...] = (
    {},
    {"tiled": True, "blockxsize": 32, "blockysize": 48},
    {"blockysize": 17},
)
PACKINGS: tuple[dict[str, Any], ...] = (
    {}, {"compress": "deflate"}, {"compress": "lzw", "predictor": 2}, {"compress": "packbits"},
    {"compress": "zstd"},
)  # fmt: skip


def tiff(count: int, dtype: str, **options: Any) -> bytes:
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", width=90, height=70, count=count, dtype=dtype, **options) as file:
            file.write(BANDS[:count].astype(dtype))
        return bytes(memory.getbuffer())


def expected(count: int, dtype: str) -> Any:
    chosen = BANDS[: 3 if count > 2 else 1].astype(dtype).transpose(1, 2, 0)
    return np.broadcast_to(chosen if dtype == "uint8" else stretch(chosen), (70, 90, 3))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("photometric", [{}, {"photometric": "RGB"}])
def test_every_layout_gives_the_first_three_bands(
    dtype: str, interleave: str, photometric: dict[str, str]
) -> None:
    for layout, packing, endian in itertools.product(LAYOUTS, PACKINGS, ("LITTLE", "BIG")):
        if dtype == "float32" and "predictor" in packing:
            continue
        for count in (3, 4, 5):
            options = {**layout, **packing, **photometric, "interleave": interleave, "ENDIANNESS": endian}
            decoded = decode(tiff(count, dtype, **options))
            assert np.array_equal(decoded, expected(count, dtype)), (count, options)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float64"])
def test_one_and_two_bands_are_grey(dtype: str) -> None:
    assert np.array_equal(decode(tiff(1, dtype)), expected(1, dtype))
    assert np.array_equal(decode(tiff(2, dtype, photometric="MINISBLACK")), expected(2, dtype))


def test_big_tiff() -> None:
    assert np.array_equal(decode(tiff(3, "uint16", BIGTIFF="YES", compress="deflate")), expected(3, "uint16"))


def test_sixteen_bit_colour_png_keeps_its_low_bytes() -> None:
    with MemoryFile() as memory:
        with memory.open(driver="PNG", width=90, height=70, count=3, dtype="uint16") as file:
            file.write(BANDS[:3])
        assert np.array_equal(decode(bytes(memory.getbuffer())), expected(3, "uint16"))


def test_what_is_not_read_is_refused_and_not_misread() -> None:
    for options in ({"dtype": "complex64"}, {"dtype": "float32", "compress": "deflate", "predictor": 3}):
        with pytest.raises(UnreadableImageError):
            decode(tiff(3, **options))
    with pytest.raises(UnreadableImageError, match="more than 100 pixels"):
        decode(tiff(3, "uint16"), max_pixels=100)
    whole = tiff(3, "uint16")
    with pytest.raises(UnreadableImageError):
        decode(whole[: len(whole) // 2])


def test_tiles_that_are_declared_and_not_there_are_not_counted_one_by_one() -> None:
    """Half a billion tiles of one pixel in 146 bytes: walking over them took minutes."""
    side, bands = 2**11, 16
    entries = [
        (256, 4, 1, 2 * side), (257, 4, 1, 4 * side), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
        (277, 3, 1, bands), (284, 3, 1, 2), (322, 4, 1, 1), (323, 4, 1, 1), (324, 4, 1, 8), (325, 4, 1, 1),
    ]  # fmt: skip
    listed = b"".join(
        struct.pack("<HHI", tag, kind, count)
        + (struct.pack("<HH", value, 0) if kind == 3 else struct.pack("<I", value))
        for tag, kind, count, value in entries
    )
    data = b"II*\0" + struct.pack("<IH", 8, len(entries)) + listed + bytes(4)
    started = time.process_time()
    with pytest.raises(UnreadableImageError, match="missing"):
        decode(data, max_pixels=2**27)
    assert time.process_time() - started < 1


def test_plain_eight_bit_files_stay_with_pillow() -> None:
    rgb = BANDS[:3].astype(np.uint8).transpose(1, 2, 0).copy()
    for compression in (None, "tiff_lzw", "tiff_deflate"):
        assert np.array_equal(decode(encode(rgb, "TIFF", compression=compression)), rgb)
    palette = Image.fromarray(rgb).quantize(16)
    assert np.array_equal(decode(encode_image(palette)), np.asarray(palette.convert("RGB")))


def encode_image(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "TIFF")
    return buffer.getvalue()


# Pillow warns of damaged TIFF directories before it gives up on them.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=150, deadline=None)
@given(st.sampled_from([*PACKINGS]), st.data())
def test_damaged_files_raise_one_error_or_decode(packing: dict[str, Any], data: st.DataObject) -> None:
    broken = bytearray(tiff(3, "uint16", **packing))
    for _ in range(data.draw(st.integers(1, 4))):
        # The directory and its values lie at the front.
        broken[data.draw(st.integers(0, 400))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode(bytes(broken))
    except UnreadableImageError:
        return
    assert decoded.dtype == np.uint8
    assert decoded.shape[2] == 3
