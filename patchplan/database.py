"""The database for one command: the one configured, the one being served, or the embedded one for now."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import inspect

from app.core.db import database_url, get_engine, libpq_url
from app.core.settings import get_settings
from patchplan.embedded import embedded_postgres, locked, postgres_tool
from patchplan.errors import EmbeddedError
from patchplan.supervise import environment, state_file


@contextmanager
def database_here() -> Iterator[None]:
    """Point the settings at a running database for the block; raises EmbeddedError."""
    settings = get_settings()
    if settings.database_url:
        yield
        return
    served = _served(settings.data_dir)
    if served is not None:
        with environment({"PATCHPLAN_DATABASE_URL": served}):
            yield
        return
    with (
        locked(settings.data_dir),
        embedded_postgres(settings.data_dir) as running,
        environment({"PATCHPLAN_DATABASE_URL": running.url}),
    ):
        yield


def _served(data_dir: Path) -> str | None:
    try:
        state = json.loads(state_file(data_dir).read_text())
        os.kill(state["pid"], 0)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    url: str | None = state["database_url"]
    return url


def dump(path: Path) -> None:
    """Write the whole database as SQL that any later PostgreSQL reads."""
    with database_here():
        command = ["pg_dump", "--no-owner", "--no-privileges", "--file", str(path)]
        _postgres(*command, libpq_url(database_url()))


def restore(path: Path) -> None:
    """Read what ``dump`` wrote into an empty database, whole or not at all; raises EmbeddedError."""
    with database_here():
        if inspect(get_engine()).get_table_names():
            raise EmbeddedError("The database is not empty; restore reads into a new one only.")
        options = ["--no-psqlrc", "--quiet", "--single-transaction", "--set", "ON_ERROR_STOP=1"]
        _postgres("psql", *options, "--file", str(path), libpq_url(database_url()))


def _postgres(tool: str, *arguments: str) -> None:
    done = subprocess.run(
        [postgres_tool(tool), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise EmbeddedError(f"{tool} failed:\n{done.stderr.strip()}")
