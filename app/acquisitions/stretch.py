"""How the values of HR files become 0..255: one stretch per plan and sensor, fixed by the first request.

What the request or the file says of its values, and uint8, need no stretch and are not remembered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from app.rasters import Limits, RasterInfo, Scaling, value_scaling
from app.rasters.sandbox import sandbox
from app.rasters.scaling import STRETCH, WHITE

# each file's distribution as its values at these shares; between them a straight line
SHARES: Final[NDArray[np.float64]] = np.linspace(0, 1, 201)


@dataclass(frozen=True)
class Sensed:
    """A file's raster and the bands (from 1) that are looked at."""

    path: Path
    info: RasterInfo
    bands: tuple[int, ...]

    @property
    def sensor(self) -> str:
        """Files with the same type, band count and bands are taken for one sensor's."""
        return f"{self.info.dtype}/{self.info.count}/{','.join(map(str, self.bands))}"


def scalings(
    files: Sequence[Sensed],
    scale: float | None,
    offset: float | None,
    known: Mapping[str, Any],
    limits: Limits,
) -> tuple[list[Scaling], dict[str, Any]]:
    """A scaling for each file, and the stretches to remember by sensor (those of ``known`` are not new).

    A sensor met for the first time is stretched over all valid pixels of all its files in this request.
    """
    found: list[Scaling] = []
    fixed: dict[str, Any] = dict(known)
    for file in files:
        if file.sensor in fixed and not _says_itself(file.info, file.bands, scale, offset):
            found.append(Scaling.from_json(fixed[file.sensor]))
            continue
        scaling = value_scaling(file.path, file.info, file.bands, scale, offset, limits)
        if scaling.kind == "stretch":
            together = [other for other in files if other.sensor == file.sensor]
            if len(together) > 1:
                scaling = _joint_stretch(together, limits)
            fixed[file.sensor] = scaling.to_json()
        found.append(scaling)
    return found, {sensor: value for sensor, value in fixed.items() if sensor not in known}


def _says_itself(info: RasterInfo, bands: Sequence[int], scale: float | None, offset: float | None) -> bool:
    in_file = any(info.scales[band - 1] != 1 or info.offsets[band - 1] != 0 for band in bands)
    return scale is not None or offset is not None or in_file


def _joint_stretch(files: Sequence[Sensed], limits: Limits) -> Scaling:
    """The 2-98 % stretch of all files' valid pixels together, band by band."""
    weights = np.array([file.info.width * file.info.height * file.info.valid_fraction for file in files])
    values = np.array([_distribution(file, limits) for file in files])
    lines = [_line(values[:, band], weights / weights.sum()) for band in range(values.shape[1])]
    return Scaling("stretch", tuple(gain for gain, _ in lines), tuple(bias for _, bias in lines))


def _distribution(file: Sensed, limits: Limits) -> list[list[float]]:
    found: list[list[float]] = sandbox.call(
        "percentiles",
        file.path,
        limits,
        info=file.info.to_json(),
        bands=list(file.bands),
        quantiles=SHARES.tolist(),
    )
    return found


def _line(values: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float, float]:
    """Gain and bias from each file's values at ``SHARES`` (files, shares) and its share of all pixels."""
    at = np.unique(values)
    below = sum(
        weight * np.interp(at, of_file, SHARES) for weight, of_file in zip(weights, values, strict=True)
    )
    low, high = (float(value) for value in np.interp(STRETCH, below, at))
    if not low < high:
        low, high = float(at[0]), float(at[-1])
    if not low < high:
        return 0.0, WHITE / 2
    gain = WHITE / (high - low)
    return gain, -low * gain
