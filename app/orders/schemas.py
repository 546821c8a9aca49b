"""What clients send of an order and what they get."""

import uuid
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.core import money
from app.orders import examples
from app.orders.states import OrderState
from app.plans.schemas import AreaKm2, Money

MOST_PLANS = 200


def _read_amount(value: object) -> object:
    # a JSON number has been a double on its way, and may be larger than any price
    if not isinstance(value, str):
        raise ValueError("an amount is a decimal string such as 12.50")
    return money.parse_price(value)


def _plain(text: str) -> str:
    if not text.isprintable():
        raise ValueError("printable characters only")
    return text


Amount = Annotated[Decimal, BeforeValidator(_read_amount, json_schema_input_type=str), Field(ge=0)]
Currency = Annotated[str, AfterValidator(money.parse_currency)]
Line = Annotated[str, Field(max_length=500), AfterValidator(_plain)]


class OrderForm(BaseModel):
    """What to order, and as which product: the chosen patches of plans, what a budget buys, or what
    classifications say to buy next; without what is there already.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [examples.FORM]})

    plans: list[uuid.UUID] | None = Field(
        None,
        min_length=1,
        max_length=MOST_PLANS,
        description="Ready plans; their chosen patches are ordered. Ground that several of them cover is "
        "bought once, as one image: plans of one place on several days are ordered one by one.",
    )
    budget: uuid.UUID | None = Field(None, description="A ready budget; what it buys is ordered.")
    classifications: list[uuid.UUID] | None = Field(
        None,
        min_length=1,
        max_length=MOST_PLANS,
        description="Ready classifications, one a plan; what their tiles' `buy_next` names is ordered.",
    )
    product: str | None = Field(
        None,
        max_length=200,
        description="`price-list/key`, with `@version` or the newest. Default: the budget's, or what the "
        "plans were priced with: their product in the version they keep, or their price per km² as the "
        "product `ad-hoc`, without any minimum.",
    )
    patch_worth: Amount | None = Field(
        None,
        gt=0,
        description="With plans or classifications: what a patch may cost at most, VAT included; what costs "
        "more to make legal is dropped.",
    )
    again: bool = Field(
        False,
        description="Order also what was received, or is in an order that was placed: pixels of no use, or "
        "of another day. The order then pays for all that its polygons cover. Default: that is left out.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "OrderForm":
        if [self.plans, self.budget, self.classifications].count(None) != 2:
            raise ValueError("an order is made of plans, of a budget or of classifications, one of them")
        for name in ("plans", "classifications"):
            named = getattr(self, name) or []
            if len(set(named)) != len(named):
                raise ValueError(f"{name} names one twice")
        if self.budget is not None and self.patch_worth is not None:
            raise ValueError("a budget has said already what its patches are worth: it takes no patch_worth")
        return self


def _check_minor_units(name: str, amount: Decimal, currency: str) -> None:
    if amount != money.total_of(amount, currency):
        raise ValueError(f"{name} is finer than the minor unit of {currency}")


class QuoteForm(BaseModel):
    """The vendor's offer for an order."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [examples.QUOTE_FORM]})

    total: Amount = Field(
        description="What is to be paid, VAT included; decimal string, minor units at most."
    )
    currency: Currency = Field(description="The order's.")
    reference: Line | None = Field(None, description="The vendor's number of the offer.")
    valid_until: date | None = Field(None, description="The last day on which it holds.")
    note: Line | None = None

    @model_validator(mode="after")
    def _minor_units(self) -> "QuoteForm":
        _check_minor_units("total", self.total, self.currency)
        return self


class MoveForm(BaseModel):
    """Where an order goes next. `quoted` comes by itself with a quote."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [examples.MOVE_FORM, examples.CANCEL_FORM]}
    )

    to: Literal["placed", "received", "cancelled"]
    reason: Line | None = Field(
        None, description="Kept with the move, and with what it enters in the ledger."
    )
    cancellation_fee: Amount | None = Field(
        None,
        description="With `cancelled`, of an order that was placed: what the vendor charges for that, VAT "
        "included; no more than the order's price. Decimal string, minor units at most. Default: nothing.",
    )
    currency: Currency | None = Field(None, description="With a fee: the order's.")

    @model_validator(mode="after")
    def _whole_fee(self) -> "MoveForm":
        if (self.cancellation_fee is None) != (self.currency is None):
            raise ValueError("a cancellation_fee comes with its currency, and neither without the other")
        if self.cancellation_fee is not None and self.currency is not None:
            if self.to != "cancelled":
                raise ValueError("only an order that is cancelled has a cancellation_fee")
            _check_minor_units("cancellation_fee", self.cancellation_fee, self.currency)
        return self


class Estimate(BaseModel):
    """What the order costs by the product's rules: lines + unused_minimum + fee + rounding = net."""

    patches: int = Field(description="Patches that the polygons cover.")
    area_km2: AreaKm2 = Field(description="Area of the polygons.")
    charged_km2: AreaKm2 = Field(description="Area that is paid for.")
    fee: Money
    unused_minimum: Money = Field(description="What is paid up to the product's minimum order.")
    rounding: Money = Field(description="What the rounded lines and the rounded net differ by.")
    net: Money
    vat: Money
    total: Money


