"""The patches that an order is made of, as shapes on the ground."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple

import numpy as np
import shapely

from app.plans.service import raster_info, tile_of
from app.plans.tables import Plan, TileRow
from app.rasters import plan_footprints
from app.rasters.footprint import Geometry


class CellId(NamedTuple):
    """Which patch of which tile of which plan."""

    plan_id: uuid.UUID
    tile: int
    patch: int


@dataclass(frozen=True, slots=True)
class Cell:
    """A patch: its footprint (WGS 84, cut at the antimeridian), its area as the plan has it, its worth.

    ``worth`` is what the patch may cost at most, in the product's currency; None: it must be bought.
    """

    plan_id: uuid.UUID
    tile: int
    patch: int
    polygon: shapely.Geometry
    area_km2: Decimal
    worth: Decimal | None = None

    @property
    def id(self) -> CellId:
        """The patch's name."""
        return CellId(self.plan_id, self.tile, self.patch)


def cells_of_rows(plan: Plan, rows: Sequence[TileRow], which: Literal["chosen", "all"]) -> list[Cell]:
    """The chosen patches of a ready plan's tiles, or all that have any ground, by tile and patch."""
    if which == "chosen":
        rows = [row for row in rows if any(row.chosen)]
    info = raster_info(plan)
    footprints = plan_footprints([tile_of(row, info) for row in rows], info.crs_wkt)
    ids: list[tuple[int, int, Decimal]] = []
    geometries: list[Geometry] = []
    for row, of_tile in zip(rows, footprints, strict=True):
        for patch, geometry in enumerate(of_tile):
            if geometry is not None and row.areas_km2[patch] > 0 and (which == "all" or row.chosen[patch]):
                ids.append((row.tile, patch, row.areas_km2[patch]))
                geometries.append(geometry)
    shapes = polygons(geometries)
    return [
        Cell(plan.id, tile, patch, shape, area)
        for (tile, patch, area), shape in zip(ids, shapes, strict=True)
    ]


def polygons(geometries: Sequence[Geometry]) -> list[shapely.Geometry]:
    """GeoJSON polygons as shapely's, those with equally many corners made together."""
    found: list[shapely.Geometry | None] = [None] * len(geometries)
    by_corners: dict[int, list[int]] = {}
    for number, geometry in enumerate(geometries):
        if geometry["type"] == "Polygon" and len(geometry["coordinates"]) == 1:
            by_corners.setdefault(len(geometry["coordinates"][0]), []).append(number)
        else:
            found[number] = shapely.geometry.shape(geometry)
    for numbers in by_corners.values():
        rings = np.array([geometries[number]["coordinates"][0] for number in numbers], float)
        for number, shape in zip(numbers, shapely.polygons(rings), strict=True):
            found[number] = shape
    return [shape for shape in found if shape is not None]
