"""Aliases: names an organisation gives its releases, moved by one row's lock, with their history."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.errors import Conflict, NotFound, PreconditionFailed, Unprocessable
from app.core.paging import read_token, token_of
from app.core.work import uuid7
from app.releases.finding import Found, is_id
from app.releases.service import is_installed
from app.releases.tables import Alias, AliasMove

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}", re.ASCII)
_ETAG: Final = re.compile(r'\s*(?:W/)?"(\d{1,9})"\s*', re.ASCII)


@dataclass(frozen=True)
class Move:
    """One move of an alias: where to, by whom, and what speaks for it."""

    release: Found
    key_id: uuid.UUID
    forced: bool = False
    reason: str | None = None
    gate: dict[str, Any] | None = None


def check_name(name: str) -> str:
    """The name, if an alias can be called so; raises Unprocessable."""
    detail = None
    if not _NAME.fullmatch(name):
        detail = "An alias has lower-case letters, digits, '.', '_' and '-', at most 100."
    elif is_id(name):
        detail = "An alias cannot look like an id."
    elif is_installed(name):
        detail = f"{name} is the name of an installed release."
    if detail is not None:
        raise Unprocessable(detail, errors=[{"loc": ["path", "name"], "detail": detail}])
    return name


def read_if_match(header: str | None) -> int | None:
    """The version that ``If-Match`` names; None without one. Raises Unprocessable for what is no version."""
    if header is None or header.strip() == "*":
        return None
    match = _ETAG.fullmatch(header)
    if match is None:
        detail = 'If-Match is the ETag of the alias as it was read: "3".'
        raise Unprocessable(detail, errors=[{"loc": ["header", "if-match"], "detail": detail}])
    return int(match.group(1))


def get(session: Session, org_id: uuid.UUID, name: str) -> Alias:
    """The alias; raises NotFound, also once it was removed."""
    alias = session.get(Alias, (org_id, name)) if "\0" not in name else None
    if alias is None or alias.release is None:
        raise NotFound(f"There is no alias {name[:100]!r}.")
    return alias


def last_move(session: Session, alias: Alias) -> AliasMove:
    """The step that made the alias what it is."""
    return session.scalars(
        select(AliasMove).where(
            AliasMove.org_id == alias.org_id,
            AliasMove.alias == alias.name,
            AliasMove.version == alias.version,
        )
    ).one()


def last_release(session: Session, alias: Alias) -> str | None:
    """The release that the alias stood for last; None where it never stood for one."""
    found: str | None = session.scalar(
        select(AliasMove.release)
        .where(
            AliasMove.org_id == alias.org_id,
            AliasMove.alias == alias.name,
            AliasMove.release.is_not(None),
        )
        .order_by(AliasMove.version.desc())
        .limit(1)
    )
    return found


def move(
    session: Session, org_id: uuid.UUID, name: str, step: Move, expected: int | None
) -> tuple[Alias, bool]:
    """Point the alias at a release; whether anything changed. The caller commits.

    ``expected`` is the version it must have now, 0 for one that was never there. Raises PreconditionFailed.
    """
    name = check_name(name)
    session.execute(insert(Alias).values(org_id=org_id, name=name).on_conflict_do_nothing())
    alias = _locked(session, org_id, name)
    must_be(alias, expected)
    if alias.release == step.release.key:
        return alias, False
    row = _step(alias, "move", step.key_id, step.release.key, below=alias.move_id)
    row.forced, row.reason, row.gate = step.forced, step.reason, step.gate
    _take(session, alias, row, row.id)
    return alias, True


def roll_back(
    session: Session,
    org_id: uuid.UUID,
    name: str,
    key_id: uuid.UUID,
    expected: int | None,
    reason: str | None,
) -> Alias:
    """Undo the last move that stands: twice undoes two. Raises NotFound, PreconditionFailed, Conflict."""
    alias = _locked(session, org_id, name)
    current = None if alias.move_id is None else session.get(AliasMove, alias.move_id)
    if current is None:
        raise NotFound(f"There is no alias {name!r}.")
    must_be(alias, expected)
    below = None if current.below_id is None else session.get(AliasMove, current.below_id)
    if below is None:
        raise Conflict(f"The alias {name} has stood for one release only; there is nothing to go back to.")
    row = _step(alias, "rollback", key_id, below.release, below=below.below_id)
    row.reason = reason
    _take(session, alias, row, below.id)
    return alias


def remove(session: Session, org_id: uuid.UUID, name: str, key_id: uuid.UUID, expected: int | None) -> None:
    """Let the alias stand for nothing; its history stays. Raises NotFound, PreconditionFailed."""
    alias = _locked(session, org_id, name)
    if alias.release is None:
        raise NotFound(f"There is no alias {name!r}.")
    must_be(alias, expected)
    _take(session, alias, _step(alias, "remove", key_id, None, below=None), None)


def page(
    session: Session, org_id: uuid.UUID, limit: int, token: str | None
) -> tuple[Sequence[Alias], str | None]:
    """The organisation's aliases, those moved last first, and the token of the next page."""
    query = select(Alias).where(Alias.org_id == org_id, Alias.release.is_not(None))
    if token is not None:
        query = query.where(tuple_(Alias.moved_at, Alias.move_id) < tuple_(*read_token(token)))
    found = session.scalars(
        query.order_by(Alias.moved_at.desc(), Alias.move_id.desc()).limit(limit + 1)
    ).all()
    here = found[:limit]
    if len(found) <= limit:
        return here, None
    assert here[-1].move_id is not None
    return here, token_of(here[-1].moved_at, here[-1].move_id)


