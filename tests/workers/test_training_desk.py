"""The training desk in this process with real trainers: full disks, successors, parents, two processes."""

import contextlib
import json
import resource
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from app.core.auth import Organisation
from app.core.db import session_scope
from app.core.store import get_store
from app.core.work import WorkStatus, claim
from app.releases.tables import ReleaseRow
from app.training.tables import TrainingRun
from models.card import WEIGHTS_FILE
from tests.training import kept_dataset, post_run, quick
from workers.leases import Leases
from workers.trainer import NO_CHECKPOINT
from workers.training import TrainingDesk, clear_left

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def dataset(client: TestClient) -> uuid.UUID:
    with session_scope() as session:
        org_id = session.scalars(select(Organisation.id)).one()
    return kept_dataset(org_id)


def kept_row(run_id: str) -> TrainingRun:
    with session_scope() as session:
        return session.scalars(select(TrainingRun).where(TrainingRun.id == run_id)).one()


def card_of(run: TrainingRun) -> dict[str, Any]:
    with session_scope() as session:
        row = session.scalars(select(ReleaseRow).where(ReleaseRow.id == run.release_id)).one()
    card: dict[str, Any] = json.loads(row.card)
    return card


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A disk of ``size`` bytes at ``folder``; where none may be mounted, files that cannot get larger."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=False)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if mounted.returncode:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        if mounted.returncode:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        else:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_fails_the_run_and_nothing_else(
    client: TestClient, dataset: uuid.UUID, leases: Leases, tmp_path: Path
) -> None:
    run = post_run(client, dataset)
    size = 4096 * 40
    with small_disk(tmp_path / "small", size):
        TrainingDesk(leases, tmp_path / "small").work()
        assert list((tmp_path / "small").iterdir()) == []
    failed = client.get(f"/v1/training-runs/{run['id']}").json()
    assert failed["status"] == "failed"
    assert failed["error"]["type"] == "/problems/disk-full"
    assert failed["release"] is None
    # with room it goes on, and what it becomes can be gone on from
    client.post(f"/v1/training-runs/{run['id']}/resume")
    TrainingDesk(leases, tmp_path / "roomy").work()
    first = kept_row(run["id"])
    assert first.status == "ready", first.error
    assert list((tmp_path / "roomy").iterdir()) == []
    child = post_run(client, dataset, stages=["pt"], parent=str(first.release_id), seed=8)
    TrainingDesk(leases, tmp_path / "roomy").work()
    second = kept_row(child["id"])
    assert second.status == "ready", second.error
    told = card_of(second)["training"]
    assert told["parent"]["weights_sha256"] == card_of(first)["weights_sha256"]
    assert told["stages"] == {"pt": 1}
    assert told["seed"] == 8
    # measured on what the parent's weights have not seen either
    assert (told["split_seed"], told["split"]) == (3, "a stratified fifth held out, seed 3")
    assert told["seen_by_parent"] == {"images": 0, "sure": True, "of": 6}
    assert card_of(second)["version"] == "2"


def test_a_late_worker_writes_nothing_over_its_successor(
    client: TestClient, dataset: uuid.UUID, leases: Leases, tmp_path: Path
) -> None:
    run = post_run(client, dataset, overrides=quick(hr=100_000))
    desk = TrainingDesk(leases, tmp_path)
    working = threading.Thread(target=desk.work, daemon=True)
    working.start()
    deadline = time.monotonic() + 300
    while kept_row(run["id"]).checkpoint_key is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with session_scope() as session:
        # at once, so that the row is not seen in between
        session.execute(text("UPDATE training_runs SET lease_expires_at = now() - interval '1 s'"))
        (taken,) = claim(session, TrainingRun, "successor", 1, 300)
    working.join(60)
    assert not working.is_alive()
    row = kept_row(run["id"])
    assert (row.status, row.lease_owner, row.fence) == ("running", "successor", taken.fence)
    assert (row.checkpoint_key, row.checkpoint) == (taken.checkpoint_key, taken.checkpoint)
    assert get_store().keys(row.prefix) == [row.checkpoint_key]
    assert not list(tmp_path.glob("train-*"))


def test_folders_of_runs_that_are_over_go(
    client: TestClient, dataset: uuid.UUID, leases: Leases, tmp_path: Path
) -> None:
    cancelled, abandoned, queued = (post_run(client, dataset)["id"] for _ in range(3))
    client.post(f"/v1/training-runs/{cancelled}/cancel")
    with session_scope() as session:
        row = session.get_one(TrainingRun, uuid.UUID(abandoned))
        row.status, row.finished_at, row.error = WorkStatus.FAILED, row.created_at, {"status": 500}
    folders = {run: tmp_path / f"train-{run}" for run in (cancelled, abandoned, queued, str(uuid.uuid4()))}
    for folder in folders.values():
        folder.mkdir()
        (folder / "log").write_text("left")
    clear_left(tmp_path)
    assert list(tmp_path.iterdir()) == [folders[queued]]
    # the desk does so before it takes a run
    (tmp_path / f"train-{cancelled}").mkdir()
    client.post(f"/v1/training-runs/{queued}/cancel")
    TrainingDesk(leases, tmp_path).work()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_processes_train_a_run_and_can_be_cancelled(
    client: TestClient, dataset: uuid.UUID, leases: Leases, tmp_path: Path
) -> None:
    run = post_run(client, dataset, processes=2)
    endless = post_run(client, dataset, processes=2, overrides=quick(hr=100_000))
    desk = TrainingDesk(leases, tmp_path)
    working = threading.Thread(target=desk.work, daemon=True)
    working.start()
    deadline = time.monotonic() + 600
    while kept_row(endless["id"]).checkpoint_key is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    done = kept_row(run["id"])
    assert done.status == "ready", done.error
    assert card_of(done)["training"]["processes"] == 2
    begun = time.monotonic()
    client.post(f"/v1/training-runs/{endless['id']}/cancel")
    working.join(60)
    assert time.monotonic() - begun < 10
    assert kept_row(endless["id"]).status == "cancelled"


def test_a_run_whose_checkpoint_is_missing_starts_from_the_beginning(
    client: TestClient, dataset: uuid.UUID, leases: Leases, tmp_path: Path
) -> None:
    run = post_run(client, dataset)
    client.post(f"/v1/training-runs/{run['id']}/cancel")
    # as a backup leaves it that was taken while the run went on
    row = kept_row(run["id"])
    with session_scope() as session:
        session.get_one(TrainingRun, row.id).checkpoint_key = f"{row.prefix}/000001-000001.checkpoint"
    client.post(f"/v1/training-runs/{run['id']}/resume")
    TrainingDesk(leases, tmp_path).work()
    row = kept_row(run["id"])
    assert row.status == "ready", row.error
    assert NO_CHECKPOINT in row.notices
    # what goes on from it cannot do without the weights, and says so
    with session_scope() as session:
        folder = session.get_one(ReleaseRow, row.release_id).folder_key
    get_store().delete(f"{folder}/{WEIGHTS_FILE}")
    child = post_run(client, dataset, stages=["pt"], parent=str(row.release_id))
    TrainingDesk(leases, tmp_path).work()
    lost = kept_row(child["id"])
    assert lost.status == "failed"
    assert lost.error is not None
    assert lost.error["type"] == "/problems/release-lost"
    assert str(row.release_id) in lost.error["detail"]
