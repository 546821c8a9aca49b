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

from app.core.db import libpq_url, without_secrets
from patchplan import database
from patchplan.embedded import Services
from patchplan.errors import EmbeddedError
from patchplan.supervise import environment

PASSWORD = "s3cr3t@/:"
QUOTED = "s3cr3t%40%2F%3A"


@pytest.mark.parametrize(
    ("url", "bare", "secrets"),
    [
        ("u:s3cr3t%40%2F%3A@h:5/d?sslmode=require", "u@h:5/d?sslmode=require", {"password": PASSWORD}),
        (
            "u@/d?host=%2Fsockets&password=s3cr3t%40%2F%3A",
            "u@/d?host=%2Fsockets",
            {"password": PASSWORD},
        ),
        ("u:old@h/d?password=new", "u@h/d", {"password": "new"}),
        ("u@h/d", "u@h/d", {}),
        (
            "u@h/d?sslkey=%2Fkeys%2Fa&sslpassword=s3cr3t%40%2F%3A&oauth_client_secret=a%20b",
            "u@h/d?sslkey=%2Fkeys%2Fa",
            {"sslpassword": PASSWORD, "oauth_client_secret": "a b"},
        ),
    ],
)
def test_an_address_without_its_secrets(url: str, bare: str, secrets: dict[str, str]) -> None:
    assert without_secrets(libpq_url(f"postgresql://{url}")) == (f"postgresql://{bare}", secrets)


def test_libpq_reads_an_address_as_sqlalchemy_does(database_url: str) -> None:
    url = f"{database_url}&options=-c%20application_name%3Da%2Bb"
    with environment({"PATCHPLAN_DATABASE_URL": url}), psycopg.connect(libpq_url(url)) as connection:
        assert connection.execute("SHOW application_name").fetchone() == ("a+b",)


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


def check_private(folder: Path) -> Path:
    """That a program was told its secrets, and nobody else; the file that holds the one."""
    arguments, variables = passed(folder)
    assert "s3cr3t" not in arguments
    assert f"PGPASSWORD={PASSWORD}" in variables
    told = dict(line.split("=", 1) for line in variables if "=" in line)
    file = Path(told["PGSERVICEFILE"])
    assert file.read_text() == f"[{told['PGSERVICE']}]\nsslpassword={PASSWORD}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    return file


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_argument_holds_a_secret(database_url: str, tmp_path: Path) -> None:
    url = database_url.replace("postgres@", f"postgres:{QUOTED}@", 1) + f"&sslpassword={QUOTED}"
    assert url.count(QUOTED) == 2
    script = tmp_path / "waits.sql"
    script.write_text("SELECT pg_advisory_lock(7);")
    with environment({"PATCHPLAN_DATABASE_URL": url}), ThreadPoolExecutor(1) as pool:
        with blocked(database_url, "SELECT pg_advisory_lock(7)"):
            restoring = pool.submit(database.restore, script)
            file = check_private(child_named("psql", restoring))
        restoring.result(60)
        assert not file.exists()
        with blocked(database_url, "CREATE TABLE kept (n integer)"):
            pass
        with blocked(database_url, "LOCK TABLE kept"):
            dumping = pool.submit(database.dump, tmp_path / "backup.sql")
            file = check_private(child_named("pg_dump", dumping))
        dumping.result(60)
        assert not file.exists()
    assert "kept" in (tmp_path / "backup.sql").read_text()


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        ("sslpassword=s3cr3t&service=ours", {}),
        ("sslpassword=s3cr3t", {"PGSERVICE": "ours"}),
        ("sslpassword=s3cr3t%0Ahost%3Delsewhere", {}),
        ("sslpassword=%20s3cr3t", {}),
        ("sslpassword=s3cr3t%0Dhost%3Delsewhere", {}),
        ("sslpassword=s3cr3t" + 600 * "%C3%A9", {}),
    ],
)
def test_what_no_service_file_can_hold_is_refused(
    database_url: str, tmp_path: Path, query: str, variables: dict[str, str]
) -> None:
    with (
        environment({"PATCHPLAN_DATABASE_URL": f"{database_url}&{query}", **variables}),
        pytest.raises(EmbeddedError, match="sslpassword") as refused,
    ):
        database.dump(tmp_path / "backup.sql")
    assert "s3cr3t" not in str(refused.value)
    assert not (tmp_path / "backup.sql").exists()


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
