"""Killing the worker or flushing the broker between a POST and its answer loses nothing."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import redis
from sqlalchemy import text

from app.core.db import session_scope
from app.core.settings import get_settings
from tests.conftest import Live
from tests.imagery import lr_geotiff, patch_geotiff

NOW = {"Prefer": "wait=0"}
PATIENT = {"Prefer": "wait=40"}


def post(client: httpx.Client, headers: dict[str, str], content: bytes, **fields: str) -> httpx.Response:
    return client.post("/v1/plans", files={"lr": ("x.tif", content)}, data=fields, headers=headers)


def answered(client: httpx.Client, path: str, seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = client.get(path).json()
        if found["status"] in ("ready", "failed"):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{path} is still {found['status']}")


def kill_worker(live: Live) -> None:
    pid = live.worker().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    live.worker().process.wait(timeout=10)  # type: ignore[union-attr]


def flush_broker() -> None:
    url = get_settings().broker_url
    assert url is not None
    with redis.Redis.from_url(url) as broker:
        broker.flushall()


def test_killing_the_worker_at_its_work_loses_nothing(live: Live) -> None:
    posted = post(live.client, NOW, lr_geotiff(32, 32, pixel_m=10.0), tile_size_m="80.1")
    path = posted.headers["Location"]
    deadline = time.monotonic() + 20
    while live.client.get(path).json()["status"] != "running":
        assert time.monotonic() < deadline
    kill_worker(live)
    assert live.client.get(path).json()["status"] == "running"
    live.revive()
    found = answered(live.client, path)
    assert found["status"] == "ready"
    assert len(found["tiles"]) == 1024
    with session_scope() as session:
        attempts, fence = session.execute(text("SELECT attempts, fence FROM plans")).one()
    assert (attempts, fence) == (2, 2)


def test_a_client_that_waits_gets_its_answer_from_the_next_worker(live: Live) -> None:
    kill_worker(live)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(post, live.client, PATIENT, lr_geotiff())
        time.sleep(0.3)
        live.revive()
        answer = waiting.result(timeout=60)
    assert answer.status_code == 201
    assert answer.json()["status"] == "ready"


def test_flushing_the_broker_loses_nothing(live: Live) -> None:
    pid = live.worker().pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        posted = post(live.client, NOW, lr_geotiff())
        assert posted.json()["status"] == "queued"
        flush_broker()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert answered(live.client, posted.headers["Location"])["status"] == "ready"


def test_after_a_flush_messages_and_pings_arrive_as_before(live: Live) -> None:
    flush_broker()
    assert live.client.get("/readyz").status_code == 200
    assert post(live.client, PATIENT, lr_geotiff()).json()["status"] == "ready"
    with redis.Redis.from_url(str(get_settings().broker_url)) as broker:
        assert broker.llen("patchplan") == 0


def test_a_classification_outlives_its_worker_too(live: Live) -> None:
    plan = post(live.client, PATIENT, lr_geotiff()).json()
    sent = live.client.post(
        f"/v1/plans/{plan['id']}/acquisitions", files={"files": ("a.tif", patch_geotiff(6))}
    )
    assert sent.status_code == 201, sent.text
    kill_worker(live)
    asked = live.client.post(f"/v1/plans/{plan['id']}/classifications", headers=NOW)
    assert asked.status_code == 202
    # what arrives after the question is no part of the answer
    later = live.client.post(
        f"/v1/plans/{plan['id']}/acquisitions", files={"files": ("b.tif", patch_geotiff(7))}
    )
    assert later.status_code == 201, later.text
    live.revive()
    found = answered(live.client, asked.headers["Location"])
    assert found["tiles"][0]["patches_used"] == [6]


def test_without_a_worker_answers_come_in_time_and_waiting_holds_no_threads(live: Live) -> None:
    kill_worker(live)
    for wait in ("wait=0", "wait=1", "respond-async"):
        begun = time.monotonic()
        answer = post(live.client, {"Prefer": wait}, lr_geotiff())
        assert answer.status_code == 202
        assert time.monotonic() - begun < 4
        assert answer.headers["Preference-Applied"] == wait
        assert answer.json()["tiles"] == []
    with ThreadPoolExecutor(45) as pool:
        waiting = [pool.submit(post, live.client, {"Prefer": "wait=4"}, lr_geotiff()) for _ in range(45)]
        deadline = time.monotonic() + 10
        while len(live.client.get("/v1/plans").json()["plans"]) < 48:
            assert time.monotonic() < deadline
        begun = time.monotonic()
        # more clients wait than the API has threads or connections
        assert live.client.get("/v1/plans").status_code == 200
        assert time.monotonic() - begun < 2
        assert {answer.result().status_code for answer in waiting} == {202}
    live.revive()
    plans = live.client.get("/v1/plans").json()["plans"]
    assert len(plans) == 48
    assert {answered(live.client, plan["links"]["self"])["status"] for plan in plans} == {"ready"}
