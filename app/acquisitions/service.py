"""Taking HR pixels: each file is placed by its georeference, and a request is taken whole or not at all."""

import hashlib
import json
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, insert, select, tuple_, update
from sqlalchemy.orm import Session, defer, load_only

from app.acquisitions import pixels
from app.acquisitions.mending import lost_of, put_back
from app.acquisitions.schemas import AcquisitionForm
from app.acquisitions.stretch import Sensed, scalings
from app.acquisitions.tables import Acquisition, ReceivedPatch, pixels_key
from app.core.auth import Principal
from app.core.db import session_scope
from app.core.errors import (
    BadBands,
    PatchConflict,
    PatchesRefused,
    PayloadTooLarge,
    ProblemError,
    Unprocessable,
)
from app.core.objects import session_with_objects
from app.core.settings import get_settings
from app.core.uploads import ReceivedFile, Upload
from app.core.work import uuid7
from app.ledger.received import acquired
from app.plans.schemas import RasterForm
from app.plans.service import get_ready_plan, limits, raster_info, read_form, tile_of
from app.plans.tables import Plan, TileRow
from app.rasters import RasterInfo, Scaling, Tile, choose_bands, inspect, range_warnings, read_hr_patches

TWICE: Final = "already_in_this_request"
TRIES: Final = 3
ROWS_AN_INSERT: Final = 1000

Place = tuple[int, int]


class _Overtaken(Exception):
    """Another request fixed the sensor's stretch, or changed the received patches, while we were reading."""


@dataclass
class _File:
    """A file of the request on its way in."""

    id: uuid.UUID
    digest: str
    received: ReceivedFile
    info: RasterInfo
    bands: tuple[int, ...]
    warnings: tuple[str, ...]
    scaling: Scaling | None = None
    taken: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    put_back: list[uuid.UUID] = field(default_factory=list)

    @property
    def squares(self) -> Path:
        """Where its patches are gathered, beside the upload."""
        return self.received.path.with_suffix(".u8")


def take(principal: Principal, plan_id: uuid.UUID, upload: Upload) -> list[uuid.UUID]:
    """The acquisitions of the request's files, in their order; those that came before are found again.

    What the store has lost of these files is put back first, even where the request is then refused.

    Raises the rasters' ProblemErrors, NotFound, Conflict (plan not ready), PatchConflict (other pixels were
    received before), PatchesRefused (no patch of any file can be taken). Then nothing is left of any file.
    """
    form = read_form(AcquisitionForm, upload.fields)
    files = upload.files_of("files")
    if not files:
        detail = "Send at least one GeoTIFF as `files`."
        raise Unprocessable(detail, errors=[{"loc": ["body", "files"], "detail": detail}])
    with session_scope() as session:
        get_ready_plan(session, principal.org_id, plan_id)
    checked = _check(files, form)
    # once, before the tries: what a first try puts back is no longer missing at the second
    _put_back(principal.org_id, plan_id, checked, form)
    for attempt in range(1, TRIES + 1):
        try:
            return _take(principal.org_id, plan_id, checked, form)
        except _Overtaken:
            if attempt == TRIES:
                raise PatchConflict("Other requests keep changing this plan's patches; try again.") from None
    raise AssertionError("unreachable")


def digest_of(sha256: str, form: AcquisitionForm) -> str:
    """What makes two files the same: their bytes and how their values are read."""
    reading = json.dumps([sha256, form.bands, form.scale, form.offset])
    return hashlib.sha256(reading.encode()).hexdigest()


def _fields_given(form: AcquisitionForm) -> dict[str, str]:
    """The form fields that say how values are read, as a form sends them, of those that were given."""
    given = form.model_dump(include=set(RasterForm.model_fields), exclude_none=True)
    return {
        name: ",".join(map(str, value)) if isinstance(value, list) else repr(value)
        for name, value in given.items()
    }


