"""A plan as clients read it: its summary, its tiles a page at a time, lists by keyset."""

import uuid
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

from pyproj import CRS
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from app.core.db import session_scope
from app.core.paging import read_token, token_of
from app.core.work import WorkStatus
from app.plans.schemas import (
    PatchOut,
    PlanSummary,
    ProblemOut,
    RasterOut,
    ReleaseRef,
    TileGain,
    TileOut,
    Totals,
)
from app.plans.tables import Plan, TileRow
from app.pricing.products import Product

# Tiles read in one short session while an answer is streamed: a slow client holds no connection.
TILES_A_PAGE: Final = 500


def summarise(plan: Plan) -> PlanSummary:
    """A plan without its tiles."""
    raster = plan.raster
    base = f"/v1/plans/{plan.id}"
    return PlanSummary(
        id=plan.id,
        status=plan.status,
        created_at=plan.created_at,
        started_at=plan.started_at,
        finished_at=plan.finished_at,
        release=ReleaseRef.model_validate(
            {
                "id": plan.release_id,
                "name": plan.release,
                "version": plan.release_version,
                "streams": plan.streams,
                "fusion": plan.fusion,
                "weights_sha256": plan.weights_sha256,
            }
        ),
        threshold=plan.threshold,
        max_patches=plan.max_patches,
        tile_size_m=plan.tile_size_m,
        price_per_km2=plan.price_per_km2,
        currency=plan.currency,
        product=None if plan.product is None else Product.from_json(plan.product).ref,
        budget=_budget(plan.options),
        tags=plan.tags,
        raster=RasterOut(
            width=raster["width"],
            height=raster["height"],
            crs=crs_name(raster["crs_wkt"]),
            transform=raster["transform"],
            dtype=raster["dtype"],
            gsd_m=raster["gsd_m"],
            bands=plan.bands,
            scaling=plan.scaling,
            sha256=plan.lr_sha256,
            bytes=plan.lr_bytes,
        ),
        warnings=plan.warnings,
        totals=_totals(plan),
        error=None if plan.error is None else ProblemOut.model_validate(plan.error),
        links={
            "self": base,
            "preview": f"{base}/preview.png",
            "acquisitions": f"{base}/acquisitions",
            "classifications": f"{base}/classifications",
        },
    )


def _budget(options: dict[str, Any] | None) -> dict[str, Any] | None:
    if options is None or options.get("budget") is None:
        return None
    return {"budget": options["budget"], "result": options.get("result")}


def crs_name(wkt: str) -> str:
    """``EPSG:32617`` where the CRS is a known one, its WKT otherwise."""
    authority = CRS.from_wkt(wkt).to_authority(min_confidence=100)
    return wkt if authority is None else ":".join(authority)


def _totals(plan: Plan) -> Totals | None:
    if plan.status != WorkStatus.READY:
        return None
    saving = None
    if plan.cost is not None and plan.chosen_cost is not None:
        saving = plan.cost - plan.chosen_cost
    return Totals.model_validate(
        {
            "tiles": plan.tile_count,
            "patches": plan.patch_count,
            "chosen": plan.chosen_count,
            "area_km2": plan.area_km2,
            "chosen_area_km2": plan.chosen_area_km2,
            "cost": plan.cost,
            "chosen_cost": plan.chosen_cost,
            "nominal_saving": saving,
        }
    )


def iter_tiles(plan_id: uuid.UUID) -> Iterator[TileRow]:
    """A ready plan's tiles in order, in pages with a short session each (they never change)."""
    last = -1
    while True:
        with session_scope() as session:
            rows = session.scalars(
                select(TileRow)
                .where(TileRow.plan_id == plan_id, TileRow.tile > last)
                .order_by(TileRow.tile)
                .limit(TILES_A_PAGE)
            ).all()
        yield from rows
        if len(rows) < TILES_A_PAGE:
            return
        last = rows[-1].tile


def tile_out(row: TileRow) -> TileOut:
    """One tile as clients get it."""
    prices: Sequence[Decimal | None] = row.prices or [None] * len(row.areas_km2)
    patches = zip(row.probabilities, row.chosen, row.areas_km2, prices, strict=True)
    return TileOut(
        tile=row.tile,
        row=row.row,
        col=row.col,
        bounds=row.bounds,
        clipped_bounds=row.clipped,
        valid_fraction=row.valid_fraction,
        chosen=[patch for patch, chosen in enumerate(row.chosen) if chosen],
        unseen=row.unseen,
        patches=[
            PatchOut(patch=number, probability=probability, selected=chosen, area_km2=area, price=price)
            for number, (probability, chosen, area, price) in enumerate(patches)
        ],
        gain=None if row.gain is None else TileGain.model_validate(row.gain),
    )


def stream_json(plan: Plan) -> Iterator[bytes]:
    """``PlanOut`` as JSON, piece by piece: a plan of 10,000 tiles is 15 MB and is never held whole."""
    yield summarise(plan).model_dump_json().removesuffix("}").encode() + b',"tiles":['
    first = True
    # a plan that was read before its answer was written is shown without it, not half
    for row in iter_tiles(plan.id) if plan.status == WorkStatus.READY else ():
        yield (b"" if first else b",") + tile_out(row).model_dump_json().encode()
        first = False
    yield b"]}"


def list_plans(
    session: Session, org_id: uuid.UUID, limit: int, token: str | None, status: WorkStatus | None
) -> tuple[list[Plan], str | None]:
    """A page of an organisation's plans, newest first, and the token of the next.

    Raises Unprocessable for a token that is none of ours.
    """
    query = select(Plan).where(Plan.org_id == org_id)
    if status is not None:
        query = query.where(Plan.status == status)
    if token is not None:
        query = query.where(tuple_(Plan.created_at, Plan.id) < tuple_(*read_token(token)))
    found = session.scalars(query.order_by(Plan.created_at.desc(), Plan.id.desc()).limit(limit + 1)).all()
    page = list(found[:limit])
    return page, (token_of(page[-1].created_at, page[-1].id) if len(found) > limit else None)
