"""Alive, ready, counted."""

import re
import threading

import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.core.db import session_scope
from app.core.health import Checks, the_checks
from app.core.revisions import known
from app.main import create_app
from app.rasters.sandbox import sandbox
from patchplan.embedded import Services
from patchplan.migrate import migrate
from patchplan.supervise import environment
from tests.conftest import free_port


def test_alive_needs_no_key(anonymous: TestClient) -> None:
    assert anonymous.get("/healthz").json() == {"status": "ok"}


def test_the_first_upload_finds_its_checker_started(database: Services) -> None:
    sandbox.close()
    with TestClient(create_app()):
        assert sandbox.started
    sandbox.close()
    assert not sandbox.started


def test_without_a_worker_it_is_not_ready(anonymous: TestClient) -> None:
    answer = anonymous.get("/readyz")
    assert answer.status_code == 503
    checks = answer.json()["checks"]
    assert (checks["database"], checks["broker"]) == ("ok", "ok")
    assert checks["worker"] != "ok"


def test_a_broker_that_is_away_is_named(anonymous: TestClient) -> None:
    with environment({"PATCHPLAN_BROKER_URL": f"redis://:secret@127.0.0.1:{free_port()}/0"}):
        answer = anonymous.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["broker"] != "ok"
    assert answer.json()["checks"]["database"] == "ok"
    assert "secret" not in answer.text


def test_a_database_that_is_away_is_named(anonymous: TestClient) -> None:
    away = f"postgresql://postgres:secret@127.0.0.1:{free_port()}/none"
    with environment({"PATCHPLAN_DATABASE_URL": away}):
        answer = anonymous.get("/readyz")
        assert anonymous.get("/metrics").status_code == 200
        assert anonymous.get("/healthz").status_code == 200
    assert answer.status_code == 503
    assert answer.json()["checks"]["database"] != "ok"
    assert "secret" not in answer.text


def test_a_database_of_another_revision(anonymous: TestClient, database: Services) -> None:
    with psycopg.connect(database.database_url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS unready")
        connection.execute("CREATE DATABASE unready")
    address = database.database_url.replace("/patchplan?", "/unready?")

    def said() -> str:
        answer = anonymous.get("/readyz")
        assert answer.status_code == 503  # there is no worker
        told: str = answer.json()["checks"]["database"]
        assert ("database" in answer.json()["detail"]) == (told != "ok")
        return told

    with environment({"PATCHPLAN_DATABASE_URL": address}):
        assert said() == "was never migrated: run `patchplan migrate`"
        migrate("0003")
        (head,) = known()[0]
        assert said() == f"is at revision 0003, behind {head}: run `patchplan migrate`"
        migrate()
        assert said() == "ok"
        # as a later version leaves it for processes that are still to be replaced
        with session_scope() as session:
            session.execute(text("UPDATE alembic_version SET version_num = 'later'"))
        assert said() == "ok"
        with session_scope() as session:
            session.execute(text("DELETE FROM alembic_version"))
        assert said() == "was never migrated: run `patchplan migrate`"


def test_a_check_that_hangs_does_not_hang_the_answer(
    anonymous: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.core.health.CHECK_S", 0.1)
    held = threading.Event()

    def hang() -> None:
        held.wait(30)

    checks: Checks = {"worker": hang}
    anonymous.app.dependency_overrides[the_checks] = lambda: checks  # type: ignore[attr-defined]
    try:
        answer = anonymous.get("/readyz")
    finally:
        held.set()
    assert answer.status_code == 503
    assert "no answer within" in answer.json()["checks"]["worker"]


def test_metrics_count_by_route_not_by_path(client: TestClient) -> None:
    client.get("/v1/plans/00000000-0000-7000-8000-000000000001")
    client.get("/no/such/path")
    text = client.get("/metrics").text
    assert re.search(r'patchplan_http_requests_total{method="GET",route="/v1/plans/\{[a-z_]+\}"', text)
    assert 'route="unmatched"' in text
    assert "00000000-0000-7000" not in text
    assert "/no/such/path" not in text
    assert 'patchplan_work_rows{status="queued",table="plans"} 0.0' in text