def _check(files: Sequence[ReceivedFile], form: AcquisitionForm) -> list[_File]:
    """Inspect every file before anything is made of one; the same bytes twice count once."""
    found: dict[str, _File] = {}
    values, most = 0, get_settings().max_request_pixels
    for position, file in enumerate(files):
        digest = digest_of(file.sha256, form)
        if digest in found:
            continue
        try:
            info = inspect(file.path, limits())
        except ProblemError as error:
            error.extra.setdefault("file", {"position": position, "name": file.name, "sha256": file.sha256})
            raise
        try:
            bands, warnings = choose_bands(info, requested=form.bands)
        except BadBands:
            bands, warnings = (), ()
        values += info.width * info.height * info.count
        if values > most:
            raise PayloadTooLarge(
                f"The files hold more than {most} values (pixels times bands) together; send them in several "
                "requests.",
                limit_values=most,
            )
        both = tuple(dict.fromkeys([*info.warnings, *warnings]))
        found[digest] = _File(uuid7(), digest, file, info, tuple(bands), both)
    return list(found.values())


def _put_back(org_id: uuid.UUID, plan_id: uuid.UUID, files: list[_File], form: AcquisitionForm) -> None:
    """Put back what the store has lost of these files, of their every acquisition, whatever stands of it."""
    lost = {file.digest: lost_of(plan_id, file.digest) for file in files}
    if not any(lost.values()):
        return
    with session_scope() as session:
        plan = get_ready_plan(session, org_id, plan_id)
        tiles = _tiles(session, plan)
    for file in files:
        file.put_back = [
            acquisition
            for acquisition in lost[file.digest]
            if put_back(plan, tiles, acquisition, file.received.path, file.info, form.bands)
        ]


def _take(
    org_id: uuid.UUID, plan_id: uuid.UUID, files: list[_File], form: AcquisitionForm
) -> list[uuid.UUID]:
    with session_scope() as session:
        plan = get_ready_plan(session, org_id, plan_id)
        known = _known(session, plan_id, files, replace=form.replace)
        tiles = _tiles(session, plan)
    new = [file for file in files if known[file.digest] is None]
    stretches = _read(plan, tiles, new, form)
    if len(new) == len(files) and not any(file.taken for file in new):
        refused = [entry for file in new for entry in file.refused]
        raise PatchesRefused("No patch of the plan could be taken from what was sent.", refused=refused)
    objects = {pixels_key(plan_id, file.id): file.squares for file in new if file.taken}
    with session_with_objects(objects) as session:
        _keep(session, org_id, plan_id, files, known, stretches, form)
    return [known[file.digest] or file.id for file in files]


def _known(
    session: Session, plan_id: uuid.UUID, files: Sequence[_File], *, replace: bool
) -> dict[str, uuid.UUID | None]:
    """By digest, the acquisition that answers for a file; None for a file that is to be taken."""
    digests = {file.digest for file in files}
    return {
        file.digest: _standing(session, plan_id, file.digest, digests)
        or _restored(session, file, replace=replace)
        for file in files
    }


def _standing(
    session: Session, plan_id: uuid.UUID, digest: str, together: Collection[str]
) -> uuid.UUID | None:
    """The acquisition of the same file, if all it brought, and all it left to others, is still so.

    ``together`` are the digests of the request's files: a patch that was refused because another file of
    its request brought it was left to that file, and only beside that file is it refused again.
    """
    last = session.scalar(
        select(Acquisition)
        .where(Acquisition.plan_id == plan_id, Acquisition.digest == digest)
        # by revision: ids are made by clocks of several machines
        .order_by(Acquisition.revision.desc())
        .limit(1)
        .options(load_only(Acquisition.refused))
    )
    if last is None:
        return None
    gone = session.scalar(
        select(func.count())
        .select_from(ReceivedPatch)
        .where(ReceivedPatch.acquisition_id == last.id, ReceivedPatch.superseded_in.is_not(None))
    )
    left = {(entry["tile"], entry["patch"]) for entry in last.refused if entry["reason"] == TWICE}
    if gone or not left <= _brought_by(session, plan_id, {*together} - {digest}, {tile for tile, _ in left}):
        return None
    return last.id


