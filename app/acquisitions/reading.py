"""What was received, as clients and classifications read it."""

import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from sqlalchemy import literal, or_, select, tuple_
from sqlalchemy.orm import Session

from app.acquisitions.schemas import (
    AcquisitionOut,
    ReceivedPatchOut,
    RefusedPatchOut,
    TilePatches,
)
from app.acquisitions.tables import Acquisition, ReceivedPatch
from app.core.db import session_scope
from app.plans.tables import Plan, TileRow

PATCHES_A_PAGE: Final = 2000


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


def stream_request(plan_id: uuid.UUID, ids: Sequence[uuid.UUID]) -> Iterator[bytes]:
    """``AcquisitionsOut`` of some acquisitions, in the order of ``ids``, piece by piece."""
    yield f'{{"plan_id":"{plan_id}","acquisitions":['.encode()
    yield from _stream_acquisitions(ids)
    yield b"]}"


def stream_everything(session: Session, plan: Plan) -> Iterator[bytes]:
    """``AcquisitionList``: all acquisitions of a plan, newest first, and how its chosen patches stand.

    ``session`` is asked before the first piece; what follows reads for itself.
    """
    ids = session.scalars(
        select(Acquisition.id)
        .where(Acquisition.plan_id == plan.id)
        .order_by(Acquisition.revision.desc(), Acquisition.id.desc())
    ).all()
    received, missing = _standing(session, plan)

    def pieces() -> Iterator[bytes]:
        yield f'{{"plan_id":"{plan.id}","acquisitions":['.encode()
        yield from _stream_acquisitions(ids)
        for name, tiles in (("received", received), ("chosen_missing", missing)):
            yield f'],"{name}":['.encode() + b",".join(tile.model_dump_json().encode() for tile in tiles)
        yield b"]}"

    return pieces()


def _stream_acquisitions(ids: Sequence[uuid.UUID]) -> Iterator[bytes]:
    for position, acquisition_id in enumerate(ids):
        with session_scope() as session:
            row = session.scalars(select(Acquisition).where(Acquisition.id == acquisition_id)).one()
        # `patches` is the last member, so that a whole scene's need never be held together
        yield (b"," if position else b"") + _out(row).model_dump_json().removesuffix("]}").encode()
        first = True
        for patch in _iter_patches(acquisition_id):
            found = ReceivedPatchOut.model_validate(patch, from_attributes=True)
            yield (b"" if first else b",") + found.model_dump_json().encode()
            first = False
        yield b"]}"


def _iter_patches(acquisition_id: uuid.UUID) -> Iterator[ReceivedPatch]:
    """An acquisition's patches by tile and patch, in pages with a short session each."""
    last = (-1, -1)
    while True:
        with session_scope() as session:
            rows = session.scalars(
                select(ReceivedPatch)
                .where(
                    ReceivedPatch.acquisition_id == acquisition_id,
                    tuple_(ReceivedPatch.tile, ReceivedPatch.patch) > tuple_(*map(literal, last)),
                )
                .order_by(ReceivedPatch.tile, ReceivedPatch.patch)
                .limit(PATCHES_A_PAGE)
            ).all()
        yield from rows
        if len(rows) < PATCHES_A_PAGE:
            return
        last = (rows[-1].tile, rows[-1].patch)


def _out(row: Acquisition) -> AcquisitionOut:
    return AcquisitionOut(
        id=row.id,
        sha256=row.file_sha256,
        bytes=row.file_bytes,
        received_at=row.received_at,
        gsd_m=row.raster["gsd_m"],
        bands=row.bands,
        scaling=row.scaling,
        warnings=row.warnings,
        refused=[RefusedPatchOut.model_validate(entry) for entry in row.refused],
        patches=[],
    )


def _standing(session: Session, plan: Plan) -> tuple[list[TilePatches], list[TilePatches]]:
    """The patches received by tile, and the chosen ones still missing."""
    received: dict[int, list[int]] = defaultdict(list)
    for tile, patch in session.execute(
        select(ReceivedPatch.tile, ReceivedPatch.patch)
        .where(ReceivedPatch.plan_id == plan.id, ReceivedPatch.superseded_in.is_(None))
        .order_by(ReceivedPatch.tile, ReceivedPatch.patch)
    ):
        received[tile].append(patch)
    missing: dict[int, list[int]] = {}
    for tile, chosen in session.execute(
        select(TileRow.tile, TileRow.chosen).where(TileRow.plan_id == plan.id).order_by(TileRow.tile)
    ):
        there = received.get(tile, [])
        missing[tile] = [patch for patch, wanted in enumerate(chosen) if wanted and patch not in there]
    return _by_tile(received), _by_tile(missing)


def _by_tile(patches: Mapping[int, list[int]]) -> list[TilePatches]:
    return [TilePatches(tile=tile, patches=found) for tile, found in sorted(patches.items()) if found]
