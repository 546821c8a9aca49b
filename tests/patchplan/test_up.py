"""``patchplan up`` from outside: it finds its data again and leaves no process behind."""

import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from app.core.settings import get_settings
from patchplan.embedded import Services
from tests.patchplan.serving import Up, running, serving_up, wait_for


def kinds(children: dict[int, str]) -> set[str]:
    """Which of the five parts are among ``children``."""
    marks = {
        "postgres": "bin/postgres",
        "valkey": "valkey-server",
        "api": "patchplan api",
        "worker": "-m workers",
        "trainer": "-m workers --queue training",
    }
    return {kind for kind, mark in marks.items() if any(mark in command for command in children.values())}


@pytest.mark.timeout(900)
def test_the_life_of_a_data_folder(data_folder: Path) -> None:
    data_dir = data_folder / "data"
    with serving_up(data_dir) as first:
        key = check_first_start(first)
        check_nobody_else_gets_the_folder(first)
        check_leaves_no_child(first, signal.SIGTERM)
        assert not (data_dir / "running.json").exists()
    with serving_up(data_dir) as second:
        assert "made an API key" not in second.said
        assert second.authorised(key)
        children = second.children()
        os.kill(second.process.pid, signal.SIGKILL)
        wait_for(lambda: running(children) == [], 30)
    with serving_up(data_dir) as third:
        assert third.authorised(key)
        check_what_dies_is_started_again(third)
        assert third.authorised(key)
        check_leaves_no_child(third, signal.SIGINT)


def check_first_start(up: Up) -> str:
    """Five parts run, and the key that was made opens the API; returns it."""
    assert kinds(up.children()) == {"postgres", "valkey", "api", "worker", "trainer"}
    key = up.key()
    assert "made an API key" in up.said
    assert stat.S_IMODE((up.data_dir / "api-key").stat().st_mode) == 0o600
    assert up.authorised(key)
    assert not up.authorised(key + "x")
    other = up.run("keys", "create", "--scope", "plan", "--org", "acme").strip()
    assert up.authorised(other)
    return key


def check_nobody_else_gets_the_folder(up: Up) -> None:
    """A second service on the same folder is refused and says whose it is."""
    said = refused(Up(up.data_dir))
    assert "in use by another patchplan" in said
    assert str(up.process.pid) in said
    assert up.ready()


def check_leaves_no_child(up: Up, number: signal.Signals) -> None:
    """After the signal nothing runs, and that is a good end."""
    children = up.children()
    assert up.end(number) == 0
    assert running(children) == []
    assert "stopped" in up.said


def check_what_dies_is_started_again(up: Up) -> None:
    """Every part is killed once; the service is ready again."""
    for mark in ("-m workers", "--queue training", "bin/postgres", "valkey-server", "patchplan api"):
        (victim, *_) = [pid for pid, command in up.children().items() if mark in command]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: running([victim]) == [], 10)  # noqa: B023 - waited for here
    wait_for(up.ready, 120)


@pytest.mark.timeout(900)
def test_given_services_are_used_and_none_is_started(data_folder: Path, database: Services) -> None:
    given = {
        "PATCHPLAN_DATABASE_URL": database.database_url,
        "PATCHPLAN_BROKER_URL": database.broker_url,
        "PATCHPLAN_STORE_URL": (get_settings().data_dir.absolute() / "store").as_uri(),
    }
    with serving_up(data_folder / "data", **given) as up:
        assert kinds(up.children()) == {"api", "worker", "trainer"}
        assert up.authorised(up.key())
        assert not (data_folder / "data" / "postgres").exists()
    # the database has a key, whose file is not here
    with serving_up(data_folder / "other", **given) as up:
        assert "key: one that was made before" in up.said
        assert not (data_folder / "other" / "api-key").exists()


def refused(up: Up) -> str:
    """What a ``patchplan up`` that does not start says."""
    assert up.process.wait(60) == 1
    up.end(signal.SIGTERM)
    return up.said


def test_a_store_that_is_not_the_databases_is_said(data_folder: Path, database: Services) -> None:
    given = {
        "PATCHPLAN_DATABASE_URL": database.database_url,
        "PATCHPLAN_BROKER_URL": database.broker_url,
    }
    said = refused(Up(data_folder / "data", **given))
    assert "The object store is not there" in said
    assert "Traceback" not in said
    assert list((data_folder / "data" / "store").iterdir()) == []


def test_a_taken_port_is_said(data_folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused(Up(data_folder / "data", PATCHPLAN_PORT=str(port)))
    assert f"127.0.0.1:{port}" in said
    assert "Traceback" not in said
