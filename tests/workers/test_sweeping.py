"""What a killed process left in the store goes away; what has a row, or might get one, stays."""

import os
import time
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from obstore.store import LocalStore

from app.core.store import Store
from tests.client import post_plan
from tests.imagery import lr_geotiff
from workers.sweeping import OLD, Swept, sweep_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Store:
    return Store(LocalStore(folder))


@pytest.fixture
def plan_id(client: TestClient) -> str:
    answer = post_plan(client, lr_geotiff(), headers={"Prefer": "respond-async"})
    return str(answer.json()["id"])


def put(store: Store, folder: Path, key: str, *, days: float = 2) -> str:
    store.put(key, b"x")
    then = time.time() - days * 24 * 3600
    os.utime(folder / key, (then, then))
    return key


def orphan() -> str:
    return f"plans/{uuid.uuid4()}/lr.tif"


def test_old_objects_without_a_row_are_removed(store: Store, folder: Path, plan_id: str) -> None:
    kept = [
        put(store, folder, f"plans/{plan_id}/lr.tif"),
        put(store, folder, orphan(), days=0.9),
        put(store, folder, "somebody/else.bin"),
        put(store, folder, "plans/no-uuid/lr.tif"),
    ]
    for key in (
        orphan(),
        f"plans/{plan_id}/acquisitions/{uuid.uuid4()}.u8",
        f"releases/{uuid.uuid4()}/card.json",
    ):
        put(store, folder, key)
    assert sweep_store(store) == Swept(known=1, orphans=3, removed=True)
    assert store.keys() == sorted(kept)
    assert sweep_store(store, older=timedelta(0)).orphans == 1


def test_a_store_of_another_database_is_left_alone(store: Store, folder: Path, plan_id: str) -> None:
    keys = sorted(put(store, folder, orphan()) for _ in range(3))
    assert sweep_store(store) == Swept(known=0, orphans=3, removed=False)
    keys += [put(store, folder, f"plans/{plan_id}/lr.tif")]
    keys += [put(store, folder, orphan()) for _ in range(30)]
    assert sweep_store(store) == Swept(known=1, orphans=33, removed=False)
    assert store.keys() == sorted(keys)


def test_a_request_has_time_to_commit() -> None:
    assert timedelta(hours=1) < OLD
