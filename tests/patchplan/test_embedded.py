"""The embedded services: found again, moved by dump and restore, refused when they do not fit."""

import os
import stat
from pathlib import Path

import psycopg
import pytest
import redis

from app.core.db import libpq_url
from patchplan import database
from patchplan.embedded import embedded_postgres, embedded_services, embedded_valkey, wheel_major
from patchplan.errors import EmbeddedError
from patchplan.supervise import environment


def test_rows_are_found_again(data_folder: Path) -> None:
    for expected in (1, 2):
        with (
            embedded_postgres(data_folder, durable=False) as running,
            psycopg.connect(libpq_url(running.url), autocommit=True) as connection,
        ):
            connection.execute("CREATE TABLE IF NOT EXISTS starts (at timestamptz DEFAULT now())")
            connection.execute("INSERT INTO starts DEFAULT VALUES")
            assert connection.execute("SELECT count(*) FROM starts").fetchone() == (expected,)


def test_a_deep_folder_gets_a_short_socket(data_folder: Path) -> None:
    deep = data_folder / ("d" * 60) / ("e" * 60) / "with space and %25"
    with embedded_services(deep, durable=False) as services:
        with psycopg.connect(libpq_url(services.database_url)) as connection:
            assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        assert redis.Redis.from_url(services.broker_url).ping()


def test_only_we_can_knock(data_folder: Path) -> None:
    with embedded_postgres(data_folder, durable=False) as running:
        assert stat.S_IMODE((data_folder / "postgres").stat().st_mode) == 0o700
        with psycopg.connect(libpq_url(running.url)) as connection:
            assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    with embedded_valkey(data_folder) as running, pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(running.url.replace(running.url.split("@")[0], "redis://")).ping()


def test_a_start_cut_short_is_begun_anew(data_folder: Path) -> None:
    (data_folder / "postgres.new").mkdir(parents=True)
    (data_folder / "postgres.new" / "half").touch()
    with embedded_postgres(data_folder, durable=False) as running, psycopg.connect(libpq_url(running.url)):
        pass
    assert not (data_folder / "postgres.new").exists()


def test_another_major_version_is_refused_and_untouched(data_folder: Path) -> None:
    with embedded_postgres(data_folder, durable=False):
        pass
    version = data_folder / "postgres" / "PG_VERSION"
    older = wheel_major() - 1
    version.write_text(f"{older}\n")
    before = sorted((path, path.stat().st_mtime_ns) for path in (data_folder / "postgres").rglob("*"))
    with pytest.raises(EmbeddedError) as refusal, embedded_postgres(data_folder):
        pass
    said = str(refusal.value)
    for needed in (
        f"PostgreSQL {older}",
        f"PostgreSQL {wheel_major()}",
        "patchplan dump",
        "patchplan restore",
    ):
        assert needed in said
    assert before == sorted((path, path.stat().st_mtime_ns) for path in (data_folder / "postgres").rglob("*"))


def test_dump_and_restore_move_everything(data_folder: Path) -> None:
    from patchplan import keys
    from patchplan.migrate import migrate

    backup = data_folder / "backup.sql"
    nothing = {"PATCHPLAN_DATABASE_URL": "", "PATCHPLAN_BROKER_URL": ""}
    with environment(nothing | {"PATCHPLAN_DATA_DIR": str(data_folder / "old")}):
        with database.database_here():
            migrate()
            keys.create("acme", ["plan"], "moved")
            before = keys.listing()
        database.dump(backup)
    with environment(nothing | {"PATCHPLAN_DATA_DIR": str(data_folder / "new")}):
        database.restore(backup)
        with database.database_here():
            migrate()
            assert keys.listing() == before
        with pytest.raises(EmbeddedError, match="not empty"):
            database.restore(backup)


@pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL changes its user only when we are root")
def test_root_hands_postgres_to_another_user(data_folder: Path) -> None:
    with embedded_postgres(data_folder, durable=False) as running:
        assert running.child.pid is not None
        status = Path(f"/proc/{running.child.pid}/status").read_text()
        uid = next(line.split()[1] for line in status.splitlines() if line.startswith("Uid:"))
        assert int(uid) != 0
