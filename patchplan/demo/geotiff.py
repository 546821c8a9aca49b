"""Writing the GeoTIFFs a client would send."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from app.rasters import RasterInfo


def colour_bands(info: RasterInfo) -> tuple[int, ...]:
    """All bands but the one that holds validity, counted from 1."""
    return tuple(number for number in range(1, info.count + 1) if number != info.alpha)


def write_geotiff(
    path: Path, pixels: NDArray[Any], valid: NDArray[np.bool_], transform: Affine, like: RasterInfo
) -> None:
    """``pixels`` ``(C, h, w)`` with the CRS, band meanings, scales and offsets of ``like``'s colour bands.

    What is not ``valid`` ``(h, w)`` goes into a mask inside the file, whatever marked it before.
    """
    bands = colour_bands(like)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=pixels.shape[2],
            height=pixels.shape[1],
            count=pixels.shape[0],
            dtype=pixels.dtype,
            crs=CRS.from_wkt(like.crs_wkt),
            transform=transform,
            compress="deflate",
            predictor=3 if pixels.dtype.kind == "f" else 2,
        ) as file,
    ):
        file.colorinterp = [_meaning(like, number) for number in bands]
        file.scales = [like.scales[number - 1] for number in bands]
        file.offsets = [like.offsets[number - 1] for number in bands]
        file.write(pixels)
        if not valid.all():
            file.write_mask(valid)


def _meaning(info: RasterInfo, band: int) -> ColorInterp:
    found = ColorInterp[info.colorinterp[band - 1]]
    # an alpha band that holds pictures: many writers call the fourth band so, near infrared or not
    return ColorInterp.undefined if found is ColorInterp.alpha else found
