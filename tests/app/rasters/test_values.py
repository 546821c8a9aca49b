"""Which bands are shown, and how stored numbers become 0..255."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import BadBands, BadValues, NoValidPixels
from app.rasters import RasterInfo, Scaling, choose_bands, range_warnings, value_scaling
from app.rasters.percentiles import percentiles
from tests.app.rasters.making import info_of, noise, write_tiff
from tests.app.rasters.places import PLACES, raster

RGB = raster(PLACES[0], 8, 8)


def with_bands(*names: str, alpha: int | None = None) -> RasterInfo:
    n = len(names)
    return replace(RGB, count=n, colorinterp=names, scales=(1.0,) * n, offsets=(0.0,) * n, alpha=alpha)


@pytest.mark.parametrize(
    ("info", "requested", "bands", "warnings"),
    [
        (with_bands("red", "green", "blue"), None, (1, 2, 3), ()),
        (with_bands("blue", "green", "red", "undefined"), None, (3, 2, 1), ()),
        (with_bands("gray", "undefined", "undefined", "undefined"), None, (1, 2, 3), ("bands_assumed",)),
        (with_bands("alpha", *["undefined"] * 3, alpha=1), None, (2, 3, 4), ("bands_assumed",)),
        (with_bands("red", "green", "blue"), [3, 1, 1], (3, 1, 1), ()),
        (with_bands("gray"), [1, 1, 1], (1, 1, 1), ()),
    ],
)  # fmt: skip
def test_bands(
    info: RasterInfo, requested: list[int] | None, bands: tuple[int, ...], warnings: tuple[str, ...]
) -> None:
    assert choose_bands(info, requested=requested) == (bands, warnings)


@pytest.mark.parametrize(
    ("info", "requested"),
    [
        (with_bands("gray"), None),
        (with_bands("gray", "alpha", alpha=2), None),
        (with_bands("red", "green", "blue"), [1, 2]),
        (with_bands("red", "green", "blue"), [0, 1, 2]),
        (with_bands("red", "green", "blue"), [1, 2, 4]),
        (with_bands("red", "green", "blue"), [-1, 2, 3]),
    ],
)
def test_bands_that_are_not_there(info: RasterInfo, requested: list[int] | None) -> None:
    with pytest.raises(BadBands):
        choose_bands(info, requested=requested)


def shown(scaling: Scaling, *stored: float) -> list[int]:
    return [int(v) for v in scaling.apply(np.array(stored)[:, None, None]).ravel()]


def test_bytes_are_taken_as_they_are(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", noise(3, 8, 8))
    scaling = value_scaling(path, info_of(path), (1, 2, 3))
    assert scaling.kind == "as_is"
    assert shown(scaling, 0, 17, 255) == [0, 17, 255]


def test_the_request_wins_then_the_file(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", noise(3, 8, 8, dtype="uint16"))
    info = replace(info_of(path), scales=(1e-4,) * 3, offsets=(-0.1,) * 3)
    of_file = value_scaling(path, info, (1, 2, 3))
    assert of_file.kind == "gdal"
    assert shown(of_file, 1000, 6000, 99_999) == [0, 128, 255]
    of_request = value_scaling(path, info, (1, 2, 3), scale=1 / 2000)
    assert of_request.kind == "request"
    assert shown(of_request, 0, 1000, 2000) == [0, 128, 255]
    assert Scaling.from_json(of_request.to_json()) == of_request


@pytest.mark.parametrize("numbers", [(0.0, 0.0), (float("nan"), 0.0), (1.0, float("inf")), (1e308, 0.0)])
def test_scales_that_are_none(tmp_path: Path, numbers: tuple[float, float]) -> None:
    path = write_tiff(tmp_path / "a.tif", noise(3, 8, 8))
    with pytest.raises(BadValues):
        value_scaling(path, info_of(path), (1, 2, 3), *numbers)


def test_everything_else_is_stretched_once_over_all_valid_pixels(tmp_path: Path) -> None:
    values = np.arange(3 * 10_000, dtype=np.uint16).reshape(3, 100, 100) % 9000
    values[:, 0] = 65_535
    path = write_tiff(tmp_path / "a.tif", values, nodata=65_535)
    scaling = value_scaling(path, info_of(path), (1, 2, 3))
    assert scaling.kind == "stretch"
    for band in range(3):
        low, high = np.quantile(values[band, 1:], [0.02, 0.98], method="nearest")
        assert shown(scaling, *([low] * 3))[band] == 0
        assert shown(scaling, *([high] * 3))[band] == 255
        assert shown(scaling, *([(int(low) + int(high)) / 2] * 3))[band] in (127, 128)


def test_a_raster_of_one_value_is_grey(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", np.full((3, 8, 8), 4000, np.uint16))
    assert shown(value_scaling(path, info_of(path), (1, 2, 3)), 4000, 4000, 4000) == [128, 128, 128]


def test_nothing_to_stretch(tmp_path: Path) -> None:
    values = np.full((3, 8, 8), np.nan, np.float32)
    values[0] = 1
    path = write_tiff(tmp_path / "a.tif", values)
    with pytest.raises(NoValidPixels):
        value_scaling(path, info_of(path), (1, 2, 3))


@settings(max_examples=25)
@given(
    kind=st.sampled_from(["uint8", "uint16", "int16", "int32", "float32", "float64"]),
    seed=st.integers(0, 1000),
    spread=st.sampled_from([0.0, 1e-6, 1.0, 300.0]),
)
def test_percentiles_are_exact(
    tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int, spread: float
) -> None:
    drawn: Any = np.random.default_rng(seed).normal(900, spread, (3, 11, 13))
    values = (drawn % 250 if kind == "uint8" else drawn if kind == "uint16" else -drawn).astype(kind)
    path = write_tiff(tmp_path_factory.mktemp("stretch") / "a.tif", values)
    found = percentiles(path, info_of(path), (1, 2, 3), (0.0, 0.02, 0.5, 0.98, 1.0))
    sorted_values = np.sort(values.reshape(3, -1).astype(np.float32), axis=1)
    ranks = [int(q * 142 + 0.5) for q in (0.0, 0.02, 0.5, 0.98, 1.0)]
    np.testing.assert_array_equal(found, sorted_values[:, ranks])


@pytest.mark.parametrize(
    ("scale", "offset", "dtype", "warnings"),
    [
        (1e-4, None, "uint16", ()),
        (1e-4, -0.1, "uint16", ()),
        (None, None, "uint16", ()),
        (None, None, "uint8", ()),
        (1.0, None, "uint16", ("values_saturate",)),
        (1e-4, -0.5, "uint16", ("values_saturate",)),
        (-1e-4, 1.0, "uint16", ()),
        (1e-8, None, "uint16", ("values_hardly_differ",)),
        (1.0, None, "uint8", ("values_saturate",)),
    ],
)
def test_a_scale_that_leads_out_of_black_and_white_is_told(
    tmp_path: Path, scale: float | None, offset: float | None, dtype: str, warnings: tuple[str, ...]
) -> None:
    pixels = np.linspace(1100, 9000, 3 * 32 * 32).reshape(3, 32, 32)
    stored = (pixels / 40 if dtype == "uint8" else pixels).astype(dtype)
    path = write_tiff(tmp_path / "a.tif", stored)
    info = info_of(path)
    scaling = value_scaling(path, info, (1, 2, 3), scale, offset)
    assert range_warnings(path, info, (1, 2, 3), scaling) == warnings
