"""Making plans and finding them again. The answer is worked out by a worker (``workers.planning``)."""

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from app.budgets.areas import kept_area
from app.core import money, queue
from app.core.auth import Principal
from app.core.db import session_scope
from app.core.errors import Conflict, NotFound, PixelsLost, Unprocessable
from app.core.objects import session_with_objects
from app.core.settings import get_settings
from app.core.store import get_store
from app.core.uploads import ReceivedFile, Upload
from app.core.work import WorkStatus, uuid7
from app.plans import idempotency
from app.plans.schemas import PlanForm
from app.plans.tables import Plan, TileRow
from app.pricing.products import Product
from app.pricing.quote import check_budget
from app.pricing.service import find_product
from app.rasters import Limits, RasterInfo, Tile, choose_bands, cut_tiles, inspect, tile_sides_m
from app.rasters.tiles import GRID
from app.releases.finding import Found, choose
from models.card import Card

log = structlog.get_logger(__name__)

Form = TypeVar("Form", bound=BaseModel)

FINISHED: Final = (WorkStatus.READY, WorkStatus.FAILED)


@dataclass(frozen=True)
class Accepted:
    """A plan that a request made, or that its Idempotency-Key had made before."""

    plan_id: uuid.UUID
    replayed: bool


@dataclass(frozen=True)
class Checked:
    """An LR raster that a plan can be made of."""

    release: Found
    info: RasterInfo
    bands: tuple[int, ...]
    tile_count: int
    warnings: tuple[str, ...]


def limits() -> Limits:
    """What one raster may ask for, by the service's settings."""
    return Limits(max_values=get_settings().max_raster_pixels)


def read_form(form: type[Form], fields: Mapping[str, str]) -> Form:
    """A form's fields as ``form`` has them; raises the 422 that every route gives for bad values."""
    try:
        return form.model_validate(dict(fields))
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in found]) from None


def accept(principal: Principal, upload: Upload, key: str | None) -> Accepted:
    """Check the upload and queue a plan of it, once for each Idempotency-Key.

    Raises ProblemErrors for everything a client can do wrong; then no row and no object is left.
    """
    form = read_form(PlanForm, upload.fields)
    file = upload.only_file("lr")
    if key is None:
        return Accepted(_make(principal, form, file, None), replayed=False)
    with session_scope() as session:
        found = idempotency.reserve(session, principal.org_id, idempotency.check_key(key), upload.fingerprint)
    if isinstance(found, uuid.UUID):
        return Accepted(found, replayed=True)
    try:
        return Accepted(_make(principal, form, file, found), replayed=False)
    except BaseException:
        # the reservation runs out by itself if the database cannot be asked now
        with suppress(SQLAlchemyError), session_scope() as session:
            idempotency.let_go(session, found)
        raise


def check(org_id: uuid.UUID, path: Path, form: PlanForm) -> Checked:
    """Whether the raster and the form's values go together.

    Raises the raster's ProblemErrors, Unprocessable for a release of patches that plans do not have.
    """
    with session_scope() as session:
        release = choose(session, org_id, form.release)
    card = release.card
    if card.grid != GRID:
        detail = (
            f"The release {card.name} looks at {card.grid} x {card.grid} patches; plans are cut into {GRID} "
            f"x {GRID}. Name another."
        )
        raise Unprocessable(detail, errors=[{"loc": ["body", "release"], "detail": detail}])
    info = inspect(path, limits())
    bands, warnings = choose_bands(info, card.bands, form.bands)
    tiles = cut_tiles(info, form.tile_size_m)
    found = [*info.warnings, *warnings]
    if outside_training_scale(card, info, tiles):
        found.append("outside_training_scale")
    return Checked(release, info, tuple(bands), len(tiles), tuple(dict.fromkeys(found)))


