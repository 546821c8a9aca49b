"""The database for one command: the one configured, the one being served, or the embedded one for now."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import inspect, make_url

from app.core.db import database_url, get_engine, libpq_url, without_secrets
from app.core.settings import get_settings
from patchplan.embedded import embedded_postgres, locked, postgres_tool
from patchplan.errors import EmbeddedError
from patchplan.supervise import environment, state_file

MOST_OF_A_LINE: Final = 1000
"""libpq reads lines of service files up to 1,022 bytes."""


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
    """Write the whole database as SQL that any later PostgreSQL reads; raises EmbeddedError.

    A file is closed to all but its owner: the secrets that webhooks are signed with stand in it.
    """
    with database_here():
        made = _keep_private(path)
        try:
            _postgres("pg_dump", "--no-owner", "--no-privileges", "--file", str(path))
        except EmbeddedError:
            if made:
                path.unlink(missing_ok=True)
            raise


def restore(path: Path) -> None:
    """Read what ``dump`` wrote into an empty database, whole or not at all; raises EmbeddedError."""
    with database_here():
        if inspect(get_engine()).get_table_names():
            raise EmbeddedError("The database is not empty; restore reads into a new one only.")
        options = ["--no-psqlrc", "--quiet", "--single-transaction", "--set", "ON_ERROR_STOP=1"]
        _postgres("psql", *options, "--file", str(path))


def _keep_private(path: Path) -> bool:
    """Make the file, or close the one there is, before anything is written; whether it was made.

    Pipes and terminals are left as they are. Raises EmbeddedError.
    """
    there = path.exists()
    if there and not path.is_file():
        return False
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise EmbeddedError(f"{path} cannot be written for its owner alone: {error.strerror}.") from error
    return not there


def _postgres(tool: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs on the configured database; raises EmbeddedError."""
    url, secrets = without_secrets(libpq_url(database_url()))
    # every user of the machine may read a program's arguments, its owner alone its environment and files
    with _told(secrets, "service" in make_url(url).query) as variables:
        done = subprocess.run(
            [postgres_tool(tool), *arguments, url],
            env=os.environ | variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    if done.returncode:
        raise EmbeddedError(f"{tool} failed:\n{done.stderr.strip()}")


@contextmanager
def _told(secrets: dict[str, str], has_service: bool) -> Iterator[dict[str, str]]:
    """Variables that tell libpq secrets: of the password there is one, of others a service file's name.

    Raises EmbeddedError where a service file cannot hold them.
    """
    password = {"PGPASSWORD": secrets["password"]} if "password" in secrets else {}
    others = {name: value for name, value in secrets.items() if name != "password"}
    if not others:
        yield password
        return
    names = " and ".join(sorted(others))
    if has_service or os.environ.get("PGSERVICE"):
        raise EmbeddedError(f"The database's address names a service: put {names} into its file.")
    lines = [f"{name}={value}" for name, value in others.items()]
    held = (
        value == value.strip() and len(value.splitlines()) < 2 and len(line.encode()) <= MOST_OF_A_LINE
        for value, line in zip(others.values(), lines, strict=True)
    )
    if not all(held):
        raise EmbeddedError(f"{names}: libpq's service files hold no such value.")
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="patchplan-", suffix=".conf") as file:
        file.writelines(f"{line}\n" for line in ["[patchplan]", *lines])
        file.flush()
        yield {**password, "PGSERVICE": "patchplan", "PGSERVICEFILE": file.name}
