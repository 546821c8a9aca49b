"""The gate every uploaded raster goes through."""

from pathlib import Path

from app.rasters.info import Limits, RasterInfo
from app.rasters.sandbox import sandbox


def inspect(path: Path, limits: Limits | None = None) -> RasterInfo:
    """Reads the whole file once in a memory-limited child and says what it holds.

    Raises a RasterRefused subclass: NotATiff, TruncatedRaster, NoCrs, CrsNotEarth, BadBands (palette),
    BadDtype, NoValidPixels, RasterTooSmall, RasterTooLarge, DecompressionBomb, BadGeotransform.
    """
    return RasterInfo.from_json(sandbox.call("examine", path, limits or Limits()))
