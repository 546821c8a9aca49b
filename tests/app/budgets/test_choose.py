"""Budgets: more money never expects less, what is spent is what a vendor would charge, areas are kept to."""

import itertools
import uuid
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from app.budgets.areas import read_area
from app.budgets.choose import Allocation, Verdict, allocate, knee
from app.budgets.steps import upper_hull
from app.budgets.stock import TileOffer
from app.core.errors import AreaRefused, BudgetTooSmall
from app.orderable import Cell, as_given, violations
from app.orderable.ground import areas_km2
from app.pricing.products import Product, Rules, Tier
from app.pricing.quote import quote
from models.card import GainModel
from tests.app.orderable.making import lattice

PLAN = uuid.UUID(int=7)
ALONE = Product.ad_hoc(Decimal(1000), "EUR")
SMALL = Product(
    key="small",
    name="n",
    vendor="v",
    currency="EUR",
    tiers=(Tier(Decimal("0.02"), Decimal(1000)), Tier(None, Decimal(700))),
    min_polygon_km2=Decimal("0.01"),
    rules=Rules(max_vertices=60, min_width_m=30.0),
    fixed_fee=Decimal(2),
    vat_rate=Decimal("0.19"),
)
REFUSED = Product(
    key="refused",
    name="n",
    vendor="v",
    currency="JPY",
    tiers=(Tier(None, Decimal(5000)),),
    min_polygon_km2=Decimal("0.004"),
    min_order_km2=Decimal("0.008"),
    small_polygons="refused",
    rules=Rules(convex=True, max_vertices=8),
)
PRODUCTS = [ALONE, SMALL, REFUSED]


