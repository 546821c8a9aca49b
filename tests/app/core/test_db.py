"""Times are UTC in every answer, whatever time zone the database's machine is in."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.core.db import dispose_engine, session_scope
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
