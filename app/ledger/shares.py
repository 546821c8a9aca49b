"""Sharing out a sum so that the shares add up to it exactly."""

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

DIGITS: Final = Decimal("1e-12")
"""Shares are this fine: a thousand million of them still add up to well under a cent."""

_WIDE: Final = Context(prec=120, rounding=ROUND_HALF_EVEN)


def shares(total: Decimal, weights: Sequence[Decimal]) -> list[Decimal]:
    """``total`` shared out by ``weights`` (at least one above 0, none below); the shares' sum is ``total``.

    Each share is the difference of two rounded running sums, so that roundings cannot pile up. Raises
    ValueError where there is nothing to share by.
    """
    whole = Decimal(0)
    for weight in weights:
        if weight < 0:
            raise ValueError("a weight is below 0")
        whole = _WIDE.add(whole, weight)
    if whole == 0:
        raise ValueError("no weight is above 0")
    found, so_far, given = [], Decimal(0), Decimal(0)
    for weight in weights:
        so_far = _WIDE.add(so_far, weight)
        exact = _WIDE.divide(_WIDE.multiply(total, so_far), whole)
        until = total if so_far == whole else exact.quantize(DIGITS, context=_WIDE)
        found.append(_WIDE.subtract(until, given))
        given = until
    return found