def _restored(session: Session, file: _File, *, replace: bool) -> uuid.UUID | None:
    """The acquisition whose pixels the file has put back: it answers for it, and what was replaced since
    stays replaced.

    Only one of which nothing stands any more gives way to ``replace``, which could mean nothing else there.
    """
    if not file.put_back:
        return None
    standing = session.scalar(
        select(ReceivedPatch.acquisition_id)
        .where(ReceivedPatch.acquisition_id.in_(file.put_back), ReceivedPatch.superseded_in.is_(None))
        .order_by(ReceivedPatch.received_in.desc())
        .limit(1)
    )
    return standing or (None if replace else file.put_back[0])


def _brought_by(session: Session, plan_id: uuid.UUID, digests: set[str], tiles: set[int]) -> set[Place]:
    """The tiles' patches that files of these digests brought and that are still those received."""
    if not digests or not tiles:
        return set()
    rows = session.execute(
        select(ReceivedPatch.tile, ReceivedPatch.patch)
        .join(Acquisition, Acquisition.id == ReceivedPatch.acquisition_id)
        .where(
            ReceivedPatch.plan_id == plan_id,
            ReceivedPatch.superseded_in.is_(None),
            ReceivedPatch.tile.in_(tiles),
            Acquisition.digest.in_(digests),
        )
    )
    return {(tile, patch) for tile, patch in rows}


def _tiles(session: Session, plan: Plan) -> list[Tile]:
    info = raster_info(plan)
    rows = session.scalars(
        select(TileRow)
        .where(TileRow.plan_id == plan.id)
        .order_by(TileRow.tile)
        .options(defer(TileRow.probabilities), defer(TileRow.areas_km2), defer(TileRow.prices))
    )
    return [tile_of(row, info) for row in rows]


def _read(plan: Plan, tiles: list[Tile], files: list[_File], form: AcquisitionForm) -> dict[str, Any]:
    """Read every new file's patches onto the tiles' grid; returns the stretches this request fixed."""
    sensed = [Sensed(file.received.path, file.info, file.bands) for file in files if file.bands]
    found, stretches = scalings(sensed, form.scale, form.offset, plan.hr_scalings, limits())
    by_path = {file.path: scaling for file, scaling in zip(sensed, found, strict=True)}
    taken: set[Place] = set()
    for file in files:
        file.scaling = by_path.get(file.received.path)
        if file.scaling is not None:
            notes = range_warnings(file.received.path, file.info, file.bands, file.scaling, limits())
            file.warnings = tuple(dict.fromkeys([*file.warnings, *notes]))
        file.taken, file.refused = [], []
        _read_file(plan, tiles, file, form, taken)
    return stretches


def _read_file(plan: Plan, tiles: list[Tile], file: _File, form: AcquisitionForm, taken: set[Place]) -> None:
    patches = read_hr_patches(
        file.received.path,
        file.info,
        tiles,
        plan.raster["crs_wkt"],
        plan.hr_px,
        scaling=file.scaling,
        wanted=plan.band_names,
        bands=form.bands,
    )
    with file.squares.open("wb") as squares:
        for patch in patches:
            place = (patch.tile, patch.patch)
            reason = TWICE if place in taken and patch.refusal is None else patch.refusal
            seen = {"tile": patch.tile, "patch": patch.patch, "valid_fraction": patch.valid_fraction}
            if reason is not None or patch.tile is None or patch.patch is None or patch.pixels is None:
                file.refused.append(seen | {"reason": str(reason)})
                continue
            taken.add((patch.tile, patch.patch))
            file.taken.append(seen | {"slot": len(file.taken), "gsd_m": patch.gsd_m})
            pixels.append(squares, patch.pixels, plan.hr_px)


