"""How much a raster says it holds, and the limits that this is held to before any pixel is unpacked."""

from dataclasses import dataclass

from app.core.errors import DecompressionBomb, RasterTooLarge, TruncatedRaster
from app.rasters.info import MEBIBYTE, Limits


@dataclass(frozen=True, slots=True)
class Declared:
    """The sizes of one image: pixels, bands (``samples``) and bits of each; a block is a TIFF tile or strip.

    ``interleaved``: a block holds all bands of its pixels. ``packed``: blocks are compressed.
    """

    width: int
    height: int
    samples: int
    bits: int
    block_w: int
    block_h: int
    interleaved: bool
    packed: bool

    @property
    def block_bytes(self) -> int:
        """Of one block, unpacked."""
        return self.block_w * self.block_h * (self.samples if self.interleaved else 1) * self.bits // 8

    @property
    def blocks(self) -> int:
        """All of the image."""
        each = -(-self.width // self.block_w) * -(-self.height // self.block_h)
        return each * (1 if self.interleaved else self.samples)


def hold(declared: Declared, size: int, limits: Limits) -> None:
    """Hold the sizes against the limits, for a file of ``size`` bytes.

    Raises RasterTooLarge, DecompressionBomb, and TruncatedRaster where a block has no size.
    """
    _hold_image(declared, size, limits)
    block_w, block_h = declared.block_w, declared.block_h
    if not (block_w and block_h):
        raise TruncatedRaster("The TIFF does not say how large its blocks are.")
    # a whole image in one strip is common where nothing is compressed, and then no larger than the file
    most = limits.max_block_bytes if declared.packed else max(size, limits.max_block_bytes)
    if declared.block_bytes > most:
        raise DecompressionBomb(
            f"One block of the raster ({block_w} x {block_h}) unpacks to "
            f"{declared.block_bytes // MEBIBYTE} MiB; {limits.max_block_bytes // MEBIBYTE} MiB is the limit. "
            "Write it anew with smaller tiles.",
        )
    if declared.blocks > limits.max_blocks:
        raise RasterTooLarge(f"The raster has {declared.blocks} blocks; {limits.max_blocks} is the limit.")


def _hold_image(declared: Declared, size: int, limits: Limits) -> None:
    width, height, samples = declared.width, declared.height, declared.samples
    if samples > limits.max_bands:
        raise RasterTooLarge(f"The raster has {samples} bands; {limits.max_bands} is the limit.")
    values = width * height * samples
    if values <= limits.max_values and max(width, height) <= limits.max_side:
        return
    detail = (
        f"The raster is {width} x {height} with {samples} bands; {limits.max_values} values is the limit."
    )
    # deflate cannot pack tighter than 1032 to 1
    if values * declared.bits // 8 > 1032 * size:
        raise DecompressionBomb(f"{detail} The file is {size} bytes.")
    raise RasterTooLarge(f"{detail} Send it in parts.")
