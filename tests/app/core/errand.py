"""A work table for tests, apart from the service's own metadata."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import ColumnElement
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.core.db import get_engine, session_scope
from app.core.work import WorkRow, work_constraints


class ErrandBase(DeclarativeBase):
    """Metadata of its own."""


class Errand(WorkRow, ErrandBase):
    """Work that does nothing but be worked on."""

    __tablename__ = "errands"
    __table_args__ = work_constraints("errands")

    answer: Mapped[str | None] = mapped_column()
    whose: Mapped[str] = mapped_column(default="")

    @classmethod
    def tenant(cls) -> ColumnElement[str]:
        """Who asked."""
        return cls.whose.expression


@contextmanager
def errand_table() -> Iterator[None]:
    """The table exists, empty, for the block."""
    ErrandBase.metadata.drop_all(get_engine())
    ErrandBase.metadata.create_all(get_engine())
    try:
        yield
    finally:
        ErrandBase.metadata.drop_all(get_engine())


def add_errands(count: int, whose: str = "") -> list[uuid.UUID]:
    """Queue ``count`` errands; their ids, oldest first."""
    ids = []
    for _ in range(count):
        with session_scope() as session:
            errand = Errand(whose=whose)
            session.add(errand)
            session.flush()
            ids.append(errand.id)
    return ids


def read_errand(errand_id: uuid.UUID) -> Errand:
    """The row as it is now."""
    with session_scope() as session:
        return session.get_one(Errand, errand_id)
