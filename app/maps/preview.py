"""A plan as a picture: the LR raster under its grid, chosen patches lit and outlined, HR beside it if wanted.

One tile fills the picture and has its probabilities written in; of thousands the chosen patches are a tint
over the whole raster.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from app.maps.frame import Frame, framed
from app.rasters.gdal import open_tiff
from app.rasters.info import RasterInfo
from app.rasters.lr import shown
from app.rasters.resample import Grid, along_axes, resample
from app.rasters.scaling import Scaling
from app.rasters.tiles import GRID, Tile, clip_patch

Rgb = NDArray[np.uint8]
Box = tuple[int, int, int, int]
Place = tuple[int, int]

AMBER = (255, 179, 0)
WHITE = (255, 255, 255)
INK = (18, 22, 28)
PAPER = (246, 247, 249)
GREY = (92, 101, 112)

SIDE = 960
_MARGIN = 24
_HEAD = 44
_FOOT = 40
_TEXT_FROM = 38
_LINES_FROM = 10
_PATCH_LINES_FROM = 18
_DIM = 0.55
_WARPED_AT_ONCE = 240


@dataclass(frozen=True, slots=True)
class Layer:
    """A raster to draw: which file, what is known of it, which bands, how its values become 0..255."""

    path: Path
    info: RasterInfo
    bands: tuple[int, ...]
    scaling: Scaling


def render_preview(
    lr: Layer,
    tiles: Sequence[Tile],
    probabilities: Sequence[Sequence[float | None]],
    chosen: Sequence[Sequence[bool]],
    *,
    patches: int | None = None,
    hr: Layer | None = None,
    received: Iterable[tuple[Place, Rgb]] | None = None,
    side: int = SIDE,
) -> bytes:
    """PNG bytes of a plan.

    ``probabilities`` and ``chosen`` hold 16 values for each of ``tiles``, by patch id; a probability that is
    None, of a patch without ground, is not written. ``patches`` is how many the plan has: by default those in
    the tiles' boxes, more where it is rotated. Beside the LR goes the ``hr`` raster, or the ``received``
    patches, ``((tile, patch), (3, h, w))``, over the dimmed LR; each is drawn before the next is asked for.
    ``side`` is the longer side of a panel in pixels. Raises TruncatedRaster where a file cannot be read.
    """
    frame = framed(lr.info, tiles, side)
    below = _paint(lr, frame)
    panels = [(_panel(below, frame, tiles, probabilities, chosen), f"LR   {_gsd(lr.info.gsd_m)}")]
    if hr is not None:
        beside = _paint(hr, frame)
        panels.append((_panel(beside, frame, tiles, None, chosen), f"HR   {_gsd(hr.info.gsd_m)}"))
    elif received is not None:
        beside, drawn = _with_patches(below, frame, tiles, received)
        have = [[(tile.index, p) in drawn for p in range(GRID * GRID)] for tile in tiles]
        panels.append((_panel(beside, frame, tiles, None, have), "HR patches received"))
    if patches is None:
        patches = sum(clip_patch(tile, patch) is not None for tile in tiles for patch in range(GRID * GRID))
    return _sheet(panels, f"{sum(map(sum, chosen)):,} of {patches:,} patches chosen", frame)


def _paint(layer: Layer, frame: Frame) -> Rgb:
    """The layer on the frame's pixels, ``(h, w, 3)``; paper grey where it holds nothing."""
    grid = Grid(frame.transform, frame.width, frame.height, frame.crs_wkt)
    # a raster that has to be warped takes several hundred bytes a pixel: part by part
    step = max(grid.width, grid.height) if along_axes(layer.info, grid) else _WARPED_AT_ONCE
    values = np.zeros((len(layer.bands), grid.height, grid.width), np.float32)
    cover = np.zeros((grid.height, grid.width), np.float32)
    with open_tiff(layer.path) as dataset:
        for row, col in product(range(0, grid.height, step), range(0, grid.width, step)):
            rows, cols = slice(row, min(row + step, grid.height)), slice(col, min(col + step, grid.width))
            part = grid.part(rows.start, rows.stop, cols.start, cols.stop)
            values[:, rows, cols], cover[rows, cols] = resample(dataset, layer.info, layer.bands, part)
    pixels = shown(values, cover, layer.scaling)
    if pixels.shape[0] != 3:
        pixels = np.repeat(pixels[:1], 3, axis=0)
    painted = np.moveaxis(pixels, 0, -1)
    painted[cover < 0.5] = 220
    return painted


def _panel(
    below: Rgb,
    frame: Frame,
    tiles: Sequence[Tile],
    probabilities: Sequence[Sequence[float | None]] | None,
    chosen: Sequence[Sequence[bool]],
) -> Image.Image:
    cells = [(t, p, box) for t, tile in enumerate(tiles) for p, box in enumerate(frame.patch_boxes(tile))]
    size = frame.patch_px(tiles[0])
    lit = np.zeros(below.shape[:2], bool)
    for t, p, box in cells:
        if box is not None and chosen[t][p]:
            lit[box[1] : box[3], box[0] : box[2]] = True
    image = Image.fromarray(_lit(below, lit, tint=size < 2 * _LINES_FROM))
    draw = ImageDraw.Draw(image, "RGBA")
    if size >= _PATCH_LINES_FROM:
        for t, p, box in cells:
            if box is not None and not chosen[t][p]:
                _outline(draw, box, (*WHITE, 80), 1)
    if size * GRID >= _LINES_FROM and len(tiles) > 1:
        for tile in tiles:
            _outline(draw, frame.box(tile.clipped), (*WHITE, 110 if size >= _PATCH_LINES_FROM else 40), 1)
    _mark(draw, cells, chosen, probabilities, size)
    return image


