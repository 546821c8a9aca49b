"""Is this file imagery with a place on the Earth? Everything here runs in the memory-limited child.

All blocks are really read: a file that is cut short, lies about its blocks or unpacks to too much is found
here, before a plan exists.
"""

import warnings
from math import hypot, isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import CRSError
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioIOError

from app.core.errors import (
    BadBands,
    BadDtype,
    BadGeotransform,
    BadValues,
    CrsNotEarth,
    NoCrs,
    NoValidPixels,
    RasterTooSmall,
    TruncatedRaster,
)
from app.rasters.declared import Declared, hold
from app.rasters.gdal import as_dtype, chunks, open_tiff
from app.rasters.ground import lonlat, metres_per_unit, turn
from app.rasters.header import check_header
from app.rasters.info import Limits, RasterInfo, mean_side
from app.rasters.tiles import GRID

ALPHA_IS_DATA = "alpha_is_data"
_ALPHA_SHARE = 0.9
"""An alpha band is a mask when this share of it is 0 or full. Some vendors' near infrared is tagged alpha."""

_SHEAR = 1e-3
_NO_TRANSFORM: tuple[float, ...] = (1, 0, 0, 0, 1, 0)
"""What rasterio gives for a file without any."""

_FINEST = 128

_EARTH_RADIUS_M = (6_300_000, 6_400_000)


