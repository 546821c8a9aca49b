"""What clients send for a plan and what they get."""

import json
import re
import uuid
from datetime import datetime
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

from app.budgets.areas import read_area
from app.core import money
from app.core.work import WorkStatus

MAX_TAGS: Final = 32
PATCHES: Final = 16

# Numbers for areas, strings for money: an area is a measurement that a map is coloured by, money is exact
# and must not pass through a double.
AreaKm2 = Annotated[Decimal, PlainSerializer(float, return_type=float, when_used="json")]
Money = Annotated[Decimal, PlainSerializer(money.plain, return_type=str, when_used="json")]

_BANDS = re.compile(r"\s*[1-9]\d{0,4}\s*(,\s*[1-9]\d{0,4}\s*)*", re.ASCII)


def _read_bands(value: object) -> object:
    if isinstance(value, str):
        text = value.strip().removeprefix("[").removesuffix("]")
        if not _BANDS.fullmatch(text):
            raise ValueError("bands must be band numbers counted from 1, such as 3,2,1")
        return [int(part) for part in text.split(",")]
    return value


def _read_tags(value: object) -> object:
    if isinstance(value, str):
        try:
            return json.loads(value, object_pairs_hook=_no_key_twice)
        except RecursionError:
            raise ValueError("tags must be a flat JSON object of strings") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"tags must be a JSON object of strings: {error.msg}") from None
    return value


def _read_price(value: object) -> object:
    return money.parse_price(value) if isinstance(value, str) else value


def _read_currency(value: str | None) -> str | None:
    return None if value is None else money.parse_currency(value)


def _read_geojson(value: object) -> object:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError("must be a GeoJSON object") from None
    return value


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("tags has a key twice")
    return found


Bands = Annotated[list[int], BeforeValidator(_read_bands)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class RasterForm(BaseModel):
    """How a raster's values are read, where the file does not say it rightly itself."""

    model_config = ConfigDict(extra="forbid")

    bands: Bands | None = Field(
        None, description="Band numbers for red, green, blue, counted from 1: `3,2,1`."
    )
    scale: Finite | None = Field(
        None,
        description="Reflectance 0..1 is stored * scale + offset; default: what the file says, if anything.",
    )
    offset: Finite | None = Field(None, description="See `scale`.")

    @field_validator("bands")
    @classmethod
    def _three_bands(cls, bands: list[int] | None) -> list[int] | None:
        if bands is not None and len(bands) != 3:
            raise ValueError("bands must name three bands: red, green, blue")
        return bands

    @field_validator("scale")
    @classmethod
    def _scale_not_zero(cls, scale: float | None) -> float | None:
        if scale == 0:
            raise ValueError("scale must not be 0")
        return scale


class PlanForm(RasterForm):
    """The fields of ``POST /v1/plans`` beside the file ``lr``, all optional."""

    release: str | None = Field(
        None,
        max_length=100,
        description="A release's id, alias or name; default: `champion`, else the service's.",
    )
    threshold: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)] = Field(
        None, description="A patch is chosen where its probability is above this; default: the release's."
    )
    max_patches: int | None = Field(
        None,
        ge=0,
        le=PATCHES,
        description="At most so many patches per tile: those of `must_buy`, all of them though they be more, "
        "then the best of the others. With `budget`, more may come with a polygon.",
    )
    tile_size_m: Annotated[float | None, Field(gt=0, le=1e7, allow_inf_nan=False)] = Field(
        None, description="Side of the tiles the raster is cut into, metres; default: one tile."
    )
    price_per_km2: Annotated[Decimal | None, BeforeValidator(_read_price)] = Field(
        None, description="Decimal string; needs `currency`.", examples=["12.50"]
    )
    currency: Annotated[str | None, AfterValidator(_read_currency)] = Field(
        None, description="ISO 4217 code; needs `price_per_km2`.", examples=["EUR"]
    )
    product: str | None = Field(
        None,
        max_length=200,
        description="`price-list/key` or `price-list/key@1`, instead of `price_per_km2`.",
    )
    budget: Annotated[Decimal | None, BeforeValidator(_read_price)] = Field(
        None, gt=0, description="Decimal string, VAT included: buy the best patches for it. Needs a price."
    )
    must_buy: Annotated[dict[str, Any] | None, BeforeValidator(_read_geojson)] = Field(
        None, description="GeoJSON: patches here are chosen first; they count towards `max_patches`."
    )
    never_buy: Annotated[dict[str, Any] | None, BeforeValidator(_read_geojson)] = Field(
        None, description="GeoJSON: patches here are not chosen, not even where `must_buy` has them."
    )
    tags: Annotated[dict[str, str], BeforeValidator(_read_tags)] = Field(
        default_factory=dict, description="JSON object of strings, at most 32; savings are grouped by them."
    )

    @field_validator("tags")
    @classmethod
    def _sane_tags(cls, tags: dict[str, str]) -> dict[str, str]:
        if len(tags) > MAX_TAGS:
            raise ValueError(f"tags has more than {MAX_TAGS} entries")
        for key, value in tags.items():
            if not 1 <= len(key) <= 64 or len(value) > 256:
                raise ValueError("a tag's key has 1 to 64 characters, its value at most 256")
            if not (key.isprintable() and value.isprintable()):
                raise ValueError("tags hold printable characters only")
        return tags

    @model_validator(mode="after")
    def _price_and_currency(self) -> "PlanForm":
        if (self.price_per_km2 is None) != (self.currency is None):
            raise ValueError("price_per_km2 and currency come together or not at all")
        if self.product is not None and self.price_per_km2 is not None:
            raise ValueError("name either a product or price_per_km2")
        if self.budget is not None and self.product is None and self.price_per_km2 is None:
            raise ValueError("a budget needs a product or price_per_km2")
        for name in ("must_buy", "never_buy"):
            read_area(getattr(self, name), ("body", name))
        return self


