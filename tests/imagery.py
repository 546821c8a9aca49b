"""Small georeferenced rasters for tests: drawn from numbers, the same every time."""

from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.io import MemoryFile

UTM = "EPSG:32617"
WEST, NORTH = 404_000.0, 3_285_000.0
TILE_M = 80.0


def scene(height: int, width: int, bands: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """(bands, height, width): smooth ground with some noise, never 0."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    layers = [110 + 60 * np.sin(7 * x + 5 * y + k) + random.normal(0, 9, x.shape) for k in range(bands)]
    pixels: NDArray[np.uint8] = np.clip(np.stack(layers), 1, 255).astype(np.uint8)
    return pixels


def geotiff(
    pixels: NDArray[Any],
    pixel_m: float,
    *,
    west: float = WEST,
    north: float = NORTH,
    crs: str | None = UTM,
    **profile: Any,
) -> bytes:
    """A GeoTIFF of (bands, height, width), its upper left corner at west, north."""
    bands, height, width = pixels.shape
    profile.setdefault("transform", Affine(pixel_m, 0, west, 0, -pixel_m, north))
    # red, green, blue by name, whatever the type
    if bands >= 3:
        profile.setdefault("photometric", "RGB")
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff", width=width, height=height, count=bands, dtype=pixels.dtype, crs=crs, **profile
        ) as dataset:
            dataset.write(pixels)
        return bytes(memory.read())


def lr_geotiff(tiles_x: int = 1, tiles_y: int = 1, pixel_m: float = 5.0, seed: int = 0, **more: Any) -> bytes:
    """An LR raster of so many tiles of 80 m."""
    side = round(TILE_M / pixel_m)
    return geotiff(scene(tiles_y * side, tiles_x * side, seed=seed), pixel_m, **more)


def patch_geotiff(
    patch: int, *, tile_x: int = 0, tile_y: int = 0, pixel_m: float = 2.5, seed: int = 1
) -> bytes:
    """HR of one patch of a tile, cut exactly at its edges."""
    side_m = TILE_M / 4
    row, col = divmod(patch, 4)
    side = round(side_m / pixel_m)
    return geotiff(
        scene(side, side, seed=seed * 100 + patch),
        pixel_m,
        west=WEST + tile_x * TILE_M + col * side_m,
        north=NORTH - tile_y * TILE_M - row * side_m,
    )


def hr_geotiff(tiles_x: int = 1, tiles_y: int = 1, pixel_m: float = 2.5, seed: int = 1, **more: Any) -> bytes:
    """HR of all tiles in one file."""
    side = round(TILE_M / pixel_m)
    return geotiff(scene(tiles_y * side, tiles_x * side, seed=seed), pixel_m, **more)
