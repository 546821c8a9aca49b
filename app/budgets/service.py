"""Making budgets and finding them again. The answer is worked out by a worker (``workers.budgeting``)."""

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import shapely
from sqlalchemy import ColumnElement, Row, cast, func, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH, insert
from sqlalchemy.orm import Session

from app.budgets.areas import kept_area
from app.budgets.choose import Allocation, Verdict
from app.budgets.schemas import BudgetForm, BudgetOut, BudgetResult, BudgetTileOut
from app.budgets.stock import TileOffer
from app.budgets.tables import Budget, BudgetTile
from app.core import queue
from app.core.db import session_scope
from app.core.errors import (
    AreaRefused,
    Conflict,
    IdempotencyMismatch,
    NotFound,
    ProblemError,
    Unprocessable,
)
from app.core.paging import MOST_INTEGER, read_number, read_token, token_of, token_of_number
from app.core.work import WorkStatus, uuid7
from app.orderable.cells import Cell, cells_of_rows
from app.plans.idempotency import check_key
from app.plans.schemas import ProblemOut
from app.plans.service import get_ready_plan
from app.plans.tables import Plan, TileRow
from app.pricing.products import Product
from app.pricing.quote import check_budget
from app.pricing.service import find_product
from app.releases.finding import made_with
from models.card import GainModel

MAX_TILES: Final = 50_000
# areas, tile numbers and polygons make a row megabytes: what is not shown stays in the database
_SHOWN: Final = (
    *(Budget.id, Budget.status, Budget.created_at, Budget.finished_at),
    *(Budget.budget, Budget.currency, Budget.product, Budget.error),
    Budget.request["max_patches"].label("max_patches"),
    Budget.request["plans"].label("plans"),
    func.jsonb_path_query_array(Budget.request, cast("$.tiles[*].plan", JSONPATH), type_=JSONB).label(
        "plans_of_tiles"
    ),
    Budget.answer["result"].label("result"),
)
_FINISHED: Final = (WorkStatus.READY, WorkStatus.FAILED)


@dataclass(frozen=True)
class Asked:
    """A budget that a request made, or that its Idempotency-Key had made before."""

    budget_id: uuid.UUID
    replayed: bool


def create(org_id: uuid.UUID, form: BudgetForm, key: str | None) -> Asked:
    """Check the request and queue it, once for each Idempotency-Key.

    Raises NotFound, Conflict for plans that are not ready, UnknownProduct, PriceListExpired, AreaRefused,
    BudgetTooSmall, IdempotencyMismatch.
    """
    key = None if key is None else check_key(key)
    areas = {name: kept_area(getattr(form, name), ("body", name)) for name in ("must_buy", "never_buy")}
    body = _as_sent(form)
    fingerprint = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    with session_scope() as session:
        # a repeated request is answered before anything that may have changed since, prices among it
        if (known := _made_with(session, org_id, key, fingerprint)) is not None:
            return known
        product = product_of(session, org_id, form)
        check_budget(product, form.budget)
        _check_plans(session, org_id, form)
        row = session.execute(
            insert(Budget)
            .values(
                id=uuid7(),
                org_id=org_id,
                status=WorkStatus.QUEUED,
                budget=form.budget,
                currency=product.currency,
                product=product.to_json(),
                request=body | areas,
                fingerprint=fingerprint,
                idempotency_key=key,
            )
            .on_conflict_do_nothing(index_elements=[Budget.org_id, Budget.idempotency_key])
            .returning(Budget.id)
        ).first()
        if row is None:
            known = _made_with(session, org_id, key, fingerprint)
            assert known is not None
            return known
    queue.send(Budget.__tablename__)
    return Asked(row[0], replayed=False)


def _as_sent(form: BudgetForm) -> dict[str, Any]:
    """The request as JSON, its areas with all their members. Raises AreaRefused for one that has no end."""
    try:
        return form.model_dump(mode="json")
    except ValueError:
        detail = "must_buy or never_buy holds objects in objects, hundreds deep."
        raise AreaRefused(detail, errors=[{"loc": ["body"], "detail": detail}]) from None


def product_of(session: Session, org_id: uuid.UUID, form: BudgetForm) -> Product:
    """The product a form names, or its ad-hoc price."""
    if form.product is None:
        assert form.price_per_km2 is not None
        assert form.currency is not None
        return Product.ad_hoc(form.price_per_km2, form.currency)
    return find_product(session, org_id, form.product, datetime.now(UTC).date())


