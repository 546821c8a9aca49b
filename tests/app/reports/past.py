"""Another past for what is append-only: orders placed and cancelled in other months than now."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.db import session_scope

ENTERS: Final = {"placed": "purchase", "cancelled": "reversal"}
"""By the name of a move, the kind of the ledger's entries that come of it."""


@contextmanager
def rewriting() -> Iterator[Session]:
    """A session that may change the ledger and orders' moves."""
    tables = ("ledger", "order_moves")
    with session_scope() as session:
        for table in tables:
            session.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER append_only"))
        yield session
        for table in tables:
            session.execute(text(f"ALTER TABLE {table} ENABLE TRIGGER append_only"))


def backdate(session: Session, order: uuid.UUID | str, **moves: Any) -> None:
    """By the name of an order's move, when that and what it entered are to have been."""
    for to, at in moves.items():
        values = {"at": at, "order": order, "to": to, "kind": ENTERS[to]}
        session.execute(text("UPDATE ledger SET at = :at WHERE order_id = :order AND kind = :kind"), values)
        session.execute(
            text('UPDATE order_moves SET at = :at WHERE order_id = :order AND "to" = :to'), values
        )
