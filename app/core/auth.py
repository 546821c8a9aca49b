"""Who asks, and what they may do: organisations, their API keys, and scopes.

A key is ``pp_<prefix>_<secret>``. The prefix finds the row; of the whole only a SHA-256 is kept, which is
enough for a secret of 256 random bits (no dictionary to try, so no slow hash is needed).
"""

import hashlib
import hmac
import secrets
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import DateTime, ForeignKey, LargeBinary, String, func, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.db import Base, session_scope
from app.core.errors import Forbidden, Unauthorized
from app.core.work import uuid7


class Scope(StrEnum):
    """What a key may do; ``admin`` includes all others."""

    PLAN = "plan"
    ACQUIRE = "acquire"
    TRAIN = "train"
    REPORT = "report"
    ADMIN = "admin"


class Organisation(Base):
    """Whose rows they are; a key sees those of its own organisation only."""

    __tablename__ = "organisations"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    name: Mapped[str] = mapped_column(String(200), unique=True)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class ApiKey(Base):
    """A key as kept: never its secret, only the SHA-256 of the whole key."""

    __tablename__ = "api_keys"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid7)
    org_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("organisations.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(200))
    prefix: Mapped[str] = mapped_column(String(16), unique=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    scopes: Mapped[list[str]] = mapped_column(ARRAY(String(16)))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    revoked_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


@dataclass(frozen=True)
class Principal:
    """The key behind a request."""

    org_id: uuid.UUID
    key_id: uuid.UUID
    scopes: frozenset[Scope]

    def may(self, scope: Scope) -> bool:
        """Whether the key has ``scope`` or is an admin's."""
        return scope in self.scopes or Scope.ADMIN in self.scopes


def get_or_create_organisation(session: Session, name: str) -> Organisation:
    """The organisation called ``name``, made now if there is none: once, by whomever comes first."""
    session.execute(insert(Organisation).values(id=uuid7(), name=name).on_conflict_do_nothing())
    return session.scalars(select(Organisation).where(Organisation.name == name)).one()


def create_key(
    session: Session, organisation: Organisation, scopes: Iterable[str | Scope], name: str = "key"
) -> tuple[ApiKey, str]:
    """A new key's row and the key itself, which is shown here once and never again.

    Raises ValueError for an unknown scope or none at all.
    """
    granted = sorted({Scope(scope).value for scope in scopes})
    if not granted:
        raise ValueError("a key needs at least one scope")
    prefix = secrets.token_hex(6)
    key = f"pp_{prefix}_{secrets.token_urlsafe(32)}"
    row = ApiKey(org_id=organisation.id, name=name, prefix=prefix, digest=_digest(key), scopes=granted)
    session.add(row)
    session.flush()
    return row, key


def revoke_key(session: Session, prefix: str) -> bool:
    """Make the key with ``prefix`` useless from now on; False when there is none that still works."""
    row = session.scalar(select(ApiKey).where(ApiKey.prefix == prefix, ApiKey.revoked_at.is_(None)))
    if row is None:
        return False
    row.revoked_at = func.now()
    return True


def authenticate(session: Session, key: str) -> Principal:
    """The principal of a key as a client sends it; raises Unauthorized."""
    parts = key.split("_", 2)
    row = None
    if len(parts) == 3 and parts[0] == "pp" and parts[1].isalnum() and parts[1].isascii():
        row = session.scalar(select(ApiKey).where(ApiKey.prefix == parts[1]))
    known = row.digest if row is not None else bytes(32)
    if not hmac.compare_digest(known, _digest(key)) or row is None or row.revoked_at is not None:
        raise Unauthorized("The API key is unknown or was revoked.")
    return Principal(row.org_id, row.id, frozenset(Scope(scope) for scope in row.scopes))


def must_still_hold(principal: Principal) -> None:
    """Raise Unauthorized where the key was revoked since the request began: a body that came for hours is
    then refused at its end, and an answer that goes on for days ends.
    """
    with session_scope() as session:
        row = session.get(ApiKey, principal.key_id)
    if row is None or row.revoked_at is not None:
        raise Unauthorized("The API key was revoked in the meantime.")


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="ApiKey",
    description="An API key: `Authorization: Bearer pp_...`. Made by `patchplan keys create`.",
)


def current_principal(
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> Principal:
    """FastAPI dependency: the principal of this request, whatever its scopes; raises Unauthorized.

    Uses a session of its own that is closed before the route runs, so a route that waits holds none.
    """
    if credentials is None:
        raise Unauthorized("Send an API key as `Authorization: Bearer pp_...`.")
    with session_scope() as session:
        return authenticate(session, credentials.credentials)


def require(scope: str | Scope) -> Callable[..., Principal]:
    """A FastAPI dependency that lets only keys with ``scope`` through; raises Unauthorized or Forbidden.

    ``def endpoint(principal: Annotated[Principal, Depends(require("plan"))])``
    """
    wanted = Scope(scope)

    def dependency(principal: Annotated[Principal, Depends(current_principal)]) -> Principal:
        if not principal.may(wanted):
            raise Forbidden(f"This key has no scope `{wanted}`.", scope=wanted.value)
        return principal

    return dependency