def offers(side: int, seed: int, *, calibrated: bool = True, curve: str = "concave") -> list[TileOffer]:
    """A square of ``side`` x ``side`` tiles of 80 m; some gain nothing, some would lose by HR."""
    rng = np.random.default_rng(seed)
    polygons = lattice(4 * side, 4 * side, 20.0)
    areas = areas_km2(polygons)
    points = {"concave": (0.0, 0.6, 0.9, 1.0), "convex": (0.0, 0.1, 0.4, 1.0)}[curve]
    model = GainModel(points)
    found = []
    for row, col in itertools.product(range(side), range(side)):
        numbers = [(4 * row + p // 4) * 4 * side + 4 * col + p % 4 for p in range(16)]
        cells = [
            Cell(PLAN, row * side + col, p, polygons[k], Decimal(repr(float(areas[k]))))
            for p, k in enumerate(numbers)
        ]
        weights = rng.random(16) ** 2
        low = float(rng.uniform(0.2, 0.7))
        gain = {
            "lr": low,
            "hr": low + float(rng.uniform(-0.2, 0.3)),
            "weights": list(weights / weights.sum()),
        }
        probabilities = [float(x) for x in rng.random(16)]
        number = row * side + col
        found.append(
            TileOffer(
                PLAN,
                number,
                cells,
                probabilities,
                0.5,
                gain if calibrated else None,
                model if calibrated else None,
            )
        )
    return found


def expected_by_hand(tiles: list[TileOffer], found: Allocation) -> float:
    """The mean chance, from the tiles' own numbers and the patches the answer says are bought."""
    total = 0.0
    for tile, verdict in zip(tiles, found.tiles, strict=True):
        assert tile.gain is not None
        assert tile.model is not None
        low, high = tile.gain["lr"], max(tile.gain["hr"], tile.gain["lr"])
        total += tile.model.expected(low, high, sum(tile.gain["weights"][p] for p in verdict.bought))
    return total / len(tiles)


@settings(max_examples=25)
@given(
    st.sampled_from(PRODUCTS),
    st.integers(0, 10_000),
    st.integers(1, 4),
    st.sampled_from(["concave", "convex"]),
    st.lists(st.decimals(45, 400, places=2), min_size=2, max_size=5),
    st.one_of(st.none(), st.integers(0, 16)),
)
def test_more_money_never_expects_less_and_is_never_overspent(
    product: Product, seed: int, side: int, curve: str, budgets: list[Decimal], most: int | None
) -> None:
    tiles = offers(side, seed, curve=curve)
    before = -1.0
    for budget in sorted(budgets):
        found = allocate(tiles, product, budget, max_patches=most)
        assert found.quote.total <= budget
        assert found.expected_after >= before
        before = found.expected_after
        assert found.expected_after == pytest.approx(expected_by_hand(tiles, found), abs=1e-9)
        assert found.expected_before <= found.expected_after <= found.expected_with_all + 1e-9
        assert all(not violations(polygon, product) for polygon in found.polygons)
        if found.polygons:
            areas = [Decimal(repr(float(area))) for area in areas_km2(list(found.polygons))]
            assert quote(product, areas).total == found.quote.total
        spends = [point.spend for point in found.curve]
        values = [point.expected for point in found.curve]
        assert spends == sorted(spends)
        assert all(a <= b + 1e-12 for a, b in itertools.pairwise(values))
        if most is not None and not found.polygons:
            assert all(len(tile.bought) <= most for tile in found.tiles)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.decimals(2, 30, places=2))
def test_patches_sold_alone_are_chosen_as_well_as_possible(seed: int, budget: Decimal) -> None:
    """Against every choice of whole steps: the greedy of a concave gain is optimal but for its last step."""
    tiles = offers(1, seed)
    found = allocate(tiles, ALONE, budget)
    gain, model = tiles[0].gain, tiles[0].model
    assert gain is not None
    assert model is not None
    km2 = float(tiles[0].cells[0].area_km2)
    affordable = sum(round(km2 * 1000 * count, 2) <= budget for count in range(1, 17))
    best = max(
        model.expected(gain["lr"], max(gain["hr"], gain["lr"]), sum(sorted(gain["weights"])[::-1][:count]))
        for count in range(min(affordable, 16) + 1)
    )
    assert found.expected_after <= best + 1e-9
    if found.expected_with_all > found.expected_before + 1e-6 and affordable >= 16:
        assert found.expected_after == pytest.approx(best, abs=1e-6)


def test_verdicts() -> None:
    tiles = offers(3, 1)
    everything = allocate(tiles, ALONE, Decimal(1000))
    for tile, verdict in zip(tiles, everything.tiles, strict=True):
        assert tile.gain is not None
        gains = tile.gain["hr"] - tile.gain["lr"]
        assert verdict.verdict == (Verdict.BUY if gains > 0 else Verdict.ENOUGH)
        assert verdict.expected_before == tile.gain["lr"]
    nothing = allocate(tiles, ALONE, Decimal("0.5"))
    assert {tile.verdict for tile in nothing.tiles} >= {Verdict.NOT, Verdict.ENOUGH}


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.key)
@pytest.mark.parametrize("calibrated", [True, False])
def test_where_lr_shows_nothing_only_areas_buy(product: Product, calibrated: bool) -> None:
    plain = offers(3, 1, calibrated=calibrated)
    # the tile in the middle shows nothing (a plan keeps no gain of it), half of the first one neither
    tiles = [*plain]
    tiles[4] = replace(plain[4], unseen=range(16), gain=None)
    tiles[0] = replace(plain[0], unseen=range(8))
    found = allocate(tiles, product, Decimal(1000))
    assert found.calibrated == calibrated
    assert found.tiles[4].chosen == ()
    assert set(found.tiles[0].chosen) <= set(range(8, 16))
    assert found.tiles[4].expected_before is None
    if product is ALONE:
        assert found.tiles[4].verdict == Verdict.UNSEEN
        assert found.tiles[4].bought == ()
        assert set(found.tiles[0].bought) <= set(range(8, 16))
    seen = allocate([*tiles[:4], *tiles[5:]], product, Decimal(1000))
    assert found.expected_before == pytest.approx(seen.expected_before)
    assert found.expected_with_all == pytest.approx(seen.expected_with_all)
    there = shapely.union_all([tiles[4].cells[5].polygon, tiles[4].cells[6].polygon]).buffer(-1e-6)
    forced = allocate(tiles, product, Decimal(1000), must_buy=there)
    assert forced.tiles[4].verdict == Verdict.BUY
    assert forced.tiles[4].chosen == (5, 6)
    # another release's, which has no gain model: what it says nothing of needs none
    tiles[4] = replace(tiles[4], model=None)
    assert allocate(tiles, product, Decimal(1000)).calibrated == calibrated
    # nobody saw anything at all
    blind = [replace(tile, unseen=range(16), gain=None) for tile in plain]
    none = allocate(blind, product, Decimal(1000))
    assert none.calibrated == calibrated
    assert {tile.verdict for tile in none.tiles} == {Verdict.UNSEEN}
    assert none.quote.total == 0
    assert none.expected_with_all == 0
    assert set(allocate(blind, product, Decimal(1000), must_buy=there).tiles[4].chosen) == {5, 6}