def history(
    session: Session, org_id: uuid.UUID, name: str, limit: int, token: str | None
) -> tuple[Sequence[AliasMove], str | None]:
    """Every step of an alias, newest first; raises NotFound where there was never one of that name."""
    query = select(AliasMove).where(AliasMove.org_id == org_id, AliasMove.alias == name.replace("\0", ""))
    if token is not None:
        query = query.where(tuple_(AliasMove.at, AliasMove.id) < tuple_(*read_token(token)))
    found = session.scalars(query.order_by(AliasMove.at.desc(), AliasMove.id.desc()).limit(limit + 1)).all()
    if not found and token is None:
        raise NotFound(f"There was never an alias {name[:100]!r}.")
    here = found[:limit]
    return here, (token_of(here[-1].at, here[-1].id) if len(found) > limit else None)


def names_of(session: Session, org_id: uuid.UUID) -> dict[str, list[str]]:
    """The aliases of each release, by its key."""
    found: dict[str, list[str]] = {}
    query = select(Alias.release, Alias.name).where(Alias.org_id == org_id, Alias.release.is_not(None))
    for key, name in session.execute(query.order_by(Alias.name)):
        found.setdefault(str(key), []).append(name)
    return found


def _locked(session: Session, org_id: uuid.UUID, name: str) -> Alias:
    """The alias's row, held until the transaction ends; raises NotFound where there was never one."""
    query = select(Alias).where(Alias.org_id == org_id, Alias.name == name).with_for_update()
    # no name holds a NUL character, and PostgreSQL would not be asked for one
    alias = session.scalar(query.execution_options(populate_existing=True)) if "\0" not in name else None
    if alias is None:
        raise NotFound(f"There is no alias {name[:100]!r}.")
    return alias


def must_be(alias: Alias, expected: int | None) -> None:
    """Raises PreconditionFailed where the alias has another version than the one expected."""
    if expected is not None and alias.version != expected:
        detail = f"The alias {alias.name} is at version {alias.version}, not {expected}."
        raise PreconditionFailed(detail, version=alias.version)


def _step(
    alias: Alias, kind: str, key_id: uuid.UUID, release: str | None, below: uuid.UUID | None
) -> AliasMove:
    return AliasMove(
        id=uuid7(),
        org_id=alias.org_id,
        alias=alias.name,
        version=alias.version + 1,
        kind=kind,
        release=release,
        below_id=below,
        key_id=key_id,
    )


def _take(session: Session, alias: Alias, row: AliasMove, stands_on: uuid.UUID | None) -> None:
    session.add(row)
    session.flush()
    alias.version, alias.release, alias.move_id = row.version, row.release, stands_on
    alias.moved_at = func.clock_timestamp()
    session.flush()
    session.refresh(alias)
