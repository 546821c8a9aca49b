"""What clients send as a price list and what they get."""

import re
import uuid
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    field_validator,
    model_validator,
)

from app.core import money

MAX_PRODUCTS: Final = 200
MAX_TIERS: Final = 20
NAME = r"^[a-z0-9][a-z0-9._-]{0,63}$"

# under these every polygon that PatchPlan can make is refused
LEAST_VERTICES: Final = 4
WIDEST_M: Final = 1_000_000.0
LARGEST_KM2: Final = Decimal(10_000_000)

_NUMBER = re.compile(r"-?\d{1,12}(\.\d{1,12})?", re.ASCII)


def _read_amount(value: object) -> object:
    """A decimal string, or a number as its writer wrote it; negative ones get a sentence of their own."""
    text = value if isinstance(value, str) else format(value, "f") if isinstance(value, Decimal) else None
    if text is None:
        raise ValueError("must be a decimal string such as 12.50")
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        raise ValueError("must be a decimal such as 12.50, with at most 12 digits on either side")
    if text.startswith("-"):
        raise ValueError("must not be negative")
    return Decimal(text)


def _read_currency(value: str) -> str:
    return money.parse_currency(value)


Amount = Annotated[
    Decimal,
    BeforeValidator(_read_amount, json_schema_input_type=str),
    PlainSerializer(money.plain, return_type=str, when_used="json"),
]
Currency = Annotated[str, AfterValidator(_read_currency)]
Name = Annotated[str, Field(pattern=NAME)]
Text = Annotated[str, Field(min_length=1, max_length=500)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TierIn(_Strict):
    """The price of the part of an order up to ``up_to_km2``; the last tier has none: all the rest."""

    up_to_km2: Amount | None = Field(None, examples=["100"])
    price_per_km2: Amount = Field(examples=["17.50"])


class RulesIn(_Strict):
    """Which polygons the vendor takes."""

    single_part: bool = True
    holes_allowed: bool = False
    convex: bool = False
    max_vertices: int | None = Field(None, examples=[500], description="Corners, the closing point apart.")
    min_width_m: float | None = Field(None, ge=0, allow_inf_nan=False, examples=[500])


class ProductIn(_Strict):
    """One product. ``source`` is a public address or page the figures are from, or says "made up"."""

    key: Name = Field(examples=["archive-30"])
    name: Text = Field(examples=["Archive 30 cm"])
    vendor: Text = Field(examples=["Example Imaging"])
    source: Text = Field(examples=["made up"])
    gsd_m: float | None = Field(None, gt=0, le=10_000, allow_inf_nan=False, examples=[0.3])
    currency: Currency = Field(examples=["EUR"])
    price_per_km2: Amount | None = Field(None, description="Instead of `tiers`.", examples=["17.50"])
    tiers: list[TierIn] | None = Field(None, min_length=1, max_length=MAX_TIERS)
    min_order_km2: Amount = Field(Decimal(0), examples=["25"])
    min_polygon_km2: Amount = Field(Decimal(0), examples=["0.5"])
    small_polygons: Literal["charged", "refused"] = Field(
        "charged",
        description="A polygon under `min_polygon_km2` is charged as one of that area, or is refused.",
    )
    rules: RulesIn = Field(default_factory=RulesIn)
    fixed_fee: Amount = Field(Decimal(0), description="Once an order, without VAT.", examples=["50"])
    vat_rate: Amount = Field(Decimal(0), description="0.19 for 19 %.", examples=["0.19"])
    valid_from: date | None = Field(None, examples=["2026-01-01"])
    valid_to: date | None = Field(None, description="The last day.", examples=["2026-12-31"])

    @field_validator("vat_rate")
    @classmethod
    def _a_share(cls, rate: Decimal) -> Decimal:
        if rate >= 1:
            raise ValueError("must be a share under 1: 0.19 for 19 %")
        return rate

    @model_validator(mode="after")
    def _one_price(self) -> "ProductIn":
        if (self.price_per_km2 is None) == (self.tiers is None):
            raise ValueError("a product has either price_per_km2 or tiers")
        limits = [tier.up_to_km2 for tier in self.tiers or []]
        if limits and limits[-1] is not None:
            raise ValueError("the last tier has no up_to_km2: it holds for all the rest")
        bounded = [limit for limit in limits[:-1] if limit is not None]
        if len(bounded) < len(limits) - 1 or any(
            low >= high for low, high in zip([Decimal(0), *bounded], bounded, strict=False)
        ):
            raise ValueError("tiers have rising up_to_km2, only the last has none")
        if self.valid_from and self.valid_to and self.valid_to < self.valid_from:
            raise ValueError("valid_to is before valid_from")
        return self

    def unmeetable(self) -> str | None:
        """Why no polygon can meet the rules, None where some can."""
        vertices, width = self.rules.max_vertices, self.rules.min_width_m
        if vertices is not None and vertices < LEAST_VERTICES:
            return f"max_vertices {vertices}: the simplest polygon ordered has {LEAST_VERTICES} corners"
        if width is not None and width > WIDEST_M:
            return f"min_width_m {width:g} is more than {WIDEST_M:g}: no place on Earth is that wide"
        if self.min_polygon_km2 > LARGEST_KM2 or self.min_order_km2 > LARGEST_KM2:
            return f"a minimum of more than {LARGEST_KM2} km²: no image is that large"
        return None


class PriceListIn(_Strict):
    """A price list: a name and its products."""

    name: Name = Field(examples=["our-archive"])
    description: str = Field("", max_length=2000, examples=["Frame contract 2026"])
    products: list[ProductIn] = Field(min_length=1, max_length=MAX_PRODUCTS)

    @model_validator(mode="after")
    def _keys_once(self) -> "PriceListIn":
        keys = [product.key for product in self.products]
        if len(set(keys)) != len(keys):
            raise ValueError("two products have the same key")
        return self


class PriceListSummary(BaseModel):
    """One version of a price list, without its products."""

    id: uuid.UUID | None = Field(description="Null for the examples that come with PatchPlan.")
    name: str = Field(examples=["our-archive"])
    version: int = Field(examples=[1])
    example: bool = Field(description="One of the shipped examples, which cannot be edited.")
    description: str
    keys: list[str] = Field(description="The products' keys.", examples=[["archive-30"]])
    created_at: datetime | None
    links: dict[str, str]


class PriceListOut(PriceListSummary):
    """One version of a price list; ``refs`` are the products as plans, budgets and orders name them."""

    products: list[ProductIn]
    refs: list[str] = Field(examples=[["our-archive/archive-30@1"]])


class PriceListPage(BaseModel):
    """The newest version of each list by name, the token of the next page, and the shipped examples."""

    price_lists: list[PriceListSummary]
    examples: list[PriceListSummary] = Field(description="What comes with PatchPlan, on the first page only.")
    next: str | None


class PriceListVersions(BaseModel):
    """Versions of one list, newest first, and the token of the next page."""

    versions: list[PriceListSummary]
    next: str | None


PRODUCT_EXAMPLE: Final[dict[str, Any]] = {
    "key": "archive-30",
    "name": "Archive 30 cm",
    "vendor": "Example Imaging",
    "source": "made up",
    "gsd_m": 0.3,
    "currency": "EUR",
    "price_per_km2": None,
    "tiers": [
        {"up_to_km2": "100", "price_per_km2": "17.50"},
        {"up_to_km2": None, "price_per_km2": "15"},
    ],
    "min_order_km2": "0",
    "min_polygon_km2": "0.5",
    "small_polygons": "charged",
    "rules": {
        "single_part": True,
        "holes_allowed": False,
        "convex": False,
        "max_vertices": 500,
        "min_width_m": 200.0,
    },
    "fixed_fee": "0",
    "vat_rate": "0.19",
    "valid_from": "2026-01-01",
    "valid_to": "2026-12-31",
}

BODY_EXAMPLE: Final[dict[str, Any]] = {
    "name": "our-archive",
    "description": "Frame contract 2026",
    "products": [PRODUCT_EXAMPLE],
}

SUMMARY_EXAMPLE: Final[dict[str, Any]] = {
    "id": "0199c0de-0000-7000-8000-00000000000a",
    "name": "our-archive",
    "version": 1,
    "example": False,
    "description": "Frame contract 2026",
    "keys": ["archive-30"],
    "created_at": "2026-11-22T12:00:00Z",
    "links": {
        "self": "/v1/price-lists/our-archive/versions/1",
        "versions": "/v1/price-lists/our-archive/versions",
    },
}

LIST_EXAMPLE: Final[dict[str, Any]] = SUMMARY_EXAMPLE | {
    "products": [PRODUCT_EXAMPLE],
    "refs": ["our-archive/archive-30@1"],
}
