"""The one way a raster file is opened: GeoTIFF driver only, nothing beside the file, nothing from a network.

GDAL guesses the driver from the bytes and follows a raster to its neighbours: VRTs name other files and
URLs, ``.aux.xml``, ``.ovr``, ``.msk`` and world files change what a raster says. An upload gets none of that.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioIOError
from rasterio.windows import Window

from app.core.errors import NotATiff, TruncatedRaster
from app.rasters.info import RasterInfo

OPTIONS: dict[str, Any] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "YES",
    "GTIFF_IGNORE_READ_ERRORS": "NO",
    "GDAL_MAX_RAW_BLOCK_CACHE_SIZE": 16 * 1024 * 1024,
    # bytes: GDAL would take 64 for megabytes, rasterio sets it as it is
    "GDAL_CACHEMAX": 64 * 1024 * 1024,
    "GDAL_NUM_THREADS": "1",
    "CPL_CURL_ENABLE_VSIMEM": "NO",
    "GDAL_HTTP_MAX_RETRY": "0",
    "PROJ_NETWORK": "OFF",
}

CHUNK_VALUES = 4_000_000
"""Values read at once: 16 MB a copy as float32, of which a handful live at a time."""


@contextmanager
def open_tiff(path: Path) -> Iterator[Any]:
    """An open rasterio dataset.

    Raises NotATiff where GDAL's GeoTIFF driver does not take the file, TruncatedRaster where its CRS has a
    name that is no text.
    """
    with rasterio.Env(**OPTIONS):
        try:
            dataset = rasterio.open(Path(path).resolve(), driver="GTiff")
        except RasterioIOError as error:
            raise NotATiff("The file has a TIFF signature but cannot be opened as a GeoTIFF.") from error
        except UnicodeDecodeError as error:
            # rasterio reads the CRS, of which the names alone are free text, as it opens the file
            raise TruncatedRaster(
                "The name of the raster's CRS is not UTF-8: set the CRS again (gdal_edit.py -a_srs) and send "
                "it again."
            ) from error
        with dataset:
            yield dataset


def chunks(dataset: Any, window: Window | None = None, values: int = CHUNK_VALUES) -> Iterator[Window]:
    """Windows that cover ``window`` (default: all) once, along block borders, each about ``values`` values.

    A row of blocks is taken whole where it fits, because strips cannot be read by the column.
    """
    block_h, block_w = dataset.block_shapes[0]
    window = window or Window(0, 0, dataset.width, dataset.height)
    x0, y0 = int(window.col_off), int(window.row_off)
    x1, y1 = x0 + int(window.width), y0 + int(window.height)
    budget = max(1, values // dataset.count)
    wide = x1 - x0 if block_w >= dataset.width else max(block_w, budget // block_h // block_w * block_w)
    tall = max(1, budget // min(wide, x1 - x0))
    if tall > block_h:
        tall = tall // block_h * block_h
    for top in _steps(y0, y1, tall):
        for left in _steps(x0, x1, wide):
            yield Window(left[0], top[0], left[1] - left[0], top[1] - top[0])


def _steps(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    while start < stop:
        end = min(stop, (start // step + 1) * step)
        yield start, end
        start = end


def read(
    dataset: Any, info: RasterInfo, bands: tuple[int, ...], window: Window
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Values ``(C, h, w)`` as float32, zero where invalid, and validity ``(h, w)``.

    A pixel is invalid where a chosen band is not finite, where the mask or alpha is 0, and where it is
    nodata: in all chosen bands for unsigned types, whose nodata (0, 255) is a real value of a single band, in
    any of them for the others, whose nodata (-9999) is not. Raises TruncatedRaster for blocks that cannot be
    read.
    """
    # alpha in the same call: blocks of strips would be unpacked anew for it
    wanted = [*bands] if info.alpha is None else [*bands, info.alpha]
    try:
        raw = dataset.read(wanted, window=window)
        mask = dataset.read_masks(1, window=window) if info.has_mask else None
    except RasterioIOError as error:
        raise TruncatedRaster("A block of the raster cannot be read: it is missing or damaged.") from error
    if info.alpha is not None:
        raw, mask = raw[:-1], raw[-1]
    valid = validity(raw, info.nodata, every_band=raw.dtype.kind == "u")
    if mask is not None:
        valid &= mask > 0
    with np.errstate(over="ignore", invalid="ignore"):
        values = raw.astype(np.float32)
    if raw.dtype.kind == "f":
        # beyond this, sums of pixels leave float32
        valid &= (np.abs(np.nan_to_num(values, nan=np.inf)) < 1e30).all(axis=0)
    if not valid.all():
        values[:, ~valid] = 0
    return values, valid


def validity(raw: NDArray[Any], nodata: float | None, *, every_band: bool) -> NDArray[np.bool_]:
    """``(h, w)``: False at nodata in every band (``every_band``) or in any band."""
    if nodata is None:
        return np.ones(raw.shape[1:], dtype=bool)
    marker = as_dtype(nodata, raw.dtype)
    if marker is None:
        return np.ones(raw.shape[1:], dtype=bool)
    is_nodata = raw == marker
    found: NDArray[np.bool_] = is_nodata.all(axis=0) if every_band else is_nodata.any(axis=0)
    return ~found


def as_dtype(value: float, dtype: np.dtype[Any]) -> Any | None:
    """The number as the raster's own type holds it, or None where that type cannot."""
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return dtype.type(value)
    limits = np.iinfo(dtype)
    if value != int(value) or not limits.min <= value <= limits.max:
        return None
    return dtype.type(int(value))
