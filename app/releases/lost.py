"""Releases whose weights the object store no longer has, told to whoever needs them."""

import structlog

from app.core.errors import ReleaseLost
from app.releases.tables import ReleaseRow
from models.card import WEIGHTS_FILE

log = structlog.get_logger(__name__)


def release_lost(row: ReleaseRow, how: str) -> ReleaseLost:
    """The problem to raise; ``how``: what is wrong with the weights."""
    key = f"{row.folder_key}/{WEIGHTS_FILE}"
    log.error("object_missing", key=key, how=how)
    return ReleaseLost(
        f"The object store {how} of release {row.name} {row.version} ({row.id}). Ask with another release, "
        "or have the weights put back from a backup and ask again.",
        release=str(row.id),
        weights_sha256=row.weights_sha256,
    )
