"""Where a tile is, in two numbers: its middle in longitude and latitude."""

from collections.abc import Sequence

from app.plans.tables import TileRow
from app.rasters import RasterInfo
from app.rasters.ground import lonlat

Place = tuple[float, float]


def middles(rows: Sequence[TileRow], info: RasterInfo) -> list[Place]:
    """The middles (degrees, WGS 84) of the parts of tiles that the raster covers, in the tiles' order."""
    if not rows:
        return []
    xs = [(row.clipped[0] + row.clipped[2]) / 2 for row in rows]
    ys = [(row.clipped[1] + row.clipped[3]) / 2 for row in rows]
    lon, lat = lonlat(info.crs_wkt, xs, ys)
    return [(round(float(x), 7), round(float(y), 7)) for x, y in zip(lon, lat, strict=True)]
