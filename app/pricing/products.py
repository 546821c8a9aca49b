"""A product: what a vendor sells by area, and the polygons it takes. Pure, frozen, exact."""

import uuid
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple, Self

from app.core import money

# What a polygon under the vendor's minimum means: it is sold at the price of the minimum, or not at all.
SmallPolygons = Literal["charged", "refused"]

AD_HOC: Final = "ad-hoc"


class Tier(NamedTuple):
    """The price of the part of an order up to ``up_to_km2`` (None: all the rest)."""

    up_to_km2: Decimal | None
    price_per_km2: Decimal


@dataclass(frozen=True)
class Rules:
    """Which polygons a vendor takes.

    ``max_vertices`` counts the corners, the closing point of a ring not; ``min_width_m`` is the width that
    no part of a polygon may fall below (``app.orderable.legal`` says how it is measured).
    """

    single_part: bool = True
    holes_allowed: bool = False
    convex: bool = False
    max_vertices: int | None = None
    min_width_m: float | None = None


@dataclass(frozen=True)
class Product:
    """One product of one version of a price list.

    An order's area is the sum of its polygons', each at least ``min_polygon_km2``, and at least
    ``min_order_km2``. Tiers are graduated: the first square kilometres of an order cost the first tier's
    price whatever follows, so that a larger order never costs less. ``fixed_fee`` is once an order,
    ``vat_rate`` (0.19 for 19 %) is on everything. ``valid_from`` and ``valid_to`` are both included.
    """

    key: str
    name: str
    vendor: str
    currency: str
    tiers: tuple[Tier, ...]
    gsd_m: float | None = None
    min_order_km2: Decimal = Decimal(0)
    min_polygon_km2: Decimal = Decimal(0)
    small_polygons: SmallPolygons = "charged"
    rules: Rules = field(default_factory=Rules)
    fixed_fee: Decimal = Decimal(0)
    vat_rate: Decimal = Decimal(0)
    valid_from: date | None = None
    valid_to: date | None = None
    source: str = ""
    price_list: str | None = None
    version: int | None = None
    price_list_id: uuid.UUID | None = None

    @classmethod
    def ad_hoc(cls, price_per_km2: Decimal, currency: str) -> Self:
        """A price and nothing else: no minimum, no fee, any polygon."""
        return cls(
            key=AD_HOC,
            name="Ad hoc",
            vendor="",
            currency=currency,
            tiers=(Tier(None, price_per_km2),),
            rules=Rules(single_part=False, holes_allowed=True),
        )

    @property
    def ref(self) -> str:
        """How requests name this very version: ``price-list/key@version``."""
        return AD_HOC if self.price_list is None else f"{self.price_list}/{self.key}@{self.version}"

    @property
    def base_price_per_km2(self) -> Decimal:
        """The first tier's price: what one more patch costs before any discount by volume."""
        return self.tiers[0].price_per_km2

    def price_between(self, start_km2: Decimal, end_km2: Decimal) -> Decimal:
        """The exact price of an order's area from ``start_km2`` to ``end_km2``, without fee and VAT."""
        total, low = Decimal(0), Decimal(0)
        for up_to, price in self.tiers:
            high = end_km2 if up_to is None else min(up_to, end_km2)
            part = money.EXACT.subtract(high, max(low, start_km2))
            if part > 0:
                total = money.EXACT.add(total, money.EXACT.multiply(part, price))
            if up_to is None:
                break
            low = up_to
        return total

    def is_valid(self, on: date) -> bool:
        """Whether the price holds on that day."""
        return not (
            (self.valid_from is not None and on < self.valid_from)
            or (self.valid_to is not None and on > self.valid_to)
        )

    def to_json(self) -> dict[str, Any]:
        """As kept with what was priced: decimals and dates as strings."""
        return {
            "key": self.key,
            "name": self.name,
            "vendor": self.vendor,
            "currency": self.currency,
            "tiers": [[_text(up_to), money.plain(price)] for up_to, price in self.tiers],
            "gsd_m": self.gsd_m,
            "min_order_km2": money.plain(self.min_order_km2),
            "min_polygon_km2": money.plain(self.min_polygon_km2),
            "small_polygons": self.small_polygons,
            "rules": {
                "single_part": self.rules.single_part,
                "holes_allowed": self.rules.holes_allowed,
                "convex": self.rules.convex,
                "max_vertices": self.rules.max_vertices,
                "min_width_m": self.rules.min_width_m,
            },
            "fixed_fee": money.plain(self.fixed_fee),
            "vat_rate": money.plain(self.vat_rate),
            "valid_from": None if self.valid_from is None else self.valid_from.isoformat(),
            "valid_to": None if self.valid_to is None else self.valid_to.isoformat(),
            "source": self.source,
            "price_list": self.price_list,
            "version": self.version,
            "price_list_id": None if self.price_list_id is None else str(self.price_list_id),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The product that ``to_json`` kept."""
        list_id = values["price_list_id"]
        return cls(
            key=values["key"],
            name=values["name"],
            vendor=values["vendor"],
            currency=values["currency"],
            tiers=tuple(
                Tier(None if up_to is None else Decimal(up_to), Decimal(price))
                for up_to, price in values["tiers"]
            ),
            gsd_m=values["gsd_m"],
            min_order_km2=Decimal(values["min_order_km2"]),
            min_polygon_km2=Decimal(values["min_polygon_km2"]),
            small_polygons=values["small_polygons"],
            rules=Rules(**values["rules"]),
            fixed_fee=Decimal(values["fixed_fee"]),
            vat_rate=Decimal(values["vat_rate"]),
            valid_from=_day(values["valid_from"]),
            valid_to=_day(values["valid_to"]),
            source=values["source"],
            price_list=values["price_list"],
            version=values["version"],
            price_list_id=None if list_id is None else uuid.UUID(list_id),
        )


def _text(value: Decimal | None) -> str | None:
    return None if value is None else money.plain(value)


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)