def _mark(
    draw: ImageDraw.ImageDraw,
    cells: Sequence[tuple[int, int, Box | None]],
    chosen: Sequence[Sequence[bool]],
    probabilities: Sequence[Sequence[float | None]] | None,
    size: float,
) -> None:
    """Outlines of the chosen patches, and the probabilities where there is room to read them."""
    for t, p, box in cells:
        if box is None:
            continue
        if chosen[t][p] and size >= 2 * _LINES_FROM:
            _outline(draw, box, (*INK, 160), 5 if size > 60 else 3)
            _outline(draw, box, (*AMBER, 255), 3 if size > 60 else 2)
        probability = None if probabilities is None else probabilities[t][p]
        wide, tall = box[2] - box[0], box[3] - box[1]
        if probability is not None and wide >= _TEXT_FROM and tall >= _TEXT_FROM / 2:
            points = int(np.clip(min(wide / 4.2, tall / 2), 11, 30))
            draw.text(
                ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2),
                f"{probability:.2f}",
                fill=WHITE,
                font=_font(points),
                anchor="mm",
                stroke_width=max(1, points // 9),
                stroke_fill=(*INK, 230),
            )


def _lit(below: Rgb, lit: NDArray[np.bool_], *, tint: bool) -> Rgb:
    """What is not chosen steps back; small patches are tinted, as an outline would hide them."""
    image = below.astype(np.float32)
    image[~lit] = image[~lit] * _DIM + 24
    if tint:
        image[lit] = image[lit] * 0.45 + np.array(AMBER, np.float32) * 0.55
    return image.clip(0, 255).astype(np.uint8)


def _outline(draw: ImageDraw.ImageDraw, box: Box, colour: tuple[int, int, int, int], width: int) -> None:
    # of a sliver of a tile at the raster's edge there may be no pixel
    if box[0] < box[2] and box[1] < box[3]:
        draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), outline=colour, width=width)


def _with_patches(
    below: Rgb, frame: Frame, tiles: Sequence[Tile], received: Iterable[tuple[Place, Rgb]]
) -> tuple[Rgb, set[Place]]:
    """The patches over the LR, and which they are."""
    image, drawn = Image.fromarray(below), set[Place]()
    by_index = {tile.index: tile for tile in tiles}
    for index, group in groupby(received, lambda each: each[0][0]):
        tile = by_index[index]
        boxes = list(zip(frame.patch_boxes(tile, whole=True), frame.patch_boxes(tile), strict=True))
        for place, pixels in group:
            drawn.add(place)
            whole, seen = boxes[place[1]]
            if whole is None or seen is None:
                continue
            # a tile may be a million times as large as the raster: no more is made than the picture holds
            fits = whole[2] - whole[0] <= frame.width and whole[3] - whole[1] <= frame.height
            part = whole if fits else seen
            image.paste(_scaled(pixels, whole, part), part[:2])
    return np.asarray(image), drawn


def _scaled(pixels: Rgb, whole: Box, part: Box) -> Image.Image:
    """What lies in ``part`` of a patch ``(3, h, w)`` that fills ``whole``; both are boxes of the picture."""
    patch = Image.fromarray(np.moveaxis(pixels, 0, -1))
    x, y = patch.width / (whole[2] - whole[0]), patch.height / (whole[3] - whole[1])
    source = (
        (part[0] - whole[0]) * x,
        (part[1] - whole[1]) * y,
        min((part[2] - whole[0]) * x, patch.width),
        min((part[3] - whole[1]) * y, patch.height),
    )
    size = (part[2] - part[0], part[3] - part[1])
    return patch.resize(size, Image.Resampling.LANCZOS, box=source)


def _sheet(panels: Sequence[tuple[Image.Image, str]], summary: str, frame: Frame) -> bytes:
    """Panels side by side with their titles, the count and a scale bar, as PNG."""
    width = _MARGIN + sum(panel.width + _MARGIN for panel, _ in panels)
    sheet = Image.new("RGB", (width, _HEAD + frame.height + _FOOT + 8), PAPER)
    draw = ImageDraw.Draw(sheet)
    x = _MARGIN
    for panel, title in panels:
        draw.text((x, _HEAD - 12), title, fill=INK, font=_font(18), anchor="ls")
        sheet.paste(panel, (x, _HEAD))
        x += panel.width + _MARGIN
    bottom = _HEAD + frame.height + _FOOT / 2 + 4
    metres, length = frame.scale_bar()
    draw.line([(_MARGIN, bottom), (_MARGIN + length, bottom)], fill=INK, width=3)
    label = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"
    draw.text((_MARGIN + length + 8, bottom), label, fill=INK, font=_font(15), anchor="lm")
    start = _MARGIN + length + 24 + draw.textlength(label, font=_font(15))
    if start + draw.textlength(summary, font=_font(15)) + 30 < width - _MARGIN:
        draw.rectangle((start, bottom - 7, start + 14, bottom + 7), fill=AMBER)
        draw.text((start + 22, bottom), summary, fill=GREY, font=_font(15), anchor="lm")
    out = BytesIO()
    sheet.save(out, "PNG", optimize=False, compress_level=6)
    return out.getvalue()


def _gsd(metres: float) -> str:
    return f"{metres:.3g} m a pixel"


def _font(points: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(points)
