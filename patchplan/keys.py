"""API keys from the command line, and the one made at the first start."""

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core import auth
from app.core.db import session_scope
from app.core.revisions import NotMigrated, check_revision
from patchplan.errors import FrontDoorError

FIRST_ORGANISATION = "default"


def first_key(data_dir: Path, say: Callable[[str], None]) -> Path:
    """Make an admin's key when the database has none, in ``data_dir/api-key``; returns that path."""
    path = data_dir / "api-key"
    with session_scope() as session:
        if session.scalar(select(func.count()).select_from(auth.ApiKey)):
            return path
        organisation = auth.get_or_create_organisation(session, FIRST_ORGANISATION)
        _row, key = auth.create_key(session, organisation, [auth.Scope.ADMIN], name="made at the first start")
        path.unlink(missing_ok=True)
        path.touch(mode=0o600)
        path.write_text(key + "\n")
    say(f"made an API key for the organisation `{FIRST_ORGANISATION}`: it is in {path}")
    return path


def create(organisation: str, scopes: list[str], name: str) -> str:
    """A new key, shown this once; raises ValueError for an unknown scope."""
    known = [scope.value for scope in auth.Scope]
    if unknown := [scope for scope in scopes if scope not in known]:
        raise ValueError(f"{', '.join(unknown)}: a scope is one of {', '.join(known)}.")
    with session_scope() as session:
        owner = auth.get_or_create_organisation(session, organisation)
        return auth.create_key(session, owner, scopes, name)[1]


def revoke(prefix: str) -> bool:
    """Revoke the key with this prefix (``pp_PREFIX_...``); False when there is none that still works."""
    with session_scope() as session:
        _must_be_migrated(session)
        return auth.revoke_key(session, prefix.removeprefix("pp_").split("_")[0])


def _must_be_migrated(session: Session) -> None:
    try:
        check_revision(session)
    except NotMigrated as error:
        raise FrontDoorError(f"The database {error}.") from error


def listing() -> list[tuple[str, str, str, str, str]]:
    """Prefix, organisation, name, scopes and state of every key, oldest first."""
    with session_scope() as session:
        _must_be_migrated(session)
        rows = session.execute(
            select(auth.ApiKey, auth.Organisation.name)
            .join(auth.Organisation)
            .order_by(auth.ApiKey.created_at)
        ).all()
        return [
            (
                row.prefix,
                organisation,
                row.name,
                ", ".join(row.scopes),
                f"revoked {row.revoked_at:%Y-%m-%d}" if row.revoked_at else "works",
            )
            for row, organisation in rows
        ]
