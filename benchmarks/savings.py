"""Nominal against real saving on an image, for some products, with a picture of each order.

    python benchmarks/savings.py IMAGE [--lr] [--product LIST/KEY ...] [--tiles N] [--out NAME.jpg]

A service of its own plans the image and drafts an order a product. ``--lr``: the image is what would be
planned (5 to 30 m pixels); else it is HR, and LR is made from it. Nothing is bought. The table goes to
standard output, the picture to --out: chosen patches orange, up to 500 polygons to be ordered in white.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from affine import Affine
from PIL import Image, ImageDraw

from app.rasters import inspect
from app.rasters.gdal import open_tiff
from app.rasters.info import RasterInfo
from app.releases.service import choose_card
from patchplan.demo.geotiff import colour_bands
from patchplan.demo.run import alone, running_client
from patchplan.demo.scene import HR_LIMITS, choose_scene, make_lr
from patchplan.demo.screen import Screen

PRODUCTS = ["example-archive/by-the-patch", "example-archive/small-minimum", "example-archive/classic"]
PANEL_PX = 440
MOST_LINES = 500
HEAD = (
    "| product | price, patches bought | price, all HR | nominal saving | real saving | polygons | patches |",
)
RULE = ("|---|---|---|---|---|---|---|",)


def background(path: Path, info: RasterInfo) -> Image.Image:
    """The image's colours, stretched between their 2nd and 98th percentiles."""
    with open_tiff(path) as dataset:
        values = dataset.read(list(colour_bands(info))[:3]).astype(float)
    low, high = np.percentile(values, [2, 98], axis=(1, 2), keepdims=True)
    grey = np.clip((values - low) / np.maximum(high - low, 1e-9), 0, 1)
    return Image.fromarray((grey * 255).astype(np.uint8).transpose(1, 2, 0))


def pixels(points: Any, info: RasterInfo, to_crs: pyproj.Transformer) -> Any:
    """Longitudes and latitudes (N, 2) as columns and rows (2, N)."""
    x, y = to_crs.transform(points[:, 0], points[:, 1])
    return np.array(~Affine(*info.transform[:6]) * (x, y))


def panel(
    image: Image.Image, info: RasterInfo, plan: Any, order: Any, shown: tuple[float, float, float, float]
) -> Image.Image:
    """The image with chosen patches and an order's polygons; ``shown`` is in pixels of the image."""
    scale = PANEL_PX / (shown[2] - shown[0])
    height = round((shown[3] - shown[1]) * scale)
    small = image.transform(
        (PANEL_PX, height), Image.Transform.EXTENT, shown, Image.Resampling.BILINEAR, fillcolor="grey"
    )
    layer = Image.new("RGBA", small.size)
    pen = ImageDraw.Draw(layer)
    to_crs = pyproj.Transformer.from_crs(4326, info.crs_wkt, always_xy=True)

    def place(points: Any) -> list[tuple[float, float]]:
        col, row = pixels(points, info, to_crs)
        return list(zip((col - shown[0]) * scale, (row - shown[1]) * scale, strict=True))

    for feature in plan["features"]:
        if feature["properties"]["selected"]:
            for part in shapely.get_parts(shapely.geometry.shape(feature["geometry"])):
                pen.polygon(place(shapely.get_coordinates(part.exterior)), fill=(255, 140, 0, 120))
    # the outlines of thousands of polygons would hide the patches in them
    outlined = order["features"] if len(order["features"]) <= MOST_LINES else []
    for feature in outlined:
        for part in shapely.get_parts(shapely.geometry.shape(feature["geometry"])):
            pen.line(place(shapely.get_coordinates(part.exterior)), fill=(255, 255, 255, 255), width=2)
    return Image.alpha_composite(small.convert("RGBA"), layer).convert("RGB")


def extent(info: RasterInfo, orders: list[Any]) -> tuple[float, float, float, float]:
    """What every panel shows: the image, and a twelfth of it around where polygons reach over its edge."""
    to_crs = pyproj.Transformer.from_crs(4326, info.crs_wkt, always_xy=True)
    low, high = np.zeros(2), np.array([info.width, info.height], float)
    shapes = [shapely.geometry.shape(one["geometry"]) for order in orders for one in order["features"]]
    for points in map(shapely.get_coordinates, shapes):
        there = pixels(points, info, to_crs)
        low, high = np.minimum(low, there.min(axis=1)), np.maximum(high, there.max(axis=1))
    w, h = info.width, info.height
    return max(low[0], -w / 12), max(low[1], -h / 12), min(high[0], 13 / 12 * w), min(high[1], 13 / 12 * h)


def line(order: Any) -> str:
    """One row of the table."""
    saving, money = order["saving"], order["currency"]
    total, full = order["estimate"]["total"], order["full_hr"]["total"]
    bought = sum(len(tile["patches"]) for tile in order["tiles"])
    return (
        f"| `{order['product']}` | {total} {money} | {full} {money} "
        f"| {saving['nominal_share'] or 0:.1%} | {saving['real_share'] or 0:.1%} "
        f"| {len(order['lines'])} | {bought} |"
    )


def main() -> None:
    """Plan, draft, print and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path)
    parser.add_argument("--lr", action="store_true")
    parser.add_argument("--product", action="append")
    parser.add_argument("--tiles", type=int, default=400)
    parser.add_argument("--tile-m", type=float)
    parser.add_argument("--out", type=Path, default=Path("out/savings.jpg"))
    given = parser.parse_args()
    info = inspect(given.image, HR_LIMITS)
    with tempfile.TemporaryDirectory() as name, alone(Path(name) / "service"):
        lr, fields = given.image, {}
        if given.lr:
            tile_m = given.tile_m or choose_card(None).tile_m.nominal
        else:
            scene = choose_scene(given.image, choose_card(None), given.tiles)
            lr, tile_m = Path(name) / "lr.tif", scene.tile_m
            make_lr(scene, lr)
        if tile_m is not None:
            fields["tile_size_m"] = repr(tile_m)
        with running_client(Screen()) as client:
            plan = client.plan(lr, fields)
            patches = json.loads(client.geojson(plan))
            totals = plan["totals"]
            print(
                f"{totals['chosen']} of {totals['patches']} patches of {totals['tiles']} tiles are chosen, "
                f"{totals['chosen_area_km2']:.4f} of {totals['area_km2']:.4f} km2.\n"
            )
            print(*HEAD, *RULE, sep="\n")
            shapes = []
            for product in given.product or PRODUCTS:
                order = client.order(product, plans=[plan["id"]])
                if order is None:
                    print(f"| `{product}` | nothing to order |")
                    continue
                print(line(order), flush=True)
                shapes.append(json.loads(client.order_geojson(order)))
    image, shown = background(given.image, info), extent(info, shapes)
    panels = [panel(image, info, patches, one, shown) for one in shapes]
    both = Image.new("RGB", (len(panels) * (PANEL_PX + 6) - 6, panels[0].height), "white")
    for number, one in enumerate(panels):
        both.paste(one, (number * (PANEL_PX + 6), 0))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    both.save(given.out, quality=82)
    print(f"\n{given.out}")


if __name__ == "__main__":
    main()
