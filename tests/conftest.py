"""The real things, once per test process: PostgreSQL and Valkey from the wheels, the API, a worker."""

import os
import socket
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from sqlalchemy import text

from app.core import auth, db
from patchplan.embedded import Services, embedded_services
from patchplan.migrate import migrate
from patchplan.supervise import environment

# make test draws the same examples every time, make test-full other ones and more of them
_calm = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
hypothesis_settings.register_profile("test", derandomize=True, max_examples=50, **_calm)
hypothesis_settings.register_profile("full", max_examples=300, print_blob=True, **_calm)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A running PostgreSQL and Valkey; the environment and the settings point at them."""
    folder = tmp_path_factory.mktemp("services")
    with embedded_services(folder, durable=False) as running:
        given = {
            "PATCHPLAN_DATABASE_URL": running.database_url,
            "PATCHPLAN_BROKER_URL": running.broker_url,
            "PATCHPLAN_DATA_DIR": str(folder / "data"),
            "PATCHPLAN_LOG_LEVEL": "WARNING",
        }
        with environment(given):
            migrate()
            yield running


def empty_tables() -> None:
    """Delete every row of every table."""
    with db.session_scope() as session:
        names = session.scalars(
            text(
                "SELECT quote_ident(tablename) FROM pg_tables"
                " WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
            )
        ).all()
        session.execute(text(f"TRUNCATE {', '.join(names)} RESTART IDENTITY CASCADE"))


@pytest.fixture
def database(services: Services) -> Iterator[Services]:
    """A migrated database without rows."""
    empty_tables()
    yield services
    db.dispose_engine()


KeyMaker = Callable[..., str]


@pytest.fixture
def api_key(database: Services) -> KeyMaker:
    """``api_key(*scopes, org="acme")`` makes an organisation's key; no scopes means admin."""

    def make(*scopes: str, org: str = "acme") -> str:
        with db.session_scope() as session:
            organisation = auth.get_or_create_organisation(session, org)
            return auth.create_key(session, organisation, scopes or ("admin",), name="test")[1]

    return make


@pytest.fixture
def client(database: Services, api_key: KeyMaker) -> Iterator[TestClient]:
    """The API in this process with an admin's key; a 500 comes back as an answer, as it would to a client."""
    from app.main import create_app

    with TestClient(create_app(), raise_server_exceptions=False) as test_client:
        test_client.headers["Authorization"] = f"Bearer {api_key()}"
        yield test_client


@pytest.fixture
def anonymous(database: Services) -> Iterator[TestClient]:
    """The API in this process, asked without a key."""
    from app.main import create_app

    with TestClient(create_app(), raise_server_exceptions=False) as test_client:
        yield test_client


def free_port() -> int:
    """A loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def unique() -> str:
    """A name nobody else uses."""
    return f"t{uuid.uuid4().hex[:12]}"


def checkout() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parents[1]


def child_environment() -> dict[str, str]:
    """The environment for a ``patchplan`` process that shares nothing with this test run's services."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PATCHPLAN_")}
