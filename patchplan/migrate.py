"""Bringing the database up to date."""

import logging

from alembic import command
from alembic.config import Config

from app.core.revisions import MIGRATIONS


def migrate(revision: str = "head") -> None:
    """Apply all revisions up to ``revision`` to the configured database; several may do so at once."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    command.upgrade(_config(), revision)


def downgrade(revision: str) -> None:
    """Undo revisions back to ``revision`` ("base": all of them)."""
    command.downgrade(_config(), revision)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
