"""The revisions: they build what the tables say, and they can be undone."""

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

import app.core.tables  # noqa: F401 - registers every table
from app.core.db import Base, get_engine
from patchplan.embedded import Services
from patchplan.migrate import downgrade, migrate


def test_revisions_and_tables_agree(database: Services) -> None:
    with get_engine().connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_all_revisions_can_be_undone_and_done_again(database: Services) -> None:
    downgrade("base")
    assert set(inspect(get_engine()).get_table_names()) <= {"alembic_version"}
    migrate()
    migrate()
    assert {"organisations", "api_keys"} <= set(inspect(get_engine()).get_table_names())
