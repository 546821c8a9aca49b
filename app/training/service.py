"""Asking for training runs, stopping them and going on. The work is done by ``workers.training``."""

import hashlib
import json
import uuid
from dataclasses import MISSING, dataclass, fields
from typing import Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app.core import queue
from app.core.auth import Principal
from app.core.db import session_scope
from app.core.errors import (
    Conflict,
    IdempotencyMismatch,
    NotFound,
    RunMoveRefused,
    TrainingDataRefused,
    Unprocessable,
)
from app.core.work import WorkStatus, announce, uuid7
from app.datasets.tables import Dataset
from app.plans.idempotency import check_key
from app.releases.finding import Found, find
from app.training import recipes
from app.training.schemas import TrainingForm
from app.training.states import REQUESTS, RunStatus
from app.training.tables import TrainingRun
from models.recipe import Recipe

LEAST_A_PROCESS: Final = 2


@dataclass(frozen=True)
class Accepted:
    """A run that a request made, or that its Idempotency-Key had made before."""

    run_id: uuid.UUID
    replayed: bool


def create(principal: Principal, form: TrainingForm, key: str | None) -> Accepted:
    """Queue a run. Raises RecipeRefused, NotFound, Conflict, Unprocessable, IdempotencyMismatch."""
    key = None if key is None else check_key(key)
    recipes.check(form.overrides)
    with session_scope() as session:
        # a repeated request is answered before anything that may have changed since, recipes among it
        if (known := _made_with(session, principal.org_id, key, form)) is not None:
            return known
    recipe = recipes.compose(form.recipe, form.overrides, form.stages, form.parent is not None)
    _shareable(recipe, form.processes)
    with session_scope() as session:
        if key is not None:
            # two requests with one key are told apart here, not by a broken constraint
            session.execute(
                select(func.pg_advisory_xact_lock(func.hashtextextended(f"run {principal.org_id} {key}", 0)))
            )
            if (known := _made_with(session, principal.org_id, key, form)) is not None:
                return known
        row = _row(session, principal, form, recipe)
        row.idempotency_key, row.fingerprint = key, _fingerprint(form)
        session.add(row)
    ring()
    return Accepted(row.id, replayed=False)


def _made_with(session: Session, org_id: uuid.UUID, key: str | None, form: TrainingForm) -> Accepted | None:
    if key is None:
        return None
    known = session.execute(
        select(TrainingRun.id, TrainingRun.fingerprint).where(
            TrainingRun.org_id == org_id, TrainingRun.idempotency_key == key
        )
    ).first()
    if known is None:
        return None
    if known.fingerprint not in (_fingerprint(form), _as_it_came(form)):
        raise IdempotencyMismatch("This Idempotency-Key was used before with another body.")
    return Accepted(known.id, replayed=True)


