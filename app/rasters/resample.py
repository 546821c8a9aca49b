"""Pixels of a raster on another grid, together with how much of each target pixel they really cover.

Values are weighted by their validity before they are averaged and divided by it afterwards, so nodata never
bleeds into a valid pixel. Where source pixels are finer than the target's, all of them are averaged by area;
where they are coarser, bilinear. Both are done in pieces of bounded size, from full resolution: overviews in
a file could show something else.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window

from app.rasters.gdal import chunks, read
from app.rasters.ground import Floats, project, same_crs, turn
from app.rasters.info import RasterInfo

Pixels = NDArray[np.float32]

_NODES = 33
_TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Grid:
    """``height`` x ``width`` target pixels; ``transform`` takes pixel positions to CRS coordinates."""

    transform: Affine
    width: int
    height: int
    crs_wkt: str

    def part(self, row0: int, row1: int, col0: int, col1: int) -> "Grid":
        moved = self.transform @ Affine.translation(col0, row0)
        return Grid(moved, col1 - col0, row1 - row0, self.crs_wkt)


def resample(
    dataset: Any, info: RasterInfo, bands: tuple[int, ...], grid: Grid, samples: int = 2
) -> tuple[Pixels, Pixels]:
    """Values ``(C, h, w)`` in stored numbers and cover ``(h, w)``: the share 0..1 of each target pixel's
    ground that valid source pixels hold. Values are 0 where nothing valid is near. Where the source is
    warped, ``samples`` a side or more are taken of each target pixel: so finely is its cover known.

    Raises TruncatedRaster where blocks cannot be read.
    """
    grid = _in_reach(grid, info)
    if along_axes(info, grid):
        return _along_axes(dataset, info, bands, grid, ~Affine(*info.transform) @ grid.transform)
    return _warped(dataset, info, bands, grid, samples)


def along_axes(info: RasterInfo, grid: Grid) -> bool:
    """Whether the raster's rows and columns run along the grid's; otherwise it is warped, which takes memory:
    some hundred bytes for each of the ``samples`` x ``samples`` places in a target pixel."""
    to_source = ~Affine(*info.transform) @ grid.transform
    return bool(to_source.b == 0 == to_source.d) and same_crs(info.crs_wkt, grid.crs_wkt)


def _in_reach(grid: Grid, info: RasterInfo) -> Grid:
    """The same ground in the source's own longitudes: one file may say 181 where another says -179."""
    full = turn(grid.crs_wkt)
    if full is None or not same_crs(grid.crs_wkt, info.crs_wkt):
        return grid
    middle, _ = grid.transform @ (grid.width / 2, grid.height / 2)
    turns = round((info.centre[0] - middle) / full)
    moved = Affine.translation(turns * full, 0) @ grid.transform
    return Grid(moved, grid.width, grid.height, grid.crs_wkt)


# --- the source's rows and columns run along the target's: separable, exact ---------------------------------


def _along_axes(
    dataset: Any, info: RasterInfo, bands: tuple[int, ...], grid: Grid, to_source: Affine
) -> tuple[Pixels, Pixels]:
    x, y = _Axis(to_source.c, to_source.a, grid.width), _Axis(to_source.f, to_source.e, grid.height)
    total = np.zeros((len(bands), grid.height, grid.width), np.float32)
    weight = np.zeros((grid.height, grid.width), np.float32)
    cover = weight if x.averages and y.averages else np.zeros_like(weight)
    window = _window(x.reach(info.width), y.reach(info.height))
    for piece in chunks(dataset, window) if window is not None else ():
        values, valid = read(dataset, info, bands, piece)
        seen = valid.astype(np.float32)
        first = int(piece.col_off), int(piece.row_off)
        there = y.touched(first[1], seen.shape[0]), x.touched(first[0], seen.shape[1])
        total[:, *there] += _summed(values, x, y, there, first, areas=False)
        weight[there] += _summed(seen, x, y, there, first, areas=False)
        if cover is not weight:
            cover[there] += _summed(seen, x, y, there, first, areas=True)
    return _divided(total, weight), np.clip(cover, 0, 1)


