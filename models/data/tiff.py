"""TIFFs that Pillow has no mode for: more than 8 bits in several bands, bands without colour, planar ones.

Satellite imagery comes so. Layout and values are read here; libtiff, through Pillow, undoes the compression.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from models.data.source import UnreadableImageError

(
    _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _SAMPLES, _ROWS, _COUNTS, _PLANAR,
    _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _FORMAT,
) = (256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 339)  # fmt: skip

_NONE, _LZW, _JPEG, _DEFLATE, _ADOBE_DEFLATE, _PACKBITS, _ZSTD = 1, 5, 7, 32946, 8, 32773, 50000
_BYTES_PER_PIXEL = 16
"""Eight bands of 16 bits at the largest size allowed, more bands at smaller ones."""
_KINDS = {1: "u", 2: "i", 3: "f"}

Values = npt.NDArray[Any]


@dataclass(frozen=True)
class _Layout:
    """One page: its size, its samples and how they lie in the file."""

    width: int
    height: int
    samples: int
    dtype: np.dtype[Any]
    planar: bool
    compression: int
    predictor: int
    block_width: int
    block_height: int
    blocks: list[tuple[int, int]]
    """(offset, byte count) of strips or tiles, row by row, plane after plane where planar."""


def directory(data: bytes) -> ImageFileDirectory_v2:
    """The first page's tags."""
    tags = ImageFileDirectory_v2(data[:16] if data[2:4] in (b"+\0", b"\0+") else data[:8])
    file = io.BytesIO(data)
    file.seek(tags.next)
    tags.load(file)
    return tags


def is_beyond_pillow(tags: ImageFileDirectory_v2) -> bool:
    """True where Pillow would refuse the page, cut its samples to their high byte or mistake its planes."""
    bits, samples = max(tags.get(_BITS, (1,))), int(tags.get(_SAMPLES, 1))
    if bits != 8 or samples < 3 or int(tags.get(_COMPRESSION, _NONE)) == _JPEG:
        return bool(bits > 8)
    bare = int(tags.get(_PHOTOMETRIC, 0)) in (0, 1)
    return bare or (samples > 3 and int(tags.get(_PLANAR, 1)) == 2)


def stored(tags: ImageFileDirectory_v2) -> tuple[int, str]:
    """Number of bands of the first page, and their type."""
    kind = {"u": "uint", "i": "int", "f": "float"}[_KINDS[int(tags.get(_FORMAT, (1,))[0])]]
    return int(tags.get(_SAMPLES, 1)), f"{kind}{max(tags.get(_BITS, (1,)))}"


def read(data: bytes, tags: ImageFileDirectory_v2, max_pixels: int) -> Values:
    """The first page as (H, W, samples) in its own dtype and the machine's byte order.

    Strips or tiles, band by band or pixel by pixel, 8 to 64 bits, uncompressed, LZW, Deflate, PackBits or
    Zstandard, horizontal predictor. Raises UnreadableImageError for anything else.
    """
    layout = _layout(data, tags, max_pixels)
    out = np.zeros((layout.height, layout.width, layout.samples), dtype=layout.dtype)
    for block, (row, column, band) in zip(layout.blocks, _places(layout), strict=False):
        bands = slice(band, band + 1) if layout.planar else slice(None)
        target = out[row : row + layout.block_height, column : column + layout.block_width, bands]
        tiled = layout.block_width != layout.width
        rows = layout.block_height if tiled else target.shape[0]
        target[:] = _block(data, block, layout, rows)[: target.shape[0], : target.shape[1]]
    return out.astype(layout.dtype.newbyteorder("="), copy=False)


