"""Decoding: formats, modes, bit depths and bombs."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.data.pixels import decode, stretch
from models.data.source import UnreadableImageError
from tests.models.data.pictures import encode, picture

RGB = picture(3)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_lossless_formats_give_the_pixels(form: str) -> None:
    assert np.array_equal(decode(encode(RGB, form)), RGB)


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_lossy_formats_come_close(form: str) -> None:
    decoded = decode(encode(RGB, form, quality=95))
    assert decoded.shape == RGB.shape
    assert np.abs(decoded.astype(int) - RGB).mean() < 6


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_alpha_is_dropped_and_not_multiplied(form: str) -> None:
    alpha = np.full((*RGB.shape[:2], 1), 7, np.uint8)
    assert np.array_equal(decode(encode(np.concatenate([RGB, alpha], axis=2), form)), RGB)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "JPEG"])
def test_grey_is_repeated(form: str) -> None:
    decoded = decode(encode(RGB[:, :, 0], form))
    assert decoded.shape == RGB.shape
    assert (decoded == decoded[:, :, :1]).all()


def test_palettes_bits_and_cmyk_are_resolved() -> None:
    for mode, form in (
        ("P", "PNG"),
        ("P", "TIFF"),
        ("1", "PNG"),
        ("LA", "PNG"),
        ("CMYK", "JPEG"),
        ("CMYK", "TIFF"),
    ):
        buffer = io.BytesIO()
        Image.fromarray(RGB).convert(mode).save(buffer, form)
        decoded = decode(buffer.getvalue())
        assert decoded.shape == RGB.shape, (mode, form)
        assert decoded.dtype == np.uint8


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_stretched(form: str) -> None:
    # Twelve-bit values in sixteen bits: a plain shift would leave them all but black.
    deep = RGB[:, :, 0].astype(np.uint16) * 16
    decoded = decode(encode(deep, form))
    low, high = np.percentile(RGB[:, :, 0], (2, 98))
    expected = np.clip((RGB[:, :, 0] - low) / (high - low), 0, 1) * 255
    assert np.abs(decoded[:, :, 0] - expected).max() <= 1


def test_stretch_ignores_what_is_not_finite() -> None:
    values = np.array([0.0, 1.0, 2.0, np.nan, np.inf, -np.inf])
    assert stretch(values).tolist()[3:] == [0, 255, 0]
    assert stretch(np.full((3, 3), 9.0)).tolist() == [[0] * 3] * 3
    with pytest.raises(UnreadableImageError, match="finite"):
        stretch(np.array([np.nan]))


def bomb_png(side: int) -> bytes:
    """A valid header that declares side x side pixels, with almost nothing behind it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + chunk(b"IEND", b"")
    )


def test_declared_size_is_bounded_before_anything_is_decoded() -> None:
    with pytest.raises(UnreadableImageError, match="more than"):
        decode(bomb_png(60_000))
    with pytest.raises(UnreadableImageError, match="20x24 is more than 100"):
        decode(encode(RGB), max_pixels=100)


@pytest.mark.parametrize("form", ["GIF", "BMP", "PPM", "ICO"])
def test_other_formats_are_refused_whatever_their_name(form: str) -> None:
    with pytest.raises(UnreadableImageError, match="not a JPEG"):
        decode(encode(RGB, form))


# Pillow warns of damaged TIFF directories before it gives up on them.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF"]), st.data())
def test_damaged_files_raise_one_error_or_decode(form: str, data: st.DataObject) -> None:
    whole = encode(RGB, form)
    cut = data.draw(st.integers(0, len(whole)))
    at = data.draw(st.integers(0, len(whole) - 1))
    broken = bytearray(whole)
    broken[at] = data.draw(st.integers(0, 255))
    for damaged in (whole[:cut], bytes(broken)):
        try:
            decoded = decode(damaged)
        except UnreadableImageError:
            continue
        assert decoded.ndim == 3
        assert decoded.shape[2] == 3
        assert decoded.dtype == np.uint8