def _keep(
    session: Session,
    org_id: uuid.UUID,
    plan_id: uuid.UUID,
    files: list[_File],
    known: dict[str, uuid.UUID | None],
    stretches: dict[str, Any],
    form: AcquisitionForm,
) -> None:
    """Write all rows under the plan's lock, which puts simultaneous requests one after the other."""
    plan = get_ready_plan(session, org_id, plan_id, lock=True)
    if _known(session, plan_id, files, replace=form.replace) != known:
        raise _Overtaken
    if any(sensor in plan.hr_scalings for sensor in stretches):
        raise _Overtaken
    new = [file for file in files if known[file.digest] is None]
    if not new:
        return
    places = {(patch["tile"], patch["patch"]) for file in new for patch in file.taken}
    current = _current(session, plan_id, {tile for tile, _ in places})
    conflicts = sorted(places & current)
    if conflicts and not form.replace:
        raise PatchConflict(
            "Other pixels were received for some of these patches; replace=true puts these in their place.",
            patches=[{"tile": tile, "patch": patch} for tile, patch in conflicts],
        )
    plan.revision += 1
    plan.hr_scalings = {**plan.hr_scalings, **stretches}
    _supersede(session, plan, conflicts)
    _insert(session, plan, new, form)
    acquired(session, plan, [file.id for file in new])


def _current(session: Session, plan_id: uuid.UUID, tiles: set[int]) -> set[Place]:
    rows = session.execute(
        select(ReceivedPatch.tile, ReceivedPatch.patch).where(
            ReceivedPatch.plan_id == plan_id,
            ReceivedPatch.superseded_in.is_(None),
            ReceivedPatch.tile.in_(tiles),
        )
    )
    return {(tile, patch) for tile, patch in rows}


def _supersede(session: Session, plan: Plan, places: list[Place]) -> None:
    for start in range(0, len(places), ROWS_AN_INSERT):
        session.execute(
            update(ReceivedPatch)
            .where(
                ReceivedPatch.plan_id == plan.id,
                ReceivedPatch.superseded_in.is_(None),
                tuple_(ReceivedPatch.tile, ReceivedPatch.patch).in_(places[start : start + ROWS_AN_INSERT]),
            )
            .values(superseded_in=plan.revision)
            .execution_options(synchronize_session=False)
        )


def _insert(session: Session, plan: Plan, files: list[_File], form: AcquisitionForm) -> None:
    wanted = {patch["tile"] for file in files for patch in file.taken}
    tiles = session.scalars(select(TileRow).where(TileRow.plan_id == plan.id, TileRow.tile.in_(wanted)))
    by_tile = {row.tile: row for row in tiles}
    for file in files:
        session.add(
            Acquisition(
                id=file.id,
                plan_id=plan.id,
                revision=plan.revision,
                digest=file.digest,
                file_sha256=file.received.sha256,
                file_bytes=file.received.size,
                raster=file.info.to_json(),
                form=_fields_given(form),
                bands=list(file.bands),
                scaling=None if file.scaling is None else file.scaling.to_json(),
                warnings=list(file.warnings),
                refused=file.refused,
            )
        )
    session.flush()
    rows = (_patch_row(plan, file, patch, by_tile) for file in files for patch in file.taken)
    while some := list(islice(rows, ROWS_AN_INSERT)):
        session.execute(insert(ReceivedPatch), some)


def _patch_row(plan: Plan, file: _File, patch: dict[str, Any], tiles: dict[int, TileRow]) -> dict[str, Any]:
    tile, number = tiles[patch["tile"]], patch["patch"]
    return patch | {
        "acquisition_id": file.id,
        "plan_id": plan.id,
        "chosen": tile.chosen[number],
        "area_km2": tile.areas_km2[number],
        "price": None if tile.prices is None else tile.prices[number],
        "received_in": plan.revision,
    }
