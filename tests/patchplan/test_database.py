"""What other users of the machine see of a dump and of its making."""

import os
import stat
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from app.core.db import without_password
from patchplan import database
from patchplan.embedded import Services
from patchplan.errors import EmbeddedError
from patchplan.supervise import environment

PASSWORD = "s3cr3t@/:"
QUOTED = "s3cr3t%40%2F%3A"


@pytest.mark.parametrize(
    ("url", "bare", "password"),
    [
        ("postgresql://u:s3cr3t%40%2F%3A@h:5/d?sslmode=require", "u@h:5/d?sslmode=require", PASSWORD),
        ("postgresql://u@/d?host=%2Fsockets&password=s3cr3t%40%2F%3A", "u@/d?host=%2Fsockets", PASSWORD),
        ("postgresql://u:old@h/d?password=new", "u@h/d", "new"),
        ("postgresql://u@h/d", "u@h/d", None),
    ],
)
def test_an_address_without_its_password(url: str, bare: str, password: str | None) -> None:
    assert without_password(url) == (f"postgresql://{bare}", password)


@contextmanager
def blocked(url: str, statement: str) -> Iterator[None]:
    with psycopg.connect(url) as connection:
        connection.execute(statement)
        yield


def child_named(tool: str, done: "Future[None]") -> Path:
    """The /proc folder of our own child that runs ``tool``."""
    for _ in range(1200):
        for listed in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
            for pid in listed.read_text().split():
                folder = Path("/proc", pid)
                if Path(os.fsdecode((folder / "cmdline").read_bytes().split(b"\0")[0])).name == tool:
                    return folder
        assert not done.done(), done.exception()
        time.sleep(0.05)
    raise AssertionError(f"{tool} did not run within a minute")


def passed(folder: Path) -> tuple[str, list[str]]:
    """The arguments of a process, and its environment."""
    arguments = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return arguments, (folder / "environ").read_bytes().decode().split("\0")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_argument_holds_the_password(database_url: str, tmp_path: Path) -> None:
    given = {"PATCHPLAN_DATABASE_URL": database_url.replace("postgres@", f"postgres:{QUOTED}@", 1)}
    assert QUOTED in given["PATCHPLAN_DATABASE_URL"]
    script = tmp_path / "waits.sql"
    script.write_text("SELECT pg_advisory_lock(7);")
    with environment(given), ThreadPoolExecutor(1) as pool:
        with blocked(database_url, "SELECT pg_advisory_lock(7)"):
            restoring = pool.submit(database.restore, script)
            arguments, variables = passed(child_named("psql", restoring))
            assert "s3cr3t" not in arguments
            assert f"PGPASSWORD={PASSWORD}" in variables
        restoring.result(60)
        with blocked(database_url, "CREATE TABLE kept (n integer)"):
            pass
        with blocked(database_url, "LOCK TABLE kept"):
            dumping = pool.submit(database.dump, tmp_path / "backup.sql")
            arguments, variables = passed(child_named("pg_dump", dumping))
            assert "s3cr3t" not in arguments
            assert f"PGPASSWORD={PASSWORD}" in variables
        dumping.result(60)
    assert "kept" in (tmp_path / "backup.sql").read_text()


@pytest.fixture
def database_url(services: Services, unique: str) -> str:
    """The address of an empty database."""
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {unique}")
    return services.database_url.replace("/patchplan?", f"/{unique}?")


def test_a_dump_is_its_owners_alone(database_url: str, tmp_path: Path) -> None:
    new, old = tmp_path / "new.sql", tmp_path / "old.sql"
    old.write_text("an older one")
    old.chmod(0o644)
    with environment({"PATCHPLAN_DATABASE_URL": database_url}):
        for path in (new, old):
            database.dump(path)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert "PostgreSQL database dump" in path.read_text()


def test_a_dump_that_fails_leaves_no_file_and_keeps_the_older_one(
    services: Services, unique: str, tmp_path: Path
) -> None:
    new, old = tmp_path / "new.sql", tmp_path / "old.sql"
    old.write_text("an older one")
    missing = services.database_url.replace("/patchplan?", f"/{unique}?")
    with environment({"PATCHPLAN_DATABASE_URL": missing}):
        for path in (new, old):
            with pytest.raises(EmbeddedError, match="pg_dump failed"):
                database.dump(path)
        with pytest.raises(EmbeddedError, match="cannot be written"):
            database.dump(tmp_path / "nowhere" / "new.sql")
    assert not new.exists()
    assert old.read_text() == "an older one"
