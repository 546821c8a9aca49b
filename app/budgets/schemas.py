"""What clients send for a budget and what they get."""

import uuid
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, field_validator, model_validator

from app.budgets.choose import Verdict
from app.core import money
from app.core.work import WorkStatus
from app.plans.schemas import PATCHES, AreaKm2, ProblemOut
from app.pricing.schemas import Amount, Currency

MAX_PLANS: Final = 500

Money = Annotated[Decimal, PlainSerializer(money.plain, return_type=str, when_used="json")]


class PlanTiles(BaseModel):
    """Some tiles of a plan."""

    model_config = ConfigDict(extra="forbid")

    plan: uuid.UUID
    tiles: list[Annotated[int, Field(ge=0, le=2**31 - 1)]] = Field(min_length=1, max_length=10_000)


class BudgetForm(BaseModel):
    """A sum, a product, and where it may be spent: whole plans, or some of their tiles."""

    model_config = ConfigDict(extra="forbid")

    budget: Amount = Field(description="Decimal string, in the product's currency, VAT included.")
    product: str | None = Field(None, max_length=200, description="`price-list/key` or `price-list/key@1`.")
    price_per_km2: Amount | None = Field(None, description="Instead of `product`; needs `currency`.")
    currency: Currency | None = Field(None, description="With `price_per_km2`.")
    plans: list[uuid.UUID] = Field(default_factory=list, max_length=MAX_PLANS)
    tiles: list[PlanTiles] = Field(default_factory=list, max_length=MAX_PLANS)
    max_patches: int | None = Field(
        None,
        ge=0,
        le=PATCHES,
        description="Patches of a tile that may be wanted, those of `must_buy` first and all of them though "
        "they be more; others may come with a polygon.",
    )
    must_buy: dict[str, Any] | None = Field(
        None, description="GeoJSON: patches here are bought first; they count towards `max_patches`."
    )
    never_buy: dict[str, Any] | None = Field(
        None, description="GeoJSON: no polygon lies here, not even where `must_buy` has it."
    )

    @field_validator("budget")
    @classmethod
    def _something(cls, budget: Decimal) -> Decimal:
        if budget == 0:
            raise ValueError("a budget is more than 0")
        return budget

    @model_validator(mode="after")
    def _goes_together(self) -> "BudgetForm":
        if (self.product is None) == (self.price_per_km2 is None):
            raise ValueError("name either a product or price_per_km2 with its currency")
        if (self.price_per_km2 is None) != (self.currency is None):
            raise ValueError("currency comes with price_per_km2, and only with it")
        named = [*self.plans, *(one.plan for one in self.tiles)]
        if not named:
            raise ValueError("name one plan or more, in plans or in tiles")
        if len(set(named)) != len(named):
            raise ValueError("a plan is named once, in plans or in tiles")
        return self


class CurvePointOut(BaseModel):
    """One point of the curve: money against what is expected of it."""

    spend: Money
    expected: float
    patches: int


class BudgetQuote(BaseModel):
    """What the vendor would charge, rounded half to even."""

    polygons: int = Field(description="Polygons of the order; patches where each is sold by itself.")
    charged_km2: AreaKm2
    net: Money
    vat: Money
    total: Money


class BudgetResult(BaseModel):
    """The answer of a ready budget."""

    basis: Literal["gain", "uncalibrated"] = Field(
        description="`gain`: expected accuracy by the release's gain model. `uncalibrated`: there is none; "
        "the policy's probabilities order the patches, and `expected` is the share of them that is bought."
    )
    quote: BudgetQuote
    unspent: Money
    expected_before: float = Field(description="With nothing bought.")
    expected_after: float
    expected_with_all: float = Field(description="With everything bought.")
    patches_bought: int
    patches: int
    verdicts: dict[Verdict, int]
    curve: list[CurvePointOut]
    knee: int = Field(description="The point of the curve beyond which money buys less and less.")


class BudgetOut(BaseModel):
    """A budget. ``result`` is there once it is ready; its tiles have pages of their own."""

    id: uuid.UUID
    status: WorkStatus
    created_at: datetime
    finished_at: datetime | None
    budget: Money
    currency: str
    product: str = Field(description="The version the budget was priced with.")
    max_patches: int | None
    plans: list[uuid.UUID]
    result: BudgetResult | None
    error: ProblemOut | None
    links: dict[str, str]


class BudgetPage(BaseModel):
    """Budgets, newest first, and the token of the next page."""

    budgets: list[BudgetOut]
    next: str | None


class BudgetTileOut(BaseModel):
    """What is said of one tile."""

    plan: uuid.UUID
    tile: int
    verdict: Verdict
    chosen: list[int] = Field(description="Patches that are wanted.")
    bought: list[int] = Field(description="Patches that the order's polygons cover, wanted or not.")
    expected_before: float | None
    expected_after: float | None


class BudgetTilePage(BaseModel):
    """Tiles in the order of the request, and the token of the next page."""

    tiles: list[BudgetTileOut]
    next: str | None


_ID: Final = "0199c0de-0000-7000-8000-00000000000b"
_PLAN: Final = "0199c0de-0000-7000-8000-000000000001"

FORM_EXAMPLE: Final[dict[str, Any]] = {
    "budget": "500.00",
    "product": "example-archive/small-minimum",
    "plans": [_PLAN],
    "max_patches": 8,
    "never_buy": {
        "type": "Polygon",
        "coordinates": [[[8.1, 50.1], [8.2, 50.1], [8.2, 50.2], [8.1, 50.2], [8.1, 50.1]]],
    },
}

QUEUED_EXAMPLE: Final[dict[str, Any]] = {
    "id": _ID,
    "status": "queued",
    "created_at": "2026-11-22T12:00:00Z",
    "finished_at": None,
    "budget": "500.00",
    "currency": "EUR",
    "product": "example-archive/small-minimum@1",
    "max_patches": 8,
    "plans": [_PLAN],
    "result": None,
    "error": None,
    "links": {"self": f"/v1/budgets/{_ID}", "tiles": f"/v1/budgets/{_ID}/tiles"},
}

BUDGET_EXAMPLE: Final[dict[str, Any]] = QUEUED_EXAMPLE | {
    "status": "ready",
    "finished_at": "2026-11-22T12:00:01Z",
    "result": {
        "basis": "gain",
        "quote": {"polygons": 2, "charged_km2": 0.2, "net": "3.50", "vat": "0.00", "total": "3.50"},
        "unspent": "496.50",
        "expected_before": 0.61,
        "expected_after": 0.83,
        "expected_with_all": 0.84,
        "patches_bought": 310,
        "patches": 400,
        "verdicts": {"lr_is_enough": 3, "buy_these": 19, "not_worth_it": 2, "not_seen": 1},
        "curve": [
            {"spend": "0.00", "expected": 0.61, "patches": 0},
            {"spend": "3.50", "expected": 0.83, "patches": 310},
        ],
        "knee": 1,
    },
}

TILE_EXAMPLE: Final[dict[str, Any]] = {
    "plan": _PLAN,
    "tile": 0,
    "verdict": "buy_these",
    "chosen": [5, 6],
    "bought": [5, 6, 9],
    "expected_before": 0.52,
    "expected_after": 0.77,
}
