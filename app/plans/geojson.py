"""A plan as GeoJSON (RFC 7946): one feature a patch, streamed."""

import json
from collections.abc import Iterator
from typing import Any, Final

from app.core import money
from app.plans.reading import iter_tiles
from app.plans.service import raster_info, tile_of
from app.plans.tables import Plan, TileRow
from app.rasters import RasterInfo, patch_footprints

EXAMPLE: Final[dict[str, Any]] = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "id": "0-5",
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[8.1, 50.1], [8.2, 50.1], [8.2, 50.2], [8.1, 50.2], [8.1, 50.1]]],
            },
            "properties": {
                "tile": 0,
                "patch": 5,
                "probability": 0.913,
                "selected": True,
                "area_km2": 0.0003686,
                "price": "0.0046075",
                "currency": "EUR",
            },
        }
    ],
}


def stream(plan: Plan) -> Iterator[bytes]:
    """The FeatureCollection of a ready plan, a tile at a time."""
    info = raster_info(plan)
    yield b'{"type":"FeatureCollection","features":['
    first = True
    for row in iter_tiles(plan.id):
        features = ",".join(json.dumps(feature) for feature in tile_features(row, info, plan.currency))
        yield (b"" if first else b",") + features.encode()
        first = False
    yield b"]}"


def tile_features(row: TileRow, info: RasterInfo, currency: str | None) -> Iterator[dict[str, Any]]:
    """The patches of one tile; the geometry is null where no part of a patch lies inside the raster."""
    footprints = patch_footprints(tile_of(row, info), info.crs_wkt)
    for patch, geometry in enumerate(footprints):
        yield {
            "type": "Feature",
            "id": f"{row.tile}-{patch}",
            "geometry": geometry,
            "properties": {
                "tile": row.tile,
                "patch": patch,
                "probability": row.probabilities[patch],
                "selected": row.chosen[patch],
                "area_km2": float(row.areas_km2[patch]),
                "price": None if row.prices is None else money.plain(row.prices[patch]),
                "currency": currency,
            },
        }
