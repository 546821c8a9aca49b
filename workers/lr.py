"""LR tiles a batch at a time, without holding the file open in between."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from app.rasters import RasterInfo, Scaling, Tile, read_lr_tiles

TILES_A_READ: Final = 128


def lr_batches(
    path: Path, info: RasterInfo, tiles: Sequence[Tile], bands: tuple[int, ...], scaling: Scaling, lr_px: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """``read_lr_tiles`` for jobs that take turns: ``(pixels, valid)`` of some tiles, then of the next.

    GDAL's environment belongs to the thread. With a file kept open while another job reads on the same
    thread, one would close the other's, so each part is read to its end before anything is yielded.
    """
    for start in range(0, len(tiles), TILES_A_READ):
        part = tiles[start : start + TILES_A_READ]
        yield from list(read_lr_tiles(path, info, part, bands, scaling, lr_px, batch=TILES_A_READ))
