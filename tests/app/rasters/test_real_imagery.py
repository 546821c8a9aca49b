"""Real rasters, WorldView-3 in degrees and NAIP in UTM; skipped where they are not at hand."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import CRS, Geod

from app.maps import Layer, render_preview
from app.rasters import (
    Scaling,
    choose_bands,
    cut_tiles,
    inspect,
    patch_bounds,
    plan_areas_km2,
    read_hr_patches,
    read_lr_tiles,
    tile_sides_m,
    value_scaling,
)
from app.rasters.gdal import open_tiff
from app.rasters.ground import metres_per_unit, project
from app.rasters.resample import Grid, resample
from tests.app.rasters.making import write_tiff

DATA = Path(os.environ.get("PATCHPLAN_DATA", Path(__file__).parents[4] / "shared" / "data"))
VEGAS = DATA / "vegas_wv3_30cm_rgbn.tif"
NAIP = DATA / "naip_5m_4band_2018.tif"

needs_vegas = pytest.mark.skipif(not VEGAS.exists(), reason=f"{VEGAS.name} is not in PATCHPLAN_DATA")
needs_naip = pytest.mark.skipif(not NAIP.exists(), reason=f"{NAIP.name} is not in PATCHPLAN_DATA")


@needs_vegas
def test_worldview_pixels_that_are_not_square() -> None:
    info = inspect(VEGAS)
    assert choose_bands(info) == ((1, 2, 3), ())
    (tile,) = cut_tiles(info)
    wide, tall = tile_sides_m(tile, info.crs_wkt)
    assert (wide / 1300, tall / 1300) == pytest.approx((0.2427, 0.2996), rel=1e-3)
    west, south, east, north = info.bounds
    true, _ = Geod(ellps="WGS84").polygon_area_perimeter(
        [west, east, east, west], [south, south, north, north]
    )
    (areas,) = plan_areas_km2([tile], info.crs_wkt)
    assert float(sum(areas)) * 1e6 == pytest.approx(true, rel=1e-9)


@needs_vegas
def test_worldview_tiles_are_square_on_the_ground() -> None:
    info = inspect(VEGAS)
    tiles = cut_tiles(info, 76.8)
    assert len(tiles) == 5 * 6
    assert tile_sides_m(tiles[7], info.crs_wkt) == pytest.approx((76.8, 76.8), rel=1e-4)
    bands, _ = choose_bands(info)
    scaling = value_scaling(VEGAS, info, bands)
    assert scaling.kind == "as_is"
    ((pixels, valid),) = read_lr_tiles(VEGAS, info, tiles, bands, scaling, 56)
    assert (valid[[0, 1, 6]] == 1).all()
    assert valid[-1].mean() < 0.05
    with rasterio.open(VEGAS) as dataset:
        # the first tile is 316 columns and 256 rows
        plain = dataset.read((1, 2, 3), window=((0, 256), (0, 316)))
    assert pixels[0].mean(axis=(1, 2)) == pytest.approx(plain.mean(axis=(1, 2)), abs=1)


@needs_vegas
@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32611", "EPSG:3421"])
def test_worldview_patches_of_a_coarse_plan_come_home(tmp_path: Path, crs: str) -> None:
    """LR by area averaging, HR patches cut out in degrees, UTM and Nevada's US feet."""
    info = inspect(VEGAS)
    with open_tiff(VEGAS) as dataset:
        place = Affine(*info.transform) @ Affine.scale(16.25)
        coarse, _ = resample(dataset, info, (1, 2, 3), Grid(place, 80, 80, info.crs_wkt))
        lr = inspect(
            write_tiff(tmp_path / "lr.tif", coarse.astype(np.uint8), crs="EPSG:4326", transform=place)
        )
        tiles = cut_tiles(lr, 76.8)
        tile = tiles[8]
        as_is = Scaling("as_is", (1.0,) * 3, (0.0,) * 3)
        straight = {p.patch: p for p in read_hr_patches(VEGAS, info, [tile], lr.crs_wkt, 256, as_is)}
        assert len(straight) == 16
        for patch in (0, 6):
            there = _grid_over(patch_bounds(tile, patch), info.crs_wkt, crs)
            cut, cover = resample(dataset, info, (1, 2, 3), there, samples=4)
            cut[:, cover < 0.5] = 0
            path = write_tiff(
                tmp_path / f"{patch}.tif",
                np.rint(cut).astype(np.uint8),
                crs=crs,
                transform=there.transform,
                nodata=0,
            )
            found = [
                p
                for p in read_hr_patches(path, inspect(path), tiles, lr.crs_wkt, 256, as_is)
                if p.pixels is not None
            ]
            home = next(p for p in found if p.patch == patch and p.tile == tile.index)
            assert home.pixels is not None
            direct = straight[patch].pixels
            assert direct is not None
            error = np.abs(home.pixels.astype(float) - direct)
            shifted = np.abs(np.roll(home.pixels.astype(float), 1, axis=2) - direct)
            assert error.mean() < 0.6 * shifted.mean()


def _grid_over(box: tuple[float, float, float, float], from_wkt: str, crs: str) -> Grid:
    wkt = CRS.from_user_input(crs).to_wkt()
    x, y = project(from_wkt, wkt, [box[0], box[2], box[2], box[0]], [box[1], box[1], box[3], box[3]], box[0])
    x_m, y_m = metres_per_unit(wkt, float(x.mean()), float(y.mean()))
    dx, dy = 0.3 / x_m, 0.3 / y_m
    width, height = int(np.ceil(np.ptp(x) / dx)), int(np.ceil(np.ptp(y) / dy))
    return Grid(Affine(dx, 0, float(x.min()), 0, -dy, float(y.max())), width, height, wkt)


@needs_naip
def test_naip_in_utm() -> None:
    info = inspect(NAIP)
    assert info.valid_fraction > 0.99
    assert info.nodata == 0
    assert choose_bands(info) == ((1, 2, 3), ("bands_assumed",))
    tiles = cut_tiles(info, 240)
    assert max(t.col for t in tiles) + 1 == 20
    areas = list(plan_areas_km2(tiles, info.crs_wkt))
    assert float(sum(map(sum, areas))) == pytest.approx(16.9189, abs=1e-3)
    inner = next(i for i, t in enumerate(tiles) if t.row == 5 and t.col == 5)
    assert float(sum(areas[inner])) == pytest.approx(0.24**2, rel=1e-4)


@needs_naip
def test_naip_is_drawn() -> None:
    info = inspect(NAIP)
    bands, _ = choose_bands(info)
    layer = Layer(NAIP, info, bands, value_scaling(NAIP, info, bands))
    tiles = cut_tiles(info, 300)
    marks = [[p == 5 for p in range(16)] for _ in tiles]
    png = render_preview(layer, tiles, [[0.5] * 16 for _ in tiles], marks, side=500)
    assert len(png) > 100_000
