"""One key, one plan: whatever is sent twice, at once, or by a process that died in between."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.core.db import session_scope
from app.core.errors import IdempotencyInFlight
from app.plans import idempotency
from app.plans.service import limits
from app.rasters.sandbox import longest_s
from tests.client import kept, post_plan
from tests.conftest import Live
from tests.imagery import lr_geotiff

KEY = {"Idempotency-Key": "order-66"}


def count_plans() -> int:
    return int(kept()["plans"])


def test_the_same_key_and_body_make_one_plan(live: Live) -> None:
    first = post_plan(live.client, lr_geotiff(), headers=KEY, threshold="0.3")
    again = post_plan(live.client, lr_geotiff(), headers=KEY, threshold="0.3")
    assert first.status_code == again.status_code == 201
    assert again.json() == first.json()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert count_plans() == 1


def test_the_name_of_the_file_does_not_matter(live: Live) -> None:
    first = post_plan(live.client, lr_geotiff(), headers=KEY)
    files = {"lr": ("another-name.tif", lr_geotiff())}
    again = live.client.post("/v1/plans", files=files, headers={**KEY, "Prefer": "wait=20"})
    assert again.json()["id"] == first.json()["id"]


@pytest.mark.parametrize(("seed", "fields"), [(1, {}), (0, {"threshold": "0.3"}), (0, {"tags": {"a": "b"}})])
def test_another_body_is_refused(live: Live, seed: int, fields: dict[str, Any]) -> None:
    post_plan(live.client, lr_geotiff(), headers=KEY)
    answer = post_plan(live.client, lr_geotiff(seed=seed), headers=KEY, **fields)
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/idempotency-mismatch"
    assert count_plans() == 1


def test_a_refused_request_frees_its_key(live: Live) -> None:
    assert post_plan(live.client, b"no tiff", headers=KEY).status_code == 422
    assert post_plan(live.client, lr_geotiff(), headers=KEY).status_code == 201


def test_keys_are_an_organisations_own(live: Live) -> None:
    mine = post_plan(live.client, lr_geotiff(), headers=KEY).json()
    with live.as_key(live.new_key(org="other")) as other:
        theirs = post_plan(other, lr_geotiff(seed=2), headers=KEY)
        assert theirs.status_code == 201
        assert theirs.json()["id"] != mine["id"]


def test_many_at_once_give_one_plan(live: Live) -> None:
    start = threading.Barrier(8)

    def send() -> httpx.Response:
        start.wait()
        answer: httpx.Response = post_plan(live.client, lr_geotiff(), headers=KEY)
        return answer

    with ThreadPoolExecutor(8) as pool:
        answers = [future.result() for future in [pool.submit(send) for _ in range(8)]]
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert count_plans() == 1
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["type"] == "/problems/idempotency-in-flight"
            assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "tab\tbed"])
def test_keys_are_printable_and_short(live: Live, key: str) -> None:
    answer = post_plan(live.client, lr_geotiff(), headers={"Idempotency-Key": key})
    assert answer.status_code == 422
    assert count_plans() == 0


def upload_fingerprint(live: Live) -> str:
    """What the service takes the standard body for."""
    post_plan(live.client, lr_geotiff(), headers=KEY)
    with session_scope() as session:
        fingerprint = session.scalar(text("SELECT fingerprint FROM idempotency_keys"))
        session.execute(text("DELETE FROM idempotency_keys"))
        session.execute(text("DELETE FROM plans"))
    return str(fingerprint)


def reserve(live: Live, fingerprint: str) -> idempotency.Reservation:
    with session_scope() as session:
        org_id = session.scalar(text("SELECT id FROM organisations"))
        found = idempotency.reserve(session, org_id, KEY["Idempotency-Key"], fingerprint)
    assert isinstance(found, idempotency.Reservation)
    return found


def run_out() -> None:
    with session_scope() as session:
        session.execute(text("UPDATE idempotency_keys SET reserved_until = now() - interval '1 s'"))


def test_a_request_still_in_flight_is_a_409(live: Live) -> None:
    fingerprint = upload_fingerprint(live)
    reserve(live, fingerprint)
    answer = post_plan(live.client, lr_geotiff(), headers=KEY)
    assert answer.status_code == 409
    assert answer.json()["type"] == "/problems/idempotency-in-flight"
    # another body is a mistake whether or not the first is done
    assert post_plan(live.client, lr_geotiff(seed=3), headers=KEY).status_code == 422


def test_a_crash_between_reserving_and_committing_does_not_hold_the_key_for_ever(live: Live) -> None:
    fingerprint = upload_fingerprint(live)
    reserve(live, fingerprint)
    # the process that reserved it is gone, and its time with it
    run_out()
    assert post_plan(live.client, lr_geotiff(), headers=KEY).status_code == 201
    assert count_plans() == 1


def test_no_check_of_a_raster_outlasts_its_reservation() -> None:
    assert longest_s(limits()) + idempotency.KEEPING_S <= idempotency.RESERVED_S


def test_who_was_overtaken_cannot_commit(live: Live) -> None:
    fingerprint = upload_fingerprint(live)
    slow = reserve(live, fingerprint)
    run_out()
    plan = post_plan(live.client, lr_geotiff(), headers=KEY).json()
    with pytest.raises(IdempotencyInFlight), session_scope() as session:
        idempotency.settle(session, slow, plan["id"])
    with session_scope() as session:
        idempotency.let_go(session, slow)
    assert post_plan(live.client, lr_geotiff(), headers=KEY).json()["id"] == plan["id"]


def test_a_commit_that_fails_leaves_no_object_and_frees_the_key(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tiny_releases: None
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("the database went away")

    before = kept()
    with monkeypatch.context() as patch:
        patch.setattr(idempotency, "settle", broken)
        assert post_plan(client, lr_geotiff(), headers={**KEY, "Prefer": "wait=0"}).status_code == 500
    assert kept() == before
    assert post_plan(client, lr_geotiff(), headers={**KEY, "Prefer": "wait=0"}).status_code == 202