def outside_training_scale(card: Card, info: RasterInfo, tiles: Sequence[Tile]) -> bool:
    """Whether the tiles' sides or the LR pixels' size lie outside what the release was trained on."""
    sides = tile_sides_m(tiles[len(tiles) // 2], info.crs_wkt)
    inside = all(card.tile_m.min <= side <= card.tile_m.max for side in sides)
    return not (inside and card.lr_gsd_m.min <= info.gsd_m <= card.lr_gsd_m.max)


def _make(
    principal: Principal, form: PlanForm, file: ReceivedFile, reservation: idempotency.Reservation | None
) -> uuid.UUID:
    checked = check(principal.org_id, file.path, form)
    product = _product(principal.org_id, form)
    plan = _row(principal, form, file, checked)
    plan.options = _options(form)
    if product is not None:
        plan.product = product.to_json()
        plan.price_per_km2, plan.currency = product.base_price_per_km2, product.currency
    with session_with_objects({plan.lr_key: file.path}) as session:
        session.add(plan)
        session.flush()
        if reservation is not None:
            idempotency.settle(session, reservation, plan.id)
    queue.send(Plan.__tablename__)
    return plan.id


def _product(org_id: uuid.UUID, form: PlanForm) -> Product | None:
    """The product a form names. Raises UnknownProduct, PriceListExpired, BudgetTooSmall."""
    if form.product is None:
        return None
    with session_scope() as session:
        product = find_product(session, org_id, form.product, datetime.now(UTC).date())
    if form.budget is not None:
        check_budget(product, form.budget)
    return product


def _options(form: PlanForm) -> dict[str, Any] | None:
    areas = {name: kept_area(getattr(form, name), ("body", name)) for name in ("must_buy", "never_buy")}
    asked: dict[str, Any] = {name: area for name, area in areas.items() if area is not None}
    if form.budget is not None:
        asked["budget"] = money.plain(form.budget)
    return asked or None


def _row(principal: Principal, form: PlanForm, file: ReceivedFile, checked: Checked) -> Plan:
    card = checked.release.card
    return Plan(
        id=uuid7(),
        org_id=principal.org_id,
        release=card.name,
        release_id=checked.release.id,
        release_version=card.version,
        weights_sha256=card.weights_sha256,
        streams=card.streams,
        fusion=card.fusion,
        hr_px=card.hr_px,
        band_names=list(card.bands),
        threshold=card.threshold if form.threshold is None else form.threshold,
        max_patches=form.max_patches,
        tile_size_m=form.tile_size_m,
        price_per_km2=form.price_per_km2,
        currency=form.currency,
        tags=form.tags,
        lr_sha256=file.sha256,
        lr_bytes=file.size,
        raster=checked.info.to_json(),
        bands=list(checked.bands),
        value_scale=form.scale,
        value_offset=form.offset,
        warnings=list(checked.warnings),
        tile_count=checked.tile_count,
        hr_scalings={},
    )


def get_plan(session: Session, org_id: uuid.UUID, plan_id: uuid.UUID, *, lock: bool = False) -> Plan:
    """The organisation's plan, locked against changes if asked; raises NotFound."""
    query = select(Plan).where(Plan.id == plan_id, Plan.org_id == org_id)
    plan = session.scalar(query.with_for_update() if lock else query)
    if plan is None:
        raise NotFound(f"There is no plan {plan_id}.")
    return plan


def get_ready_plan(session: Session, org_id: uuid.UUID, plan_id: uuid.UUID, *, lock: bool = False) -> Plan:
    """The organisation's plan once it has an answer; raises NotFound, Conflict while it has none."""
    plan = get_plan(session, org_id, plan_id, lock=lock)
    if plan.status != WorkStatus.READY:
        raise Conflict(f"The plan is {plan.status}, not ready.", plan_status=plan.status)
    return plan


def is_finished(plan_id: uuid.UUID) -> bool | None:
    """True once the plan is ready or failed, None before: the look of a waiting client."""
    with session_scope() as session:
        status = session.scalar(select(Plan.status).where(Plan.id == plan_id))
    return True if status in FINISHED else None


def fetch_lr(plan: Plan, path: Path) -> None:
    """Copy the plan's LR raster to ``path``; raises PixelsLost where the store no longer has it."""
    try:
        get_store().get_to_file(plan.lr_key, path)
    except KeyError:
        log.error("object_missing", key=plan.lr_key)
        raise PixelsLost(
            f"The LR raster of plan {plan.id} is no longer in the object store. Post it again as a new plan, "
            "and send its HR files to that one.",
            plan_id=str(plan.id),
        ) from None


def raster_info(plan: Plan) -> RasterInfo:
    """The LR raster as it was checked."""
    return RasterInfo.from_json(plan.raster)


def tile_of(row: TileRow, info: RasterInfo) -> Tile:
    """The place a tile's row stands for."""
    bounds, clipped = row.bounds, row.clipped
    return Tile(
        index=row.tile,
        row=row.row,
        col=row.col,
        bounds=(bounds[0], bounds[1], bounds[2], bounds[3]),
        clipped=(clipped[0], clipped[1], clipped[2], clipped[3]),
        valid_fraction=row.valid_fraction,
        north_up=row.north_up,
        east_right=row.east_right,
        outline=None if info.axis_aligned else info.outline,
    )
