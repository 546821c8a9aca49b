"""The real things, once per test process: PostgreSQL and Valkey from the wheels, the API, a worker."""

import os
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app.core import auth, db
from app.core.store import get_store
from patchplan.child import Child
from patchplan.embedded import Services, embedded_services
from patchplan.migrate import migrate
from patchplan.supervise import Service, environment, forget_settings, serving, wait_until_ready

# make test draws the same examples every time, make test-full other ones and more of them
_calm = hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.register_profile("test", _calm, derandomize=True, max_examples=50)
hypothesis_settings.register_profile("full", _calm, print_blob=True, max_examples=300)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))


@contextmanager
def short_folder() -> Iterator[Path]:
    """A temporary folder for an embedded PostgreSQL, outside pytest's own.

    Every starting pytest closes its folders to all other users, among them the one that PostgreSQL runs as
    when we are root.
    """
    with tempfile.TemporaryDirectory(prefix="patchplan-test-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def data_folder() -> Iterator[Path]:
    """A folder that holds a service's data for one test."""
    with short_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """A running PostgreSQL and Valkey; the environment and the settings point at them."""
    with short_folder() as folder, embedded_services(folder, durable=False) as running:
        given = {
            "PATCHPLAN_DATABASE_URL": running.database_url,
            "PATCHPLAN_BROKER_URL": running.broker_url,
            "PATCHPLAN_DATA_DIR": str(folder / "data"),
            "PATCHPLAN_LOG_LEVEL": "WARNING",
        }
        with environment(given):
            migrate()
            get_store().check()
            yield running


def empty_tables() -> None:
    """Delete every row of every table but that which says which object store is the database's.

    The processes of a service that lives through several tests ask all the while, for the tables in another
    order.
    """
    for tries_left in reversed(range(5)):
        try:
            _truncate()
        except OperationalError as error:
            if not tries_left or not isinstance(error.orig, psycopg.errors.DeadlockDetected):
                raise
        else:
            break


def _truncate() -> None:
    with db.session_scope() as session:
        names = session.scalars(
            text(
                "SELECT quote_ident(tablename) FROM pg_tables"
                " WHERE schemaname = 'public' AND tablename NOT IN ('alembic_version', 'object_store')"
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


def make_key(*scopes: str, org: str = "acme") -> str:
    """A new key of the organisation ``org``; no scopes means admin."""
    with db.session_scope() as session:
        organisation = auth.get_or_create_organisation(session, org)
        return auth.create_key(session, organisation, scopes or ("admin",), name="test")[1]


@pytest.fixture
def api_key(database: Services) -> KeyMaker:
    """``api_key(*scopes, org="acme")`` makes an organisation's key; no scopes means admin."""
    return make_key


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


@dataclass
class Live:
    """The service as clients meet it: an API and a worker in processes of their own."""

    url: str
    service: Service
    client: httpx.Client
    new_key: KeyMaker

    def as_key(self, key: str) -> httpx.Client:
        """A client that sends ``key``; close it after use."""
        return httpx.Client(base_url=self.url, headers=_bearer(key), timeout=60, trust_env=False)

    def worker(self) -> Child:
        """The worker's process: ``kill -9`` its ``pid``, then ``revive()``."""
        return self.service.children["worker"]

    def revive(self) -> None:
        """Start what was killed and wait until the service is ready again."""
        for child in self.service.children.values():
            if not child.alive():
                child.start()
        wait_until_ready(self.service)


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("PATCHPLAN_")}


def _set_variables(values: dict[str, str]) -> None:
    for name in _variables():
        del os.environ[name]
    os.environ.update(values)
    forget_settings()


@pytest.fixture(scope="session")
def live_service(
    services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, dict[str, str]]]:
    """API and worker with the releases `tiny` and `tiny-hr`, and the variables they run with.

    They have a database of their own, so that this worker never touches other tests' work. Leases are
    short, so that the work of a killed worker is soon taken up.
    """
    from models.release import tiny_release

    folder = tmp_path_factory.mktemp("live")
    for name, streams in (("tiny", "hr+lr"), ("tiny-hr", "hr")):
        tiny_release(folder / "releases" / name, classes=["field", "forest", "harbor"], streams=streams)
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE live")
    given = {
        "PATCHPLAN_DATABASE_URL": services.database_url.replace("/patchplan?", "/live?"),
        "PATCHPLAN_BROKER_URL": services.broker_url.removesuffix("/0") + "/1",
        "PATCHPLAN_DATA_DIR": str(folder / "data"),
        "PATCHPLAN_RELEASES_DIR": str(folder / "releases"),
        "PATCHPLAN_DEFAULT_RELEASE": "tiny",
        "PATCHPLAN_LEASE_S": "3",
        "PATCHPLAN_HEARTBEAT_S": "0.5",
        "PATCHPLAN_SWEEP_S": "0.5",
        "PATCHPLAN_DATASET_FOLDERS": str(folder / "open"),
    }
    outside = _variables()
    with environment(given), serving(say=lambda _line: None, port=0) as service:
        inside = _variables()
        _set_variables(outside)
        yield service, inside
        _set_variables(inside)


@pytest.fixture
def live(live_service: tuple[Service, dict[str, str]]) -> Iterator[Live]:
    """The live service over an empty database, with an admin's client; settings are the service's."""
    service, variables = live_service
    with environment(variables):
        empty_tables()
        key = make_key()
        with httpx.Client(base_url=service.url, headers=_bearer(key), timeout=60, trust_env=False) as client:
            yield Live(service.url, service, client, make_key)


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
