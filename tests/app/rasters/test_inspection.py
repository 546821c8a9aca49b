"""Every refusal of an upload, met through the child that uploads really go through."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import CRS
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

from app.core import errors
from app.core.errors import ProblemError
from app.rasters import Limits, inspect
from app.rasters.sandbox import Sandbox, bare_environment, sandbox
from tests.app.rasters.making import NORTH_UP, UTM, noise, write_tiff

MOON = (
    'GEOGCS["Moon 2000",DATUM["D_Moon",SPHEROID["Moon",1737400,0]],PRIMEM["x",0],UNIT["degree",0.0174532925]]'
)
LOCAL = 'LOCAL_CS["building site",UNIT["metre",1]]'


def test_a_good_raster_is_described(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", noise(4, 30, 40), nodata=0, photometric="rgb")
    info = inspect(path)
    assert (info.width, info.height, info.count, info.dtype) == (40, 30, 4, "uint8")
    assert info.bounds == (500_000.0, 5_600_000.0 - 150, 500_200.0, 5_600_000.0)
    assert info.colorinterp[:3] == ("red", "green", "blue")
    assert info.nodata == 0
    assert info.gsd_m == pytest.approx(5 / 0.9996, rel=1e-6)
    assert info.valid_fraction == 1
    assert type(info).from_json(info.to_json()) == info


Made = tuple[np.ndarray[Any, Any], dict[str, Any]]
GREY = noise(3, 20, 20)

REFUSED: dict[str, tuple[type[ProblemError], Made]] = {
    "no crs": (errors.NoCrs, (GREY, {"crs": None})),
    "no georeference at all": (errors.NoCrs, (GREY, {"crs": None, "transform": None})),
    "crs without a transform": (errors.BadGeotransform, (GREY, {"transform": None})),
    "moon": (errors.CrsNotEarth, (GREY, {"crs": MOON, "transform": Affine(1e-4, 0, 9, 0, -1e-4, 50)})),
    "building site": (errors.CrsNotEarth, (GREY, {"crs": LOCAL})),
    "geocentric": (errors.CrsNotEarth, (GREY, {"crs": "EPSG:4978"})),
    "all nodata": (errors.NoValidPixels, (np.zeros((3, 20, 20), np.uint8), {"nodata": 0})),
    "all nan": (errors.NoValidPixels, (np.full((3, 20, 20), np.nan, np.float32), {})),
    "all infinite": (errors.NoValidPixels, (np.full((3, 20, 20), -np.inf, np.float64), {})),
    "all masked": (errors.NoValidPixels, (GREY, {"mask": np.zeros((20, 20), bool)})),
    "complex": (errors.BadDtype, (GREY.astype(np.complex64), {})),
    "one pixel": (errors.RasterTooSmall, (GREY[:, :1, :1], {})),
    "three pixels wide": (errors.RasterTooSmall, (GREY[:, :, :3], {})),
    "sheared": (errors.BadGeotransform, (GREY, {"transform": NORTH_UP @ Affine.shear(10)})),
    "singular": (errors.BadGeotransform, (GREY, {"transform": Affine(5, 5, 5e5, 5, 5, 5.6e6)})),
    "nan transform": (errors.BadGeotransform, (GREY, {"transform": Affine(5, 0, np.nan, 0, -5, 5.6e6)})),
    "pixels that vanish": (errors.BadGeotransform, (GREY, {"transform": Affine(1e-9, 0, 5e5, 0, -5, 5.6e6)})),
    "rows that vanish": (errors.BadGeotransform, (GREY, {"transform": Affine(5, 0, 5e5, 0, -1e-300, 5.6e6)})),
    "beyond the pole": (
        errors.BadGeotransform,
        (GREY, {"crs": "EPSG:4326", "transform": Affine(0.1, 0, 5, 0, -0.1, 91)}),
    ),
    "twice around": (
        errors.BadGeotransform,
        (GREY, {"crs": "EPSG:4326", "transform": Affine(36, 0, -180, 0, -1, 50)}),
    ),
    "off the projection": (errors.BadGeotransform, (GREY, {"transform": Affine(5e6, 0, 5e5, 0, -5e6, 5e7)})),
    "only alpha": (errors.BadBands, (GREY[:1], {"colorinterp": [ColorInterp.alpha]})),
    "too many bands": (errors.RasterTooLarge, (noise(65, 8, 8), {})),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path: Path, name: str) -> None:
    problem, (pixels, options) = REFUSED[name]
    path = write_tiff(tmp_path / "bad.tif", pixels, **options)
    with pytest.raises(problem) as met:
        inspect(path)
    assert type(met.value) is problem
    assert str(tmp_path) not in met.value.detail


def test_a_crs_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    named = CRS.from_epsg(31287).to_wkt("WKT1_GDAL").replace("MGI / Austria Lambert", "Oesterreich")
    path = write_tiff(tmp_path / "named.tif", GREY, crs=named.replace(',AUTHORITY["EPSG","31287"]', ""))
    assert inspect(path).crs_wkt.startswith('PROJCRS["Oesterreich"')
    content = path.read_bytes()
    assert b"Oesterreich" in content
    path.write_bytes(content.replace(b"Oesterreich", "Österreich ".encode("latin-1")))
    with pytest.raises(errors.TruncatedRaster, match="not UTF-8: set the CRS again"):
        inspect(path)


def test_palette_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "palette.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=20, height=20, count=1, dtype="uint8", crs=UTM, transform=NORTH_UP
    ) as out:
        out.write(noise(1, 20, 20))
        out.write_colormap(1, {1: (255, 0, 0, 255)})
    with pytest.raises(errors.BadBands, match="palette"):
        inspect(path)


def test_control_points_alone_are_refused(tmp_path: Path) -> None:
    points = [GroundControlPoint(r, c, 9 + c / 100, 50 - r / 100) for r in (0, 20) for c in (0, 20)]
    path = tmp_path / "gcps.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=20, height=20, count=3, dtype="uint8", crs="EPSG:4326", gcps=points
    ) as out:
        out.write(GREY)
    with pytest.raises(errors.NoCrs, match="control points"):
        inspect(path)


@pytest.mark.parametrize("where", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("compress", ["none", "deflate", "lzw", "jpeg", "zstd"])
def test_truncated_is_found(tmp_path: Path, where: float, compress: str) -> None:
    path = write_tiff(
        tmp_path / "cut.tif", noise(3, 200, 200), compress=compress, tiled=True, blockxsize=64, blockysize=64
    )
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * where)])
    with pytest.raises(errors.TruncatedRaster):
        inspect(path)


@pytest.mark.parametrize("compress", ["deflate", "lzw"])
def test_a_damaged_block_is_found(tmp_path: Path, compress: str) -> None:
    path = write_tiff(tmp_path / "hurt.tif", noise(3, 200, 200), compress=compress)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)
    with pytest.raises(errors.TruncatedRaster) as met:
        inspect(path)
    assert str(tmp_path) not in met.value.detail


def test_other_drivers_in_disguise_are_not_opened(tmp_path: Path) -> None:
    source = write_tiff(tmp_path / "source.tif", GREY)
    vrt = tmp_path / "vrt.tif"
    vrt.write_text(
        '<VRTDataset rasterXSize="20" rasterYSize="20"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{source}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    png = tmp_path / "png.tif"
    png.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    for path in (vrt, png):
        with pytest.raises(errors.NotATiff):
            inspect(path)


def test_nothing_beside_the_file_is_believed(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "alone.tif", GREY, crs=None, transform=None)
    (tmp_path / "alone.tfw").write_text("5\n0\n0\n-5\n500000\n5600000\n")
    (tmp_path / "alone.tif.aux.xml").write_text(f"<PAMDataset><SRS>{UTM}</SRS></PAMDataset>")
    with pytest.raises(errors.NoCrs):
        inspect(path)


def test_nan_and_infinity_are_pixels_without_value(tmp_path: Path) -> None:
    pixels = noise(3, 20, 20).astype(np.float32)
    pixels[:, :5] = np.nan
    pixels[:, 5:10] = np.inf
    assert inspect(write_tiff(tmp_path / "holes.tif", pixels)).valid_fraction == 0.5


def test_vendors_infrared_called_alpha_is_data(tmp_path: Path) -> None:
    options: dict[str, Any] = {"photometric": "rgb", "alpha": "yes"}
    infrared = inspect(write_tiff(tmp_path / "nir.tif", noise(4, 20, 20), **options))
    assert infrared.alpha is None
    assert infrared.warnings == ("alpha_is_data",)
    cut_out = noise(4, 20, 20)
    cut_out[3] = 255
    cut_out[3, :10] = 0
    real = inspect(write_tiff(tmp_path / "alpha.tif", cut_out, **options))
    assert (real.alpha, real.valid_fraction, real.warnings) == (4, 0.5, ())


def test_a_mask_in_the_file_counts(tmp_path: Path) -> None:
    mask = np.ones((20, 20), bool)
    mask[:5] = False
    info = inspect(write_tiff(tmp_path / "masked.tif", GREY, mask=mask))
    assert info.has_mask
    assert info.valid_fraction == 0.75


@pytest.mark.parametrize("bigtiff", ["YES", "NO"])
def test_bigtiff_is_a_tiff(tmp_path: Path, bigtiff: str) -> None:
    assert inspect(write_tiff(tmp_path / "big.tif", GREY, bigtiff=bigtiff)).count == 3


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
)
def test_every_real_type_is_read(tmp_path: Path, dtype: str) -> None:
    assert inspect(write_tiff(tmp_path / "type.tif", noise(3, 8, 8, dtype=dtype))).dtype == dtype


def test_a_bomb_within_the_pixel_limit_ends_at_the_memory_limit(tmp_path: Path) -> None:
    path = write_tiff(
        tmp_path / "zeros.tif", np.ones((3, 3000, 3000), np.float64), compress="deflate", blockysize=3000
    )
    assert path.stat().st_size < 2_000_000
    with pytest.raises(errors.DecompressionBomb):
        inspect(path)
    with pytest.raises(errors.DecompressionBomb):
        inspect(path, Limits(max_block_bytes=1 << 40, max_memory_bytes=64 << 20))


def test_a_raster_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    path = write_tiff(
        tmp_path / "long.tif", np.ones((3, 4000, 4000), np.uint8), compress="zstd", blockysize=16
    )
    started = time.monotonic()
    with pytest.raises(errors.DecompressionBomb):
        inspect(path, Limits(timeout_s=0.01))
    assert time.monotonic() - started < 5


def test_the_child_is_started_anew_after_it_died(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", GREY)
    inspect(path)
    child = sandbox._process
    assert child is not None
    child.kill()
    child.wait()
    assert inspect(path).count == 3
    assert sandbox._process is not child


def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", GREY)
    script = (
        "import os, sys; from pathlib import Path; from app.rasters import inspect; "
        "from app.rasters.sandbox import sandbox; inspect(Path(sys.argv[1])); "
        "print(sandbox._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60
    )
    child = int(ran.stdout)
    deadline = time.monotonic() + 10
    while (
        Path(f"/proc/{child}/cmdline").exists() and b"rasters" in Path(f"/proc/{child}/cmdline").read_bytes()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_mistake_of_ours_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", GREY)
    with pytest.raises(errors.Internal):
        sandbox.call("percentiles", path, Limits(), info={}, bands=[1], quantiles=[0.5])


def test_many_threads_share_the_child(tmp_path: Path) -> None:
    paths = [write_tiff(tmp_path / f"{n}.tif", noise(3, 10 + n, 20)) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert [info.height for info in pool.map(inspect, paths)] == [10 + n for n in range(8)]


def test_a_crs_is_made_plain(tmp_path: Path) -> None:
    compound = inspect(write_tiff(tmp_path / "compound.tif", GREY, crs="EPSG:25832+7837"))
    assert "VERT" not in compound.crs_wkt.upper().replace("VERTICAL_", "")
    feet = inspect(
        write_tiff(tmp_path / "feet.tif", GREY, crs="EPSG:2263", transform=Affine(10, 0, 98e4, 0, -10, 2e5))
    )
    assert feet.gsd_m == pytest.approx(3.048, rel=1e-3)


def test_one_more_upload_costs_a_fork_and_not_a_start(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", noise(3, 64, 64), compress="deflate")
    other = Sandbox()
    times = []
    try:
        for _ in range(6):
            started = time.monotonic()
            other.call("examine", path, Limits())
            times.append(time.monotonic() - started)
    finally:
        other.close()
    assert min(times[1:]) < times[0] / 2


def test_the_child_is_told_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHPLAN_DATABASE_URL", "postgresql://user:secret@host/db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert "secret" not in str(bare_environment())


def test_nothing_is_left_open_or_running(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", GREY)
    inspect(path)
    open_before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208
    for _ in range(8):
        inspect(path)
    open_after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208
    assert open_after == open_before
