"""Connections that break while they wait for the answer to COMMIT."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from app.core.db import get_engine


@contextmanager
def lost_at_commit(table: str, *, written: bool) -> Iterator[None]:
    """The next transaction that inserts into ``table`` loses its connection at COMMIT, after it or before it.

    ``written``: the server had carried it out, and only its answer did not arrive.
    """
    engine, marked = get_engine(), list[Any]()
    commit = engine.dialect.do_commit

    def mark(_: Any, cursor: Any, statement: str, *_more: Any) -> None:
        if statement.startswith(f"INSERT INTO {table} ") and not marked:
            marked.append(cursor.connection)

    def lossy(connection: Any) -> None:
        mine = bool(marked) and getattr(connection, "driver_connection", connection) is marked[0]
        if mine and not written:
            marked[0].close()
        commit(connection)
        if mine:
            marked[0].close()
            raise psycopg.OperationalError("server closed the connection unexpectedly")

    event.listen(engine, "before_cursor_execute", mark)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine.dialect, "do_commit", lossy)
            yield
        assert marked, f"nothing was inserted into {table}"
    finally:
        event.remove(engine, "before_cursor_execute", mark)
