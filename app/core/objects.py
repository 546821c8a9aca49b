"""Rows that name an object: the object is kept first, so that a row always finds it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.orm import Session

from app.core.db import session_scope
from app.core.store import get_store


@contextmanager
def session_with_objects(objects: Mapping[str, Path]) -> Iterator[Session]:
    """Keep ``objects`` (key -> file), then a ``session_scope`` for the rows that name them.

    Where no row can have been committed the objects are deleted again. Where COMMIT itself fails they stay:
    if only its answer was lost the rows are there, and what no row names is swept by workers.
    """
    committing = False
    try:
        for key, path in objects.items():
            get_store().put(key, path)
        with session_scope() as session:
            yield session
            # what the rows themselves get wrong shows here and not in COMMIT
            session.flush()
            committing = True
    except BaseException:
        if not committing:
            for key in objects:
                get_store().delete(key)
        raise
