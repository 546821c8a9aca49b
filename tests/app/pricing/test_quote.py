"""Quotes: exact, rounded at the end, and they add up."""

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from app.pricing.products import Product, Rules, Tier
from app.pricing.quote import quote

amounts = st.decimals(0, 5000, places=4)
areas = st.lists(st.decimals(0, 300, places=9), max_size=30)


@st.composite
def products(draw: st.DrawFn) -> Product:
    limits = sorted(draw(st.sets(st.integers(1, 500), max_size=3)))
    tiers = [Tier(Decimal(limit), draw(amounts)) for limit in limits]
    return Product(
        key="k",
        name="n",
        vendor="v",
        currency=draw(st.sampled_from(["EUR", "JPY", "KWD"])),
        tiers=(*tiers, Tier(None, draw(amounts))),
        min_order_km2=draw(st.decimals(0, 50, places=3)),
        min_polygon_km2=draw(st.decimals(0, 5, places=3)),
        fixed_fee=draw(amounts),
        vat_rate=draw(st.decimals(0, "0.3", places=3)),
        rules=Rules(),
    )


def by_hand(product: Product, polygons: list[Decimal]) -> Fraction:
    """The exact net price, worked out another way: square kilometre by tier, in fractions."""
    whole = sum((max(Fraction(a), Fraction(product.min_polygon_km2)) for a in polygons), Fraction(0))
    whole = max(whole, Fraction(product.min_order_km2)) if polygons else Fraction(0)
    net = Fraction(product.fixed_fee) if polygons else Fraction(0)
    below = Fraction(0)
    for up_to, price in product.tiers:
        upper = whole if up_to is None else min(whole, Fraction(up_to))
        net += max(upper - below, Fraction(0)) * Fraction(price)
        below = max(below, upper)
    return net


@given(products(), areas)
def test_a_quote_is_exact_and_adds_up(product: Product, polygons: list[Decimal]) -> None:
    found = quote(product, polygons)
    net = by_hand(product, polygons)
    assert Fraction(found.net_unrounded) == net
    assert Fraction(found.total_unrounded) == net * (1 + Fraction(product.vat_rate))
    places = {"EUR": 2, "JPY": 0, "KWD": 3}[product.currency]
    assert abs(Fraction(found.net) - net) * 2 * 10**places <= 1
    lines = sum((line.amount for line in found.lines), Decimal(0))
    assert lines + found.unused_minimum + found.fee + found.rounding == found.net
    assert found.net + found.vat == found.total
    assert all(line.amount == line.amount.quantize(Decimal(1).scaleb(-places)) for line in found.lines)


@given(products(), areas, st.decimals(0, 300, places=9))
def test_more_never_costs_less(product: Product, polygons: list[Decimal], more: Decimal) -> None:
    assert quote(product, [*polygons, more]).total_unrounded >= quote(product, polygons).total_unrounded


def test_halves_go_to_the_even_digit() -> None:
    product = Product.ad_hoc(Decimal(1), "EUR")
    assert quote(product, [Decimal("0.125")]).total == Decimal("0.12")
    assert quote(product, [Decimal("0.135")]).total == Decimal("0.14")
    assert Decimal("0.125").quantize(Decimal("0.01"), ROUND_HALF_EVEN) == Decimal("0.12")


def test_small_lines_do_not_vanish_in_the_total() -> None:
    found = quote(Product.ad_hoc(Decimal(10), "EUR"), [Decimal("0.0004")] * 1000)
    assert {line.amount for line in found.lines} == {Decimal("0.00")}
    assert (found.total, found.rounding) == (Decimal("4.00"), Decimal("4.00"))
