"""An HR GeoTIFF as the demo uses it: which part, at which scale, and the LR image made from it."""

from dataclasses import dataclass
from math import ceil, floor, hypot, isqrt, log
from pathlib import Path
from typing import Final

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from app.core.errors import ProblemError
from app.rasters import Limits, RasterInfo, inspect
from app.rasters.checks import ALPHA_IS_DATA
from app.rasters.gdal import open_tiff
from app.rasters.ground import metres_per_unit
from app.rasters.hr import MAX_COARSER
from app.rasters.resample import Grid, resample
from models.card import Card
from patchplan.demo.errors import DemoError
from patchplan.demo.geotiff import colour_bands, write_geotiff

# one's own file, so it may be as large as it likes: it is read in pieces
HR_LIMITS: Final = Limits(max_values=10**12, max_side=10**7, max_blocks=10**8, timeout_s=3600)
MOST_VALUES: Final = 300_000_000
"""Pixels times bands of the part used, so that finer pixels mean fewer tiles and not a longer demo."""

LEAST_LR_PX: Final = 8
SQUARE_ENOUGH: Final = 1.5
NEAR: Final = 1.45
A_HAIR: Final = 1 + 1e-7
"""A tile that ends where a pixel does ends after it, so that no rounding makes a patch of what is left."""

SNAP: Final = 0.05
"""By this share a tile may grow or shrink so that each patch is a whole number of LR pixels wide."""