def test_without_a_gain_model_probabilities_order_the_patches() -> None:
    tiles = offers(2, 3, calibrated=False)
    found = allocate(tiles, ALONE, Decimal(4))
    assert not found.calibrated
    assert found.expected_before == 0
    assert found.expected_with_all == pytest.approx(1.0)
    bought = [tiles[n].probabilities[p] for n, tile in enumerate(found.tiles) for p in tile.bought]
    left = [
        tiles[n].probabilities[p]
        for n, tile in enumerate(found.tiles)
        for p in range(16)
        if p not in tile.bought
    ]
    assert len(bought) >= 9
    assert min(bought) > max(left) * 0.99
    assert all(tile.expected_after is None for tile in found.tiles)


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.key)
def test_areas_that_must_and_must_not_be_bought(product: Product) -> None:
    tiles = offers(4, 5)
    must, never = tiles[0].cells[5].polygon, tiles[10].cells[9].polygon
    found = allocate(tiles, product, Decimal(150), must_buy=must.buffer(-1e-5), never_buy=never.buffer(-1e-5))
    assert 5 in found.tiles[0].bought
    assert 9 not in found.tiles[10].bought
    for polygon in found.polygons:
        assert polygon.intersection(never.buffer(-1e-5)).area <= 1e-4 * never.area
        assert not violations(polygon, product)


PATCHES = st.sets(st.integers(0, 15))


@settings(max_examples=25)
@given(st.sampled_from(PRODUCTS), st.integers(0, 10_000), st.integers(0, 16), PATCHES, PATCHES)
def test_areas_hold_together_with_max_patches(
    product: Product, seed: int, most: int, must: set[int], never: set[int]
) -> None:
    """As in a plan without a budget: never first, then all that must be, then others up to ``most``."""
    tiles = offers(2, seed)
    inside, outside = (
        shapely.union_all([cell.polygon.buffer(-1e-5) for cell in tiles[0].cells if cell.patch in patches])
        for patches in (must, never)
    )
    found = allocate(tiles, product, Decimal(10_000), max_patches=most, must_buy=inside, never_buy=outside)
    bought = set(found.tiles[0].bought)
    assert not bought & never
    # hard by ground that is never bought a vendor's rules may leave no polygon that is
    if product is ALONE or not never:
        assert must - never <= bought
    if product is ALONE:
        assert len(bought) <= max(most, len(must - never))
        if tiles[0].gain is not None and tiles[0].gain["hr"] > tiles[0].gain["lr"]:
            assert len(bought) == max(len(must - never), min(most, 16 - len(never)))


