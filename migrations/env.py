"""Alembic's entry: runs the revisions against the configured database."""

from alembic import context
from sqlalchemy import create_engine, pool, text

import app.core.tables  # noqa: F401 - registers every table on Base.metadata
from app.core.db import Base, database_url

# one number for everyone who migrates: two processes starting at once take turns
MIGRATION_LOCK = 0x7061746368


def run() -> None:
    """Apply the revisions in one transaction, under an advisory lock."""
    engine = create_engine(database_url(), poolclass=pool.NullPool, connect_args={"prepare_threshold": None})
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
        context.run_migrations()


if context.is_offline_mode():
    raise SystemExit("Migrations run against a live database: set PATCHPLAN_DATABASE_URL.")
run()
