"""A finished folder becomes a release of an organisation: its files into the store, one row."""

import hashlib
import uuid
from dataclasses import replace
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.store import get_store
from app.core.work import uuid7
from app.releases.finding import text_sha256
from app.releases.service import is_name
from app.releases.tables import ReleaseRow
from models.card import CARD_FILE, WEIGHTS_FILE, CardError, load_card
from models.page import PAGE_FILE, model_page


def publish(
    session: Session,
    *,
    org_id: uuid.UUID,
    name: str,
    folder: Path,
    training_run_id: uuid.UUID | None = None,
    dataset_id: uuid.UUID | None = None,
    parent: str | None = None,
) -> ReleaseRow:
    """Make the release in ``folder`` one of the organisation's, in the caller's transaction.

    A training run is one release, however often this is called for it. What was put into the store stays
    there when the transaction is rolled back; the next call for the run puts the same files in the same
    place. Raises CardError where weights and card do not belong together, ValueError for a name that none
    can have.
    """
    if not is_name(name):
        raise ValueError(f"{name!r} is no name for a release: letters, digits, '.', '_' and '-', at most 100")
    _one_at_a_time(session, f"release {org_id} {name}")
    if training_run_id is not None and (known := _of_run(session, training_run_id)) is not None:
        return known
    version = session.scalar(
        select(func.coalesce(func.max(ReleaseRow.version), 0) + 1).where(
            ReleaseRow.org_id == org_id, ReleaseRow.name == name
        )
    )
    assert version is not None
    weights = folder / WEIGHTS_FILE
    card = replace(load_card(folder), name=name, version=str(version))
    if _sha256(weights) != card.weights_sha256:
        raise CardError(f"{weights.name} is not the file whose hash the card names")
    text = card.to_json()
    row = ReleaseRow(
        id=_id_of(training_run_id, card.weights_sha256),
        org_id=org_id,
        name=name,
        version=version,
        weights_sha256=card.weights_sha256,
        weights_bytes=weights.stat().st_size,
        card=text,
        card_sha256=text_sha256(text),
        training_run_id=training_run_id,
        dataset_id=dataset_id,
        parent=parent,
    )
    store = get_store()
    store.put(f"{row.folder_key}/{WEIGHTS_FILE}", weights)
    store.put(f"{row.folder_key}/{PAGE_FILE}", model_page(card).encode())
    store.put(f"{row.folder_key}/{CARD_FILE}", text.encode())
    session.add(row)
    session.flush()
    return row


def _one_at_a_time(session: Session, what: str) -> None:
    """Hold others who count the same versions back until this transaction ends."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(what, 0))))


def _of_run(session: Session, training_run_id: uuid.UUID) -> ReleaseRow | None:
    return session.scalar(select(ReleaseRow).where(ReleaseRow.training_run_id == training_run_id))


def _id_of(training_run_id: uuid.UUID | None, weights_sha256: str) -> uuid.UUID:
    # made of the content, so that a worker thought dead can only write the very same files there
    return uuid7() if training_run_id is None else uuid.uuid5(training_run_id, weights_sha256)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