def _made_with(session: Session, org_id: uuid.UUID, key: str | None, fingerprint: str) -> Asked | None:
    if key is None:
        return None
    known = session.execute(
        select(Budget.id, Budget.fingerprint).where(Budget.org_id == org_id, Budget.idempotency_key == key)
    ).first()
    if known is None:
        return None
    if known.fingerprint != fingerprint:
        raise IdempotencyMismatch("This Idempotency-Key was used before with another body.")
    return Asked(known.id, replayed=True)


def _check_plans(session: Session, org_id: uuid.UUID, form: BudgetForm) -> None:
    count = 0
    for plan_id in form.plans:
        count += get_ready_plan(session, org_id, plan_id).tile_count
    for one in form.tiles:
        plan = get_ready_plan(session, org_id, one.plan)
        if max(one.tiles) >= plan.tile_count or len(set(one.tiles)) != len(one.tiles):
            detail = f"The plan {plan.id} has the tiles 0 to {plan.tile_count - 1}, each to be named once."
            raise Unprocessable(detail, errors=[{"loc": ["body", "tiles"], "detail": detail}])
        count += len(one.tiles)
    if count > MAX_TILES:
        detail = f"A budget is over {MAX_TILES} tiles at most, not {count}."
        raise Unprocessable(detail, errors=[{"loc": ["body", "plans"], "detail": detail}])


def get(session: Session, org_id: uuid.UUID, budget_id: uuid.UUID) -> BudgetOut:
    """The organisation's budget as clients read it; raises NotFound."""
    row = session.execute(select(*_SHOWN).where(*_named(org_id, budget_id))).first()
    if row is None:
        raise _not_there(budget_id)
    return _show(row)


def polygons(session: Session, org_id: uuid.UUID, budget_id: uuid.UUID) -> list[dict[str, Any]]:
    """The polygons to order as GeoJSON geometries; raises NotFound, Conflict while there is no answer."""
    row = session.execute(
        select(Budget.status, Budget.answer["polygons"].label("polygons")).where(*_named(org_id, budget_id))
    ).first()
    if row is None:
        raise _not_there(budget_id)
    if row.status != WorkStatus.READY or row.polygons is None:
        raise Conflict(f"The budget is {row.status}, not ready.", budget_status=row.status)
    found: list[dict[str, Any]] = row.polygons
    return found


def _named(org_id: uuid.UUID, budget_id: uuid.UUID) -> tuple[ColumnElement[bool], ...]:
    return (Budget.id == budget_id, Budget.org_id == org_id)


def _not_there(budget_id: uuid.UUID) -> NotFound:
    return NotFound(f"There is no budget {budget_id}.")


def is_finished(budget_id: uuid.UUID) -> bool | None:
    """True once the budget is ready or failed, None before: the look of a waiting client."""
    with session_scope() as session:
        status = session.scalar(select(Budget.status).where(Budget.id == budget_id))
    return True if status in _FINISHED else None


def page(
    session: Session, org_id: uuid.UUID, limit: int, token: str | None
) -> tuple[list[BudgetOut], str | None]:
    """An organisation's budgets, newest first, and the token of the next page; raises Unprocessable."""
    query = select(*_SHOWN).where(Budget.org_id == org_id)
    if token is not None:
        query = query.where(tuple_(Budget.created_at, Budget.id) < tuple_(*read_token(token)))
    rows = session.execute(query.order_by(Budget.created_at.desc(), Budget.id.desc()).limit(limit + 1)).all()
    last = rows[limit - 1] if len(rows) > limit else None
    return [_show(row) for row in rows[:limit]], None if last is None else token_of(last.created_at, last.id)


def tiles_page(
    session: Session,
    org_id: uuid.UUID,
    budget_id: uuid.UUID,
    limit: int,
    token: str | None,
    verdict: Verdict | None,
) -> tuple[list[BudgetTile], str | None]:
    """A budget's tiles in order, and the token of the next page; raises NotFound, Unprocessable."""
    if session.scalar(select(Budget.id).where(*_named(org_id, budget_id))) is None:
        raise _not_there(budget_id)
    query = select(BudgetTile).where(BudgetTile.budget_id == budget_id)
    if verdict is not None:
        query = query.where(BudgetTile.verdict == verdict)
    if token is not None:
        query = query.where(BudgetTile.position > read_number(token, MOST_INTEGER))
    rows = list(session.scalars(query.order_by(BudgetTile.position).limit(limit + 1)))
    return rows[:limit], (token_of_number(rows[limit - 1].position) if len(rows) > limit else None)


