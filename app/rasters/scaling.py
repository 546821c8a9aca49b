"""How stored numbers become the 0..255 the networks were trained on.

Decided once per plan and sensor, kept with the plan and used for every tile, so that one field's brightness
never depends on its neighbours'.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from app.core.errors import BadValues, NoValidPixels
from app.rasters.info import Limits, RasterInfo
from app.rasters.sandbox import sandbox

WHITE = 255.0
STRETCH = (0.02, 0.98)

SATURATED = "values_saturate"
FLAT = "values_hardly_differ"
LEAST_LEVELS = 2.0
"""Of 255: a raster whose middle 96 % lie closer together shows nothing, mostly for a scale applied twice."""

Kind = Literal["request", "gdal", "as_is", "stretch"]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Per chosen band: shown = stored * gain + bias, cut to 0..255. ``kind`` says where it comes from."""

    kind: Kind
    gain: tuple[float, ...]
    bias: tuple[float, ...]

    def apply(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """``(C, h, w)`` stored numbers to uint8."""
        gain = np.asarray(self.gain)[:, None, None]
        bias = np.asarray(self.bias)[:, None, None]
        shown: NDArray[np.uint8] = np.rint(np.clip(values * gain + bias, 0, WHITE)).astype(np.uint8)
        return shown

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        return cls(values["kind"], tuple(values["gain"]), tuple(values["bias"]))


def value_scaling(
    path: Path,
    info: RasterInfo,
    bands: Sequence[int],
    scale: float | None = None,
    offset: float | None = None,
    limits: Limits | None = None,
) -> Scaling:
    """The scaling for the chosen bands of one sensor.

    ``scale`` and ``offset`` of the request, else those GDAL finds in the file, turn stored numbers into
    reflectance as GDAL means them (stored * scale + offset), and reflectance 0..1 is shown as 0..255. Without
    either uint8 is taken as it is, and all else is stretched band by band from its 2nd to its 98th percentile
    over all valid pixels of the raster (found in the child, in bounded memory). Raises BadValues for numbers
    that are not finite or a scale of 0, NoValidPixels where there is nothing to stretch.
    """
    n = len(bands)
    if scale is not None or offset is not None:
        return _reflectance("request", [1.0 if scale is None else scale] * n, [offset or 0.0] * n)
    scales, offsets = [info.scales[b - 1] for b in bands], [info.offsets[b - 1] for b in bands]
    if any(s != 1 for s in scales) or any(o != 0 for o in offsets):
        return _reflectance("gdal", scales, offsets)
    if info.dtype == "uint8":
        return Scaling("as_is", (1.0,) * n, (0.0,) * n)
    low_high = sandbox.call(
        "percentiles",
        path,
        limits or Limits(),
        info=info.to_json(),
        bands=list(bands),
        quantiles=[*STRETCH, 0.0, 1.0],
    )
    lines = [_line(*of_band) for of_band in low_high]
    return Scaling("stretch", tuple(gain for gain, _ in lines), tuple(bias for _, bias in lines))


def range_warnings(
    path: Path, info: RasterInfo, bands: Sequence[int], scaling: Scaling, limits: Limits | None = None
) -> tuple[str, ...]:
    """What is odd about where a scale and offset take the valid pixels' values.

    ``values_saturate``: in some band more than 2 % end up below black or above white and are cut off.
    ``values_hardly_differ``: no band uses more than ``LEAST_LEVELS`` of the 255. uint8 as it is and a stretch
    fit by themselves. Raises TruncatedRaster.
    """
    if scaling.kind not in ("request", "gdal"):
        return ()
    try:
        ends = sandbox.call(
            "percentiles",
            path,
            limits or Limits(),
            info=info.to_json(),
            bands=list(bands),
            quantiles=list(STRETCH),
        )
    except NoValidPixels:
        return ()
    shown = [
        sorted(value * gain + bias for value in of_band)
        for of_band, gain, bias in zip(ends, scaling.gain, scaling.bias, strict=True)
    ]
    notes = []
    if any(low < -0.5 or high > WHITE + 0.5 for low, high in shown):
        notes.append(SATURATED)
    if all(high - low < LEAST_LEVELS for low, high in shown):
        notes.append(FLAT)
    return tuple(notes)


def _reflectance(kind: Kind, scales: Sequence[float], offsets: Sequence[float]) -> Scaling:
    numbers = [v * WHITE for v in (*scales, *offsets)]
    if not all(isfinite(v) for v in numbers) or any(s == 0 for s in scales):
        where = "of the request" if kind == "request" else "in the file"
        raise BadValues(f"scale and offset {where} must be finite, and scale not 0.")
    return Scaling(kind, tuple(s * WHITE for s in scales), tuple(o * WHITE for o in offsets))


def _line(low: float, high: float, least: float, most: float) -> tuple[float, float]:
    if not low < high:
        low, high = least, most
    if not low < high:
        return 0.0, WHITE / 2
    gain = WHITE / (high - low)
    return gain, -low * gain
