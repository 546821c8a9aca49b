"""Exact prices, and one rounding: half to even, to the minor unit."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import money

PRICES = st.decimals(min_value=0, max_value=999_999_999_999, places=12, allow_nan=False)
AREAS = st.floats(min_value=0, max_value=5.1e8, allow_nan=False).map(lambda km2: money.measured(Decimal(km2)))


@pytest.mark.parametrize("text", ["0", "12.50", "0.000000000001", "999999999999.999999999999"])
def test_decimal_strings_are_prices(text: str) -> None:
    assert money.parse_price(text) == Decimal(text)


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "-1", "+1", "1e3", "1,5", "NaN", "Infinity", ".5", "5.", "1" * 13, "١٢", "1\n", "0x1"],
)
def test_nothing_else_is_a_price(text: str) -> None:
    with pytest.raises(ValueError, match="decimal string"):
        money.parse_price(text)


@pytest.mark.parametrize(
    ("code", "unit"), [("EUR", "0.01"), ("JPY", "1"), ("KWD", "0.001"), ("CLF", "0.0001")]
)
def test_minor_units_are_those_of_iso_4217(code: str, unit: str) -> None:
    assert money.minor_unit(money.parse_currency(code)) == Decimal(unit)


@pytest.mark.parametrize("code", ["", "eur", "EURO", "XXX", "XAU", "ZZZ", "€"])
def test_what_has_no_minor_unit_is_no_currency(code: str) -> None:
    with pytest.raises(ValueError):
        money.parse_currency(code)


@given(AREAS, PRICES)
def test_a_patch_price_is_exact(area: Decimal, price: Decimal) -> None:
    assert Fraction(money.price_of(area, price)) == Fraction(area) * Fraction(price)


@given(st.decimals(min_value=0, max_value=10**9, places=9), st.sampled_from(["EUR", "JPY", "KWD"]))
def test_a_total_is_the_nearest_amount_and_ties_go_to_even(unrounded: Decimal, currency: str) -> None:
    unit = Fraction(money.minor_unit(currency))
    total = Fraction(money.total_of(unrounded, currency))
    assert (total / unit).denominator == 1
    off = abs(total - Fraction(unrounded))
    assert off <= unit / 2
    if off == unit / 2:
        assert int(total / unit) % 2 == 0


@pytest.mark.parametrize(("unrounded", "total"), [("0.125", "0.12"), ("0.135", "0.14"), ("2.5", "2.50")])
def test_ties_in_euros(unrounded: str, total: str) -> None:
    assert money.plain(money.total_of(Decimal(unrounded), "EUR")) == total


@given(AREAS)
def test_an_area_reads_from_json_as_it_is_kept(area: Decimal) -> None:
    assert Decimal(repr(float(area))) == area
    assert area == 0 or area >= money.LEAST_KM2


def test_money_is_written_without_an_exponent() -> None:
    assert money.plain(Decimal("1.2E-7")) == "0.00000012"
