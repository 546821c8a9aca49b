"""Which patches are chosen, and what they cost together."""

from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from app.plans.answer import answer_tile, choose, kept_gain, totals

PROBABILITIES = st.lists(st.floats(0, 1), min_size=16, max_size=16)
AREAS = st.lists(
    st.one_of(st.just(Decimal(0)), st.floats(1e-9, 10).map(lambda km2: Decimal(repr(km2)))),
    min_size=16,
    max_size=16,
)
THRESHOLD = st.floats(0, 1)
MOST = st.one_of(st.none(), st.integers(0, 16))


@given(PROBABILITIES, AREAS, THRESHOLD, MOST)
def test_what_is_chosen(
    probabilities: list[float], areas: list[Decimal], threshold: float, most: int | None
) -> None:
    chosen = choose(probabilities, areas, threshold, most)
    wanted = [p for p in range(16) if probabilities[p] > threshold and areas[p] > 0]
    assert sum(chosen) == min(len(wanted), 16 if most is None else most)
    taken = [p for p in range(16) if chosen[p]]
    assert set(taken) <= set(wanted)
    left = [p for p in wanted if not chosen[p]]
    if taken and left:
        assert min(probabilities[p] for p in taken) >= max(probabilities[p] for p in left)


@given(PROBABILITIES, AREAS, THRESHOLD, MOST, st.sets(st.integers(0, 15)), st.sets(st.integers(0, 15)))
def test_areas_come_first_and_the_likeliest_fill_what_is_left(
    probabilities: list[float],
    areas: list[Decimal],
    threshold: float,
    most: int | None,
    must: set[int],
    never: set[int],
) -> None:
    chosen = choose(probabilities, areas, threshold, most, must, never)
    taken = {p for p in range(16) if chosen[p]}
    there = {p for p in range(16) if areas[p] > 0} - never
    free = {p for p in there - must if probabilities[p] > threshold}
    assert must & there <= taken <= (must & there) | free
    room = max(0, (16 if most is None else most) - len(must & there))
    assert len(taken - must) == min(room, len(free))
    if most is not None:
        assert len(taken) <= max(most, len(must & there))
    left = [probabilities[p] for p in free - taken]
    assert all(probabilities[p] >= max(left, default=0.0) for p in taken - must)


def test_of_equals_the_first_ids_are_chosen() -> None:
    chosen = choose([0.7] * 16, [Decimal(1)] * 16, 0.5, 3)
    assert [p for p in range(16) if chosen[p]] == [0, 1, 2]


def test_the_threshold_itself_is_not_above_it() -> None:
    # float32 0.6 is a little more than 0.6; what a client sees is 0.6, and that is not above 0.6
    tile = answer_tile(
        [0.6000000238418579] * 16, [Decimal(1)] * 16, threshold=0.6, max_patches=None, price_per_km2=None
    )
    assert tile.probabilities == (0.6,) * 16
    assert not any(tile.chosen)


def test_nothing_is_chosen_where_the_policy_saw_nothing() -> None:
    tile = answer_tile(
        [0.9] * 16, [Decimal(1)] * 16, threshold=0, max_patches=None, price_per_km2=None, unseen=range(8)
    )
    assert tile.chosen == (False,) * 8 + (True,) * 8
    assert tile.probabilities == (0.0,) * 8 + (0.9,) * 8
    gain = {"lr": 0.3, "hr": 0.9, "weights": [1 / 16] * 16}
    assert kept_gain(gain, tile) == gain | {"weights": [0.0] * 8 + [1 / 16] * 8}
    # what is beyond the raster's edge need not be seen
    half = [Decimal(1)] * 8 + [Decimal(0)] * 8
    blind = answer_tile([0.9] * 16, half, threshold=0, max_patches=None, price_per_km2=None, unseen=range(8))
    assert kept_gain(gain, blind) is None


@given(
    st.lists(st.tuples(PROBABILITIES, AREAS), min_size=1, max_size=5),
    st.decimals(0, 10_000, places=4),
    st.sampled_from(["EUR", "JPY", "KWD"]),
)
def test_totals_are_sums_rounded_once(
    tiles: list[tuple[list[float], list[Decimal]]], price: Decimal, currency: str
) -> None:
    answered = [
        answer_tile(probabilities, areas, threshold=0.5, max_patches=None, price_per_km2=price)
        for probabilities, areas in tiles
    ]
    found = totals(answered, currency)
    places = {"EUR": 2, "JPY": 0, "KWD": 3}[currency]
    chosen = [(tile, p) for tile in answered for p in range(16) if tile.chosen[p]]
    area = sum((Fraction(tile.areas_km2[p]) for tile, p in chosen), Fraction(0))
    assert found["chosen_count"] == len(chosen)
    assert Fraction(found["chosen_area_km2"]) == area
    # Fraction's round is half to even
    assert Fraction(found["chosen_cost"]) == round(area * Fraction(price), places)
    assert found["patch_count"] == sum(a > 0 for tile in answered for a in tile.areas_km2)


def test_without_a_price_there_is_no_cost() -> None:
    tile = answer_tile([0.9] * 16, [Decimal(1)] * 16, threshold=0.5, max_patches=2, price_per_km2=None)
    assert tile.prices is None
    assert totals([tile], None) == {
        "patch_count": 16,
        "chosen_count": 2,
        "area_km2": Decimal(16),
        "chosen_area_km2": Decimal(2),
        "cost": None,
        "chosen_cost": None,
    }
