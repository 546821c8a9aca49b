"""Which revision the database is at, and which this code was written for."""

from functools import lru_cache
from pathlib import Path
from typing import Final

import psycopg
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.orm import Session

MIGRATIONS: Final = Path(__file__).resolve().parents[2] / "migrations"


class NotMigrated(Exception):
    """The database lacks what this code reads; the text says how to bring it up to date."""


@lru_cache
def known() -> tuple[frozenset[str], frozenset[str]]:
    """The last revisions of this code, and all of them. Read once: they are the code's own."""
    scripts = ScriptDirectory(str(MIGRATIONS))
    return frozenset(scripts.get_heads()), frozenset(s.revision for s in scripts.walk_revisions())


def check_revision(session: Session) -> None:
    """Raise NotMigrated for a database that was never migrated or is behind this code.

    A database that is ahead is right: it was migrated for the processes that are about to replace this one,
    which would otherwise be taken out of service before any of them is ready.
    """
    heads, every = known()
    try:
        found = frozenset(session.scalars(text("SELECT version_num FROM alembic_version")))
    except ProgrammingError as error:
        if not isinstance(error.orig, psycopg.errors.UndefinedTable):
            raise
        found = frozenset()
    if not found:
        raise NotMigrated("was never migrated: run `patchplan migrate`")
    if found <= every and not heads <= found:
        at, wanted = ", ".join(sorted(found)), ", ".join(sorted(heads))
        raise NotMigrated(f"is at revision {at}, behind {wanted}: run `patchplan migrate`")
