"""How much one order may be, and how many are worked out at once."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Semaphore
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from app.budgets.service import MAX_TILES
from app.classifications.tables import Classification
from app.core.db import session_scope
from app.core.work import WorkStatus, uuid7
from app.orderable import orderable
from app.orders import drafting, service
from app.plans.tables import Plan
from tests.app.core.test_problems import check_problem
from tests.plans import ready_plan

PRODUCT = "example-archive/by-the-patch"


def ordered(client: TestClient, **body: Any) -> Any:
    return client.post("/v1/orders", json={"product": PRODUCT} | body)


def classified(plan: uuid.UUID) -> str:
    """A ready classification, of which no tile is read."""
    row = Classification(
        id=uuid7(), plan_id=plan, revision=0, top_k=1, release="tiny", release_version="1",
        weights_sha256="0" * 64, streams="hr+lr", fusion="eq7", classes=["a"], fmow=[None],
        status=WorkStatus.READY,
    )  # fmt: skip
    with session_scope() as session:
        row.started_at = row.finished_at = session.get_one(Plan, plan).finished_at
        session.add(row)
    return str(row.id)


def test_an_order_has_a_budgets_tiles_at_most(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [ready_plan(), ready_plan()]
    # as many as they say, not as many as there are: only the first is looked at before tiles are read
    with session_scope() as session:
        session.execute(update(Plan).where(Plan.id == plans[0]).values(tile_count=MAX_TILES))
    made = ordered(client, plans=[str(plans[0])])
    assert made.status_code == 201, made.text
    monkeypatch.delattr(drafting, "cells_of_rows")
    for body in (
        {"plans": [str(plan) for plan in plans]},
        {"classifications": [classified(plan) for plan in plans]},
    ):
        answer = ordered(client, **body)
        check_problem(answer, 422, "unprocessable")
        assert answer.json()["detail"] == "An order is over 50000 tiles at most, not 50001."
        assert answer.json()["errors"][0]["loc"] == ["body", *body]
    assert len(client.get("/v1/orders").json()["orders"]) == 1


def test_two_drafts_are_worked_out_at_once(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = str(ready_plan())
    begun, go_on = Semaphore(0), Event()
    really = orderable

    def slowly(*args: Any, **options: Any) -> Any:
        begun.release()
        assert go_on.wait(60)
        return really(*args, **options)

    monkeypatch.setattr(drafting, "orderable", slowly)
    monkeypatch.setattr(service, "DRAFT_WAIT_S", 0.1)
    with ThreadPoolExecutor(service.DRAFTS_AT_ONCE) as pool:
        try:
            drafts = [pool.submit(ordered, client, plans=[plan]) for _ in range(service.DRAFTS_AT_ONCE)]
            for _ in drafts:
                assert begun.acquire(timeout=60)
            refused = ordered(client, plans=[plan])
            check_problem(refused, 503, "too-many-drafts")
            assert int(refused.headers["retry-after"]) > 0
            assert client.get("/v1/orders").json()["orders"] == []
        finally:
            go_on.set()
        assert [draft.result().status_code for draft in drafts] == [201, 201]
    # a turn is given back, also by who drafts nothing
    unchosen = str(ready_plan(chosen=()))
    for _ in range(service.DRAFTS_AT_ONCE + 1):
        check_problem(ordered(client, plans=[unchosen]), 422, "nothing-to-order")
    assert ordered(client, plans=[plan]).status_code == 201


def test_who_waits_a_little_gets_a_turn(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = str(ready_plan())
    monkeypatch.setattr(service, "DRAFT_WAIT_S", 60)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ordered(client, plans=[plan]), range(6)))
    assert [answer.status_code for answer in answers] == [201] * 6
