"""Desks join work, keep one row's trouble to that row, and write nothing once fenced out."""

import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from app.core.db import session_scope
from app.core.settings import get_settings
from app.core.store import get_store
from app.core.work import WorkStatus, claim
from app.plans.tables import Plan, TileRow
from models.release import Decision
from tests.conftest import make_key
from tests.imagery import lr_geotiff
from tests.workers.conftest import forwards, queue_plan
from workers.desk import Desk
from workers.leases import Leases
from workers.planning import PlanJob
from workers.releases import Releases


def plan_row(plan_id: str) -> Plan:
    with session_scope() as session:
        return session.scalars(select(Plan).where(Plan.id == uuid.UUID(plan_id))).one()


def tiles_of(plan_id: str) -> list[TileRow]:
    with session_scope() as session:
        return list(
            session.scalars(
                select(TileRow).where(TileRow.plan_id == uuid.UUID(plan_id)).order_by(TileRow.tile)
            )
        )


def note_finished(desk: Desk) -> list[str]:
    """The ids of what the desk finishes from now on, in that order."""
    finished: list[str] = []
    write = desk._write

    def note(job: Any) -> None:
        write(job)
        finished.append(str(job.row.id))

    desk._write = note  # type: ignore[method-assign]
    return finished


def expire_leases() -> None:
    with session_scope() as session:
        session.execute(
            text("UPDATE plans SET lease_expires_at = now() - interval '1 s' WHERE status = 'running'")
        )


