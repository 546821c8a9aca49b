"""A drawn scene: a small town with a place on the ground, the same pixels every time, where nothing real is.

1024 x 768 pixels of 0.3 m. Twelve squares of 76.8 m, one subject each: tilled fields, a wood, a pond, a
ball park; houses, a crossing with shops, a car park, tennis courts; close houses, tanks, a landing strip, a
motorway. It is a drawing: what a network makes of it says nothing about how well the network sees.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

SQUARE: Final = 256
COLUMNS, ROWS = 4, 3
GSD_M: Final = 0.3
EPSG: Final = 32617
CORNER: Final = (404000.0, 3285400.0)

# drawn at twice the size and made smaller, for soft edges
FINE: Final = 2
SEED: Final = 7

Colour = tuple[int, int, int]
Brush = ImageDraw.ImageDraw
Random = np.random.Generator

GRASS: Final = (104, 122, 78)
ASPHALT: Final = (92, 93, 96)
CONCRETE: Final = (168, 165, 158)
PAINT: Final = (226, 226, 220)
SOIL: Final = (150, 124, 92)
WATER: Final = (48, 72, 84)
LEAVES: Final = ((52, 78, 42), (62, 90, 48), (44, 68, 38), (74, 98, 56))
ROOFS: Final = ((138, 88, 70), (120, 118, 116), (164, 146, 124), (98, 84, 78), (176, 172, 168))
CARS: Final = ((222, 222, 224), (40, 42, 46), (148, 30, 34), (44, 72, 128), (130, 132, 136))


def draw_scene(path: Path) -> None:
    """Write the scene as an RGB GeoTIFF in UTM zone 17N."""
    pixels = np.moveaxis(town(), -1, 0)
    transform = Affine(GSD_M, 0, CORNER[0], 0, -GSD_M, CORNER[1])
    size = {"width": pixels.shape[2], "height": pixels.shape[1], "count": 3, "dtype": "uint8"}
    with rasterio.open(
        path, "w", driver="GTiff", **size, crs=f"EPSG:{EPSG}", transform=transform, compress="deflate"
    ) as file:
        file.write(pixels)


def town() -> NDArray[np.uint8]:
    """The drawing, ``(768, 1024, 3)``."""
    rng = np.random.default_rng(SEED)
    side = SQUARE * FINE
    image = Image.new("RGB", (side * COLUMNS, side * ROWS), GRASS)
    for place, subject in enumerate(SUBJECTS):
        row, col = divmod(place, COLUMNS)
        square = Image.new("RGB", (side, side), GRASS)
        subject(ImageDraw.Draw(square), rng)
        image.paste(square, (col * side, row * side))
    _streets(ImageDraw.Draw(image), side)
    image = image.filter(ImageFilter.GaussianBlur(FINE * 0.4))
    small = image.resize((SQUARE * COLUMNS, SQUARE * ROWS), Image.Resampling.BOX)
    return _grain(np.asarray(small, np.float32), rng)


def _grain(pixels: NDArray[np.float32], rng: Random) -> NDArray[np.uint8]:
    """Unevenness at several scales, as ground has it."""
    height, width, _ = pixels.shape
    for cells, strength in ((16, 0.05), (64, 0.04), (256, 0.03)):
        shape = (max(1, cells * height // width), cells)
        coarse = rng.normal(0, strength, shape).astype(np.float32)
        spread = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        pixels = pixels * (1 + np.asarray(spread)[..., None])
    rough = pixels + rng.normal(0, 4, (height, width, 1)) + rng.normal(0, 1.5, pixels.shape)
    return np.clip(np.rint(rough), 0, 255).astype(np.uint8)


# --- strokes, in pixels of the square -----------------------------------------------------------------------


def _box(draw: Brush, x: float, y: float, w: float, h: float, colour: Colour) -> None:
    draw.rectangle((x * FINE, y * FINE, (x + w) * FINE - 1, (y + h) * FINE - 1), fill=colour)


def _line(draw: Brush, points: list[tuple[float, float]], colour: Colour, width: float) -> None:
    draw.line([(x * FINE, y * FINE) for x, y in points], colour, max(1, round(width * FINE)), joint="curve")


def _disc(draw: Brush, x: float, y: float, radius: float, colour: Colour) -> None:
    draw.ellipse([(v + s * radius) * FINE for s in (-1, 1) for v in (x, y)], fill=colour)


def _shadow(colour: Colour) -> Colour:
    return colour[0] // 3 + 12, colour[1] // 3 + 14, colour[2] // 3 + 18


def _tree(draw: Brush, rng: Random, x: float, y: float, radius: float) -> None:
    _disc(draw, x + radius * 0.4, y + radius * 0.5, radius, (38, 48, 36))
    leaf = LEAVES[int(rng.integers(len(LEAVES)))]
    _disc(draw, x, y, radius, leaf)
    _disc(draw, x - radius * 0.25, y - radius * 0.3, radius * 0.55, _lighter(leaf, 14))


def _lighter(colour: Colour, by: int) -> Colour:
    return min(255, colour[0] + by), min(255, colour[1] + by), min(255, colour[2] + by)


def _house(draw: Brush, rng: Random, x: float, y: float, w: float, h: float) -> None:
    """A roof of two slopes and its shadow."""
    roof = ROOFS[int(rng.integers(len(ROOFS)))]
    _box(draw, x + 4, y + 5, w, h, _shadow(GRASS))
    _box(draw, x, y, w, h / 2, _lighter(roof, 18))
    _box(draw, x, y + h / 2, w, h / 2, roof)
    _line(draw, [(x, y + h / 2), (x + w, y + h / 2)], _lighter(roof, 34), 0.8)


def _car(draw: Brush, rng: Random, x: float, y: float, *, upright: bool) -> None:
    w, h = (6, 14) if upright else (14, 6)
    colour = CARS[int(rng.integers(len(CARS)))]
    _box(draw, x + 1.5, y + 1.5, w, h, (52, 53, 56))
    _box(draw, x, y, w, h, colour)
    inset = (1, 4, w - 2, 3) if upright else (4, 1, 3, h - 2)
    _box(draw, x + inset[0], y + inset[1], inset[2], inset[3], (34, 38, 44))


def _street(draw: Brush, x: float, y: float, w: float, h: float, *, upright: bool) -> None:
    _box(draw, x - 3, y - 3, w + 6, h + 6, CONCRETE)
    _box(draw, x, y, w, h, ASPHALT)
    for at in range(4, int(h if upright else w), 20):
        dash = (x + w / 2 - 0.5, y + at, 1, 9) if upright else (x + at, y + h / 2 - 0.5, 9, 1)
        _box(draw, *dash, PAINT)


def _streets(draw: Brush, side: int) -> None:
    """The roads between the rows of squares."""
    for row in (1, 2):
        y = row * side // FINE - 11
        _street(draw, -8, y, COLUMNS * SQUARE + 16, 22, upright=False)


# --- subjects -----------------------------------------------------------------------------------------------


def _fields(draw: Brush, rng: Random) -> None:
    _box(draw, 0, 0, 256, 256, SOIL)
    for x, w, colour in ((0, 118, (120, 132, 70)), (124, 64, (176, 154, 104)), (194, 62, (96, 118, 62))):
        _box(draw, x, 0, w, 240, colour)
        for furrow in range(x, x + w, 4):
            _box(draw, furrow, 0, 1.2, 240, _lighter(colour, -18 + int(rng.integers(6))))


def _wood(draw: Brush, rng: Random) -> None:
    _box(draw, 0, 0, 256, 256, (58, 72, 46))
    for _ in range(420):
        x, y, radius = rng.uniform(-4, 260), rng.uniform(-4, 240), rng.uniform(5, 11)
        _tree(draw, rng, x, y, radius)


def _pond(draw: Brush, rng: Random) -> None:
    shape = [(70, 60), (130, 38), (190, 66), (206, 120), (180, 176), (118, 190), (66, 164), (48, 108)]
    draw.polygon([(x * FINE, y * FINE) for x, y in shape], fill=(150, 142, 112))
    inner = [(128 + (x - 128) * 0.93, 116 + (y - 116) * 0.93) for x, y in shape]
    draw.polygon([(x * FINE, y * FINE) for x, y in inner], fill=WATER)
    _line(draw, [(4, 220), (60, 205), (140, 214), (252, 196)], (176, 164, 138), 4)
    for _ in range(26):
        x, y = rng.uniform(4, 252), rng.uniform(4, 240)
        if not (40 < x < 214 and 30 < y < 198):
            _tree(draw, rng, x, y, rng.uniform(6, 10))


def _ball_park(draw: Brush, rng: Random) -> None:
    _box(draw, 0, 0, 256, 256, (96, 124, 70))
    corner, reach = (128.0, 214.0), 150
    draw.pieslice([(v + s * reach) * FINE for s in (-1, 1) for v in corner], 225, 315, fill=(92, 130, 66))
    draw.pieslice([(v + s * 84) * FINE for s in (-1, 1) for v in corner], 225, 315, fill=(172, 132, 96))
    grass = [corner[0], corner[1] - 12, corner[0] + 44, corner[1] - 56, corner[0], corner[1] - 100]
    draw.polygon([v * FINE for v in (*grass, corner[0] - 44, corner[1] - 56)], fill=(100, 138, 72))
    _disc(draw, corner[0], corner[1] - 52, 6, (178, 140, 104))
    for side in (-1, 1):
        _line(draw, [corner, (corner[0] + side * 106, corner[1] - 106)], PAINT, 1.2)
    for _ in range(10):
        _tree(draw, rng, rng.uniform(6, 250), rng.uniform(6, 34), rng.uniform(6, 9))


def _houses(draw: Brush, rng: Random) -> None:
    _street(draw, 118, -8, 20, 272, upright=True)
    for y in (34, 108, 182):
        for x, drive in ((30, 80), (162, 140)):
            _box(draw, drive, y + 14, 40, 9, CONCRETE)
            _house(draw, rng, x + rng.uniform(-4, 4), y + rng.uniform(-4, 4), 54, 36)
            _tree(draw, rng, x + rng.uniform(-16, -8), y + rng.uniform(0, 40), rng.uniform(6, 10))
            _tree(draw, rng, x + rng.uniform(20, 70), y - 12, rng.uniform(5, 8))
    _car(draw, rng, 146, 123, upright=False)
    _car(draw, rng, 122, 60, upright=True)


def _crossing(draw: Brush, rng: Random) -> None:
    for x, y, w, h in ((12, 22, 76, 80), (170, 20, 74, 84), (14, 160, 72, 74), (172, 158, 70, 70)):
        _box(draw, x - 8, y - 6, w + 16, h + 12, CONCRETE)
        _house(draw, rng, x, y, w, h)
    _street(draw, 114, -8, 28, 272, upright=True)
    _street(draw, -8, 114, 272, 28, upright=False)
    _box(draw, 114, 114, 28, 28, ASPHALT)
    for at in range(116, 140, 5):
        for stripe in ((at, 104, 3, 8), (at, 144, 3, 8), (104, at, 8, 3), (144, at, 8, 3)):
            _box(draw, *stripe, PAINT)
    for x, y in ((119, 66), (131, 172)):
        _car(draw, rng, x, y, upright=True)
    _car(draw, rng, 60, 132, upright=False)


def _car_park(draw: Brush, rng: Random) -> None:
    _box(draw, 8, 14, 240, 224, ASPHALT)
    for y in (20, 76, 132, 188):
        for x in range(18, 236, 11):
            _box(draw, x, y, 1, 40, PAINT)
            for at in (y + 3, y + 23):
                if rng.random() < 0.75 and x < 226:
                    _car(draw, rng, x + 3, at, upright=True)
        _box(draw, 18, y + 19.5, 209, 1, PAINT)


def _tennis(draw: Brush, rng: Random) -> None:
    for x in (22, 136):
        for y in (24, 134):
            _box(draw, x, y, 98, 94, (74, 116, 94))
            _box(draw, x + 30, y + 8, 37, 79, (88, 104, 150))
            for line in ((30, 8, 37, 1), (30, 86, 37, 1), (30, 8, 1, 79), (66, 8, 1, 79), (34, 8, 1, 79)):
                _box(draw, x + line[0], y + line[1], line[2], line[3], PAINT)
            for line in ((62, 8, 1, 79), (34, 26, 28, 1), (34, 68, 28, 1), (48, 26, 1, 42)):
                _box(draw, x + line[0], y + line[1], line[2], line[3], PAINT)
            _box(draw, x + 27, y + 47, 43, 1.2, (40, 44, 48))
    for _ in range(8):
        _tree(draw, rng, rng.uniform(6, 250), 236, rng.uniform(4, 7))


def _close_houses(draw: Brush, rng: Random) -> None:
    _box(draw, 0, 0, 256, 256, (122, 124, 104))
    for y in (26, 88, 168, 222):
        for x in range(8, 236, 40):
            _house(draw, rng, x + rng.uniform(-2, 2), y + rng.uniform(-3, 3), 31, rng.uniform(22, 28))
            if rng.random() < 0.5:
                _tree(draw, rng, x + 35, y - 6, rng.uniform(3, 6))
    _street(draw, -8, 132, 272, 18, upright=False)
    for x in (22, 96, 170, 220):
        _car(draw, rng, x, 134 + 8 * int(rng.integers(2)), upright=False)


def _tanks(draw: Brush, _: Random) -> None:
    _box(draw, 8, 16, 240, 232, (158, 148, 130))
    for x, y, radius in ((70, 80, 38), (178, 78, 42), (66, 186, 34), (150, 190, 26), (212, 188, 26)):
        _disc(draw, x + 6, y + 8, radius, (70, 66, 62))
        _disc(draw, x, y, radius, (226, 225, 220))
        _disc(draw, x, y, radius * 0.9, (206, 206, 204))
        _disc(draw, x, y, radius * 0.08, (120, 120, 120))
        _line(draw, [(x, y), (x + radius * 0.9, y)], (150, 150, 150), 1)
    _line(draw, [(8, 130), (248, 130)], (112, 104, 96), 3)


def _strip(draw: Brush, _: Random) -> None:
    _box(draw, 0, 0, 256, 256, (128, 132, 88))
    _box(draw, 76, 11, 104, 245, (104, 104, 106))
    for y in range(30, 256, 34):
        _box(draw, 126, y, 4, 20, PAINT)
    for x in range(84, 174, 9):
        _box(draw, x, 26 if not 120 < x < 134 else 22, 4, 44, PAINT)
    for x in (80, 175):
        _box(draw, x, 11, 1.5, 245, PAINT)


def _motorway(draw: Brush, rng: Random) -> None:
    _box(draw, 0, 0, 256, 256, (112, 124, 76))
    for y in (70, 142):
        _box(draw, 0, y, 256, 52, (116, 115, 113))
        for edge in (y + 2, y + 49):
            _box(draw, 0, edge, 256, 1, PAINT)
        for lane in (y + 18, y + 34):
            for x in range(0, 256, 26):
                _box(draw, x, lane, 10, 1, PAINT)
        for lane in (y + 7, y + 23, y + 39):
            for x in rng.uniform(0, 240, 2):
                _car(draw, rng, float(x), lane, upright=False)
    _box(draw, 0, 131, 256, 2, CONCRETE)
    for _ in range(14):
        _tree(draw, rng, rng.uniform(4, 252), rng.choice([30.0, 44.0, 216.0, 236.0]), rng.uniform(5, 9))


SUBJECTS: Final[tuple[Callable[[Brush, Random], None], ...]] = (
    _fields,
    _wood,
    _pond,
    _ball_park,
    _houses,
    _crossing,
    _car_park,
    _tennis,
    _close_houses,
    _tanks,
    _strip,
    _motorway,
)
