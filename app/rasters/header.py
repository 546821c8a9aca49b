"""What a TIFF says of itself, read without GDAL, so that nothing is unpacked before its size is known.

TIFF 6.0, section 2, and the BigTIFF proposal. Only the first image and its masks matter: overviews and
further pages are never read.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from app.core.errors import BadDtype, NotATiff, RasterTooLarge, TruncatedRaster
from app.rasters.declared import Declared, hold
from app.rasters.info import Limits

_CODES = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
"""Of the types of TIFF 6.0 and BigTIFF those that hold sizes and places: unsigned whole numbers."""
_MOST_IMAGES = 64
_MOST_TAGS = 1024

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES, PLANAR = 254, 256, 257, 258, 259, 277, 284
ROWS_PER_STRIP, STRIP_OFFSETS, STRIP_BYTES = 278, 273, 279
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 322, 323, 324, 325
SAMPLE_FORMAT = 339
_READ = {
    SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES, PLANAR, ROWS_PER_STRIP, STRIP_OFFSETS, STRIP_BYTES,
    TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES, SAMPLE_FORMAT,
}  # fmt: skip
_SINGLE = {SUBFILE, WIDTH, HEIGHT, SAMPLES, PLANAR, ROWS_PER_STRIP, TILE_WIDTH, TILE_HEIGHT}


@dataclass(frozen=True, slots=True)
class _Layout:
    """How this flavour of TIFF writes numbers: byte order, offset size, directory field sizes."""

    order: str
    big: bool

    @property
    def offset(self) -> str:
        return self.order + ("Q" if self.big else "I")

    @property
    def count(self) -> str:
        return self.order + ("Q" if self.big else "H")

    @property
    def entry(self) -> int:
        return 20 if self.big else 12

    @property
    def inline(self) -> int:
        return 8 if self.big else 4


def check_header(path: Path, limits: Limits) -> None:
    """Holds the declared sizes of a TIFF against the limits and its blocks against the file's end.

    Raises NotATiff, TruncatedRaster, RasterTooLarge, DecompressionBomb, BadDtype.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        layout, offset = _signature(file)
        seen: set[int] = set()
        while offset and offset not in seen and len(seen) < _MOST_IMAGES:
            seen.add(offset)
            tags, offset_after = _directory(file, layout, offset, size, limits)
            if len(seen) == 1 or int(_one(tags, SUBFILE, 0)) & 4:
                _check_image(tags, size, limits)
            offset = offset_after
        if not seen:
            raise TruncatedRaster("The TIFF holds no image.")


def _signature(file: BinaryIO) -> tuple[_Layout, int]:
    head = file.read(16)
    if len(head) >= 4 and head[:2] in (b"II", b"MM"):
        order = "<" if head[:2] == b"II" else ">"
        magic = struct.unpack(order + "H", head[2:4])[0]
        if magic == 42 and len(head) >= 8:
            return _Layout(order, big=False), struct.unpack(order + "I", head[4:8])[0]
        if magic == 43 and len(head) == 16 and struct.unpack(order + "HH", head[4:8]) == (8, 0):
            return _Layout(order, big=True), struct.unpack(order + "Q", head[8:16])[0]
        if magic in (42, 43):
            raise TruncatedRaster("The file ends within the TIFF header.")
    raise NotATiff("The file is not a TIFF: it lacks the signature of TIFF and of BigTIFF.")


def _directory(
    file: BinaryIO, layout: _Layout, offset: int, size: int, limits: Limits
) -> tuple[dict[int, np.ndarray], int]:
    count_size = struct.calcsize(layout.count)
    count = struct.unpack(layout.count, _at(file, offset, count_size, size))[0]
    if count > _MOST_TAGS:
        raise NotATiff(f"A directory of the TIFF claims {count} tags.")
    body = _at(file, offset + count_size, count * layout.entry + struct.calcsize(layout.offset), size)
    tags: dict[int, np.ndarray] = {}
    for i in range(count):
        entry = body[i * layout.entry : (i + 1) * layout.entry]
        tag, kind = struct.unpack(layout.order + "HH", entry[:4])
        if tag not in _READ:
            continue
        # libtiff takes the first of two, and signed types too: who reads otherwise reads another image
        if tag in tags:
            raise TruncatedRaster(f"The header of the raster is damaged: it has tag {tag} twice.")
        if kind not in _CODES:
            raise TruncatedRaster(f"The header of the raster is damaged: tag {tag} is of type {kind}.")
        tags[tag] = _values(file, layout, kind, entry, size, limits)
        if tag in _SINGLE and len(tags[tag]) != 1:
            raise TruncatedRaster(
                f"The header of the raster is damaged: tag {tag} has {len(tags[tag])} values."
            )
    return tags, struct.unpack(layout.offset, body[count * layout.entry :])[0]


def _values(
    file: BinaryIO, layout: _Layout, kind: int, entry: bytes, size: int, limits: Limits
) -> np.ndarray:
    number = struct.unpack(layout.order + ("Q" if layout.big else "I"), entry[4 : 4 + layout.inline])[0]
    if number > limits.max_blocks * limits.max_bands:
        raise RasterTooLarge(f"A tag of the TIFF claims {number} values.")
    length = number * np.dtype(_CODES[kind]).itemsize
    data = entry[4 + layout.inline :][:length]
    if length > layout.inline:
        data = _at(file, struct.unpack(layout.offset, entry[4 + layout.inline :])[0], length, size)
    return np.frombuffer(data, dtype=layout.order + _CODES[kind]).astype(np.uint64)


def _at(file: BinaryIO, offset: int, length: int, size: int) -> bytes:
    if offset + length > size:
        raise TruncatedRaster("The TIFF points beyond the end of the file.")
    file.seek(offset)
    return file.read(length)


def _one(tags: dict[int, np.ndarray], tag: int, default: int) -> int:
    values = tags.get(tag)
    return default if values is None or not len(values) else int(values[0])


def _check_image(tags: dict[int, np.ndarray], size: int, limits: Limits) -> None:
    width, height, samples = _one(tags, WIDTH, 0), _one(tags, HEIGHT, 0), _one(tags, SAMPLES, 1)
    if not (width and height and samples):
        raise TruncatedRaster("The TIFF does not say how large its image is.")
    if any(int(f) in (5, 6) for f in tags.get(SAMPLE_FORMAT, [])):
        raise BadDtype("Complex pixels (radar) are not imagery this service can look at.")
    tiled = TILE_OFFSETS in tags or TILE_WIDTH in tags
    declared = Declared(
        width,
        height,
        samples,
        bits=max((int(b) for b in tags.get(BITS, [1])), default=1),
        block_w=_one(tags, TILE_WIDTH, width) if tiled else width,
        block_h=_one(tags, TILE_HEIGHT, height) if tiled else min(_one(tags, ROWS_PER_STRIP, height), height),
        interleaved=_one(tags, PLANAR, 1) == 1,
        packed=_one(tags, COMPRESSION, 1) != 1,
    )
    hold(declared, size, limits)
    offsets = tags.get(TILE_OFFSETS if tiled else STRIP_OFFSETS)
    lengths = tags.get(TILE_BYTES if tiled else STRIP_BYTES)
    blocks = declared.blocks
    if offsets is None or lengths is None or len(offsets) < blocks or len(lengths) < blocks:
        raise TruncatedRaster("The TIFF does not say where all of its blocks lie.")
    if (offsets > size).any() or (lengths > size).any() or (offsets + lengths > size).any():
        raise TruncatedRaster("Blocks of the raster lie beyond the end of the file: it is cut short.")
