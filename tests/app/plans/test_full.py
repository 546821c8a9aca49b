"""A disk that is full, a store that is away: the client is told to come back, and nothing is left."""

import errno
import shutil
import tempfile
from pathlib import Path

import psutil
import pytest
from fastapi.testclient import TestClient

from app.core.marker import StoreMarker
from app.core.settings import get_settings
from app.core.store import backend_here
from patchplan.supervise import environment
from tests.client import kept, post_plan
from tests.conftest import Live
from tests.imagery import lr_geotiff


def test_a_full_disk_is_a_503_that_leaves_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = tempfile.mkdtemp

    def on_a_full_disk(**wanted: str) -> str:
        folder = make(**wanted)
        (Path(folder) / "00000").symlink_to("/dev/full")
        return folder

    before = kept()
    with monkeypatch.context() as patch:
        patch.setattr("app.core.uploads.tempfile.mkdtemp", on_a_full_disk)
        answer = post_plan(client, lr_geotiff())
    assert answer.status_code == 503, answer.text
    assert errno.errorcode[errno.ENOSPC] not in answer.text
    assert "Retry-After" in answer.headers
    assert kept() == before


def test_a_limit_on_the_size_of_files_is_as_good_as_a_full_disk(live: Live) -> None:
    api = psutil.Process(live.service.children["api"].pid)
    api.rlimit(psutil.RLIMIT_FSIZE, (100, psutil.RLIM_INFINITY))
    try:
        answer = post_plan(live.client, lr_geotiff())
    finally:
        api.rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
    assert (answer.status_code, answer.json()["type"]) == (503, "/problems/service-unavailable")
    assert kept()["plans"] == 0
    assert kept()["spool"] == []
    assert post_plan(live.client, lr_geotiff()).status_code == 201


def test_a_store_that_cannot_be_written_is_a_503_that_leaves_nothing(
    client: TestClient, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    with environment({"PATCHPLAN_STORE_URL": store.as_uri()}):
        store.mkdir()
        StoreMarker(backend_here()).claim()
        # where the plans should go there is a file
        (store / "plans").touch()
        headers = {"Idempotency-Key": "once"}
        refused = post_plan(client, lr_geotiff(), headers=headers)
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/service-unavailable")
        assert str(tmp_path) not in refused.text
        (store / "plans").unlink()
        assert not list(get_settings().spool_dir.glob("*"))
        again = post_plan(client, lr_geotiff(), headers={**headers, "Prefer": "respond-async"})
        assert again.status_code == 202
    shutil.rmtree(store)
