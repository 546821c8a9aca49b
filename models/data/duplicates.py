"""Which samples show the same picture, so that no split tears them apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.data.source import Indices, Pixels, Source
from models.data.threads import in_threads

THUMB = 16
"""Side in pixels of the area-averaged thumbnails that are compared."""

NEAR = 1.0
"""Two thumbnails within this RMS, in grey levels of 255, show the same picture.

Measured by tests/models/data/test_duplicates.py: the one known pair of RESISC45 lies at 0.07 (re-encoded),
that of UC Merced at 0; the nearest other pairs at 3.3 (desert_288, desert_603) and 3.7 (agricultural83, 84).
"""

CONTRAST = 0.1
"""... and within this share of the thumbnail's own contrast over its places, channel by channel: flat
pictures (sea, snow) all look alike, whatever their colour.
"""

_CHANNELS = 3

_BLOCK = 512

Thumbs = npt.NDArray[np.float32]


def duplicate_groups(source: Source, workers: int | None = None) -> Indices:
    """(n,) int64: samples of equal value show the same picture, each group named by its first sample's index.

    The same means: decoded to equal pixels, or nearly equal after shrinking (`NEAR`, `CONTRAST`). Mirrored,
    rotated or overlapping pictures are not found. Decodes the whole source. Raises UnreadableImageError.
    """
    seen = list(in_threads(lambda i: _look(source.read(i)), len(source), workers))
    thumbs = np.array([thumb for _, thumb in seen], dtype=np.float32).reshape(len(seen), -1)
    first: dict[bytes, int] = {}
    same = ((first.setdefault(digest, i), i) for i, (digest, _) in enumerate(seen))
    return _merge(len(seen), (pair for pairs in (same, near_pairs(thumbs)) for pair in pairs))


def _look(pixels: Pixels) -> tuple[bytes, Pixels]:
    """Hash of the pixels and their thumbnail, (THUMB, THUMB, 3) uint8."""
    digest = hashlib.sha256(f"{pixels.shape}".encode() + np.ascontiguousarray(pixels).tobytes()).digest()
    thumb = Image.fromarray(pixels).resize((THUMB, THUMB), Image.Resampling.BOX)
    return digest, np.asarray(thumb)


def near_pairs(thumbs: Thumbs) -> Iterator[tuple[int, int]]:
    """Pairs of rows of (n, d) within `NEAR` RMS and `CONTRAST` of each other; d: places by channels.

    Rows within an RMS have means within it too, so only rows of like mean are compared: 60,000 take seconds.
    """
    if not len(thumbs):
        return
    order = np.argsort(thumbs.mean(axis=1), kind="stable")
    rows = thumbs[order] - np.float32(128)
    means = rows.mean(axis=1)
    squares = np.square(rows).sum(axis=1)
    contrast = np.sqrt(rows.reshape(len(rows), -1, _CHANNELS).var(axis=1).mean(axis=1))
    limits = np.square(np.minimum(NEAR, CONTRAST * contrast)) * rows.shape[1]
    for start in range(0, len(rows), _BLOCK):
        stop = min(start + _BLOCK, len(rows))
        end = int(np.searchsorted(means, means[stop - 1] + NEAR, side="right"))
        far = squares[start:stop, None] + squares[None, start:end] - 2 * rows[start:stop] @ rows[start:end].T
        for a, b in np.argwhere(far <= limits[start:stop, None]):
            if a < b:
                yield int(order[start + a]), int(order[start + b])


def _merge(n: int, pairs: Iterable[tuple[int, int]]) -> Indices:
    """Connected components of n samples; each is named by its smallest index."""
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return np.array([root(i) for i in range(n)], dtype=np.int64)
