"""What an order costs: exact to the last digit, rounded on its lines and totals only.

A line is a polygon; then the order's unused minimum and its fee, where there are any. The net sum is rounded
from the exact one, not added up from rounded lines (ten thousand lines of 0.004 are 40, not 0); what lines
and net differ by is a line of its own, ``rounding``, so that a quote always adds up to the last cent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from app.core import money
from app.core.errors import BudgetTooSmall
from app.pricing.products import Product


@dataclass(frozen=True)
class QuoteLine:
    """One polygon: its area, the area it is charged for (both km²), its price exact and rounded."""

    area_km2: Decimal
    charged_km2: Decimal
    unrounded: Decimal
    amount: Decimal


@dataclass(frozen=True)
class Quote:
    """What polygons cost together, in ``currency``.

    ``net`` = lines + ``unused_minimum`` + ``fee`` + ``rounding``; ``total`` = ``net`` + ``vat``. Names
    that end in ``_unrounded`` are exact.
    """

    currency: str
    lines: tuple[QuoteLine, ...]
    charged_km2: Decimal
    unused_minimum_km2: Decimal
    unused_minimum: Decimal
    fee: Decimal
    rounding: Decimal
    net_unrounded: Decimal
    net: Decimal
    vat_unrounded: Decimal
    vat: Decimal
    total_unrounded: Decimal
    total: Decimal


def charged_km2(product: Product, area_km2: Decimal) -> Decimal:
    """The area one polygon is charged for."""
    return max(area_km2, product.min_polygon_km2)


def quote(product: Product, areas_km2: Sequence[Decimal]) -> Quote:
    """The price of one order of polygons with these areas (km²), in their order; of none it is 0.

    The lines go through the tiers one after the other.
    """
    add, currency = money.EXACT.add, product.currency
    lines: list[QuoteLine] = []
    so_far = Decimal(0)
    for area in areas_km2:
        charged = charged_km2(product, area)
        price = product.price_between(so_far, add(so_far, charged))
        so_far = add(so_far, charged)
        lines.append(QuoteLine(area, charged, price, money.total_of(price, currency)))
    unused, unused_price, fee = Decimal(0), Decimal(0), Decimal(0)
    if lines:
        fee = product.fixed_fee
        unused = money.EXACT.subtract(max(product.min_order_km2, so_far), so_far)
        unused_price = product.price_between(so_far, add(so_far, unused))
    net_exact = add(add(product.price_between(Decimal(0), so_far), unused_price), fee)
    vat_exact = money.EXACT.multiply(net_exact, product.vat_rate)
    net = money.total_of(net_exact, currency)
    vat = money.total_of(money.EXACT.multiply(net, product.vat_rate), currency)
    shown = [line.amount for line in lines]
    shown += [money.total_of(unused_price, currency), money.total_of(fee, currency)]
    return Quote(
        currency=currency,
        lines=tuple(lines),
        charged_km2=add(so_far, unused),
        unused_minimum_km2=unused,
        unused_minimum=shown[-2],
        fee=shown[-1],
        rounding=money.EXACT.subtract(net, _sum(shown)),
        net_unrounded=net_exact,
        net=net,
        vat_unrounded=vat_exact,
        vat=vat,
        total_unrounded=add(net_exact, vat_exact),
        total=add(net, vat),
    )


def check_budget(product: Product, budget: Decimal, patch_km2: Decimal = Decimal(0)) -> None:
    """Raises BudgetTooSmall if an order of one patch of ``patch_km2`` costs more, VAT included."""
    least = quote(product, [patch_km2]).total
    if budget < least:
        raise too_small(product, budget, least, "the smallest order")


def too_small(product: Product, budget: Decimal, least: Decimal, what: str) -> BudgetTooSmall:
    """The problem of a budget that does not pay for ``what``."""
    return BudgetTooSmall(
        f"{money.plain(budget)} {product.currency} is under {money.plain(least)} {product.currency}, "
        f"which {what} of {product.ref} costs.",
        smallest_order=money.plain(least),
        currency=product.currency,
        errors=[{"loc": ["body", "budget"], "detail": f"under {money.plain(least)} {product.currency}"}],
    )


def _sum(amounts: Sequence[Decimal]) -> Decimal:
    total = Decimal(0)
    for amount in amounts:
        total = money.EXACT.add(total, amount)
    return total
