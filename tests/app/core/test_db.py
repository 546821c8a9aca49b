"""What connections are made for: times in UTC, poolers that lend another one for each transaction."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import literal, select, text

from app.core.db import dispose_engine, session_scope
from patchplan.embedded import Services
from tests.plans import ready_plan


@pytest.fixture
def far_east(client: TestClient) -> Iterator[None]:
    """A database whose own time zone is Tokyo's, as initdb takes it from the machine."""
    with session_scope() as session:
        name = session.scalar(text("SELECT quote_ident(current_database())"))
        session.execute(text(f"ALTER DATABASE {name} SET timezone TO 'Asia/Tokyo'"))
    dispose_engine()
    yield
    with session_scope() as session:
        session.execute(text(f"ALTER DATABASE {name} RESET timezone"))
    dispose_engine()


def test_times_are_utc_whatever_the_machines_zone(client: TestClient, far_east: None) -> None:
    plan = ready_plan(price="25", currency="EUR")
    assert client.get(f"/v1/plans/{plan}").json()["created_at"].endswith("Z")
    draft = {"plans": [str(plan)], "product": "example-archive/by-the-patch"}
    order = client.post("/v1/orders", json=draft).json()
    placed = client.post(f"/v1/orders/{order['id']}/moves", json={"to": "placed"}).json()
    assert placed["placed_at"].endswith("Z")
    entry = client.get("/v1/ledger").json()["entries"][0]
    assert entry["at"].endswith("Z")
    assert entry["at"] in client.get("/v1/ledger", headers={"Accept": "text/csv"}).text


def test_no_statement_is_prepared(database: Services) -> None:
    """By the driver, after the fifth time: a pooler would lend a connection that does not know it."""
    with session_scope() as session:
        for number in range(10):
            assert session.scalar(select(literal(number))) == number
        assert session.scalar(text("SELECT count(*) FROM pg_prepared_statements")) == 0