def test_plans_posted_at_once_share_a_forward(
    client: TestClient, plan_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # however slow this machine is
    monkeypatch.setattr("workers.desk.OPENING_S", 600.0)
    ids = [queue_plan(client, lr_geotiff(seed=seed)) for seed in range(8)]
    before = forwards()
    plan_desk.work()
    assert forwards() - before == 1
    assert {plan_row(plan_id).status for plan_id in ids} == {WorkStatus.READY}
    # each got its own image's answer: alone it comes out the same
    together = [tiles_of(plan_id)[0].probabilities for plan_id in ids]
    alone = queue_plan(client, lr_geotiff(seed=5))
    plan_desk.work()
    assert tiles_of(alone)[0].probabilities == pytest.approx(together[5], abs=2e-6)
    assert len({tuple(found) for found in together}) == 8


def test_plans_that_take_long_to_open_do_not_hold_up_those_that_are_open(
    client: TestClient, plan_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [queue_plan(client, lr_geotiff(seed=seed)) for seed in range(3)]
    monkeypatch.setattr("workers.desk.OPENING_S", 0.0)
    opened = plan_desk._open
    ready: list[list[bool]] = []

    def note(row: Any) -> Any:
        ready.append([plan_row(plan_id).status == WorkStatus.READY for plan_id in ids])
        return opened(row)

    plan_desk._open = note  # type: ignore[method-assign]
    plan_desk.work()
    assert ready == [[False] * 3, [True, False, False], [True, True, False]]
    assert {plan_row(plan_id).status for plan_id in ids} == {WorkStatus.READY}


def test_a_large_plan_lets_small_ones_pass(client: TestClient, plan_desk: Desk, leases: Leases) -> None:
    large = queue_plan(client, lr_geotiff(20, 16), tile_size_m="80.1")
    small = queue_plan(client)
    finished = note_finished(plan_desk)
    before = forwards()
    plan_desk.work()
    assert finished == [small, large]
    # 320 tiles; the first forward is shared half and half
    assert forwards() - before <= 7
    assert len(tiles_of(large)) == 320


def test_a_large_plan_lets_those_of_other_releases_pass(client: TestClient, plan_desk: Desk) -> None:
    large = queue_plan(client, lr_geotiff(20, 16), tile_size_m="80.1")
    others = [queue_plan(client, release="tiny-hr") for _ in range(2)]
    beside = queue_plan(client)
    finished = note_finished(plan_desk)
    plan_desk.work()
    assert set(finished[:3]) == {*others, beside}
    assert finished[3] == large
    assert len(tiles_of(large)) == 320


def test_plans_of_one_organisation_do_not_fill_a_desk(
    client: TestClient, plan_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.desk.JOBS_AT_ONCE", 4)
    monkeypatch.setattr("workers.desk.AN_ORGANISATION", 3)
    large = [queue_plan(client, lr_geotiff(20, 16), tile_size_m="80.1") for _ in range(6)]
    finished, late = note_finished(plan_desk), list[str]()
    forward = plan_desk._forward_once

    def arrive(table: Any) -> None:
        if not late:  # when the desk is full of the other organisation's
            client.headers["Authorization"] = f"Bearer {make_key(org='another')}"
            late.append(queue_plan(client))
        forward(table)

    plan_desk._forward_once = arrive  # type: ignore[method-assign]
    plan_desk.work()
    assert finished[0] == late[0]
    assert set(finished[1:]) == set(large)


def test_a_failure_in_one_plan_of_a_batch_is_that_plans_alone(client: TestClient, plan_desk: Desk) -> None:
    good, lost, other = (queue_plan(client, lr_geotiff(seed=seed)) for seed in range(3))
    get_store().delete(plan_row(lost).lr_key)
    plan_desk.work()
    assert plan_row(good).status == plan_row(other).status == WorkStatus.READY
    failed = plan_row(lost)
    assert failed.status == WorkStatus.FAILED
    assert failed.error is not None
    assert failed.error["type"] == "/problems/pixels-lost"
    assert failed.error["plan_id"] == lost
    assert tiles_of(lost) == []


class Picky(PlanJob):
    """A job whose network breaks on one image, as a driver or a broken kernel would."""

    @staticmethod
    def forward(release: Any, items: Sequence[Any]) -> Sequence[Any]:
        if any(item.mean() > 250 for item in items):
            raise RuntimeError("this image breaks the network")
        return PlanJob.forward(release, items)


def test_a_forward_that_breaks_is_tried_plan_by_plan(
    client: TestClient, leases: Leases, tmp_path: Path
) -> None:
    releases = Releases()
    desk = Desk(lambda row: Picky(row, releases), Plan, leases, tmp_path)
    good = [queue_plan(client, lr_geotiff(seed=seed)) for seed in range(3)]
    from tests.imagery import geotiff

    white = queue_plan(client, geotiff(np.full((3, 16, 16), 255, np.uint8), 5.0))
    desk.work()
    assert {plan_row(plan_id).status for plan_id in good} == {WorkStatus.READY}
    assert plan_row(white).status == WorkStatus.FAILED


class NotANumber(PlanJob):
    @staticmethod
    def forward(release: Any, items: Sequence[Any]) -> Sequence[Any]:
        return [Decision(np.full(16, np.nan, np.float32), None) for _ in items]


def test_what_is_no_probability_is_no_answer(client: TestClient, leases: Leases, tmp_path: Path) -> None:
    releases = Releases()
    plan = queue_plan(client)
    Desk(lambda row: NotANumber(row, releases), Plan, leases, tmp_path).work()
    row = plan_row(plan)
    assert row.status == WorkStatus.FAILED
    assert row.error is not None
    assert "no probabilities" in row.error["detail"]


def test_work_done_twice_changes_nothing(client: TestClient, plan_desk: Desk) -> None:
    plan = queue_plan(client, price_per_km2="3.5", currency="EUR")
    plan_desk.work()
    first, first_tiles = plan_row(plan), tiles_of(plan)
    with session_scope() as session:
        session.execute(
            text("UPDATE plans SET status = 'queued', finished_at = NULL WHERE id = :id"), {"id": plan}
        )
    plan_desk.work()
    second, second_tiles = plan_row(plan), tiles_of(plan)
    assert (second.chosen_cost, second.area_km2, second.scaling) == (
        first.chosen_cost,
        first.area_km2,
        first.scaling,
    )
    assert [tile.probabilities for tile in second_tiles] == [tile.probabilities for tile in first_tiles]
    assert [tile.areas_km2 for tile in second_tiles] == [tile.areas_km2 for tile in first_tiles]


def test_a_worker_that_was_fenced_out_writes_nothing(
    client: TestClient, plan_desk: Desk, leases: Leases, tmp_path: Path
) -> None:
    plan = queue_plan(client)
    [row] = leases.take(Plan, 1)
    job = PlanJob(row, Releases())
    job.open(tmp_path)
    job.take(PlanJob.forward(job.release, list(job.items())))
    # it slept too long: another took the row and answered
    expire_leases()
    Desk(plan_desk._make_job, Plan, Leases(), tmp_path).work()
    answered = plan_row(plan)
    assert answered.status == WorkStatus.READY
    assert answered.fence == row.fence + 1
    plan_desk._write(job)
    assert plan_row(plan).finished_at == answered.finished_at
    assert len(tiles_of(plan)) == 1


def test_a_lost_lease_is_noticed_at_the_next_beat(client: TestClient, leases: Leases) -> None:
    queue_plan(client)
    [row] = leases.take(Plan, 1)
    leases.beat()
    assert leases.holds(row)
    expire_leases()
    with session_scope() as session:
        claim(session, Plan, "another:1", 1, 30)
    leases.beat()
    assert not leases.holds(row)


def test_a_beat_keeps_the_row_from_others(client: TestClient, leases: Leases) -> None:
    queue_plan(client)
    [row] = leases.take(Plan, 1)
    expire_leases()
    leases.beat()
    assert leases.holds(row)
    with session_scope() as session:
        assert claim(session, Plan, "another:1", 1, 30) == []


def test_work_that_kills_its_workers_is_given_up(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATCHPLAN_MAX_ATTEMPTS", "3")
    get_settings.cache_clear()
    plan = queue_plan(client)
    for _ in range(3):
        assert len(Leases().take(Plan, 1)) == 1
        expire_leases()
    assert Leases().take(Plan, 1) == []
    shown = client.get(f"/v1/plans/{plan}").json()
    assert shown["status"] == "failed"
    assert shown["error"]["type"] == "/problems/work-abandoned"
    assert "3 times" in shown["error"]["detail"]


def test_a_store_that_is_away_costs_no_attempt(
    client: TestClient, plan_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = queue_plan(client)
    store = get_store()

    def away(key: str, path: Path) -> None:
        raise OSError("the store does not answer")

    monkeypatch.setattr(store, "get_to_file", away)
    for _ in range(get_settings().max_attempts + 2):
        plan_desk.work()
        row = plan_row(plan)
        # not at once again: the lease is the pause
        assert (row.status, row.attempts) == (WorkStatus.RUNNING, 0)
        assert row.lease_owner is not None
        expire_leases()
    monkeypatch.undo()
    plan_desk.work()
    row = plan_row(plan)
    assert row.status == WorkStatus.READY
    assert row.attempts == 1


def test_a_desk_told_to_stop_gives_its_work_back(client: TestClient, plan_desk: Desk) -> None:
    plan = queue_plan(client, lr_geotiff(16, 16), tile_size_m="80.1")
    drawn = plan_desk._forward_once

    def once_then_stop(table: Any) -> None:
        drawn(table)
        plan_desk.stop()

    plan_desk._forward_once = once_then_stop  # type: ignore[method-assign]
    plan_desk.work()
    row = plan_row(plan)
    assert row.status == WorkStatus.QUEUED
    assert row.attempts == 0
    assert row.lease_owner is None


def test_nothing_is_left_on_disk(client: TestClient, plan_desk: Desk, tmp_path: Path) -> None:
    good, lost = queue_plan(client), queue_plan(client)
    get_store().delete(plan_row(lost).lr_key)
    plan_desk.work()
    assert plan_row(good).status == WorkStatus.READY
    assert list(tmp_path.iterdir()) == []


def test_a_running_desk_hears_its_bell_and_sweeps_without_one(
    client: TestClient, plan_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATCHPLAN_SWEEP_S", "0.2")
    get_settings.cache_clear()
    plan_desk.start()
    try:
        plan = queue_plan(client)
        waiting = threading.Event()
        for _ in range(100):
            if plan_row(plan).status == WorkStatus.READY:
                break
            waiting.wait(0.1)
        assert plan_row(plan).status == WorkStatus.READY
    finally:
        plan_desk.stop()
        plan_desk.join(timeout=10)
    assert not plan_desk.is_alive()


def test_a_release_replaced_meanwhile_is_said(client: TestClient, plan_desk: Desk) -> None:
    plan = queue_plan(client)
    with session_scope() as session:
        session.execute(text("UPDATE plans SET weights_sha256 = repeat('0', 64)"))
    plan_desk.work()
    row = plan_row(plan)
    assert row.error is not None
    assert "was replaced" in row.error["detail"]


@pytest.mark.slow
def test_ten_thousand_tiles(client: TestClient, plan_desk: Desk) -> None:
    plan = queue_plan(
        client, lr_geotiff(100, 100, pixel_m=10.0), tile_size_m="80.1", price_per_km2="1", currency="EUR"
    )
    plan_desk.work()
    shown = client.get(f"/v1/plans/{plan}").json()
    assert shown["status"] == "ready"
    assert len(shown["tiles"]) == 10_000
    features = client.get(f"/v1/plans/{plan}", headers={"Accept": "application/geo+json"}).json()["features"]
    assert len(features) == 160_000