def _layout(data: bytes, tags: ImageFileDirectory_v2, max_pixels: int) -> _Layout:
    width, height, samples = int(tags[_WIDTH]), int(tags[_HEIGHT]), int(tags.get(_SAMPLES, 1))
    if not 0 < width * height <= max_pixels or not 0 < samples <= 64:
        raise UnreadableImageError(f"{width}x{height} of {samples} bands is more than {max_pixels} pixels")
    bits, kinds = set(tags.get(_BITS, (1,))), set(tags.get(_FORMAT, (1,)))
    if len(bits) != 1 or len(kinds) != 1 or not kinds <= set(_KINDS) or not bits <= {8, 16, 32, 64}:
        raise UnreadableImageError(f"samples of {sorted(bits)} bits in format {sorted(kinds)}")
    predictor, compression = int(tags.get(_PREDICTOR, 1)), int(tags.get(_COMPRESSION, _NONE))
    kind = _KINDS[kinds.pop()]
    if predictor not in (1, 2) or (predictor == 2 and kind == "f"):
        raise UnreadableImageError(f"TIFF predictor {predictor} on samples of kind {kind}")
    if compression not in (_NONE, _LZW, _DEFLATE, _ADOBE_DEFLATE, _PACKBITS, _ZSTD):
        raise UnreadableImageError(f"TIFF compression {compression} on more than 8 bits or on bare bands")
    tiled = _TILE_OFFSETS in tags
    offsets, counts = (tags[_TILE_OFFSETS], tags[_TILE_COUNTS]) if tiled else (tags[_OFFSETS], tags[_COUNTS])
    block_width = int(tags[_TILE_WIDTH]) if tiled else width
    block_height = int(tags[_TILE_HEIGHT]) if tiled else min(height, int(tags.get(_ROWS, height)))
    if not 0 < block_width * block_height <= max_pixels:
        raise UnreadableImageError(f"blocks of {block_width}x{block_height}")
    order = "<" if data[:2] == b"II" else ">"
    dtype = np.dtype(f"{order}{kind}{bits.pop() // 8}")
    if width * height * samples * dtype.itemsize > _BYTES_PER_PIXEL * max_pixels:
        raise UnreadableImageError(f"{width}x{height} of {samples} bands of {dtype} is too large")
    planar = int(tags.get(_PLANAR, 1)) == 2
    blocks = list(zip(map(int, offsets), map(int, counts), strict=True))
    layout = _Layout(
        width, height, samples, dtype, planar, compression, predictor, block_width, block_height, blocks
    )
    across, down = math.ceil(width / block_width), math.ceil(height / block_height)
    if len(blocks) < across * down * (samples if planar else 1):
        raise UnreadableImageError("strips or tiles are missing")
    return layout


def _places(layout: _Layout) -> Iterator[tuple[int, int, int]]:
    """(row, column, band) of each block's first sample."""
    for band in range(layout.samples if layout.planar else 1):
        for row in range(0, layout.height, layout.block_height):
            for column in range(0, layout.width, layout.block_width):
                yield row, column, band


def _block(data: bytes, block: tuple[int, int], layout: _Layout, rows: int) -> Values:
    """One strip or tile as (rows, block_width, bands)."""
    bands = 1 if layout.planar else layout.samples
    row_bytes = layout.block_width * bands * layout.dtype.itemsize
    packed = data[block[0] : block[0] + block[1]]
    if layout.compression != _NONE:
        packed = _unpack(packed, layout.compression, row_bytes, rows)
    if len(packed) < row_bytes * rows:
        raise UnreadableImageError("the file ends inside the image")
    values = np.frombuffer(packed, layout.dtype, rows * layout.block_width * bands)
    values = values.reshape(rows, layout.block_width, bands)
    if layout.predictor == 2:
        return np.cumsum(values, axis=1, dtype=layout.dtype.newbyteorder("="))
    return values


def _unpack(packed: bytes, compression: int, row_bytes: int, rows: int) -> bytes:
    """Have libtiff undo a compression: the block, wrapped as a grey image of as many bytes."""
    entries = (
        (_WIDTH, row_bytes), (_HEIGHT, rows), (_BITS, 8), (_COMPRESSION, compression), (_PHOTOMETRIC, 1),
        (_OFFSETS, 8 + 2 + 9 * 12 + 4), (_SAMPLES, 1), (_ROWS, rows), (_COUNTS, len(packed)),
    )  # fmt: skip
    listed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + listed + b"\0" * 4
    with TiffImageFile(io.BytesIO(head + packed)) as image:
        return image.tobytes()
