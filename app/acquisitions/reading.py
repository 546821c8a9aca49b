"""What was received, as clients and classifications read it."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from app.acquisitions.schemas import (
    AcquisitionList,
    AcquisitionOut,
    ReceivedPatchOut,
    RefusedPatchOut,
    TilePatches,
)
from app.acquisitions.tables import Acquisition, ReceivedPatch
from app.plans.tables import Plan, TileRow


def received_as_of(session: Session, plan_id: uuid.UUID, revision: int) -> Sequence[ReceivedPatch]:
    """The patches a plan had received at a revision, by tile and patch: the same answer for ever."""
    return session.scalars(
        select(ReceivedPatch)
        .where(
            ReceivedPatch.plan_id == plan_id,
            ReceivedPatch.received_in <= revision,
            or_(ReceivedPatch.superseded_in.is_(None), ReceivedPatch.superseded_in > revision),
        )
        .order_by(ReceivedPatch.tile, ReceivedPatch.patch)
    ).all()


def answers(session: Session, ids: Sequence[uuid.UUID]) -> list[AcquisitionOut]:
    """Some acquisitions as clients get them, in the order of ``ids``."""
    rows = {row.id: row for row in session.scalars(select(Acquisition).where(Acquisition.id.in_(ids)))}
    patches: dict[uuid.UUID, list[ReceivedPatch]] = defaultdict(list)
    for patch in session.scalars(
        select(ReceivedPatch)
        .where(ReceivedPatch.acquisition_id.in_(ids))
        .order_by(ReceivedPatch.tile, ReceivedPatch.patch)
    ):
        patches[patch.acquisition_id].append(patch)
    return [_out(rows[row_id], patches[row_id]) for row_id in ids]


def _out(row: Acquisition, patches: Iterable[ReceivedPatch]) -> AcquisitionOut:
    return AcquisitionOut(
        id=row.id,
        sha256=row.file_sha256,
        bytes=row.file_bytes,
        received_at=row.received_at,
        gsd_m=row.raster["gsd_m"],
        bands=row.bands,
        scaling=row.scaling,
        warnings=row.warnings,
        patches=[ReceivedPatchOut.model_validate(patch, from_attributes=True) for patch in patches],
        refused=[RefusedPatchOut.model_validate(entry) for entry in row.refused],
    )


def everything(session: Session, plan: Plan) -> AcquisitionList:
    """All acquisitions of a plan, newest first, and how its chosen patches stand."""
    ids = session.scalars(
        select(Acquisition.id).where(Acquisition.plan_id == plan.id).order_by(Acquisition.id.desc())
    ).all()
    received: dict[int, list[int]] = defaultdict(list)
    for patch in received_as_of(session, plan.id, plan.revision):
        received[patch.tile].append(patch.patch)
    missing: dict[int, list[int]] = {}
    for tile, chosen in session.execute(
        select(TileRow.tile, TileRow.chosen).where(TileRow.plan_id == plan.id).order_by(TileRow.tile)
    ):
        there = received.get(tile, [])
        missing[tile] = [patch for patch, wanted in enumerate(chosen) if wanted and patch not in there]
    return AcquisitionList(
        plan_id=plan.id,
        acquisitions=answers(session, ids),
        received=_by_tile(received),
        chosen_missing=_by_tile(missing),
    )


def _by_tile(patches: Mapping[int, list[int]]) -> list[TilePatches]:
    return [TilePatches(tile=tile, patches=found) for tile, found in sorted(patches.items()) if found]
