"""File bytes to (H, W, 3) uint8, for the few formats that training data comes in."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from models.data import tiff
from models.data.source import Pixels, UnreadableImageError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff"})

MAX_PIXELS = 2**28
"""16,384 x 16,384: the largest pictures of fMoW fit, a decompression bomb takes no more than 0.8 GB."""

MAX_BYTES = 2**30
"""Largest file that is read at all."""

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# Opening by the plugin that the first bytes name, not by Image.open, keeps every other decoder Pillow has
# out of reach and leaves Pillow's process-wide pixel limit alone.
_OPENERS: tuple[tuple[Callable[[bytes], bool], Callable[[io.BytesIO], ImageFile.ImageFile]], ...] = (
    (lambda b: b[:3] == b"\xff\xd8\xff", JpegImageFile),
    (lambda b: b[:8] == b"\x89PNG\r\n\x1a\n", PngImageFile),
    (lambda b: b[:4] == b"RIFF" and b[8:12] == b"WEBP", WebPImageFile),
    (lambda b: b[:4] in _TIFF, TiffImageFile),
)
_BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, RuntimeError,
    OverflowError, MemoryError, AssertionError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow's decoders raise on broken files."""

_KINDS = {
    "I;16": "uint16",
    "I;16L": "uint16",
    "I;16B": "uint16",
    "I;16N": "uint16",
    "I": "int32",
    "F": "float32",
}
_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Decode one JPEG, PNG, WebP or TIFF (first page) to (H, W, 3) uint8.

    Grey is repeated, palettes are resolved, alpha is dropped. Samples of more than 8 bits are stretched from
    their 2nd to their 98th percentile, as the service does with LR rasters. Raises UnreadableImageError for
    anything else: other formats, truncated or broken files, pictures of more than `max_pixels`.
    """
    try:
        if data[:4] in _TIFF:
            tags = tiff.directory(data)
            if tiff.is_beyond_pillow(tags):
                return _bands(tiff.read(data, tags, max_pixels))
        with _open(data, max_pixels) as image:
            if image.mode in ("RGB", "RGBA", "LA") and isinstance(image, PngImageFile) and _is_deep(image):
                return _bands(_deep_png(data, max_pixels))
            image.load()
            return _rgb(image)
    except _BROKEN as error:
        raise UnreadableImageError(str(error) or type(error).__name__) from error


def size(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(width, height) from the header alone. Raises UnreadableImageError."""
    try:
        with _open(data, max_pixels) as image:
            return image.size
    except _BROKEN as error:
        raise UnreadableImageError(str(error) or type(error).__name__) from error


def bands(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[int, str]:
    """Number of bands as stored, and their type (`uint8`, `uint16`, ...). Raises UnreadableImageError.

    A palette counts as its three colours, alpha as a band.
    """
    try:
        if data[:4] in _TIFF:
            tags = tiff.directory(data)
            if tiff.is_beyond_pillow(tags):
                return tiff.stored(tags)
        with _open(data, max_pixels) as image:
            deep = isinstance(image, PngImageFile) and _is_deep(image)
            kind = "uint16" if deep else _KINDS.get(image.mode, "uint8")
            return 3 if image.mode == "P" else len(image.getbands()), kind
    except _BROKEN as error:
        raise UnreadableImageError(str(error) or type(error).__name__) from error


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    if not data:
        raise UnreadableImageError("empty file")
    for matches, opener in _OPENERS:
        if matches(data):
            image = opener(io.BytesIO(data))
            width, height = image.size
            if width * height > max_pixels:
                raise UnreadableImageError(f"{width}x{height} is more than {max_pixels} pixels")
            return image
    raise UnreadableImageError("not a JPEG, PNG, WebP or TIFF")


def _is_deep(image: PngImageFile) -> bool:
    return any(str(tile.args).endswith(";16B") for tile in image.tile)


def _deep_png(data: bytes, max_pixels: int) -> npt.NDArray[np.uint16]:
    """16-bit colour, (H, W, bands), of which Pillow gives one byte at a time."""
    halves = []
    for order in ("B", "L"):
        with _open(data, max_pixels) as image:
            image.tile = [tile._replace(args=f"{str(tile.args)[:-1]}{order}") for tile in image.tile]
            halves.append(np.array(image))
    high, low = halves
    deep: npt.NDArray[np.uint16] = high.astype(np.uint16) * 256 + low
    return deep


def _bands(values: npt.NDArray[Any]) -> Pixels:
    """(H, W, bands) of any type to RGB: the first three bands, or the first repeated; one stretch for all."""
    chosen = values[:, :, :3] if values.shape[2] > 2 else values[:, :, :1]
    shown = chosen if chosen.dtype == np.uint8 else stretch(chosen)
    return np.ascontiguousarray(np.broadcast_to(shown, (*shown.shape[:2], 3)))


def _rgb(image: Image.Image) -> Pixels:
    if image.mode in _DEEP_MODES:
        return _bands(np.asarray(image)[:, :, None])
    if image.mode in ("RGBA", "RGBX", "RGBa"):
        return np.ascontiguousarray(np.asarray(image)[:, :, :3])
    if image.mode in ("LA", "La"):
        return np.repeat(np.asarray(image)[:, :, :1], 3, axis=2)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def stretch(values: npt.NDArray[np.generic]) -> Pixels:
    """Any numeric array to uint8 by one 2-98 % stretch over its finite values; a flat one becomes 0."""
    deep = values.astype(np.float64)
    finite = deep[np.isfinite(deep)]
    if not finite.size:
        raise UnreadableImageError("no finite value")
    low, high = np.percentile(finite, (2, 98))
    if high <= low:
        low, high = finite.min(), finite.max()
    if high <= low:
        return np.zeros(deep.shape, dtype=np.uint8)
    scaled = np.nan_to_num((deep - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0)
    grey: Pixels = np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    return grey