def offers(session: Session, budget: Budget) -> list[TileOffer]:
    """What the budget may be spent on, in the order of the request."""
    form = BudgetForm.model_validate(budget.request)
    wanted: list[tuple[uuid.UUID, list[int] | None]] = [(plan_id, None) for plan_id in form.plans]
    wanted += [(one.plan, one.tiles) for one in form.tiles]
    found: list[TileOffer] = []
    for plan_id, numbers in wanted:
        plan = get_ready_plan(session, budget.org_id, plan_id)
        query = select(TileRow).where(TileRow.plan_id == plan_id).order_by(TileRow.tile)
        if numbers is not None:
            query = query.where(TileRow.tile.in_(numbers))
        found += offers_of(plan, session.scalars(query).all(), gain_model(session, plan))
    return found


def gain_model(session: Session, plan: Plan) -> GainModel | None:
    """The gain model of the very release that made the plan; None where it has none or is gone."""
    try:
        return made_with(session, plan.release, plan.weights_sha256, plan.release_id).card.gain
    except ProblemError:
        return None


def offers_of(plan: Plan, rows: Sequence[TileRow], model: GainModel | None) -> list[TileOffer]:
    """A plan's tiles as they can be bought."""
    cells: dict[int, list[Cell]] = {row.tile: [] for row in rows}
    for cell in cells_of_rows(plan, rows, "all"):
        cells[cell.tile].append(cell)
    return [
        TileOffer(
            plan_id=plan.id,
            tile=row.tile,
            cells=cells[row.tile],
            probabilities=row.probabilities,
            threshold=plan.threshold,
            gain=row.gain,
            model=model,
            unseen=row.unseen,
        )
        for row in rows
    ]


def result_of(budget: Decimal, found: Allocation) -> dict[str, Any]:
    """``BudgetResult`` as JSON, as it is kept with the row."""
    counts = dict.fromkeys(Verdict, 0)
    for tile in found.tiles:
        counts[tile.verdict] += 1
    result = BudgetResult.model_validate(
        {
            "basis": "gain" if found.calibrated else "uncalibrated",
            "quote": {
                "polygons": len(found.quote.lines),
                "charged_km2": found.quote.charged_km2,
                "net": found.quote.net,
                "vat": found.quote.vat,
                "total": found.quote.total,
            },
            "unspent": budget - found.quote.total,
            "expected_before": found.expected_before,
            "expected_after": found.expected_after,
            "expected_with_all": found.expected_with_all,
            "patches_bought": sum(len(tile.bought) for tile in found.tiles),
            "patches": found.patches,
            "verdicts": counts,
            "curve": [vars(point) for point in found.curve],
            "knee": found.knee,
        }
    )
    return result.model_dump(mode="json")


def polygons_json(found: Allocation) -> list[dict[str, Any]]:
    """The order's polygons as GeoJSON geometries."""
    return [shapely.geometry.mapping(polygon) for polygon in found.polygons]


def _show(row: Row[Any]) -> BudgetOut:
    """A row of what ``_SHOWN`` selects, as clients read it."""
    base = f"/v1/budgets/{row.id}"
    return BudgetOut(
        id=row.id,
        status=row.status,
        created_at=row.created_at,
        finished_at=row.finished_at,
        budget=row.budget,
        currency=row.currency,
        product=Product.from_json(row.product).ref,
        max_patches=row.max_patches,
        plans=[uuid.UUID(name) for name in [*row.plans, *row.plans_of_tiles]],
        result=None if row.result is None else BudgetResult.model_validate(row.result),
        error=None if row.error is None else ProblemOut.model_validate(row.error),
        links={"self": base, "tiles": f"{base}/tiles"},
    )


def show_tile(row: BudgetTile) -> BudgetTileOut:
    """One tile as clients read it."""
    return BudgetTileOut(
        plan=row.plan_id,
        tile=row.tile,
        verdict=Verdict(row.verdict),
        chosen=row.chosen,
        bought=row.bought,
        expected_before=row.expected_before,
        expected_after=row.expected_after,
    )