def _fingerprint(form: TrainingForm) -> str:
    body = json.dumps(form.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(body.encode()).hexdigest()


def _as_it_came(form: TrainingForm) -> str:
    """The fingerprint of runs that are older than sorted keys: ``overrides`` in the order it was sent in."""
    return hashlib.sha256(form.model_dump_json().encode()).hexdigest()


def ring() -> None:
    """Tell the training workers to look."""
    queue.send(TrainingRun.__tablename__, queue.TRAINING_QUEUE)


def _row(session: Session, principal: Principal, form: TrainingForm, recipe: Recipe) -> TrainingRun:
    dataset = _dataset(session, principal.org_id, form.dataset)
    parent = _parent(session, principal.org_id, form.parent)
    if parent is not None:
        _must_fit(parent, recipe, dataset)
    return TrainingRun(
        id=uuid7(),
        org_id=principal.org_id,
        dataset_id=dataset.id,
        name=form.name,
        recipe_name=form.recipe,
        overrides=form.overrides,
        recipe=recipes.to_json(recipe),
        stages=[name for name, stage in recipe.stages.items() if stage.epochs],
        seed=form.seed,
        device=form.device,
        processes=form.processes,
        parent=None if parent is None else parent.key,
        parent_weights_sha256=None if parent is None else parent.card.weights_sha256,
    )


def _dataset(session: Session, org_id: uuid.UUID, dataset_id: uuid.UUID) -> Dataset:
    query = select(Dataset).where(Dataset.id == dataset_id, Dataset.org_id == org_id)
    # whoever deletes it comes before, and it is not there, or after, and then the run is
    row = session.scalar(query.with_for_update(read=True, key_share=True))
    if row is None:
        detail = f"There is no dataset {dataset_id}."
        raise Unprocessable(detail, errors=[{"loc": ["body", "dataset"], "detail": detail}])
    if row.status != WorkStatus.READY:
        raise Conflict(f"The dataset is {row.status}, not ready.", dataset_status=row.status)
    if len(row.classes) < 2:
        detail = "The dataset has one class only; a classifier needs two or more."
        raise TrainingDataRefused(detail, errors=[{"loc": ["body", "dataset"], "detail": detail}])
    return row


def _parent(session: Session, org_id: uuid.UUID, ref: str | None) -> Found | None:
    if ref is None:
        return None
    try:
        return find(session, org_id, ref)
    except NotFound as error:
        raise Unprocessable(
            error.detail, errors=[{"loc": ["body", "parent"], "detail": error.detail}]
        ) from None


def _must_fit(parent: Found, recipe: Recipe, dataset: Dataset) -> None:
    """The parent's weights go into the recipe's networks, and it tells the dataset's classes apart."""
    known, wanted = {c.name for c in parent.card.classes}, set(dataset.classes)
    if known != wanted:
        missing, more = sorted(wanted - known), sorted(known - wanted)
        said = [f"it has no {', '.join(missing[:5])}"] if missing else []
        said += [f"the dataset has no {', '.join(more[:5])}"] if more else []
        detail = f"The classes of {parent.card.name} are not those of the dataset: {'; '.join(said)}."
        raise TrainingDataRefused(detail, errors=[{"loc": ["body", "parent"], "detail": detail}])
    asked = recipe.architecture(len(parent.card.classes))
    # a card that was made before a field has its default
    has = {f.name: f.default for f in fields(asked) if f.default is not MISSING} | parent.card.architecture
    for name, value in asked.to_json().items():
        if name in ("missed_cost", "mean", "std"):
            continue
        if name in has and has[name] != value:
            detail = f"{parent.card.name} has {name} {has[name]!r}, the recipe {value!r}."
            raise TrainingDataRefused(detail, errors=[{"loc": ["body", "parent"], "detail": detail}])


def _shareable(recipe: Recipe, processes: int) -> None:
    for name, stage in recipe.stages.items():
        if processes > 1 and stage.epochs and stage.batch < LEAST_A_PROCESS * processes:
            detail = f"{name}: batches of {stage.batch} cannot be shared by {processes} processes, two each."
            raise Unprocessable(detail, errors=[{"loc": ["body", "processes"], "detail": detail}])


def get(session: Session, org_id: uuid.UUID, run_id: uuid.UUID, *, lock: bool = False) -> TrainingRun:
    """The organisation's run, locked against changes if asked; raises NotFound."""
    query = select(TrainingRun).where(TrainingRun.id == run_id, TrainingRun.org_id == org_id)
    row = session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound(f"There is no training run {run_id}.")
    return row


def cancel(session: Session, row: TrainingRun) -> None:
    """Stop a run, locked by the caller: at once where no trainer holds a device, else by its supervisor.

    Raises RunMoveRefused for a run that is ready or failed; a cancelled one stays as it is.
    """
    _may("cancel", row)
    # whoever held it is silent for longer than its lease: its trainer died with it, or has stopped itself
    if row.state is RunStatus.QUEUED or _expired(session, row):
        closing = {"finished_at": func.clock_timestamp(), "lease_owner": None, "lease_expires_at": None}
        _move(session, row, RunStatus.CANCELLED, progress=None, **closing)
    elif row.state is RunStatus.RUNNING:
        _move(session, row, RunStatus.CANCELLING)


def resume(session: Session, row: TrainingRun) -> None:
    """Queue a cancelled or failed run again; it goes on from its last checkpoint. Raises RunMoveRefused."""
    _may("resume", row)
    afresh = {"started_at": None, "finished_at": None, "error": None, "attempts": 0, "progress": None}
    _move(session, row, RunStatus.QUEUED, **afresh)


def _may(request: str, row: TrainingRun) -> None:
    if row.state not in REQUESTS[request]:
        possible = sorted(name for name, states in REQUESTS.items() if row.state in states)
        raise RunMoveRefused(f"The run is {row.state}.", run_status=row.state, moves=possible)


def _move(session: Session, row: TrainingRun, to: RunStatus, **values: object) -> None:
    session.execute(update(TrainingRun).where(TrainingRun.id == row.id).values(status=to, **values))
    announce(session, TrainingRun, row.id)
    session.refresh(row)


def _expired(session: Session, row: TrainingRun) -> bool:
    if row.lease_expires_at is None:
        return False
    return bool(session.scalar(select(func.clock_timestamp() > row.lease_expires_at)))
