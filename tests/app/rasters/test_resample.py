"""Resampling against sums by hand and against GDAL's own warper, which shares no code with ours."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from rasterio.enums import Resampling
from rasterio.env import get_gdal_config
from rasterio.warp import reproject, transform_bounds

from app.rasters import RasterInfo
from app.rasters.gdal import open_tiff
from app.rasters.resample import Grid, fill, resample
from tests.app.rasters.making import NORTH_UP, UTM, info_of, noise, place, write_tiff


def on_grid(
    path: Path, transform: Affine, width: int, height: int, crs: str | None = None
) -> tuple[Any, Any]:
    info = info_of(path)
    with open_tiff(path) as dataset:
        return resample(dataset, info, (1, 2, 3), Grid(transform, width, height, crs or info.crs_wkt))


def smooth(height: int, width: int, transform: Affine) -> NDArray[np.float32]:
    """Bands that are smooth functions of the place, so that a shift shows: slopes of 1, 2 and 1 per 100 m."""
    col, row = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    x, y = transform @ (col, row)
    return np.stack([(x - 5e5) / 100, (5.6e6 - y) / 50, (x + y - 6.1e6) / 100]).astype(np.float32)


def test_the_same_grid_gives_the_same_pixels(tmp_path: Path) -> None:
    pixels = noise(3, 20, 30)
    values, cover = on_grid(write_tiff(tmp_path / "a.tif", pixels), NORTH_UP, 30, 20)
    np.testing.assert_array_equal(values, pixels)
    assert (cover == 1).all()


def test_whole_factors_are_block_means(tmp_path: Path) -> None:
    pixels = noise(3, 20, 30)
    values, _ = on_grid(write_tiff(tmp_path / "a.tif", pixels), NORTH_UP @ Affine.scale(5), 6, 4)
    np.testing.assert_allclose(values, pixels.reshape(3, 4, 5, 6, 5).mean(axis=(2, 4)), rtol=1e-5)


@given(factor=st.floats(1.0, 7.3), shift=st.floats(0, 6), data=st.data())
def test_area_averages_keep_the_sum(
    tmp_path_factory: pytest.TempPathFactory, factor: float, shift: float, data: st.DataObject
) -> None:
    """A target that holds the whole raster weighs every pixel by its area, wherever the borders fall."""
    pixels = noise(3, 12, 15, seed=data.draw(st.integers(0, 9)))
    path = write_tiff(tmp_path_factory.mktemp("sum") / "a.tif", pixels)
    place = NORTH_UP @ Affine.translation(-shift, -shift) @ Affine.scale(factor)
    values, cover = on_grid(path, place, 30, 30)
    np.testing.assert_allclose(
        (values * cover).sum(axis=(1, 2)) * factor**2, pixels.sum(axis=(1, 2), dtype=float), rtol=1e-4
    )
    assert cover.sum() * factor**2 == pytest.approx(12 * 15, rel=1e-5)


@pytest.mark.parametrize("flip", [(1, -1), (-1, 1), (-1, -1)])
def test_stored_upside_down_or_mirrored_is_the_same_ground(tmp_path: Path, flip: tuple[int, int]) -> None:
    pixels = noise(3, 20, 30)
    turned = pixels[:, :: flip[1], :: flip[0]]
    place = (
        NORTH_UP
        @ Affine.translation(30 if flip[0] < 0 else 0, 20 if flip[1] < 0 else 0)
        @ Affine.scale(*flip)
    )
    target = NORTH_UP @ Affine.translation(2.3, 1.7) @ Affine.scale(2.5)
    plain = on_grid(write_tiff(tmp_path / "a.tif", pixels), target, 9, 6)
    stored = on_grid(write_tiff(tmp_path / "b.tif", turned, transform=place), target, 9, 6)
    np.testing.assert_allclose(plain[0], stored[0], rtol=1e-5)
    np.testing.assert_allclose(plain[1], stored[1], rtol=1e-5)


def test_coarser_rasters_are_interpolated(tmp_path: Path) -> None:
    transform = NORTH_UP @ Affine.scale(4)
    path = write_tiff(tmp_path / "a.tif", smooth(20, 20, transform), transform=transform)
    target = NORTH_UP @ Affine.translation(11, 9)
    values, cover = on_grid(path, target, 50, 50)
    np.testing.assert_allclose(values, smooth(50, 50, target), atol=1e-3)
    assert (cover == 1).all()


@given(holes=hnp.arrays(bool, (12, 16)), factor=st.sampled_from([0.3, 0.5, 1.0, 1.7, 3.0]))
def test_nodata_never_bleeds(
    tmp_path_factory: pytest.TempPathFactory, holes: NDArray[np.bool_], factor: float
) -> None:
    """Where all valid pixels have one value, so has every target pixel, next to holes too."""
    pixels = np.full((3, 12, 16), 77, np.int16)
    pixels[:, holes] = -9999
    if holes.all():
        pixels[:, 0, 0] = 77
    path = write_tiff(tmp_path_factory.mktemp("holes") / "a.tif", pixels, nodata=-9999)
    for transform in (NORTH_UP @ Affine.scale(factor), NORTH_UP @ Affine.rotation(20) @ Affine.scale(factor)):
        values, cover = on_grid(path, transform, 11, 13)
        known = cover > 0
        np.testing.assert_allclose(values[:, known], 77, rtol=1e-4)
        assert ((cover >= 0) & (cover <= 1)).all()


@pytest.mark.parametrize("marker", [np.nan, np.inf, -np.inf, 1e38, -3.4e38])
def test_values_that_are_none_are_holes(tmp_path: Path, marker: float) -> None:
    pixels = np.full((3, 10, 10), 5, np.float32)
    pixels[1, 3, 3] = marker
    values, cover = on_grid(write_tiff(tmp_path / "a.tif", pixels), NORTH_UP, 10, 10)
    assert cover[3, 3] == 0
    assert cover.sum() == 99
    assert (values[:, cover > 0] == 5).all()


def test_a_black_band_is_not_nodata_where_others_are_lit(tmp_path: Path) -> None:
    pixels = noise(3, 10, 10)
    pixels[0, 4] = 0
    pixels[:, 6] = 0
    _, cover = on_grid(write_tiff(tmp_path / "a.tif", pixels, nodata=0), NORTH_UP, 10, 10)
    assert (cover[4] == 1).all()
    assert (cover[6] == 0).all()


CASES = [
    ("another zone, finer", "EPSG:32631", 2.0),
    ("degrees", "EPSG:4326", None),
    ("another zone, coarser", "EPSG:32633", 22.0),
    ("web mercator", "EPSG:3857", 9.0),
]


@pytest.mark.parametrize(("name", "crs", "pixel"), CASES, ids=[c[0] for c in CASES])
def test_warping_agrees_with_gdal_and_with_the_ground(
    tmp_path: Path, name: str, crs: str, pixel: float | None
) -> None:
    source = smooth(200, 200, NORTH_UP)
    path = write_tiff(tmp_path / "a.tif", source)
    west, south, _, _ = transform_bounds(UTM, crs, 500_300, 5_599_300, 500_700, 5_599_700)
    step = pixel or 4e-5
    target = Affine(step, 0, west, 0, -step, south + 30 * step)
    values, cover = on_grid(path, target, 30, 30, CRS.from_user_input(crs).to_wkt())
    expected = np.zeros_like(values)
    coarse = pixel is not None and pixel > 5
    reproject(
        source,
        expected,
        src_transform=NORTH_UP,
        src_crs=UTM,
        dst_transform=target,
        dst_crs=crs,
        resampling=Resampling.average if coarse else Resampling.bilinear,
        tolerance=0.01,
    )
    inside = cover == 1
    assert inside.mean() > 0.9
    # slopes are 1 and 2 per 100 m: 0.01 is a metre, a fifth of a source pixel
    assert np.abs(values - expected)[:, inside].max() < (0.1 if coarse else 0.02)
    col, row = np.meshgrid(np.arange(30) + 0.5, np.arange(30) + 0.5)
    x, y = Transformer.from_crs(crs, UTM, always_xy=True).transform(*(target @ (col, row)))
    truth = np.stack([(x - 5e5) / 100, (5.6e6 - y) / 50, (x + y - 6.1e6) / 100])
    assert np.abs(values - truth)[:, inside].max() < 0.02


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.6, 3.7, 12.0])
@pytest.mark.parametrize("angle", [15, 45, 90])
def test_rotated_rasters_are_laid_straight(tmp_path: Path, scale: float, angle: float) -> None:
    rotated = Affine.translation(5e5, 5.6e6) @ Affine.rotation(angle) @ Affine.scale(2, -2)
    path = write_tiff(tmp_path / "a.tif", smooth(300, 300, rotated), transform=rotated)
    x, y = rotated @ (150, 150)
    n = int(60 / scale) if scale > 1 else 60
    target = Affine.translation(x - n * scale, y + n * scale) @ Affine.scale(2 * scale, -2 * scale)
    values, cover = on_grid(path, target, n, n)
    assert (cover == 1).all()
    np.testing.assert_allclose(values, smooth(n, n, target), atol=0.02)


def test_corners_outside_a_rotated_raster_are_not_covered(tmp_path: Path) -> None:
    rotated = Affine.translation(5e5, 5.6e6) @ Affine.rotation(45) @ Affine.scale(2, -2)
    path = write_tiff(tmp_path / "a.tif", noise(3, 100, 100), transform=rotated)
    info = info_of(path)
    xmin, ymin, xmax, ymax = info.bounds
    n = 64
    target = Affine((xmax - xmin) / n, 0, xmin, 0, -(ymax - ymin) / n, ymax)
    _, cover = on_grid(path, target, n, n)
    assert cover.mean() == pytest.approx(0.5, abs=0.01)
    assert cover[0, 0] == cover[-1, -1] == 0


def test_a_large_raster_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(3, 300, 400)
    options: list[dict[str, Any]] = [
        {},
        {"tiled": True, "blockxsize": 64, "blockysize": 32},
        {"interleave": "band"},
    ]
    target = NORTH_UP @ Affine.translation(-3.4, 2.2) @ Affine.scale(11.3, 9.1)
    for i, profile in enumerate(options):
        path = write_tiff(tmp_path / f"{i}.tif", pixels, **profile)
        whole = on_grid(path, target, 40, 40)
        monkeypatch.setattr("app.rasters.gdal.chunks.__defaults__", (None, 20_000))
        pieces = on_grid(path, target, 40, 40)
        monkeypatch.undo()
        np.testing.assert_allclose(whole[0], pieces[0], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(whole[1], pieces[1], rtol=1e-4, atol=1e-6)


def test_unpacked_blocks_are_kept_for_the_next_tile(tmp_path: Path) -> None:
    with open_tiff(write_tiff(tmp_path / "a.tif", noise(3, 8, 8))):
        assert get_gdal_config("GDAL_CACHEMAX") >= 1 << 20


@pytest.mark.parametrize("lon", [179.5, 180.4, -179.6])
def test_the_antimeridian_does_not_split_pixels(tmp_path: Path, lon: float) -> None:
    """A file in UTM zone 1 and a plan in degrees that runs on beyond 180, and the other way round."""
    degrees = Affine(0.01, 0, 179.0, 0, -0.01, -16.0)
    far = smooth(200, 200, NORTH_UP) + 50
    path = write_tiff(tmp_path / "degrees.tif", far, crs="EPSG:4326", transform=degrees)
    info: RasterInfo = info_of(path)
    assert info.bounds[2] == pytest.approx(181)
    x, y = place(lon, -17.0, "EPSG:32701")
    target = Affine(500, 0, x - 5000, 0, -500, y + 5000)
    _, cover = on_grid(path, target, 20, 20, CRS.from_epsg(32701).to_wkt())
    assert (cover == 1).all()


def test_fill_continues_what_is_known() -> None:
    values = np.zeros((2, 9, 13), np.float32)
    known = np.zeros((9, 13), bool)
    known[:, :5] = True
    values[0, :, :5], values[1, :, :5] = 10, 200
    filled = fill(values, known)
    np.testing.assert_allclose(filled[0], 10)
    np.testing.assert_allclose(filled[1], 200)
    assert (fill(values, np.zeros((9, 13), bool)) == values).all()


@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20)))
def test_fill_stays_between_what_is_known(known: NDArray[np.bool_]) -> None:
    values = np.random.default_rng(0).uniform(40, 90, (3, *known.shape)).astype(np.float32)
    filled = fill(values, known)
    np.testing.assert_array_equal(filled[:, known], values[:, known])
    if known.any():
        assert filled.min() >= values[:, known].min() - 1e-3
        assert filled.max() <= values[:, known].max() + 1e-3