@dataclass(frozen=True, slots=True)
class _Axis:
    """One axis of the target in source pixels: pixel i covers ``start + step * [i, i + 1]``."""

    start: float
    step: float
    n: int

    @property
    def averages(self) -> bool:
        return abs(self.step) >= 1

    def reach(self, size: int) -> tuple[int, int]:
        """The source pixels needed, cut to those there are."""
        ends = (self.start, self.start + self.step * self.n)
        margin = 0 if self.averages else 1
        low, high = np.floor(min(ends) + _TINY) - margin, np.ceil(max(ends) - _TINY) + margin
        return int(np.clip(low, 0, size)), int(np.clip(high, 0, size))

    def touched(self, first: int, count: int) -> slice:
        """The target pixels that source pixels first..first + count may have a weight in."""
        ends = ((first - 1 - self.start) / self.step, (first + count + 1 - self.start) / self.step)
        low, high = np.clip([np.floor(min(ends)) - 1, np.ceil(max(ends)) + 1], 0, self.n)
        return slice(int(low), int(high))

    def values(self, image: Floats | Pixels, targets: slice, first: int) -> Floats:
        """What source pixels ``(..., n)`` from ``first`` add to targets, by area or linearly."""
        if self.averages:
            return self.areas(image, targets, first)
        position = self.start + self.step * (np.arange(targets.start, targets.stop) + 0.5) - first - 0.5
        left = np.floor(position).astype(int)
        n = image.shape[-1]
        found = np.zeros((*image.shape[:-1], len(left)))
        for tap, weight in ((left, left + 1 - position), (left + 1, position - left)):
            found += image[..., np.clip(tap, 0, n - 1)] * (weight * ((tap >= 0) & (tap < n)))
        return found

    def areas(self, image: Floats | Pixels, targets: slice, first: int) -> Floats:
        """The means of targets as far as source pixels ``(..., n)`` from ``first`` on reach, by area.

        Differences of a running sum: no matrix product, whose threads fight over a busy machine's cores.
        """
        n = image.shape[-1]
        edges = self.start + self.step * np.arange(targets.start, targets.stop + 1) - first
        edges = np.clip(edges, 0, n)
        whole = np.minimum(edges.astype(int), n - 1)
        running = np.zeros((*image.shape[:-1], n + 1))
        np.cumsum(image, axis=-1, out=running[..., 1:])
        sums = running[..., whole] + image[..., whole] * (edges - whole)
        found: Floats = np.diff(sums, axis=-1) / self.step
        return found


def _summed(
    image: Pixels, x: _Axis, y: _Axis, targets: tuple[slice, slice], first: tuple[int, int], *, areas: bool
) -> Floats:
    """What source pixels ``(..., h, w)`` from column and row ``first`` on add to target rows and columns."""
    rows, cols = targets
    if areas:
        return y.areas(x.areas(image, cols, first[0]).swapaxes(-1, -2), rows, first[1]).swapaxes(-1, -2)
    return y.values(x.values(image, cols, first[0]).swapaxes(-1, -2), rows, first[1]).swapaxes(-1, -2)


def _window(cols: tuple[int, int], rows: tuple[int, int]) -> Window | None:
    if cols[0] >= cols[1] or rows[0] >= rows[1]:
        return None
    return Window(cols[0], rows[0], cols[1] - cols[0], rows[1] - rows[0])


def _divided(total: Pixels, weight: Pixels) -> Pixels:
    divided: Pixels = np.where(weight > _TINY, total / np.maximum(weight, _TINY), 0)
    return divided


# --- another CRS or a rotation: sampled ---------------------------------------------------------------------


def _warped(
    dataset: Any, info: RasterInfo, bands: tuple[int, ...], grid: Grid, samples: int
) -> tuple[Pixels, Pixels]:
    nodes = _source_positions(info, grid)
    spans = [_span(position, max(grid.width, grid.height)) for position in nodes]
    fold = max(1, int(spans[0] / 2)), max(1, int(spans[1] / 2))
    near = _reduced(dataset, info, bands, nodes, fold)
    if near is None:
        shape = (grid.height, grid.width)
        return np.zeros((len(bands), *shape), np.float32), np.zeros(shape, np.float32)
    values, seen, (x0, y0) = near
    # more where source pixels are finer still
    fine = int(np.clip(np.ceil(max(s / f for s, f in zip(spans, fold, strict=True))), samples, 4))
    col, row = _interpolated(nodes, grid.width * fine, grid.height * fine)
    u, v = (col - x0) / fold[0], (row - y0) / fold[1]
    total, weight = _bilinear(values * seen, u, v), _bilinear(seen[None], u, v)[0]
    total, weight, cover = (_block_mean(a, fine) for a in (total, weight, _nearest(seen, u, v)))
    return _divided(total, weight), cover


def _source_positions(info: RasterInfo, grid: Grid) -> tuple[Floats, Floats]:
    """Source columns and rows ``(N, N)`` at nodes spread evenly over the target grid, NaN where unmapped."""
    u, v = np.meshgrid(np.linspace(0, grid.width, _NODES), np.linspace(0, grid.height, _NODES))
    t = grid.transform
    x, y = t.a * u + t.b * v + t.c, t.d * u + t.e * v + t.f
    x, y = project(grid.crs_wkt, info.crs_wkt, x, y, info.centre[0])
    back = ~Affine(*info.transform)
    with np.errstate(invalid="ignore"):
        col, row = back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f
    lost = ~(np.isfinite(col) & np.isfinite(row))
    col[lost] = row[lost] = np.nan
    return col, row