class FullHr(BaseModel):
    """Every patch of the plans as one order of the same product, by the same rules."""

    area_km2: AreaKm2
    total: Money
    nominal: Money = Field(description="The same area without any minimum or fee.")


class OrderSaving(BaseModel):
    """What is not spent, of full HR."""

    nominal: Money = Field(description="If patches could be bought alone, without minimum or fee.")
    nominal_share: float | None
    real: Money = Field(description="By the vendor's rules, after the quote if there is one.")
    real_share: float | None


class QuoteOut(BaseModel):
    """The vendor's offer beside the estimate."""

    total: Money
    difference: Money = Field(description="quote - estimate: above 0, the vendor wants more.")
    difference_share: float | None
    reference: str | None
    valid_until: date | None
    note: str | None
    quoted_at: datetime


class LineOut(BaseModel):
    """One polygon of the order."""

    line: int = Field(ge=1)
    area_km2: AreaKm2
    charged_km2: AreaKm2
    amount: Money = Field(description="Rounded half to even to the minor unit, without VAT.")
    patches: int
    geometry: dict[str, Any] = Field(description="GeoJSON, longitude and latitude.")


class TilePatchesOut(BaseModel):
    """Patches of one tile."""

    plan_id: uuid.UUID
    tile: int
    patches: list[int]


class BoughtPatchesOut(TilePatchesOut):
    """Patches that the order buys of one tile, whether chosen or merely covered."""

    paid_before: list[int] = Field(
        description="Those of them that had come before the order was drafted and that it does not ask for: "
        "its polygons cover them, and what was paid for them is not taken back."
    )


class LeftOutPatchesOut(BaseModel):
    """Patches of one tile that the order does not ask for again."""

    plan_id: uuid.UUID
    tile: int
    received: list[int]
    ordered: list[int]


class LeftOutCounts(BaseModel):
    """How many patches to be bought the order does not ask for: they were there when it was drafted."""

    received: int = Field(description="Patches whose pixels were received.")
    ordered: int = Field(description="Others, which orders that were placed and not cancelled cover.")


class LeftOutOut(LeftOutCounts):
    """How many patches the order does not ask for again, and which."""

    tiles: list[LeftOutPatchesOut]


class MoveOut(BaseModel):
    """One move of an order."""

    here: OrderState | None = Field(description="The state before; null for the draft itself.")
    to: OrderState
    at: datetime
    reason: str | None


class OrderSummary(BaseModel):
    """An order without its polygons, as lists hold it."""

    id: uuid.UUID
    state: OrderState
    created_at: datetime
    placed_at: datetime | None
    product: str = Field(description="The product and the version of its price list.")
    vendor: str
    currency: str
    plans: list[uuid.UUID]
    budget: uuid.UUID | None
    left_out: LeftOutCounts
    estimate: Estimate
    full_hr: FullHr
    saving: OrderSaving
    quote: QuoteOut | None
    price: Money = Field(description="What placing enters in the ledger: the quote, else the estimate.")
    cancellation_fee: Money | None = Field(
        description="What the vendor charged for cancelling: it stands in the ledger in place of the price."
    )
    optimal: bool = Field(description="Whether nothing cheaper is possible with the polygons looked at.")
    bound: Money | None = Field(description="No set of the polygons looked at comes to less than this.")
    links: dict[str, str]


class OrderOut(OrderSummary):
    """An order with all its polygons, patches and moves."""

    model_config = ConfigDict(json_schema_extra={"example": examples.ORDER})

    left_out: LeftOutOut
    lines: list[LineOut]
    tiles: list[BoughtPatchesOut]
    dropped: list[TilePatchesOut] = Field(description="Chosen, but not worth what a polygon would cost.")
    moves: list[MoveOut]


class OrderPage(BaseModel):
    """Orders, newest first, and the token of the next page (null on the last)."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"orders": [examples.SUMMARY], "next": None}},
    )

    orders: list[OrderSummary]
    next: str | None


class VendorRequests(BaseModel):
    """Bodies that another system takes as they are. Nothing here was sent to anybody."""

    model_config = ConfigDict(json_schema_extra={"example": examples.REQUESTS})

    order_id: uuid.UUID
    format: Literal["stapi", "planet", "up42"]
    method: Literal["POST"] = "POST"
    path: str = Field(description="Where such a body is posted at the other side.")
    requests: list[dict[str, Any]]
