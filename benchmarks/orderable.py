"""From patches to a legal order, and from a sum of money to patches: 10 to 10,000 tiles.

    python benchmarks/orderable.py [--tiles 10,100,1000,10000] [--seed 0] [--limit 20]

Tiles of 80 m lie side by side. Where something is to be seen patches are chosen in blobs, as a policy does.
Prices and minima are made up. First the ratios: what is left of the nominal saving under the vendor's rules,
what the order costs against one polygon a patch, against whole tiles and against its bound. Then seconds, of
the processor and of the clock, for the order and for a budget over all tiles. ``--limit`` is how long the
search for an order may take by the clock: more where other programs have the processor.
"""

import argparse
import itertools
import time
import uuid
from decimal import Decimal

import numpy as np
import pyproj
import shapely

from app.budgets.choose import allocate
from app.budgets.stock import TileOffer
from app.orderable import Cell, orderable
from app.orderable.ground import areas_km2
from app.pricing.products import Product, Rules, Tier
from models.card import GainModel

PRODUCTS = {
    "no minimum": Product(
        "a", "a", "made up", "EUR", (Tier(None, Decimal(25)),), rules=Rules(max_vertices=500)
    ),
    "0.1 km2": Product(
        *("b", "b", "made up", "EUR", (Tier(None, Decimal("17.5")),)),
        min_polygon_km2=Decimal("0.1"),
        rules=Rules(max_vertices=500, min_width_m=50.0),
    ),
    "1 km2 convex": Product(
        *("c", "c", "made up", "EUR", (Tier(None, Decimal(45)),)),
        min_polygon_km2=Decimal(1),
        small_polygons="refused",
        rules=Rules(convex=True, max_vertices=100, min_width_m=500.0),
    ),
    "25 km2": Product(
        *("d", "d", "made up", "EUR", (Tier(None, Decimal(14)),)),
        min_polygon_km2=Decimal(25),
        rules=Rules(max_vertices=500, min_width_m=2000.0),
    ),
}


def scene(count: int, seed: int) -> tuple[list[TileOffer], list[list[int]]]:
    """``count`` tiles in a square, and the patches that are chosen of each."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(count)))
    x, y = np.meshgrid(404_000 + np.arange(4 * side + 1) * 20.0, 3_285_000 + np.arange(4 * side + 1) * 20.0)
    lon, lat = pyproj.Transformer.from_crs(32617, 4326, always_xy=True).transform(x, y)
    p = np.round(np.stack([lon, lat], axis=-1), 9)
    corners = np.stack([p[:-1, :-1], p[:-1, 1:], p[1:, 1:], p[1:, :-1], p[:-1, :-1]], axis=2)
    polygons = shapely.polygons(corners.reshape(-1, 5, 2))
    areas = areas_km2(polygons)
    coarse = rng.random((side + 2, side + 2))
    model = GainModel((0.0, 0.5, 0.8, 0.95, 1.0))
    plan = uuid.UUID(int=1)
    offers: list[TileOffer] = []
    chosen: list[list[int]] = []
    for row, col in itertools.islice(itertools.product(range(side), range(side)), count):
        numbers = [(4 * row + 3 - k // 4) * 4 * side + 4 * col + k % 4 for k in range(16)]
        cells = [
            Cell(plan, row * side + col, k, polygons[n], Decimal(repr(float(areas[n]))))
            for k, n in enumerate(numbers)
        ]
        hot = coarse[row // 2, col // 2] ** 2
        weights = rng.random(16) ** 3
        low = float(rng.uniform(0.3, 0.7))
        gain = {"lr": low, "hr": low + 0.4 * float(hot), "weights": (weights / weights.sum()).tolist()}
        probabilities = (rng.random(16) * (0.3 + hot)).tolist()
        offers.append(TileOffer(plan, row * side + col, cells, probabilities, 0.5, gain, model))
        chosen.append([k for k in range(16) if probabilities[k] > 0.5])
    return offers, chosen


def row(name: str, product: Product, offers: list[TileOffer], chosen: list[list[int]], limit_s: float) -> str:
    """One line of the table."""
    wanted = [offer.cells[k] for offer, ks in zip(offers, chosen, strict=True) for k in ks]
    every = [cell for offer in offers for cell in offer.cells]
    clock, cpu = time.perf_counter(), time.process_time()
    order = orderable(wanted, product, candidates=every, time_limit_s=limit_s)
    order_s, order_cpu = time.perf_counter() - clock, time.process_time() - cpu
    clock, cpu = time.perf_counter(), time.process_time()
    allocate(offers, product, max(order.quote.total / 2, Decimal(400)))
    budget_s, budget_cpu = time.perf_counter() - clock, time.process_time() - cpu
    minimum = float(product.min_polygon_km2)
    areas = areas_km2([cell.polygon for cell in wanted])
    full = max(sum(float(cell.area_km2) for cell in every), minimum)
    charged = float(order.quote.charged_km2)
    tiles = {cell.tile for cell in wanted}
    whole = len(tiles) * max(16 * float(every[0].area_km2), minimum)
    kept = (full - charged) / (full - areas.sum()) if full > areas.sum() else 0.0
    apart = float(np.maximum(areas, minimum).sum())
    gap = float(order.quote.total_unrounded / order.bound)
    return (
        f"{name:>13} {len(offers):>6} {len(wanted):>7} {kept:>7.1%} {charged / apart:>9.4f}"
        f" {charged / whole:>8.4f} {gap:>7.4f} {len(order.polygons):>8}"
        f" {order_s:>8.1f} {order_cpu:>7.1f} {budget_s:>9.1f} {budget_cpu:>8.1f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiles", default="10,100,1000,10000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=20.0)
    given = parser.parse_args()
    print(
        f"{'product':>13} {'tiles':>6} {'patches':>7} {'kept':>7} {'/patches':>9} {'/tiles':>8} {'/bound':>7}"
        f" {'polygons':>8} {'order s':>8} {'cpu s':>7} {'budget s':>9} {'cpu s':>8}"
    )
    for count in map(int, given.tiles.split(",")):
        offers, chosen = scene(count, given.seed)
        for name, product in PRODUCTS.items():
            print(row(name, product, offers, chosen, given.limit), flush=True)


if __name__ == "__main__":
    main()