def test_money_that_buys_nothing() -> None:
    tiles = offers(2, 5)
    with pytest.raises(BudgetTooSmall, match="smallest order") as caught:
        allocate(tiles, SMALL, Decimal(12))
    # 0.01 km² at 1000, the fee, 19 %
    assert caught.value.extra["smallest_order"] == "14.28"
    must = shapely.union_all([cell.polygon for tile in tiles for cell in tile.cells])
    with pytest.raises(BudgetTooSmall, match="must be bought"):
        allocate(tiles, SMALL, Decimal(15), must_buy=must)


@given(st.lists(st.tuples(st.floats(0.1, 5), st.floats(0, 1)), min_size=1, max_size=20))
def test_the_hull_lies_above_every_point(steps: list[tuple[float, float]]) -> None:
    cost = np.cumsum([0.0, *(step[0] for step in steps)])
    value = np.cumsum([0.0, *(step[1] for step in steps)])
    corners = upper_hull(cost, value)
    reached = np.interp(cost, cost[corners], value[corners])
    assert (reached >= value - 1e-9).all()


def test_the_knee() -> None:
    assert knee([0, 1, 2, 3, 4], [0, 0.8, 0.9, 0.95, 1.0]) == 1
    assert knee([0.0], [0.5]) == 0


def ring(*points: tuple[float, float]) -> dict[str, object]:
    return {"type": "Polygon", "coordinates": [[*map(list, points), list(points[0])]]}


CUT = {
    "type": "MultiPolygon",
    "coordinates": [
        [[[179, 0], [180, 0], [180, 1], [179, 1], [179, 0]]],
        [[[-180, 0], [-179, 0], [-179, 1], [-180, 1], [-180, 0]]],
    ],
}


def test_areas_that_can_be_read() -> None:
    square = ring((0, 0), (1, 0), (1, 1), (0, 1))
    feature = {"type": "Feature", "geometry": square, "properties": {}}
    for value in (square, feature, {"type": "FeatureCollection", "features": [feature, feature]}):
        area = read_area(value, ("body",))
        assert area is not None
        assert area.area == 1
    cut = read_area(CUT, ("body",))
    assert cut is not None
    assert cut.area == 2
    assert read_area(None, ("body",)) is None


BAD_AREAS = [
    (ring((0, 0), (1, 1), (1, 0), (0, 1)), "crosses"),
    (ring((179, 0), (-179, 0), (-179, 1), (179, 1)), "antimeridian"),
    (ring((179, 0), (181, 0), (181, 1), (179, 1)), "antimeridian"),
    (ring((0, 95), (1, 95), (1, 96)), "latitude"),
    (ring((0, 0), (1, 0), (2, 0)), "itself"),
    (ring((0, 0), (1, float("nan")), (2, 2)), "position"),
    ({"type": "Point", "coordinates": [0, 0]}, "Point"),
    ({"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1]]]}, "four"),
    ({"type": "Polygon", "coordinates": "x"}, "read"),
    ({"type": "Polygon"}, "GeoJSON"),
    ({"type": "FeatureCollection", "features": []}, "1 to"),
    ({}, "GeoJSON"),
]


@pytest.mark.parametrize(("value", "said"), BAD_AREAS, ids=[said for _, said in BAD_AREAS])
def test_areas_that_cannot(value: dict[str, object], said: str) -> None:
    with pytest.raises(AreaRefused, match=said) as caught:
        read_area(value, ("body", "must_buy"))
    assert caught.value.extra["errors"][0]["loc"] == ["body", "must_buy"]


@settings(max_examples=10)
@given(st.sampled_from([SMALL, REFUSED]), st.integers(0, 10_000), st.decimals(60, 300, places=2))
def test_a_budgets_polygons_can_be_ordered_as_they_are(product: Product, seed: int, budget: Decimal) -> None:
    tiles = offers(3, seed)
    found = allocate(tiles, product, budget)
    order = as_given(found.polygons, product, [cell for tile in tiles for cell in tile.cells])
    assert order.quote.total == found.quote.total
    named = {(one.tile, one.patch) for polygon in order.polygons for one in polygon.covered}
    assert named >= {(tile.tile, patch) for tile in found.tiles for patch in tile.bought}
