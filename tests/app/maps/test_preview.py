"""Pictures of plans: what must be seen in them can be found in their pixels."""

import tracemalloc
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from affine import Affine
from numpy.typing import NDArray
from PIL import Image

from app.maps import Layer, render_preview
from app.maps.frame import framed
from app.maps.preview import AMBER
from app.rasters import Scaling, cut_tiles, read_hr_patches
from tests.app.rasters.making import NORTH_UP, info_of, noise, write_tiff

AS_IS = Scaling("as_is", (1.0,) * 3, (0.0,) * 3)


def layer(path: Path) -> Layer:
    return Layer(path, info_of(path), (1, 2, 3), AS_IS)


def opened(png: bytes) -> NDArray[Any]:
    image = Image.open(BytesIO(png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB")).astype(int)


def amber(image: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray(np.abs(image - np.array(AMBER)).max(axis=-1) < 40)


def choice(tiles: int, *chosen: tuple[int, int]) -> tuple[list[list[float]], list[list[bool]]]:
    marks = [[(t, p) in chosen for p in range(16)] for t in range(tiles)]
    return [[0.97 if m else 0.03 for m in row] for row in marks], marks


@pytest.fixture
def grey(tmp_path: Path) -> Layer:
    return layer(write_tiff(tmp_path / "grey.tif", np.full((3, 64, 64), 120, np.uint8)))


def test_only_the_chosen_patch_is_marked(grey: Layer) -> None:
    tiles = cut_tiles(grey.info)
    image = opened(render_preview(grey, tiles, *choice(1, (0, 6)), side=400))
    panel = amber(image[44:444, 24:424])
    rows, cols = np.nonzero(panel)
    # patch 6 is row 1, column 2 of four
    assert 97 <= rows.min() <= rows.max() <= 203
    assert 197 <= cols.min() <= cols.max() <= 303
    assert panel[100:200, 200:300].sum() > 300


def test_a_patch_without_ground_has_no_number(grey: Layer) -> None:
    tiles = cut_tiles(grey.info)
    numbers, marks = choice(1)
    with_numbers: list[list[float | None]] = [
        [None if p == 6 else number for p, number in enumerate(numbers[0])]
    ]
    image = opened(render_preview(grey, tiles, with_numbers, marks, side=400))[44:444, 24:424]
    inside = np.ptp(image[110:190, 10:390].reshape(80, 380, 3), axis=(0, 2))
    assert inside[200:280].max() == 0
    assert inside[110:180].max() > 100


def test_what_is_not_chosen_steps_back(grey: Layer) -> None:
    tiles = cut_tiles(grey.info)
    image = opened(render_preview(grey, tiles, *choice(1, (0, 0)), side=400))[44:444, 24:424]
    assert image[20, 20].tolist() == [120, 120, 120]
    assert image[120, 120].max() < 100


def test_hr_stands_beside_at_the_same_place(grey: Layer, tmp_path: Path) -> None:
    hr = layer(write_tiff(tmp_path / "hr.tif", noise(3, 256, 256), transform=NORTH_UP @ Affine.scale(0.25)))
    tiles = cut_tiles(grey.info)
    alone = opened(render_preview(grey, tiles, *choice(1, (0, 3)), side=300))
    both = opened(render_preview(grey, tiles, *choice(1, (0, 3)), hr=hr, side=300))
    assert both.shape[1] == alone.shape[1] + 300 + 24
    assert both[44:344, 348:648].std() > 20


def test_received_patches_are_shown_where_they_lie(grey: Layer, tmp_path: Path) -> None:
    tiles = cut_tiles(grey.info)
    hr = layer(
        write_tiff(
            tmp_path / "hr.tif",
            np.full((3, 256, 256), 250, np.uint8),
            transform=NORTH_UP @ Affine.scale(0.25),
        )
    )
    found = read_hr_patches(hr.path, hr.info, tiles, grey.info.crs_wkt, 64, AS_IS)
    received = (((0, p.patch), p.pixels) for p in found if p.patch in (9, 15) and p.pixels is not None)
    image = opened(render_preview(grey, tiles, *choice(1, (0, 9)), received=received, side=400))
    panel = image[44:444, 448:848]
    assert panel[250, 150].min() > 240
    assert panel[350, 350].min() > 240
    assert panel[50, 50].max() < 150


@pytest.mark.parametrize("size", [2_000, 400_000, 1e7])
def test_a_patch_far_larger_than_the_raster_is_cut_before_it_is_drawn(
    grey: Layer, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, int]] = []
    real = Image.Image.resize

    def noted(image: Image.Image, to: tuple[int, int], *rest: Any, **more: Any) -> Image.Image:
        made.append(to)
        return real(image, to, *rest, **more)

    monkeypatch.setattr(Image.Image, "resize", noted)
    # dark on the left, and light on the right of the patch's middle
    patch = np.full((3, 64, 64), 20, np.uint8)
    patch[:, :, 32:] = 240
    tiles = cut_tiles(grey.info, size)
    received = [((0, p), patch) for p in range(16)]
    panel = opened(render_preview(grey, tiles, *choice(1, (0, 0)), received=received, side=200))[44:244, 248:]
    # the raster is the north-western corner of patch 0
    assert panel[100, 100].max() < 40
    assert made
    assert all(wide <= 200 and tall <= 200 for wide, tall in made)


def test_a_patch_that_is_cut_keeps_its_place(grey: Layer) -> None:
    # the raster's 320 m hold one patch and a quarter of the next
    tiles = cut_tiles(grey.info, 1024)
    patch = np.full((3, 64, 64), 20, np.uint8)
    patch[:, :, 32:] = 240
    received = [((0, p), patch) for p in range(16)]
    panel = opened(render_preview(grey, tiles, *choice(1), received=received, side=400))[44:444, 448:848]
    row = panel[200, :, 0]
    # 400 pixels are 320 m: a patch of 256 m is light from pixel 160 on, and ends at 320
    light = np.nonzero(row[10:390] > 100)[0] + 10
    assert light.min() == pytest.approx(160, abs=4)
    assert light.max() == pytest.approx(320, abs=4)


@pytest.mark.parametrize("size", [25.1, 50, 120, 420])
def test_many_tiles_and_edges(grey: Layer, size: float) -> None:
    tiles = cut_tiles(grey.info, size)
    image = opened(render_preview(grey, tiles, *choice(len(tiles), (0, 5)), side=360))
    marked = amber(image[44:404, 24:384]) | (image[44:404, 24:384, 0] > image[44:404, 24:384, 2] + 60)
    rows, cols = np.nonzero(marked)
    side = size / 5.002 * 360 / 64 / 4
    assert marked.any()
    assert rows.max() <= 2 * side + 4
    assert cols.min() >= side - 4


def test_a_tile_narrower_than_a_pixel_has_no_outline(tmp_path: Path) -> None:
    # 400 m by 50 m of the ellipsoid leave a strip of a few centimetres
    strip = layer(write_tiff(tmp_path / "strip.tif", noise(3, 64, 80)))
    tiles = cut_tiles(strip.info, 50)
    assert min(tile.clipped[2] - tile.clipped[0] for tile in tiles) < 1
    image = opened(render_preview(strip, tiles, *choice(len(tiles), (0, 5)), side=960))
    assert amber(image).any()


def test_a_raster_that_is_not_square_keeps_its_shape(tmp_path: Path) -> None:
    wide = layer(write_tiff(tmp_path / "wide.tif", noise(3, 40, 160)))
    frame = framed(wide.info, cut_tiles(wide.info), 400)
    assert (frame.width, frame.height) == (400, 100)
    degrees = write_tiff(
        tmp_path / "deg.tif", noise(3, 60, 60), crs="EPSG:4326", transform=Affine(1e-4, 0, 8, 0, -1e-4, 60)
    )
    info = info_of(degrees)
    frame = framed(info, cut_tiles(info), 400)
    # at 60 degrees north a degree of longitude is half one of latitude
    assert frame.width == pytest.approx(200, abs=2)
    assert frame.height == 400


def test_a_rotated_raster_lies_on_paper(tmp_path: Path) -> None:
    place = Affine.translation(5e5, 5.6e6) @ Affine.rotation(45) @ Affine.scale(5, -5)
    turned = layer(write_tiff(tmp_path / "turned.tif", np.full((3, 64, 64), 60, np.uint8), transform=place))
    image = opened(
        render_preview(turned, cut_tiles(turned.info), *choice(1, *((0, p) for p in range(16))), side=300)
    )
    assert image[44 + 20, 24 + 20].min() > 200
    assert image[44 + 140, 24 + 110].max() < 90


def test_a_rotated_raster_takes_little_more_memory_than_one_that_is_not(tmp_path: Path) -> None:
    place = Affine.translation(5e5, 5.6e6) @ Affine.rotation(30) @ Affine.scale(5, -5)
    turned = layer(write_tiff(tmp_path / "turned.tif", noise(3, 64, 64), transform=place))
    straight = layer(write_tiff(tmp_path / "straight.tif", noise(3, 64, 64)))
    peaks = []
    for each in (straight, turned):
        tracemalloc.start()
        try:
            render_preview(each, cut_tiles(each.info), *choice(1))
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


def test_what_is_warped_in_parts_has_no_seams(tmp_path: Path) -> None:
    place = Affine.translation(5e5, 5.6e6) @ Affine.rotation(30) @ Affine.scale(1, -1)
    turned = layer(write_tiff(tmp_path / "turned.tif", noise(3, 600, 600), transform=place))
    tiles = cut_tiles(turned.info)
    parts = opened(render_preview(turned, tiles, *choice(1), side=600))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.maps.preview._WARPED_AT_ONCE", 600)
        whole = opened(render_preview(turned, tiles, *choice(1), side=600))
    assert np.abs(parts - whole).max() <= 1


@pytest.mark.parametrize(("side_m", "metres"), [(320, 50), (6.4, 1), (64_000, 10_000)])
def test_the_scale_bar_is_round_and_fits(tmp_path: Path, side_m: float, metres: float) -> None:
    place = Affine(side_m / 64, 0, 5e5, 0, -side_m / 64, 5.6e6)
    some = layer(write_tiff(tmp_path / "a.tif", noise(3, 64, 64), transform=place))
    frame = framed(some.info, cut_tiles(some.info), 400)
    length, pixels = frame.scale_bar()
    assert length == metres
    assert pixels == pytest.approx(metres / side_m * 400, abs=1)


def test_one_band_is_drawn_grey(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "pan.tif", noise(1, 64, 64))
    pan = Layer(path, info_of(path), (1,), Scaling("as_is", (1.0,), (0.0,)))
    image = opened(render_preview(pan, cut_tiles(pan.info), *choice(1), side=200))[50:100, 30:70]
    # the ink around the numbers is a blue black
    assert np.ptp(image, axis=-1).max() <= 12
