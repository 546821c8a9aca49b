"""The picture's frame: which part of the ground it shows and where on it a patch lies."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from affine import Affine

from app.rasters.ground import metres_per_unit
from app.rasters.info import Bounds, RasterInfo
from app.rasters.tiles import GRID, Tile, patch_bounds

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Frame:
    """``transform`` takes picture pixels to the plan's CRS; ``metres`` is a pixel's side on the ground."""

    transform: Affine
    width: int
    height: int
    crs_wkt: str
    metres: float

    def box(self, bounds: Bounds) -> Box:
        """Picture pixels ``(left, top, right, bottom)`` of a rectangle of the CRS."""
        back = ~self.transform
        (x0, y0), (x1, y1) = back @ (bounds[0], bounds[1]), back @ (bounds[2], bounds[3])
        return round(min(x0, x1)), round(min(y0, y1)), round(max(x0, x1)), round(max(y0, y1))

    def patch_boxes(self, tile: Tile, *, whole: bool = False) -> list[Box | None]:
        """Each patch by id, cut to the picture unless ``whole``; None where nothing is left to see."""
        boxes: list[Box | None] = []
        for patch in range(GRID * GRID):
            x0, y0, x1, y1 = self.box(patch_bounds(tile, patch))
            if not whole:
                x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, self.width), min(y1, self.height)
            boxes.append((x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None)
        return boxes

    def patch_px(self, tile: Tile) -> float:
        """The shorter side of a patch in picture pixels."""
        xmin, ymin, xmax, ymax = tile.bounds
        across = (xmax - xmin) / abs(self.transform.a)
        return min(across, (ymax - ymin) / abs(self.transform.e)) / GRID

    def scale_bar(self) -> tuple[float, int]:
        """A round length in metres, about a sixth of the picture, and its pixels."""
        most = self.metres * self.width / 5
        power = 10.0 ** floor(log10(most))
        metres = max(step * power for step in (1, 2, 5) if step * power <= most)
        return metres, round(metres / self.metres)


def framed(info: RasterInfo, tiles: Sequence[Tile], side: int) -> Frame:
    """The whole raster, its longer side ``side`` pixels, in the proportions it has on the ground."""
    xmin, ymin, xmax, ymax = info.bounds
    x_m, y_m = metres_per_unit(info.crs_wkt, *info.centre)
    wide, tall = (xmax - xmin) * x_m, (ymax - ymin) * y_m
    metres = max(wide, tall) / side
    width, height = max(1, ceil(wide / metres - 1e-6)), max(1, ceil(tall / metres - 1e-6))
    dx, dy = (xmax - xmin) / width, (ymax - ymin) / height
    first = tiles[0]
    x = (dx, xmin) if first.east_right else (-dx, xmax)
    y = (-dy, ymax) if first.north_up else (dy, ymin)
    return Frame(Affine(x[0], 0, x[1], 0, y[0], y[1]), width, height, info.crs_wkt, metres)