class PatchOut(BaseModel):
    """One patch of a tile."""

    patch: int = Field(ge=0, description="Row-major, row 0 northernmost on the ground.")
    probability: float
    selected: bool
    area_km2: AreaKm2 = Field(description="True ellipsoidal area inside the raster, km².")
    price: Money | None = Field(None, description="Unrounded: area_km2 x price_per_km2.")


class TileGain(BaseModel):
    """What HR is expected to do for a tile: with a set bought, lr + (hr - lr) x the sum of its weights."""

    lr: float = Field(description="Expected accuracy without HR, 0..1.")
    hr: float = Field(description="Expected accuracy with every patch.")
    weights: list[float] = Field(
        description="Each patch's share of the way from `lr` to `hr`, by id; the "
        "sum is 1, less what `unseen` patches would have."
    )


class TileOut(BaseModel):
    """One tile: where it is and its patches."""

    tile: int
    row: int
    col: int
    bounds: list[float] = Field(description="xmin, ymin, xmax, ymax in the raster's CRS, before clipping.")
    clipped_bounds: list[float] = Field(description="The part of `bounds` that the raster covers.")
    valid_fraction: float = Field(description="Share of the tile with valid LR pixels.")
    chosen: list[int] = Field(description="The patches worth buying, by id.")
    unseen: list[int] = Field(
        description="Patches of which LR shows nothing (under a tenth has valid pixels), by id: their "
        "probability is 0, and only `must_buy` chooses them."
    )
    patches: list[PatchOut]
    gain: TileGain | None = Field(
        None, description="Null where the release has no gain model, and where all of the tile is `unseen`."
    )


class RasterOut(BaseModel):
    """The LR raster as it was read."""

    width: int
    height: int
    crs: str = Field(description="WKT, or AUTHORITY:CODE where it has one.")
    transform: list[float] = Field(description="a, b, c, d, e, f of the affine transform.")
    dtype: str
    gsd_m: float
    bands: list[int] = Field(description="Bands used as red, green, blue, counted from 1.")
    scaling: dict[str, Any] | None = Field(description="How values became 0..255, fixed for the plan.")
    sha256: str
    bytes: int


class ReleaseRef(BaseModel):
    """The release that made an answer; ``id`` is null for one installed with the service."""

    id: uuid.UUID | None = None
    name: str
    version: str
    streams: Literal["hr", "hr+lr"]
    fusion: str
    weights_sha256: str


class Totals(BaseModel):
    """Sums over all tiles. Costs are rounded half to even to the currency's minor unit, nothing else is."""

    tiles: int
    patches: int = Field(description="Patches with any ground inside the raster.")
    chosen: int
    area_km2: AreaKm2
    chosen_area_km2: AreaKm2
    cost: Money | None = Field(None, description="Price of every patch.")
    chosen_cost: Money | None = Field(None, description="Price of the chosen patches.")
    nominal_saving: Money | None = Field(None, description="cost - chosen_cost.")


class ProblemOut(BaseModel):
    """Why work failed, as RFC 9457 has it."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str


class PlanSummary(BaseModel):
    """A plan without its tiles, as lists hold it."""

    id: uuid.UUID
    status: WorkStatus
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    release: ReleaseRef
    threshold: float
    max_patches: int | None
    tile_size_m: float | None
    price_per_km2: Money | None
    currency: str | None
    product: str | None = Field(None, description="The version of the product the plan was priced with.")
    budget: dict[str, Any] | None = Field(
        None, description="`budget`, and once the plan is ready `result` as `POST /v1/budgets` gives it."
    )
    tags: dict[str, str]
    raster: RasterOut
    warnings: list[str] = Field(examples=[["outside_training_scale"]])
    totals: Totals | None = Field(description="Present once the plan is ready.")
    error: ProblemOut | None = Field(description="Present if the plan failed.")
    links: dict[str, str]


class PlanOut(PlanSummary):
    """A plan and its tiles; ``tiles`` is empty until the plan is ready."""

    tiles: list[TileOut]


class PlanPage(BaseModel):
    """Plans, newest first, and the token of the next page (null on the last)."""

    plans: list[PlanSummary]
    next: str | None