def examine(path: Path, limits: Limits) -> RasterInfo:
    """All checks of one upload. Raises the RasterRefused classes of ``app.core.errors``."""
    check_header(path, limits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            with open_tiff(path) as dataset:
                hold_opened(dataset, path.stat().st_size, limits)
                return _examine(dataset)
        except CPLE_BaseError as error:
            # where rasterio does not translate GDAL's own errors, as in a damaged list of keys
            raise TruncatedRaster(
                "The raster is damaged: parts of its header contradict each other."
            ) from error


def hold_opened(dataset: Any, size: int, limits: Limits) -> None:
    """Hold what GDAL opened from a file of ``size`` bytes against the limits, before any pixel is read.

    The header was read by other code: where the two disagree, it is GDAL's image that would be unpacked.
    Raises RasterTooLarge, DecompressionBomb, BadDtype.
    """
    bits = 8 * np.dtype(_one_dtype(dataset)).itemsize
    structure, of_band = dataset.tags(ns="IMAGE_STRUCTURE"), dataset.tags(1, ns="IMAGE_STRUCTURE")
    block_h, block_w = map(max, zip(*dataset.block_shapes, strict=True))
    declared = Declared(
        dataset.width,
        dataset.height,
        dataset.count,
        bits=int(of_band.get("NBITS", bits)),
        block_w=block_w,
        block_h=block_h,
        interleaved=structure.get("INTERLEAVE") == "PIXEL",
        packed="COMPRESSION" in structure,
    )
    hold(declared, size, limits)


def _examine(dataset: Any) -> RasterInfo:
    dtype = np.dtype(_one_dtype(dataset))
    if dataset.width < GRID or dataset.height < GRID:
        raise RasterTooSmall(
            f"The raster is {dataset.width} x {dataset.height} pixels; the {GRID} x {GRID} grid needs {GRID} "
            "each way."
        )
    if ColorInterp.palette in dataset.colorinterp:
        raise BadBands(
            "The raster is a palette image: expand it (gdal_translate -expand rgb) and send it again."
        )
    numbers = (*dataset.scales, *dataset.offsets)
    if not all(isfinite(n) for n in numbers) or 0 in dataset.scales:
        raise BadValues("The scale and offset in the file must be finite, and scale not 0.")
    crs_wkt = _crs(dataset)
    transform = _transform(dataset, crs_wkt)
    alpha, has_mask, fraction, notes = _read_all(dataset, dtype)
    info = RasterInfo(
        width=dataset.width,
        height=dataset.height,
        count=dataset.count,
        dtype=str(dtype),
        crs_wkt=crs_wkt,
        transform=transform,
        nodata=_finite(dataset.nodata),
        colorinterp=tuple(c.name for c in dataset.colorinterp),
        scales=tuple(float(s) for s in dataset.scales),
        offsets=tuple(float(o) for o in dataset.offsets),
        alpha=alpha,
        has_mask=has_mask,
        bounds=(0, 0, 0, 0),
        gsd_m=0,
        valid_fraction=fraction,
        warnings=notes,
    )
    return _placed(info)


def _one_dtype(dataset: Any) -> str:
    if len(set(dataset.dtypes)) != 1 or dataset.dtypes[0] is None:
        raise BadDtype("The bands of the raster differ in type, or have one that cannot be read.")
    name = str(dataset.dtypes[0])
    if "complex" in name:
        raise BadDtype("Complex pixels (radar) are not imagery this service can look at.")
    return name


def _crs(dataset: Any) -> str:
    if not dataset.crs:
        gcps, _ = dataset.gcps
        how = " only ground control points" if gcps else " only RPCs" if dataset.rpcs else " no CRS"
        raise NoCrs(f"The raster has{how}: warp it to a CRS (gdalwarp -t_srs) and send it again.")
    try:
        crs = CRS.from_wkt(dataset.crs.to_wkt())
    except CRSError as error:
        raise CrsNotEarth("The raster's CRS cannot be understood.") from error
    if crs.is_compound:
        crs = crs.sub_crs_list[0]
    plain = crs.source_crs if crs.is_bound and crs.source_crs is not None else crs
    radius = plain.ellipsoid.semi_major_metre if plain.ellipsoid is not None else 0
    on_earth = _EARTH_RADIUS_M[0] < radius < _EARTH_RADIUS_M[1]
    if not on_earth or not (plain.is_geographic or plain.is_projected) or "IAU" in str(plain.to_authority()):
        raise CrsNotEarth(f"The raster's CRS ({crs.name}) is not bound to the Earth's surface.")
    return str(crs.to_wkt())


def _transform(dataset: Any, crs_wkt: str) -> tuple[float, float, float, float, float, float]:
    t = dataset.transform
    values = (float(t.a), float(t.b), float(t.c), float(t.d), float(t.e), float(t.f))
    if not all(isfinite(v) for v in values):
        raise BadGeotransform("The geotransform holds numbers that are not finite.")
    if values == _NO_TRANSFORM:
        gcps, _ = dataset.gcps
        if gcps or dataset.rpcs:
            raise NoCrs(
                "The raster has only control points or RPCs: warp it (gdalwarp -t_srs) and send it again."
            )
        raise BadGeotransform("The raster has a CRS but no geotransform.")
    a, b, _, d, e, _ = values
    along_row, along_col = hypot(a, d), hypot(b, e)
    if along_row == 0 or along_col == 0 or abs(a * e - b * d) < 1e-9 * along_row * along_col:
        raise BadGeotransform("The geotransform is singular: the raster has no extent on the ground.")
    if _sheared(values, dataset, crs_wkt):
        raise BadGeotransform("The geotransform is sheared: rows and columns are not at right angles.")
    return values


def _sheared(values: tuple[float, ...], dataset: Any, crs_wkt: str) -> bool:
    """Right angles count in CRS units or on the ground: in degrees a true rotation looks sheared."""
    a, b, c, d, e, f = values
    if b == 0 and d == 0:
        return False
    if abs(a * b + d * e) < _SHEAR * hypot(a, d) * hypot(b, e):
        return False
    col, row = dataset.width / 2, dataset.height / 2
    mx, my = metres_per_unit(crs_wkt, a * col + b * row + c, d * col + e * row + f)
    a, b, d, e = a * mx, b * mx, d * my, e * my
    return abs(a * b + d * e) >= _SHEAR * hypot(a, d) * hypot(b, e)


def _placed(info: RasterInfo) -> RasterInfo:
    """Bounds and GSD, once the whole outline was found to be on the Earth."""
    xs, ys = zip(*info.outline, strict=True)
    bounds = (min(xs), min(ys), max(xs), max(ys))
    # patches are cut in coordinates: these must tell a hundredth of a pixel from the next
    if min(info.pixel_units()) < _FINEST * np.spacing(max(map(abs, bounds))):
        raise BadGeotransform("The pixels of the raster are too small for doubles to tell them apart.")
    full = turn(info.crs_wkt)
    if full is not None:
        if bounds[2] - bounds[0] > full * (1 + 1e-9):
            raise BadGeotransform("The raster goes more than once around the Earth.")
        if max(-bounds[0], bounds[2]) > 1.5 * full or max(-bounds[1], bounds[3]) > full / 4 * (1 + 1e-9):
            raise BadGeotransform("The raster lies outside the longitudes and latitudes there are.")
    steps = np.linspace(0, 1, 9)
    box_x = bounds[0] + (bounds[2] - bounds[0]) * steps
    box_y = bounds[1] + (bounds[3] - bounds[1]) * steps
    lonlat(info.crs_wkt, *np.meshgrid(box_x, box_y))
    mx, my = metres_per_unit(info.crs_wkt, *info.centre)
    a, b, _, d, e, _ = info.transform
    gsd = mean_side(hypot(a * mx, d * my), hypot(b * mx, e * my))
    if not isfinite(gsd) or gsd <= 0:
        raise BadGeotransform("The pixels of the raster have no size on the ground.")
    return RasterInfo.from_json(info.to_json() | {"bounds": bounds, "gsd_m": gsd})


def _read_all(dataset: Any, dtype: np.dtype[Any]) -> tuple[int | None, bool, float, tuple[str, ...]]:
    """Reads every block; returns the alpha band, whether there is a mask, and the share of valid pixels."""
    alpha = next((i for i, c in enumerate(dataset.colorinterp, 1) if c == ColorInterp.alpha), None)
    flags = dataset.mask_flag_enums[0]
    has_mask = alpha is None and MaskFlags.per_dataset in flags and MaskFlags.nodata not in flags
    marker = None if _finite(dataset.nodata) is None else as_dtype(float(dataset.nodata), dtype)
    colour = [i for i in range(dataset.count) if i + 1 != alpha]
    with_alpha = without = extremes = 0
    try:
        for window in chunks(dataset):
            raw = dataset.read(window=window)
            valid = _any_valid(raw[colour], marker)
            if has_mask:
                valid &= dataset.read_masks(1, window=window) > 0
            without += int(valid.sum())
            if alpha is not None:
                opaque = raw[alpha - 1]
                full = np.iinfo(dtype).max if dtype.kind in "iu" else 1
                extremes += int(((opaque == 0) | (opaque == full)).sum())
                with_alpha += int((valid & (opaque > 0)).sum())
    except RasterioIOError as error:
        reason = _reason(error)
        if "allocate" in reason or "memory" in reason:
            raise MemoryError from error
        raise TruncatedRaster(f"The raster cannot be read to its end: {reason}") from error
    pixels = dataset.width * dataset.height
    notes: tuple[str, ...] = ()
    if alpha is not None and extremes < _ALPHA_SHARE * pixels:
        alpha, notes = None, (ALPHA_IS_DATA,)
    count = without if alpha is None else with_alpha
    if count == 0:
        raise NoValidPixels("Every pixel of the raster is nodata, masked, NaN or infinite.")
    return alpha, has_mask, count / pixels, notes


def _any_valid(raw: NDArray[Any], marker: Any | None) -> NDArray[np.bool_]:
    if raw.shape[0] == 0:
        raise BadBands("The raster has an alpha band and no other.")
    good: NDArray[np.bool_] = np.isfinite(raw) if raw.dtype.kind == "f" else np.ones(raw.shape, bool)
    if marker is not None:
        good &= np.asarray(raw != marker)
    return np.asarray(good.any(axis=0))


def _reason(error: Exception) -> str:
    cause = str(error.__cause__ or error).splitlines()[0]
    # GDAL names the file on the server's disk
    return cause.rsplit(": ", 1)[-1].rsplit(":", 1)[-1].strip() or "a block is damaged."


def _finite(value: float | None) -> float | None:
    return None if value is None or not isfinite(value) else float(value)
