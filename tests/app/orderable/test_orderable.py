"""Orders are legal, cover what was chosen, and never cost more than what anybody would think of."""

import dataclasses
import itertools
import math
import time
import uuid
from collections.abc import Iterator, Sequence
from decimal import Decimal

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from app.orderable import Cell, Orderable, orderable, violations
from app.orderable.ground import areas_km2
from app.orderable.shapes import ShapeMaker
from app.pricing.products import Product, Rules, Tier
from app.pricing.quote import quote
from tests.app.orderable.making import PLAN, cells, geodesic_km2, lattice

SIDE = 8
GROUND = lattice(SIDE, SIDE)
EVERY = cells(GROUND)


def product(minimum: str = "0", **rules: object) -> Product:
    small = rules.pop("small_polygons", "charged")
    values = {"price": "100", "fee": "0", "order": "0"} | {
        name: str(rules.pop(name)) for name in ("price", "fee", "order") if name in rules
    }
    return Product(
        key="p",
        name="p",
        vendor="v",
        currency="EUR",
        tiers=(Tier(Decimal("0.01"), Decimal(values["price"])), Tier(None, Decimal(values["price"]) / 2)),
        min_polygon_km2=Decimal(minimum),
        min_order_km2=Decimal(values["order"]),
        small_polygons=small,  # type: ignore[arg-type]
        fixed_fee=Decimal(values["fee"]),
        vat_rate=Decimal("0.19"),
        rules=Rules(**rules),  # type: ignore[arg-type]
    )


PRODUCTS = {
    "plain": product(),
    "holes": product(holes_allowed=True, max_vertices=30),
    "parts": product("0.004", single_part=False, max_vertices=40),
    "minimum": product("0.003", max_vertices=500),
    "corners": product("0.001", max_vertices=8),
    "convex": product("0.002", convex=True, max_vertices=12),
    "wide": product("0.002", min_width_m=45.0, max_vertices=100),
    "refused": product("0.003", small_polygons="refused", min_width_m=25.0),
    "rectangles": product("0.0015", small_polygons="refused", convex=True, max_vertices=4),
    "large": product("1", order="2", fee="30", min_width_m=300.0),
}


def covered(found: Orderable, asked: Sequence[Cell]) -> None:
    """Every asked patch is covered or dropped, and what is said to be covered is, by areas."""
    ground = shapely.union_all([polygon.geometry for polygon in found.polygons])
    named = {name for polygon in found.polygons for name in polygon.covered}
    assert named.isdisjoint(found.dropped)
    for cell in asked:
        assert (cell.id in named) != (cell.id in found.dropped)
        if cell.id in named:
            assert cell.polygon.difference(ground).area <= 1e-3 * cell.polygon.area


def legal(found: Orderable) -> None:
    """By the rules themselves, as the coordinates would be sent."""
    rules = found.product.rules
    for polygon in found.polygons:
        shape = shapely.from_geojson(shapely.to_geojson(polygon.geometry))
        assert shape.is_valid
        parts = list(shapely.get_parts(shape))
        assert not rules.single_part or len(parts) == 1
        assert rules.holes_allowed or not any(part.interiors for part in parts)
        corners = sum(len(ring.coords) - 1 for part in parts for ring in (part.exterior, *part.interiors))
        assert rules.max_vertices is None or corners <= rules.max_vertices
        if rules.convex:
            assert shape.convex_hull.area - shape.area <= 1e-6 * shape.area
        if found.product.small_polygons == "refused":
            assert geodesic_km2(shape) >= float(found.product.min_polygon_km2) * (1 - 1e-9)
        assert violations(shape, found.product) == []
        assert float(polygon.area_km2) == pytest.approx(geodesic_km2(shape), rel=1e-6)
        assert polygon.charged_km2 >= found.product.min_polygon_km2
    assert found.bound <= found.quote.total_unrounded
    assert found.quote.total == quote(found.product, [one.area_km2 for one in found.polygons]).total


def total(sold: Product, polygons: Sequence[shapely.Geometry]) -> Decimal:
    areas = [Decimal(repr(geodesic_km2(polygon))) for polygon in polygons]
    return quote(sold, areas).total_unrounded


picks = st.sets(st.integers(0, SIDE * SIDE - 1), min_size=1, max_size=24)


