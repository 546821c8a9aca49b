"""Exact money: decimals as they are, one rounding rule, the minor units of ISO 4217.

Areas (km²) and patch prices are never rounded; only the totals of a plan are, half to even, to the
minor unit of their currency (2 digits for EUR, 0 for JPY, 3 for KWD).
"""

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact, InvalidOperation
from typing import Final

import iso4217

# Wide enough that products of a measured area (17 digits, 35 decimals) and a price (12 decimals), summed
# over every patch, are exact. Inexact is trapped: a digit lost anywhere is an error, not a rounding.
EXACT = Context(prec=120, rounding=ROUND_HALF_EVEN, traps=[Inexact, InvalidOperation])
ROUNDING = Context(prec=120, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation])

LEAST_KM2: Final = Decimal("1e-18")

_PRICE = re.compile(r"\d{1,12}(\.\d{1,12})?", re.ASCII)


def parse_price(text: str) -> Decimal:
    """A price per km² from a client's decimal string: at most 12 digits either side of the point.

    Raises ValueError for anything else: signs, exponents, NaN, thousands separators.
    """
    if not _PRICE.fullmatch(text):
        raise ValueError("a price is a decimal string such as 12.50, with at most 12 digits on either side")
    return Decimal(text)


def parse_currency(code: str) -> str:
    """A currency code of ISO 4217 that has a minor unit. Raises ValueError (also for gold or XXX)."""
    try:
        currency = iso4217.Currency(code)
    except ValueError:
        raise ValueError("a currency is an ISO 4217 code such as EUR") from None
    if currency.exponent is None:
        raise ValueError(f"{code} has no minor unit, so nothing can be priced in it")
    return code


def minor_unit(currency: str) -> Decimal:
    """The smallest amount of a currency: 0.01 for EUR, 1 for JPY, 0.001 for KWD."""
    exponent = iso4217.Currency(currency).exponent
    if exponent is None:
        raise ValueError(f"{currency} has no minor unit")
    return Decimal(1).scaleb(-exponent)


def measured(value: Decimal) -> Decimal:
    """An area (km²) as the shortest decimal of its double.

    The ellipsoidal area comes from double arithmetic; kept like this, the stored NUMERIC and the number a
    client reads from JSON are the same decimal. Less than a square micrometre is rounding noise: 0.
    """
    return Decimal(repr(float(value))) if value >= LEAST_KM2 else Decimal(0)


def price_of(area_km2: Decimal, price_per_km2: Decimal) -> Decimal:
    """The exact, unrounded price of an area."""
    return EXACT.multiply(area_km2, price_per_km2)


def total_of(unrounded: Decimal, currency: str) -> Decimal:
    """A plan's total: half to even, to the currency's minor unit."""
    return unrounded.quantize(minor_unit(currency), context=ROUNDING)


def plain(value: Decimal) -> str:
    """A decimal without exponent, as clients get money: '0.0000012', never '1.2E-6'."""
    return format(value, "f")