Pair = tuple[float, float]
Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class Scene:
    """Part of an HR raster: ``window`` is ``(col, row, width, height)`` in its pixels.

    ``factors`` columns and rows of HR pixels make one LR pixel; the window holds whole LR pixels. ``tile_m``
    is the side of a tile in metres, None where the window is one tile. ``notes`` are for a person.
    """

    path: Path
    info: RasterInfo
    window: Window
    factors: tuple[int, int]
    tile_m: float | None
    notes: tuple[str, ...]

    @property
    def lr_grid(self) -> Grid:
        """The LR image's pixels, on the edges of HR pixels."""
        col, row, width, height = self.window
        across, down = self.factors
        placed = Affine(*self.info.transform) @ Affine.translation(col, row) @ Affine.scale(across, down)
        return Grid(placed, width // across, height // down, self.info.crs_wkt)


def choose_scene(path: Path, card: Card, most_tiles: int, lr_gsd_m: float | None = None) -> Scene:
    """The middle of an HR GeoTIFF, about ``most_tiles`` tiles of the release's own size at most.

    LR pixels are about ``lr_gsd_m`` metres wide, by default what the release was trained with most. Raises
    DemoError for a file that is no usable GeoTIFF.
    """
    if not path.is_file():
        raise DemoError(f"There is no file {path}.")
    try:
        info = inspect(path, HR_LIMITS)
    except ProblemError as error:
        raise DemoError(f"{path} cannot be used: {error.detail}") from error
    if min(info.width, info.height) < 4:
        raise DemoError(f"{path} has {info.width} x {info.height} pixels; a tile needs 4 x 4 at least.")
    pixel = _pixel_m(info, info.centre)
    sides = info.width * pixel[0], info.height * pixel[1]
    # a patch is one pixel wide at least
    tile_m = min(max(card.tile_m.nominal, 4.01 * max(pixel)), *sides)
    factors = _factors(pixel, tile_m, lr_gsd_m or card.lr_gsd_m.nominal)
    lr_px = _lr_pixels_a_patch(tile_m, factors, pixel)
    one = tile_m == min(sides) and max(sides) <= SQUARE_ENOUGH * tile_m
    if one:
        window = _centred(info, factors, (info.width // factors[0], info.height // factors[1]))
        side = (sides[0] * sides[1]) ** 0.5
    else:
        tile_m = 4 * lr_px * factors[1] * pixel[1] if lr_px else tile_m
        window = _tiled(info, pixel, factors, tile_m, most_tiles)
        centre = info.at(window[0] + window[2] / 2, window[1] + window[3] / 2)
        # measured where the service measures it, so that the edges of tiles fall on those of pixels
        side = 4 * lr_px * factors[1] * _pixel_m(info, centre)[1] * A_HAIR if lr_px else tile_m
    return Scene(path, info, window, factors, None if one else side, _notes(info, pixel, card, side, window))


def _pixel_m(info: RasterInfo, place: Pair) -> Pair:
    """Metres of a pixel along its row and along its column, at a place in the CRS."""
    x_m, y_m = metres_per_unit(info.crs_wkt, *place)
    a, b, _, d, e, _ = info.transform
    return hypot(a * x_m, d * y_m), hypot(b * x_m, e * y_m)


def _factors(pixel: Pair, tile_m: float, lr_gsd_m: float) -> tuple[int, int]:
    """HR pixels an LR pixel, so that it has about ``lr_gsd_m`` both ways and a tile some LR pixels.

    Of those near ``lr_gsd_m``, the one that fits into a patch a whole number of times as nearly as can be.
    """
    most = [max(1, int(tile_m / metres / LEAST_LR_PX)) for metres in pixel]
    near = round(lr_gsd_m / NEAR / pixel[1]), round(lr_gsd_m * NEAR / pixel[1])
    down = min(
        range(max(1, min(near[0], most[1])), max(1, min(near[1], most[1])) + 1),
        key=lambda factor: (
            _misfit(tile_m, factor * pixel[1]),
            abs(log(factor * pixel[1] / lr_gsd_m)),
            factor,
        ),
    )
    across = max(1, min(round(down * pixel[1] / pixel[0]), most[0]))
    return across, down


def _misfit(tile_m: float, lr_m: float) -> float:
    """By how many per cent a tile has to change to be whole LR pixels a patch, in full per cents."""
    return round(100 * abs(4 * max(1, round(tile_m / lr_m / 4)) * lr_m / tile_m - 1))


def _lr_pixels_a_patch(tile_m: float, factors: tuple[int, int], pixel: Pair) -> int:
    """How many LR pixels make a patch's side where they nearly do, else 0."""
    lr_m = factors[1] * pixel[1]
    count = round(tile_m / lr_m / 4)
    return count if count and abs(4 * count * lr_m / tile_m - 1) <= SNAP else 0


def _tiled(info: RasterInfo, pixel: Pair, factors: tuple[int, int], tile_m: float, most_tiles: int) -> Window:
    """All of the raster if it holds few tiles, else whole tiles in its middle; never a sliver of a patch."""
    size = info.width // factors[0], info.height // factors[1]
    tile = tile_m / (factors[0] * pixel[0]), tile_m / (factors[1] * pixel[1])
    most = min(most_tiles, int(MOST_VALUES * pixel[0] * pixel[1] / (tile_m**2 * info.count)))
    cols, rows = size[0] / tile[0], size[1] / tile[1]
    if not info.axis_aligned:
        # a rotated raster lies in a larger box of tiles
        xmin, ymin, xmax, ymax = info.bounds
        a, b, _, d, e, _ = info.transform
        most = int(most * abs(a * e - b * d) * info.width * info.height / ((xmax - xmin) * (ymax - ymin)))
    if ceil(cols - 1e-6) * ceil(rows - 1e-6) <= most:
        wide, tall = _quarters(cols), _quarters(rows)
    else:
        whole = max(1, floor(cols + 1e-6)), max(1, floor(rows + 1e-6))
        # a long window that is rotated would lie in a box of mostly empty tiles
        wide, tall = _most_tiles(*whole, max(1, most), square=not info.axis_aligned)
    lr_size = min(size[0], floor(wide * tile[0] + 1e-3)), min(size[1], floor(tall * tile[1] + 1e-3))
    return _centred(info, factors, lr_size)


def _quarters(tiles: float) -> float:
    return tiles if tiles < 1 else floor(4 * tiles + 1e-6) / 4


def _centred(info: RasterInfo, factors: tuple[int, int], lr_size: tuple[int, int]) -> Window:
    """The window of so many LR pixels in the raster's middle."""
    width, height = lr_size[0] * factors[0], lr_size[1] * factors[1]
    return (info.width - width) // 2, (info.height - height) // 2, width, height


def _most_tiles(cols: int, rows: int, most: int, *, square: bool) -> tuple[int, int]:
    """The largest block of tiles within ``cols`` x ``rows`` and ``most``; of equal ones the most square."""
    if square:
        side = min(cols, rows, isqrt(most))
        return side, side
    blocks = [(wide, min(rows, most // wide)) for wide in range(1, min(cols, most) + 1)]
    return max(blocks, key=lambda block: (block[0] * block[1], -abs(block[0] - block[1])))


def _notes(info: RasterInfo, pixel: Pair, card: Card, side_m: float, window: Window) -> tuple[str, ...]:
    notes = []
    share = window[2] * window[3] / (info.width * info.height)
    if share < 0.7:
        notes.append(f"The middle {share:.1%} of the image is used; --tiles N takes more or less of it.")
    if not card.tile_m.min <= side_m <= card.tile_m.max:
        trained = f"{card.tile_m.min:.4g} to {card.tile_m.max:.4g} m"
        notes.append(
            f"A tile is {side_m:.4g} m here, the release was trained on {trained}: mind its answers."
        )
    if ALPHA_IS_DATA in info.warnings:
        notes.append("The band that it calls alpha holds a picture (near infrared?): it hides no pixel.")
    limit = MAX_COARSER * side_m / card.hr_px
    if max(pixel) > limit * 1.001:
        notes.append(
            f"Its pixels of {max(pixel):.2g} m are coarser than this release can use as HR ({limit:.2g} m): "
            "the service will refuse the patches, and the classes rest on LR alone."
        )
    return tuple(notes)


def make_lr(scene: Scene, path: Path) -> None:
    """Write the LR image: a pixel is the mean of the valid HR pixels under it, if they cover half of it."""
    bands = colour_bands(scene.info)
    grid = scene.lr_grid
    with open_tiff(scene.path) as dataset:
        values, cover = resample(dataset, scene.info, bands, grid)
    write_geotiff(path, as_stored(values, scene.info.dtype), cover >= 0.5, grid.transform, scene.info)


def as_stored(values: NDArray[np.float32], dtype: str) -> NDArray[np.generic]:
    """Means as the raster's own type holds them."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return values.astype(kind)
    limits = np.iinfo(kind)
    return np.clip(np.rint(values.astype(np.float64)), limits.min, limits.max).astype(kind)
