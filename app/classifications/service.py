"""Asking for classifications and reading them. The work is done by a worker (``workers.classifying``)."""

import uuid
from collections.abc import Iterator, Sequence
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.classifications.schemas import (
    ClassificationForm,
    ClassificationSummary,
    ClassifiedTileOut,
    Scored,
    StreamAnswer,
    Streams,
    Weights,
)
from app.classifications.tables import Classification, ClassifiedTile
from app.core import queue
from app.core.db import session_scope
from app.core.errors import NotFound, Unprocessable
from app.core.paging import read_token, token_of
from app.core.work import WorkStatus, uuid7
from app.plans.schemas import ProblemOut, ReleaseRef
from app.plans.service import FINISHED, get_ready_plan
from app.plans.tables import Plan
from app.rasters.tiles import GRID
from app.releases.finding import choose, made_with
from app.releases.schemas import ClassOut
from models.card import Card

TILES_A_PAGE: Final = 200


def create(org_id: uuid.UUID, plan_id: uuid.UUID, form: ClassificationForm) -> uuid.UUID:
    """Queue a classification with the patches received until now.

    Raises NotFound, Conflict while the plan has no answer, ReleaseReplaced where no release is named and the
    plan's was replaced, Unprocessable for a release that does not fit.
    """
    with session_scope() as session:
        # the lock orders this after every acquisition that was answered
        plan = get_ready_plan(session, org_id, plan_id, lock=True)
        if form.release is None:
            release = made_with(session, plan.release, plan.weights_sha256, plan.release_id)
        else:
            release = choose(session, org_id, form.release)
        card = release.card
        _must_fit(card, plan)
        row = Classification(
            id=uuid7(),
            plan_id=plan.id,
            revision=plan.revision,
            top_k=min(form.top_k, len(card.classes)),
            release=card.name,
            release_id=release.id,
            release_version=card.version,
            weights_sha256=card.weights_sha256,
            streams=card.streams,
            fusion=card.fusion,
            classes=[entry.name for entry in card.classes],
            fmow=[entry.fmow for entry in card.classes],
        )
        session.add(row)
    queue.send(Classification.__tablename__)
    return row.id


def _must_fit(card: Card, plan: Plan) -> None:
    if (card.hr_px, card.grid, list(card.bands)) != (plan.hr_px, GRID, plan.band_names):
        detail = f"The release {card.name} reads other patches than {plan.release}, which made the plan."
        raise Unprocessable(detail, errors=[{"loc": ["body", "release"], "detail": detail}])


def get(session: Session, org_id: uuid.UUID, plan_id: uuid.UUID, row_id: uuid.UUID) -> Classification:
    """The organisation's classification; raises NotFound."""
    row = session.scalar(
        select(Classification)
        .join(Plan, Plan.id == Classification.plan_id)
        .where(Classification.id == row_id, Plan.id == plan_id, Plan.org_id == org_id)
    )
    if row is None:
        raise NotFound(f"There is no classification {row_id} of plan {plan_id}.")
    return row


def list_of(
    session: Session, plan: Plan, limit: int, token: str | None
) -> tuple[list[Classification], str | None]:
    """A page of a plan's classifications, newest first, and the token of the next."""
    query = select(Classification).where(Classification.plan_id == plan.id)
    if token is not None:
        query = query.where(Classification.id < read_token(token)[1])
    found = list(session.scalars(query.order_by(Classification.id.desc()).limit(limit + 1)))
    page = found[:limit]
    return page, token_of(page[-1].created_at, page[-1].id) if len(found) > limit else None


def is_finished(row_id: uuid.UUID) -> bool | None:
    """True once ready or failed, None before: the look of a waiting client."""
    with session_scope() as session:
        status = session.scalar(select(Classification.status).where(Classification.id == row_id))
    return True if status in FINISHED else None


def summarise(row: Classification) -> ClassificationSummary:
    """A classification without its tiles."""
    base = f"/v1/plans/{row.plan_id}"
    return ClassificationSummary(
        id=row.id,
        plan_id=row.plan_id,
        status=row.status,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        release=ReleaseRef.model_validate(
            {
                "id": row.release_id,
                "name": row.release,
                "version": row.release_version,
                "streams": row.streams,
                "fusion": row.fusion,
                "weights_sha256": row.weights_sha256,
            }
        ),
        fusion=row.fusion,
        top_k=row.top_k,
        classes=[ClassOut(name=name, fmow=fmow) for name, fmow in zip(row.classes, row.fmow, strict=True)],
        error=None if row.error is None else ProblemOut.model_validate(row.error),
        links={"self": f"{base}/classifications/{row.id}", "plan": base},
    )


def stream_json(row: Classification) -> Iterator[bytes]:
    """``ClassificationOut`` as JSON, a tile at a time."""
    yield summarise(row).model_dump_json(by_alias=True).removesuffix("}").encode() + b',"tiles":['
    first = True
    # a row that was read before its answer was written is shown without it, not half
    for tile in _iter_tiles(row.id) if row.status == WorkStatus.READY else ():
        yield (b"" if first else b",") + tile_out(row, tile).model_dump_json(by_alias=True).encode()
        first = False
    yield b"]}"


def _iter_tiles(row_id: uuid.UUID) -> Iterator[ClassifiedTile]:
    last = -1
    while True:
        with session_scope() as session:
            rows = session.scalars(
                select(ClassifiedTile)
                .where(ClassifiedTile.classification_id == row_id, ClassifiedTile.tile > last)
                .order_by(ClassifiedTile.tile)
                .limit(TILES_A_PAGE)
            ).all()
        yield from rows
        if len(rows) < TILES_A_PAGE:
            return
        last = rows[-1].tile


def tile_out(row: Classification, tile: ClassifiedTile) -> ClassifiedTileOut:
    """One tile's answer as clients get it."""
    ranked = _ranked(row, tile.fused)
    best = ranked[0] if ranked else None
    return ClassifiedTileOut(
        tile=tile.tile,
        status="unclassifiable" if best is None else "classified",
        class_=None if best is None else best.class_,
        fmow=None if best is None else best.fmow,
        probability=None if best is None else best.probability,
        top=ranked[: row.top_k],
        probabilities=None if tile.fused is None else dict(zip(row.classes, tile.fused, strict=True)),
        streams=Streams(hr=_stream(row, tile.hr), lr=_stream(row, tile.lr)),
        fusion=row.fusion,
        weights=Weights(hr=tile.weight_hr, lr=tile.weight_lr),
        patches_used=tile.used,
        chosen_missing=tile.missing,
        buy_next=tile.buy_next,
    )


def _ranked(row: Classification, probabilities: Sequence[float] | None) -> list[Scored]:
    if probabilities is None:
        return []
    scored = [
        Scored(class_=name, fmow=fmow, probability=probability)
        for name, fmow, probability in zip(row.classes, row.fmow, probabilities, strict=True)
    ]
    return sorted(scored, key=lambda each: -each.probability)


def _stream(row: Classification, probabilities: Sequence[float] | None) -> StreamAnswer | None:
    if probabilities is None:
        return None
    best = _ranked(row, probabilities)[0]
    return StreamAnswer(
        class_=best.class_,
        fmow=best.fmow,
        probability=best.probability,
        probabilities=dict(zip(row.classes, probabilities, strict=True)),
    )
