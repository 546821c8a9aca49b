"""Rasters made for tests: small, in any CRS, wrong in any way that is asked for."""

import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.warp import transform as warp_transform

from app.rasters import RasterInfo
from app.rasters.checks import examine
from app.rasters.info import Limits

UTM = "EPSG:32632"
NORTH_UP = Affine(5, 0, 500_000, 0, -5, 5_600_000)


def write_tiff(
    path: Path,
    pixels: NDArray[Any],
    crs: str | None = UTM,
    transform: Affine | None = NORTH_UP,
    mask: NDArray[np.bool_] | None = None,
    **profile: Any,
) -> Path:
    """``(C, h, w)`` as a GeoTIFF; profile goes to rasterio."""
    interpretation = profile.pop("colorinterp", None)
    count, height, width = pixels.shape
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=width,
            height=height,
            count=count,
            dtype=pixels.dtype,
            crs=crs,
            transform=transform,
            **profile,
        ) as out:
            out.write(pixels)
            if interpretation is not None:
                out.colorinterp = interpretation
            if mask is not None:
                out.write_mask(mask)
    return path


def across(box: tuple[float, float, float, float], width: int, height: int) -> Affine:
    """North up over a box; rasterio's own ``from_bounds`` uses what affine 3.1 deprecated."""
    return Affine((box[2] - box[0]) / width, 0, box[0], 0, -(box[3] - box[1]) / height, box[3])


def info_of(path: Path) -> RasterInfo:
    """The checks without the child: for tests that are about something else."""
    return examine(path, Limits())


def place(lon: float, lat: float, crs: str) -> tuple[float, float]:
    """A place in a CRS, by rasterio's PROJ and not by the one that is tested."""
    x, y = warp_transform("EPSG:4326", crs, [lon], [lat])
    return x[0], y[0]


def noise(count: int, height: int, width: int, seed: int = 0, dtype: str = "uint8") -> NDArray[Any]:
    return np.random.default_rng(seed).integers(1, 255, (count, height, width)).astype(dtype)


def bare_tiff(
    tags: list[tuple[int, int, list[int]]], *, big: bool = False, order: str = "<", data: bytes = b""
) -> bytes:
    """A TIFF of one directory of ``(tag, type, values)`` and then ``data``: headers no writer would write."""
    sizes = {3: ("H", 2), 4: ("I", 4), 8: ("h", 2), 9: ("i", 4), 16: ("Q", 8), 17: ("q", 8)}
    inline, entry_size, start = (8, 20, 16) if big else (4, 12, 8)
    body, extra = b"", b""
    extra_at = start + (8 if big else 2) + entry_size * len(tags) + (8 if big else 4)
    for tag, kind, values in tags:
        packed = struct.pack(order + sizes[kind][0] * len(values), *values)
        if len(packed) > inline:
            field = struct.pack(order + ("Q" if big else "I"), extra_at + len(extra))
            extra += packed
        else:
            field = packed.ljust(inline, b"\0")
        body += struct.pack(order + "HH" + ("Q" if big else "I"), tag, kind, len(values)) + field
    mark = b"II" if order == "<" else b"MM"
    if big:
        head = mark + struct.pack(order + "HHHQQ", 43, 8, 0, 16, len(tags))
        return head + body + struct.pack(order + "Q", 0) + extra + data
    head = mark + struct.pack(order + "HIH", 42, 8, len(tags))
    return head + body + struct.pack(order + "I", 0) + extra + data


def sparse_tiff(path: Path, width: int, height: int, count: int = 1, **profile: Any) -> Path:
    """A GeoTIFF of a few kilobytes of which no block was written; profile goes to rasterio."""
    shape = {"width": width, "height": height, "count": count, "dtype": "uint8"}
    place = {"crs": UTM, "transform": NORTH_UP, "sparse_ok": True}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place, **profile):
        pass
    return path


def retagged(content: bytes, tag: int, *entries: tuple[int, int]) -> bytes:
    """A little-endian TIFF whose first directory has ``entries`` of ``(type, value)`` as its tag ``tag``."""
    big = content[2] == 43
    at, number, after = ("<Q", "<Q", 16) if big else ("<I", "<H", 8)
    size, start = struct.calcsize(at), struct.unpack_from(at, content, after - struct.calcsize(at))[0]
    count, length = struct.unpack_from(number, content, start)[0], 20 if big else 12
    begin = start + struct.calcsize(number)
    body = [content[begin + length * i : begin + length * (i + 1)] for i in range(count)]
    made = [struct.pack("<HH" + at[1] + at[1], tag, kind, 1, value) for kind, value in entries]
    before = [entry for entry in body if struct.unpack("<H", entry[:2])[0] < tag]
    behind = [entry for entry in body if struct.unpack("<H", entry[:2])[0] > tag]
    directory = [*before, *made, *behind]
    end = content[begin + length * count :][:size]
    patched = bytearray(content)
    patched[after - size : after] = struct.pack(at, len(content))
    return bytes(patched) + struct.pack(number, len(directory)) + b"".join(directory) + end
