"""Releases of an organisation, data sets and plans for tests, made as a worker makes them."""

import uuid
from dataclasses import replace
from pathlib import Path

from sqlalchemy import select

from app.core.auth import Organisation
from app.core.db import session_scope
from app.releases.tables import ReleaseRow
from models.card import CARD_FILE, load_card
from models.release import tiny_release
from workers.publishing import publish

CLASSES = ["field", "forest", "harbor"]


def org_id(name: str = "acme") -> uuid.UUID:
    """The organisation's id."""
    with session_scope() as session:
        return session.scalars(select(Organisation.id).where(Organisation.name == name)).one()


def tiny_folder(
    folder: Path,
    classes: list[str] | None = None,
    seed: int = 0,
    threshold: float = 0.5,
    streams: str = "hr+lr",
) -> Path:
    """An untrained release as training leaves it."""
    tiny_release(folder, classes or CLASSES, seed=seed, streams=streams)
    card = replace(load_card(folder), threshold=threshold)
    (folder / CARD_FILE).write_text(card.to_json())
    return folder


def published(
    folder: Path,
    name: str = "mine",
    *,
    org: str = "acme",
    classes: list[str] | None = None,
    seed: int = 0,
    threshold: float = 0.5,
    run: uuid.UUID | None = None,
    dataset: uuid.UUID | None = None,
) -> ReleaseRow:
    """An untrained release of an organisation; a threshold near 1 buys nothing, 0 buys all."""
    place = tiny_folder(folder / f"{name}-{seed}-{threshold}", classes, seed, threshold)
    with session_scope() as session:
        return publish(
            session, org_id=org_id(org), name=name, folder=place, training_run_id=run, dataset_id=dataset
        )
