"""GeoTIFF in: is it good, where does it lie, which tiles and patches is it cut into, what do they show.

A plan goes ``inspect`` -> ``cut_tiles`` -> ``choose_bands`` -> ``value_scaling`` -> ``read_lr_tiles``, an
acquisition ``inspect`` -> ``value_scaling`` (once a sensor) -> ``read_hr_patches``. No database, no HTTP.
"""

from app.rasters.areas import patch_areas_km2, plan_areas_km2
from app.rasters.bands import choose_bands
from app.rasters.footprint import footprint, patch_footprints, plan_footprints
from app.rasters.hr import PatchPixels, Refusal, patch_window, read_hr_patches
from app.rasters.info import Limits, RasterInfo
from app.rasters.inspection import inspect
from app.rasters.lr import read_lr_tiles, unseen_patches
from app.rasters.scaling import Scaling, range_warnings, value_scaling
from app.rasters.tiles import Tile, cut_tiles, patch_bounds, tile_grid, tile_sides_m

__all__ = [
    "Limits",
    "PatchPixels",
    "RasterInfo",
    "Refusal",
    "Scaling",
    "Tile",
    "choose_bands",
    "cut_tiles",
    "footprint",
    "inspect",
    "patch_areas_km2",
    "patch_bounds",
    "patch_footprints",
    "patch_window",
    "plan_areas_km2",
    "plan_footprints",
    "range_warnings",
    "read_hr_patches",
    "read_lr_tiles",
    "tile_grid",
    "tile_sides_m",
    "unseen_patches",
    "value_scaling",
]
