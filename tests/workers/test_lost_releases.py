"""Releases whose weights the store has lost: what needs them ends and says so."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core.settings import get_settings
from app.core.store import get_store
from app.releases.tables import ReleaseRow
from models.card import WEIGHTS_FILE
from models.release import Release
from tests.app.releases.publishing import published
from tests.mounts import unmount
from tests.workers.conftest import queue_plan
from tests.workers.test_desk import plan_row
from workers.cache import ReleaseCache
from workers.desk import Desk

NOW = {"Prefer": "wait=0"}


@contextmanager
def lost(row: ReleaseRow) -> Iterator[None]:
    """The store has no weights of the release, and no worker has a copy."""
    key = f"{row.folder_key}/{WEIGHTS_FILE}"
    weights = get_store().get(key)
    get_store().delete(key)
    shutil.rmtree(get_settings().release_cache_dir, ignore_errors=True)
    yield
    get_store().put(key, weights)


def names_the_release(problem: Any, row: ReleaseRow) -> bool:
    return (
        (problem["type"], problem["status"]) == ("/problems/release-lost", 500)
        and (problem["release"], problem["weights_sha256"]) == (str(row.id), row.weights_sha256)
        and "Ask with another release" in problem["detail"]
    )


def test_a_plan_ends_and_says_which(client: TestClient, plan_desk: Desk, tmp_path: Path) -> None:
    row = published(tmp_path)
    with lost(row):
        plan = queue_plan(client, release=str(row.id))
        plan_desk.work()
        failed = client.get(f"/v1/plans/{plan}").json()
        assert failed["status"] == "failed"
        assert names_the_release(failed["error"], row)
        # an installed release is none the worse for it
        other = queue_plan(client, release="tiny")
        plan_desk.work()
        assert plan_row(other).status == "ready"
    again = queue_plan(client, release=str(row.id))
    plan_desk.work()
    assert plan_row(again).status == "ready"


def test_so_does_a_classification(
    client: TestClient, plan_desk: Desk, classify_desk: Desk, tmp_path: Path
) -> None:
    row = published(tmp_path)
    plan = queue_plan(client, release=str(row.id))
    plan_desk.work()
    path = f"/v1/plans/{plan}/classifications"
    with lost(row):
        first = client.post(path, json={}, headers=NOW).json()["id"]
        classify_desk.work()
        assert names_the_release(client.get(f"{path}/{first}").json()["error"], row)
    second = client.post(path, json={}, headers=NOW).json()["id"]
    classify_desk.work()
    assert client.get(f"{path}/{second}").json()["status"] == "ready"


def test_a_store_that_is_not_mounted_has_lost_no_release(
    client: TestClient, plan_desk: Desk, tmp_path: Path
) -> None:
    row = published(tmp_path)
    shutil.rmtree(get_settings().release_cache_dir, ignore_errors=True)
    plan = queue_plan(client, release=str(row.id))
    mount = unmount(get_settings().data_dir / "store")
    try:
        plan_desk.work()
        assert (plan_row(plan).status, plan_row(plan).attempts) == ("running", 0)
    finally:
        mount()


def test_what_is_wrong_on_this_machine_is_not_laid_to_the_store(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = published(tmp_path)

    def broken(*_: object, **__: object) -> Release:
        raise RuntimeError("no kernel image is available for execution on the device")

    monkeypatch.setattr(Release, "load", broken)
    with pytest.raises(RuntimeError, match="no kernel image"):
        ReleaseCache().load(row.id, "cpu")


def test_a_release_loads_while_another_process_makes_room(client: TestClient, tmp_path: Path) -> None:
    row = published(tmp_path)
    going = get_settings().release_cache_dir / ("0" * 64)
    going.mkdir(parents=True)
    # listed a moment ago, and removed since
    (going / "weights.safetensors").symlink_to(tmp_path / "gone")
    assert ReleaseCache().load(row.id, "cpu").card.weights_sha256 == row.weights_sha256
