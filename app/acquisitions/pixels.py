"""Received pixels on disk: one patch after the other, bare bytes, each as large as the largest patch.

hr_px need not be a multiple of the grid, so patches of a tile may differ by a pixel; all are kept in squares
of the same side and cut to their window when they are read.
"""

import uuid
from collections import OrderedDict
from math import prod
from pathlib import Path
from typing import IO, Final

import numpy as np
import structlog
from numpy.typing import NDArray

from app.acquisitions.tables import Acquisition, ReceivedPatch, pixels_key
from app.core.db import session_scope
from app.core.errors import PixelsLost
from app.core.store import get_store
from app.rasters import patch_window
from app.rasters.tiles import GRID

log = structlog.get_logger(__name__)

Pixels = NDArray[np.uint8]

CHANNELS: Final = 3
MOST_COPIES: Final = 32


def side_of(hr_px: int) -> int:
    """The side of the square a patch is kept in."""
    return -(-hr_px // GRID)


def append(file: IO[bytes], pixels: Pixels, hr_px: int) -> None:
    """Write one patch (3, h, w) in its square."""
    side = side_of(hr_px)
    square = np.zeros((CHANNELS, side, side), dtype=np.uint8)
    square[:, : pixels.shape[1], : pixels.shape[2]] = pixels
    file.write(square.tobytes())


def window(square: Pixels, patch: int, hr_px: int) -> Pixels:
    """A patch's own pixels (3, h, w) out of its square."""
    row0, row1, col0, col1 = patch_window(patch, hr_px)
    return square[:, : row1 - row0, : col1 - col0]


def lay(image: Pixels, square: Pixels, patch: int) -> None:
    """Put a patch's square into its window of the tile's HR image (3, hr_px, hr_px)."""
    row0, row1, col0, col1 = patch_window(patch, image.shape[-1])
    image[:, row0:row1, col0:col1] = window(square, patch, image.shape[-1])


class ReceivedPixels:
    """Pixels of received patches, read from the objects of their acquisitions.

    Copies of the objects used last lie in ``folder``. Patches are read one by one and not mapped: a process
    would be charged for all of a mapped file that it has looked at.
    """

    def __init__(self, folder: Path, hr_px: int) -> None:
        self._folder = folder
        self._shape = (CHANNELS, side_of(hr_px), side_of(hr_px))
        self._copies: OrderedDict[uuid.UUID, Path] = OrderedDict()

    def of(self, received: ReceivedPatch) -> Pixels:
        """One patch in its square (3, side, side); raises PixelsLost where the store no longer has it."""
        acquisition = received.acquisition_id
        if acquisition not in self._copies:
            path = self._folder / f"{acquisition}.u8"
            _fetch(received, path)
            self._copies[acquisition] = path
            if len(self._copies) > MOST_COPIES:
                self._copies.popitem(last=False)[1].unlink(missing_ok=True)
        self._copies.move_to_end(acquisition)
        size = prod(self._shape)
        square = np.fromfile(self._copies[acquisition], np.uint8, count=size, offset=received.slot * size)
        return square.reshape(self._shape)


def _fetch(received: ReceivedPatch, path: Path) -> None:
    key = pixels_key(received.plan_id, received.acquisition_id)
    try:
        get_store().get_to_file(key, path)
    except KeyError:
        log.error("object_missing", key=key)
        with session_scope() as session:
            acquisition = session.get_one(Acquisition, received.acquisition_id)
        raise PixelsLost(
            f"The HR patches of acquisition {acquisition.id} are no longer in the object store. Send its "
            f"file again (SHA-256 {acquisition.file_sha256}) to plan {received.plan_id}"
            f"{_sent_with(acquisition)}, which puts them back, and ask again. What was replaced "
            "since stays replaced.",
            plan_id=str(received.plan_id),
            acquisition_id=str(acquisition.id),
            file_sha256=acquisition.file_sha256,
            form=acquisition.form,
        ) from None


def _sent_with(acquisition: Acquisition) -> str:
    """The form fields without which the same bytes would be another file."""
    if acquisition.form is None:
        return " with the form fields bands, scale and offset it was sent with, if any"
    given = " and ".join(f"{name}={value}" for name, value in acquisition.form.items())
    return f" with {given}" if given else ""