def _span(position: Floats, pixels: int) -> float:
    """How many source columns (or rows) lie along one target pixel, over the whole target."""
    inside = position[np.isfinite(position)]
    return float(np.ptp(inside)) / pixels if inside.size else 1.0


def _reduced(
    dataset: Any,
    info: RasterInfo,
    bands: tuple[int, ...],
    nodes: tuple[Floats, Floats],
    fold: tuple[int, int],
) -> tuple[Pixels, Pixels, tuple[int, int]] | None:
    """The source around the target, averaged fold by fold so that its size follows the target's, its cover
    and the source column and row it starts at; None where the two do not meet.

    It has a border of pixels that hold nothing, for interpolation to run into.
    """
    sides = []
    for position, size, step in zip(nodes, (info.width, info.height), fold, strict=True):
        inside = position[np.isfinite(position)]
        if not inside.size or inside.max() <= 0 or inside.min() >= size:
            return None
        low = max(float(np.floor(inside.min())), 0) - 2 * step
        high = min(float(np.ceil(inside.max())), size) + 2 * step
        sides.append((int(low), -(-int(high - low) // step)))
    (x0, width), (y0, height) = sides
    placed = Affine.translation(x0, y0) @ Affine.scale(*fold)
    grid = Grid(Affine(*info.transform) @ placed, width, height, info.crs_wkt)
    values, cover = _along_axes(dataset, info, bands, grid, placed)
    return values, cover, (x0, y0)


def _interpolated(nodes: tuple[Floats, Floats], width: int, height: int) -> tuple[Floats, Floats]:
    """Source positions at the centres of a width by height grid, bilinear between the nodes."""
    u = (np.arange(width) + 0.5) / width * (_NODES - 1)
    v = (np.arange(height) + 0.5) / height * (_NODES - 1)
    i, j = u.astype(int), v.astype(int)
    fu, fv = (u - i)[None, :], (v - j)[:, None]

    def between(node: Floats) -> Floats:
        across = node[:, i] * (1 - fu) + node[:, i + 1] * fu
        found: Floats = across[j] * (1 - fv) + across[j + 1] * fv
        return found

    return between(nodes[0]), between(nodes[1])


def _bilinear(image: Pixels, u: Floats, v: Floats) -> Pixels:
    """``image`` (C, H, W) at pixel positions (corner of the first pixel is 0, 0); nothing beyond its edge."""
    height, width = image.shape[1:]
    u, v = np.where(np.isfinite(u), u - 0.5, -9), np.where(np.isfinite(v), v - 0.5, -9)
    i, j = np.floor(u).astype(int), np.floor(v).astype(int)
    fu, fv = (u - i).astype(np.float32), (v - j).astype(np.float32)
    found = np.zeros((image.shape[0], *u.shape), np.float32)
    flat = image.reshape(image.shape[0], -1)
    for di, dj, weight in (
        (0, 0, (1 - fu) * (1 - fv)), (1, 0, fu * (1 - fv)), (0, 1, (1 - fu) * fv), (1, 1, fu * fv),
    ):  # fmt: skip
        inside = (i + di >= 0) & (i + di < width) & (j + dj >= 0) & (j + dj < height)
        index = np.clip(j + dj, 0, height - 1) * width + np.clip(i + di, 0, width - 1)
        found += flat[:, index] * (weight * inside)
    return found


def _nearest(image: Pixels, u: Floats, v: Floats) -> Pixels:
    height, width = image.shape
    i = np.floor(np.where(np.isfinite(u), u, -9)).astype(int)
    j = np.floor(np.where(np.isfinite(v), v, -9)).astype(int)
    inside = (i >= 0) & (i < width) & (j >= 0) & (j < height)
    found: Pixels = image[np.clip(j, 0, height - 1), np.clip(i, 0, width - 1)] * inside
    return found


def _block_mean(image: Pixels, n: int) -> Pixels:
    height, width = image.shape[-2] // n, image.shape[-1] // n
    found: Pixels = image.reshape(*image.shape[:-2], height, n, width, n).mean(axis=(-3, -1))
    return found


# --- holes --------------------------------------------------------------------------------------------------


def fill(values: Pixels, known: NDArray[np.bool_]) -> Pixels:
    """``(C, h, w)`` with the pixels that are not ``known`` taken from known ones around, near ones first.

    Averages are pushed down a pyramid and pulled back up, so that edges continue and no black enters the
    network. Zeros where nothing is known.
    """
    if known.all() or not known.any():
        return values
    height, width = known.shape
    even = ((0, height % 2), (0, width % 2))
    weight = np.pad(known.astype(np.float32), even)
    padded = np.pad(values * known, ((0, 0), *even))
    total, count = _block_mean(padded, 2), _block_mean(weight, 2)
    coarse = fill(_divided(total, count), count > 0)
    spread = coarse.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width]
    return np.where(known, values, spread)
