"""What is known of a raster once it was found to be good, and the limits it was held to."""

from dataclasses import asdict, dataclass
from math import hypot, sqrt
from typing import Any, Self

Bounds = tuple[float, float, float, float]
Point = tuple[float, float]

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one upload may ask for.

    ``max_values`` is pixels times bands as declared, ``max_block_bytes`` one unpacked block (TIFF tile or
    strip), ``max_memory_bytes`` what the checking child may take above its idle size, and ``timeout_s`` its
    seconds on a processor.
    """

    max_values: int = 400_000_000
    max_side: int = 500_000
    max_bands: int = 64
    max_blocks: int = 2_000_000
    max_block_bytes: int = 128 * MEBIBYTE
    max_memory_bytes: int = 768 * MEBIBYTE
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class RasterInfo:
    """A raster that passed ``inspect``. Plain values only, so that it can be kept as JSON.

    ``transform`` is ``(a, b, c, d, e, f)``: x = a*col + b*row + c, y = d*col + e*row + f, in units of
    ``crs_wkt`` (horizontal, x before y). ``bounds`` is ``(xmin, ymin, xmax, ymax)`` of the four corners.
    ``gsd_m`` is the side in metres of a square with a pixel's area on the ground, at the raster's centre.
    ``alpha`` is the 1-based band that holds validity, if any; ``has_mask`` says the file carries a mask.
    """

    width: int
    height: int
    count: int
    dtype: str
    crs_wkt: str
    transform: tuple[float, float, float, float, float, float]
    nodata: float | None
    colorinterp: tuple[str, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    alpha: int | None
    has_mask: bool
    bounds: Bounds
    gsd_m: float
    valid_fraction: float
    warnings: tuple[str, ...] = ()

    @property
    def outline(self) -> tuple[Point, Point, Point, Point]:
        """The four corners in the CRS, around the raster."""
        w, h = self.width, self.height
        return (self.at(0, 0), self.at(w, 0), self.at(w, h), self.at(0, h))

    @property
    def axis_aligned(self) -> bool:
        """True where rows and columns run along the CRS's axes; otherwise pixels are warped."""
        _, b, _, d, _, _ = self.transform
        return b == 0 and d == 0

    @property
    def centre(self) -> Point:
        return self.at(self.width / 2, self.height / 2)

    def at(self, col: float, row: float) -> Point:
        """The place of a pixel position (corner of pixel 0, 0 is 0, 0) in the CRS."""
        a, b, c, d, e, f = self.transform
        return (a * col + b * row + c, d * col + e * row + f)

    def pixel_units(self) -> tuple[float, float]:
        """The length in CRS units of one step along a row and along a column."""
        a, b, _, d, e, _ = self.transform
        return (hypot(a, d), hypot(b, e))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        restored: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**restored)


def mean_side(x: float, y: float) -> float:
    """The side of the square that has the area of an x by y rectangle."""
    return sqrt(x * y)
