"""Which object store is this database's: an object in the store says so, and a row in the database.

A folder where nothing is mounted answers as an empty store does. Whoever took it for the store would find
everything lost, and write under the mount point what is hidden again once the disk is there.
"""

import time
import uuid
from datetime import datetime
from typing import Final

import obstore
import structlog
from obstore.exceptions import BaseError as StoreError
from obstore.exceptions import NotFoundError
from obstore.store import LocalStore, ObjectStore
from sqlalchemy import CheckConstraint, DateTime, func, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.core.db import DATABASE_LOST, Base, session_scope

log = structlog.get_logger(__name__)

MARKER: Final = "patchplan-store"
"""The marker's key; it moves with the store, whose copy is the same store."""

WORDS: Final = (
    "By this file PatchPlan knows the object store of its database. It belongs to the objects beside it."
)

TRUSTED_S: Final = 60.0
"""How long a remote store is taken for the one it was: a bucket does not go away as a mount does."""

_LOCK: Final = "object store"
_OBJECTS_NAMED: Final = text(
    "SELECT EXISTS (SELECT FROM plans) OR EXISTS (SELECT FROM releases)"
    " OR EXISTS (SELECT FROM datasets WHERE snapshot_key IS NOT NULL)"
)


class StoreAway(StoreError):
    """What answers is not this database's store. It passes when the store is there again."""


class StoreRefused(StoreAway):
    """What answers is not known to be this database's store; a person may claim it all the same."""


class ObjectStoreRow(Base):
    """The one row that says which store is this database's."""

    __tablename__ = "object_store"
    __table_args__ = (CheckConstraint("single", name="single"),)

    single: Mapped[bool] = mapped_column(primary_key=True, default=True)
    id: Mapped[uuid.UUID]
    noted_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class StoreMarker:
    """Looks whether a backend is this database's store; marks and notes the first one that is looked at."""

    def __init__(self, backend: ObjectStore) -> None:
        self._backend = backend
        self._trusted_s = 0.0 if isinstance(backend, LocalStore) else TRUSTED_S
        self._noted: uuid.UUID | None = None
        self._seen_at: float | None = None

    def check(self, *, anew: bool = False) -> None:
        """Raise StoreAway unless this is the store; ``anew`` looks even where it was seen just now."""
        now = time.monotonic()
        if not anew and self._seen_at is not None and now - self._seen_at < self._trusted_s:
            return
        found = self._read()
        if found is None or found != self._noted:
            # not asked yet, or the database is another by now
            self._noted = self._note()
            found = self._read()
        if found != self._noted:
            self._seen_at = None
            log.error("store_away", noted=str(self._noted), found=None if found is None else str(found))
            raise StoreAway(
                "The object store is not there: what answers has no marker of this database's store."
                if found is None
                else "The object store is not there: what answers is marked as another store."
            )
        self._seen_at = now

    def claim(self, *, force: bool = False) -> uuid.UUID:
        """Make this the database's store, whatever was before; returns its id.

        Raises StoreRefused where it is marked as another's or its marker is damaged, unless by ``force``.
        """
        with session_scope() as session:
            noted = _locked(session)
            found = self._read(damaged_is_none=force)
            if noted is None:
                noted = found or uuid.uuid4()
                session.add(ObjectStoreRow(id=noted))
            if found not in (None, noted) and not force:
                raise StoreRefused(f"This store is marked as another database's ({found}).")
            self._write(noted)
        return noted

    def _note(self) -> uuid.UUID:
        """The id that the database has noted; one that has none notes this store's, marked if need be."""
        try:
            with session_scope() as session:
                noted = session.scalar(select(ObjectStoreRow.id)) or _locked(session)
                if noted is None:
                    noted = self._read()
                    if noted is None:
                        self._must_be_first(session)
                        noted = uuid.uuid4()
                        self._write(noted)
                    session.add(ObjectStoreRow(id=noted))
                    log.info("store_noted", id=str(noted))
                return noted
        except DATABASE_LOST as error:
            raise StoreAway("The database that knows the object store does not answer.") from error

    def _must_be_first(self, session: Session) -> None:
        """An empty store is not marked for a database whose rows name objects: they must lie somewhere."""
        if session.scalar(_OBJECTS_NAMED) and not any(batch for batch in obstore.list(self._backend)):
            raise StoreAway("The object store is not there: what answers is empty, and objects were kept.")

    def _read(self, *, damaged_is_none: bool = False) -> uuid.UUID | None:
        """The id in the marker, None where there is no marker."""
        try:
            content = bytes(obstore.get(self._backend, MARKER).bytes())
        except (NotFoundError, FileNotFoundError):
            return None
        except OSError as error:
            raise StoreAway(f"The object store cannot be read: {error.strerror}.") from error
        try:
            return uuid.UUID(content[:36].decode())
        except ValueError:
            if damaged_is_none:
                return None
            raise StoreRefused(f"The object store's marker ({MARKER}) is damaged.") from None

    def _write(self, store_id: uuid.UUID) -> None:
        obstore.put(self._backend, MARKER, f"{store_id}\n{WORDS}\n".encode())


def _locked(session: Session) -> uuid.UUID | None:
    """What is noted by now, and until the transaction ends nobody else notes anything."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(_LOCK, 0))))
    return session.scalar(select(ObjectStoreRow.id))