@settings(max_examples=60)
@given(st.sampled_from(sorted(PRODUCTS)), picks, st.booleans())
def test_orders_are_legal_cover_and_cost_no_more_than_plain_ones(
    name: str, chosen: set[int], more: bool
) -> None:
    sold = PRODUCTS[name]
    asked = [EVERY[number] for number in sorted(chosen)]
    found = orderable(asked, sold, candidates=EVERY if more else (), time_limit_s=5)
    legal(found)
    assert found.dropped == ()
    covered(found, asked)
    slack = Decimal("1.0000001")
    alone = [cell.polygon for cell in asked]
    if all(not violations(polygon, sold) for polygon in alone):
        assert found.quote.total_unrounded <= total(sold, alone) * slack
    tiles = [shapely.union_all(GROUND[tile * 16 : tile * 16 + 16]) for tile in {n // 16 for n in chosen}]
    if more and all(not violations(tile, sold) for tile in tiles):
        assert found.quote.total_unrounded <= total(sold, tiles) * slack
    whole = shapely.box(*shapely.total_bounds(np.array(GROUND)))
    if more and not violations(whole, sold):
        # a rectangle reaches 1 mm over what it holds on each side
        assert found.quote.total_unrounded <= total(sold, [whole]) * Decimal("1.0001")


def partitions(things: list[int]) -> Iterator[list[list[int]]]:
    if not things:
        yield []
        return
    first, rest = things[0], things[1:]
    for smaller in partitions(rest):
        for n, group in enumerate(smaller):
            yield [*smaller[:n], [first, *group], *smaller[n + 1 :]]
        yield [[first], *smaller]


@settings(max_examples=25)
@given(
    st.sampled_from(["minimum", "corners", "convex", "wide", "rectangles", "refused"]),
    st.sets(st.integers(0, SIDE * SIDE - 1), min_size=2, max_size=6),
)
def test_within_five_percent_of_the_best_of_all_partitions(name: str, chosen: set[int]) -> None:
    """Every way to group the patches, each group with its cheapest polygon."""
    sold = PRODUCTS[name]
    maker = ShapeMaker(sold)
    polygons = np.array([GROUND[number] for number in sorted(chosen)], dtype=object)
    known: dict[tuple[int, ...], float] = {}

    def charged(group: list[int]) -> float:
        key = tuple(sorted(group))
        if key not in known:
            shape = maker.best(polygons[list(key)], 20.0)
            known[key] = math.inf if shape is None else shape.charged
        return known[key]

    best = min(sum(map(charged, groups)) for groups in partitions(list(range(len(polygons)))))
    found = orderable(cells(GROUND, sorted(chosen)), sold, time_limit_s=5)
    assert float(found.quote.charged_km2) <= best * 1.05


@settings(max_examples=10)
@given(st.sampled_from(["minimum", "convex"]), st.sets(st.integers(0, 63), min_size=5, max_size=8))
def test_the_pool_of_large_cases_is_within_five_percent_too(name: str, chosen: set[int]) -> None:
    """The way that thousands of patches take, on cases small enough to look at every subset."""
    from app.orderable import pool

    sold = PRODUCTS[name]
    asked = cells(GROUND, sorted(chosen))
    exact = orderable(asked, sold, time_limit_s=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "EXHAUSTIVE", 0)
        found = orderable(asked, sold, time_limit_s=5)
    legal(found)
    covered(found, asked)
    assert found.quote.charged_km2 <= exact.quote.charged_km2 * Decimal("1.05")


WIDE = 48
MANY = {
    "none": product(max_vertices=500),
    "small": product("0.03", min_width_m=50.0, max_vertices=500),
    "convex": product("0.1", convex=True, small_polygons="refused", min_width_m=100.0, max_vertices=20),
    "large": product("25", min_width_m=2000.0, max_vertices=500),
}


@pytest.mark.parametrize("name", MANY)
def test_many_patches_within_the_time_and_under_both_plain_prices(name: str) -> None:
    """A ninth of 144 tiles, in blobs: far more than the solver sees at once."""
    sold = MANY[name]
    ground = lattice(WIDE, WIDE)
    rng = np.random.default_rng(3)
    hot = np.kron(rng.random((WIDE // 8, WIDE // 8)) < 0.4, np.ones((8, 8))) * rng.random((WIDE, WIDE)) > 0.7
    row, col = np.divmod(np.arange(WIDE * WIDE), WIDE)
    tile, patch = (row // 4) * (WIDE // 4) + col // 4, (row % 4) * 4 + col % 4
    areas = areas_km2(np.array(ground, dtype=object))
    every = [
        Cell(PLAN, int(t), int(p), polygon, Decimal(repr(float(area))))
        for t, p, polygon, area in zip(tile, patch, ground, areas, strict=True)
    ]
    asked = [cell for cell, chosen in zip(every, hot.ravel(), strict=True) if chosen]
    began = time.process_time()
    found = orderable(asked, sold, candidates=every, time_limit_s=4)
    # of the processor, as the clock is shared; caches and memory are too, and without the limit it is minutes
    assert time.process_time() - began < 12
    legal(found)
    covered(found, asked)
    assert found.dropped == ()
    assert Decimal(0) < found.bound <= found.quote.total_unrounded
    least = [Decimal(repr(float(area))) for area in areas[hot.ravel()]]
    slack = Decimal("1.000001")
    assert found.quote.total_unrounded <= quote(sold, least).total_unrounded * slack
    tiles = [Decimal(repr(float(areas[tile == t].sum()))) for t in np.unique(tile[hot.ravel()])]
    assert found.quote.total_unrounded <= quote(sold, tiles).total_unrounded * slack
    if name == "small":
        # most of what lies between the blobs is left out
        assert float(found.quote.charged_km2) < 0.75 * areas.sum()


def test_a_column_names_a_row_once() -> None:
    """HiGHS crashes otherwise: outlines that touch are as near to each other as to themselves."""
    from app.orderable import pool

    flat = shapely.box(np.array([0, 1, 1, 5]), 0, np.array([1, 2, 2, 6]), 1)
    assert all(len(set(group.tolist())) == len(group) for group in pool.circles(flat))


def test_a_ring_is_split_where_that_is_cheaper_than_its_hole() -> None:
    ring = [n for n in range(25) if n not in (6, 7, 8, 11, 12, 13, 16, 17, 18)]
    five = cells(lattice(5, 5), ring)
    split = orderable(five, PRODUCTS["plain"])
    assert len(split.polygons) in (2, 3)
    assert float(split.quote.charged_km2) == pytest.approx(16 * 0.0004, rel=2e-3)
    filled = orderable(five, product("0.009"), candidates=cells(lattice(5, 5)))
    assert len(filled.polygons) == 1
    # the hole came for nothing, so it is bought
    assert len(filled.polygons[0].covered) >= 25 - 3


def test_unused_minimum_is_filled_with_patches_that_are_welcome() -> None:
    found = orderable([EVERY[0]], PRODUCTS["minimum"], candidates=EVERY)
    [polygon] = found.polygons
    assert float(polygon.charged_km2) == 0.003
    assert len(polygon.covered) >= 5
    legal(found)


def test_what_is_not_worth_its_polygon_is_dropped() -> None:
    sold = PRODUCTS["minimum"]
    price = Decimal("0.003") * 100 * Decimal("1.19")
    cheap = cells(GROUND, [0], price - Decimal("0.01"))
    # so far away that no corridor leads there
    dear = cells(lattice(SIDE, SIDE, west=424_000), [63], price + Decimal("0.01"))
    found = orderable([*cheap, *dear], sold)
    assert found.dropped == (cheap[0].id,)
    assert [name for polygon in found.polygons for name in polygon.covered] == [dear[0].id]
    nothing = orderable(cheap, sold)
    assert (nothing.polygons, nothing.quote.total) == ((), Decimal(0))
    # beside a patch that must be bought the cheap one comes for nothing
    together = orderable([cells(GROUND, [1])[0], *cheap], sold)
    assert together.dropped == ()


@pytest.mark.parametrize("apart", [0, 1])
def test_ground_that_is_wide_enough_is_ordered_as_it_lies(apart: int) -> None:
    """A raster's edges are no straight lines in degrees: without the corners on them it is a hair larger."""
    sold = dataclasses.replace(product("0.1", min_width_m=50.0, max_vertices=500), vat_rate=Decimal(0))
    block = cells(lattice(30, 30))
    # a patch that needs a polygon of its own, so that not everything is legal as it lies
    far = [dataclasses.replace(cell, tile=999) for cell in cells(lattice(1, apart, west=409_000))]
    found = orderable([*block, *far], sold)
    ground = sum((cell.area_km2 for cell in block), Decimal(0))
    cost = sold.price_between(Decimal(0), ground + apart * Decimal("0.1"))
    assert float(found.quote.total_unrounded / cost) == pytest.approx(1, abs=1e-6)
    assert found.bound <= found.quote.total_unrounded
    assert not found.dropped
    legal(found)


@pytest.mark.parametrize(
    ("first", "rest", "up_to", "worth", "bought"),
    [
        # falling: all 64 patches cost 0.35 of their worth of 1.28, and 2 of them more than theirs
        ("100", "10", "0.001", "50", 64),
        ("100", "50", "0.01", "85", 64),
        # all of them cost 1.78 and are worth 1.66
        ("100", "50", "0.01", "65", 0),
        # rising: the order never gets to the dear tier
        ("100", "3000", "1", "2000", 64),
    ],
)
def test_worth_is_held_against_the_tiers_that_the_order_reaches(
    first: str, rest: str, up_to: str, worth: str, bought: int
) -> None:
    tiers = (Tier(Decimal(up_to), Decimal(first)), Tier(None, Decimal(rest)))
    sold = dataclasses.replace(product(), tiers=tiers, vat_rate=Decimal(0))
    asked = cells(GROUND, worth=EVERY[0].area_km2 * Decimal(worth) * Decimal("1.0001"))
    found = orderable(asked, sold)
    assert len(found.covered) == bought
    lost = sum((cell.worth or Decimal(0) for cell in asked if cell.id in found.dropped), Decimal(0))
    assert found.bound <= found.quote.total_unrounded + lost


def test_ground_to_be_avoided_is_avoided() -> None:
    avoid = GROUND[9].buffer(-1e-6)
    for sold in PRODUCTS.values():
        if sold.rules.min_width_m is None and not sold.rules.convex and sold.small_polygons == "charged":
            found = orderable([EVERY[n] for n in (0, 1, 2, 8, 10, 16, 17, 18)], sold, avoid=avoid)
            legal(found)
            assert not found.dropped
            assert all(
                polygon.geometry.intersection(avoid).area < 1e-6 * avoid.area for polygon in found.polygons
            )


def test_nothing_asked_is_nothing_ordered() -> None:
    found = orderable([], PRODUCTS["large"])
    assert (found.polygons, found.dropped, found.quote.total, found.optimal) == ((), (), Decimal(0), True)


def test_plans_that_overlap_pay_the_ground_once() -> None:
    other = uuid.UUID(int=2)
    moved = lattice(4, 4, west=404_010, south=3_285_010)
    twice = [Cell(other, 0, n, polygon, EVERY[0].area_km2) for n, polygon in enumerate(moved)]
    found = orderable([*cells(lattice(4, 4)), *twice], PRODUCTS["plain"])
    legal(found)
    assert len({name for polygon in found.polygons for name in polygon.covered}) == 32
    assert float(found.quote.charged_km2) < 23 * 0.0004


PLACES = {
    "antimeridian": (3832, 0.0, 0.0),
    "north pole": (3413, 0.0, 0.0),
    "south pole": (3031, 0.0, 0.0),
    "near the pole": (3413, 30_000.0, 10_000.0),
    "equator": (32631, 500_000.0, -80.0),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["plain", "minimum", "convex", "refused", "wide", "large"])
def test_odd_places(place: str, name: str) -> None:
    from app.rasters.footprint import footprints

    epsg, x, y = PLACES[place]
    from pyproj import CRS, Transformer

    crs = CRS.from_epsg(epsg)
    if place == "antimeridian":
        x, y = Transformer.from_crs(4326, crs, always_xy=True).transform(180.0, 10.0)
    corner = [(x - 80 + 40 * col, y - 80 + 40 * row) for row, col in itertools.product(range(4), range(4))]
    rings = [((a, b), (a + 40, b), (a + 40, b + 40), (a, b + 40)) for a, b in corner]
    shapes = [shapely.geometry.shape(one) for one in footprints(rings, crs.to_wkt())]
    asked = [
        Cell(PLAN, 0, n, shape, Decimal(repr(float(areas_km2([shape])[0])))) for n, shape in enumerate(shapes)
    ]
    sold = PRODUCTS[name]
    found = orderable(asked, sold, time_limit_s=10)
    assert found.polygons
    for polygon in found.polygons:
        assert violations(polygon.geometry, sold) == []
        assert polygon.geometry.geom_type == "Polygon"
        west, south, east, north = polygon.geometry.bounds
        assert (-180 <= west < east <= 180, -90 <= south < north <= 90) == (True, True)
    named = {one for polygon in found.polygons for one in polygon.covered}
    assert {cell.id for cell in asked} == named | set(found.dropped)
    if place in ("equator", "antimeridian", "near the pole"):
        assert found.dropped == ()


def test_areas_agree_with_another_way_to_measure_them() -> None:
    for polygon in (GROUND[0], shapely.box(10, 60, 10.5, 60.3), shapely.box(-180, -89, 180, -88)):
        whole = geodesic_km2(polygon, 0.01)
        assert float(areas_km2([polygon])[0]) == pytest.approx(whole, rel=1e-7)
    hole = shapely.Polygon(shapely.box(0, 0, 1, 1).exterior, [shapely.box(0.2, 0.2, 0.4, 0.4).exterior])
    parts = areas_km2([hole, shapely.box(0, 0, 1, 1), shapely.box(0.2, 0.2, 0.4, 0.4)])
    assert parts[0] == pytest.approx(parts[1] - parts[2], rel=1e-12)
