"""Releases through a real API and worker: switched under load, compared across a killed worker."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from app.core.db import session_scope
from tests.app.releases.publishing import labelled_by, published, tarred
from tests.client import WAIT, classify, made_plan, post_plan
from tests.conftest import Live
from tests.imagery import lr_geotiff


def until(ask: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = 90) -> Any:
    deadline = time.monotonic() + seconds
    while not wanted(found := ask()):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def stand(client: httpx.Client, alias: str, release: Any, **body: Any) -> Any:
    answer = client.put(f"/v1/aliases/{alias}", json={"release": str(release), **body}, headers=WAIT)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def test_a_champion_is_switched_under_load_without_a_dropped_request(live: Live, tmp_path: Path) -> None:
    rows = [published(tmp_path, seed=seed) for seed in range(2)]
    stand(live.client, "champion", rows[0].id)
    pid = live.worker().pid
    stop, answers = threading.Event(), list[tuple[float, httpx.Response]]()

    def load() -> None:
        with live.as_key(live.new_key("plan")) as client:
            while not stop.is_set():
                begun = time.monotonic()
                answers.append((begun, post_plan(client, lr_geotiff())))

    clients = [threading.Thread(target=load) for _ in range(4)]
    for client in clients:
        client.start()
    until(lambda: len(answers), lambda count: count >= 6)
    stand(live.client, "champion", rows[1].id, force=True, reason="under load")
    switched = time.monotonic()
    until(lambda: sum(begun > switched for begun, _ in answers), lambda count: count >= 6)
    assert live.client.post("/v1/aliases/champion/rollback").status_code == 200
    back = time.monotonic()
    until(lambda: sum(begun > back for begun, _ in answers), lambda count: count >= 6)
    stop.set()
    for client in clients:
        client.join()
    assert {answer.status_code for _, answer in answers} == {201}
    assert {answer.json()["status"] for _, answer in answers} == {"ready"}
    first, second = str(rows[0].id), str(rows[1].id)
    made = [(begun, answer.json()["release"]["id"]) for begun, answer in answers]
    assert {release for _, release in made} == {first, second}
    assert {release for begun, release in made if begun > back} == {first}
    assert live.worker().pid == pid


def test_a_plan_is_classified_by_the_release_that_made_it(live: Live, tmp_path: Path) -> None:
    rows = [published(tmp_path, seed=seed) for seed in range(2)]
    stand(live.client, "champion", rows[0].id)
    plan = made_plan(live.client, lr_geotiff())
    stand(live.client, "champion", rows[1].id, force=True, reason="a trial")
    assert made_plan(live.client, lr_geotiff())["release"]["id"] == str(rows[1].id)
    found = classify(live.client, plan["id"])
    assert found["release"]["id"] == plan["release"]["id"] == str(rows[0].id)


def test_a_comparison_outlives_its_worker_and_decides_a_promotion(live: Live, tmp_path: Path) -> None:
    archive = tarred(labelled_by(tmp_path, seed=1, n=1200))
    answer = live.client.post("/v1/datasets", files={"archive": ("drawn.tar", archive)}, headers=WAIT)
    assert answer.json()["status"] == "ready", answer.text
    dataset = answer.json()["id"]
    champion = published(tmp_path, seed=1, threshold=0.99, dataset=dataset)
    worse = published(tmp_path, seed=0, threshold=0.99, dataset=dataset)
    stand(live.client, "champion", champion.id)
    path = f"/v1/releases/{worse.id}/compare/{champion.id}"
    assert live.client.post(path, headers={"Prefer": "wait=0"}).status_code == 202
    until(lambda: live.client.get(path).json()["status"], lambda status: status != "queued")
    pid = live.worker().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    live.worker().process.wait(timeout=10)  # type: ignore[union-attr]
    assert live.client.get(path).json()["status"] == "running"
    live.revive()
    found = until(lambda: live.client.get(path).json(), lambda found: found["status"] != "running")
    assert found["status"] == "ready", found["error"]
    assert found["held_out"]["n"] == 900
    with session_scope() as session:
        counted = session.execute(text("SELECT count(*), max(attempts), max(fence) FROM comparisons")).one()
    assert tuple(counted) == (1, 2, 2)
    refused = live.client.put("/v1/aliases/champion", json={"release": str(worse.id)}, headers=WAIT)
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/promotion-refused")
    assert live.client.get("/v1/aliases/champion").json()["release"] == str(champion.id)


def test_the_gate_waits_for_its_comparison_within_the_call(live: Live, tmp_path: Path) -> None:
    archive = tarred(labelled_by(tmp_path, seed=1))
    dataset = live.client.post("/v1/datasets", files={"archive": ("drawn.tar", archive)}, headers=WAIT).json()
    champion, equal = (
        published(tmp_path, seed=1, threshold=threshold, dataset=dataset["id"]) for threshold in (0.99, 0.98)
    )
    stand(live.client, "champion", champion.id)
    moved = stand(live.client, "champion", equal.id)
    assert moved["release"] == str(equal.id)
    assert moved["last"]["gate"]["less_accurate"] == []


def test_a_shadow_runs_beside_a_live_champion(live: Live, tmp_path: Path) -> None:
    shadow = published(tmp_path, seed=1, threshold=0.0)
    stand(live.client, "shadow", shadow.id)
    plan = made_plan(live.client, lr_geotiff())
    path = f"/v1/releases/{shadow.id}/shadow"
    report = until(lambda: live.client.get(path).json(), lambda found: found["plans"] == 1)
    assert report["shadow_s"] == 16.0
    assert report["champion_s"] == plan["totals"]["chosen"]
    assert live.client.get(f"/v1/plans/{plan['id']}").json() == plan
