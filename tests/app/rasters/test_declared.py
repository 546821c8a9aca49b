"""What GDAL opens is held to the limits too, whatever our own reader of headers made of the same bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.core.errors import DecompressionBomb, ProblemError, RasterTooLarge, TruncatedRaster
from app.rasters import Limits, inspect
from app.rasters.checks import hold_opened
from app.rasters.gdal import open_tiff
from tests.app.rasters.making import noise, retagged, sparse_tiff, write_tiff
from tests.client import kept, post_hr, post_plan
from tests.plans import ready_plan

SHORT, SSHORT = 3, 8
WIDTH, SAMPLES = 256, 277
SIDE = 60_000
SMALL_BLOCKS: dict[str, Any] = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
BLOCKS = {"tiled": True, "blockxsize": 16_384, "blockysize": 8192}


def hold(path: Path, limits: Limits) -> None:
    with open_tiff(path) as dataset:
        hold_opened(dataset, path.stat().st_size, limits)


@pytest.mark.parametrize("bigtiff", ["YES", "NO"])
@pytest.mark.parametrize(
    ("limits", "problem", "said"),
    [
        (Limits(max_values=100 * 80 * 3 - 1), RasterTooLarge, "values is the limit"),
        (Limits(max_side=99), RasterTooLarge, "100 x 80"),
        (Limits(max_bands=2), RasterTooLarge, "3 bands"),
        (Limits(max_blocks=34), RasterTooLarge, "35 blocks"),
        (Limits(max_block_bytes=16 * 16 * 3 - 1), DecompressionBomb, "One block"),
    ],
)
def test_every_limit_holds_for_what_gdal_opened(
    tmp_path: Path, limits: Limits, problem: type[ProblemError], said: str, bigtiff: str
) -> None:
    path = write_tiff(tmp_path / "a.tif", noise(3, 80, 100), bigtiff=bigtiff, **SMALL_BLOCKS)
    hold(path, Limits(100 * 80 * 3, 100, 3, 35, 16 * 16 * 3))
    with pytest.raises(problem, match=said):
        hold(path, limits)


def test_bands_in_blocks_of_their_own_and_single_bits_are_counted_as_such(tmp_path: Path) -> None:
    apart = write_tiff(tmp_path / "apart.tif", noise(3, 80, 100), interleave="band", **SMALL_BLOCKS)
    hold(apart, Limits(max_blocks=105, max_block_bytes=256))
    with pytest.raises(RasterTooLarge):
        hold(apart, Limits(max_blocks=104, max_block_bytes=256))
    bits = write_tiff(tmp_path / "bits.tif", np.ones((1, 80, 100), np.uint8), nbits=1, **SMALL_BLOCKS)
    hold(bits, Limits(max_block_bytes=32))
    with pytest.raises(DecompressionBomb):
        hold(bits, Limits(max_block_bytes=31))


@pytest.mark.parametrize("bigtiff", ["YES", "NO"])
def test_a_false_width_after_the_true_one_is_refused(tmp_path: Path, bigtiff: str) -> None:
    path = sparse_tiff(tmp_path / "false.tif", SIDE, SIDE, bigtiff=bigtiff, compress="deflate", **BLOCKS)
    path.write_bytes(retagged(path.read_bytes(), WIDTH, (SHORT, SIDE), (SHORT, 16)))
    assert path.stat().st_size < 4000
    with pytest.raises(TruncatedRaster, match="tag 256 twice"):
        inspect(path)
    with open_tiff(path) as dataset:
        assert dataset.width == SIDE, "GDAL takes the first"
    with pytest.raises(DecompressionBomb, match="60000 x 60000"):
        hold(path, Limits())


@pytest.mark.parametrize("bigtiff", ["YES", "NO"])
def test_a_signed_number_of_bands_is_refused(tmp_path: Path, bigtiff: str) -> None:
    options = {"interleave": "pixel", "photometric": "minisblack", "bigtiff": bigtiff}
    path = sparse_tiff(tmp_path / "signed.tif", 3000, 3000, 60, compress="deflate", **options)
    path.write_bytes(retagged(path.read_bytes(), SAMPLES, (SSHORT, 60)))
    with pytest.raises(TruncatedRaster, match="tag 277 is of type 8"):
        inspect(path)
    with open_tiff(path) as dataset:
        assert dataset.count == 60, "GDAL reads it"
    with pytest.raises(DecompressionBomb, match="60 bands"):
        hold(path, Limits())


@pytest.mark.parametrize("bigtiff", ["YES", "NO"])
def test_neither_route_takes_such_a_file(client: TestClient, tmp_path: Path, bigtiff: str) -> None:
    path = sparse_tiff(tmp_path / "false.tif", SIDE, SIDE, bigtiff=bigtiff, compress="deflate", **BLOCKS)
    content = retagged(path.read_bytes(), WIDTH, (SHORT, SIDE), (SHORT, 16))
    plan = ready_plan()
    before = kept()
    for answer in (post_plan(client, content), post_hr(client, str(plan), content)):
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/truncated-raster")
        assert "tag 256 twice" in answer.json()["detail"]
    assert kept() == before
