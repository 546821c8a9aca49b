"""Reading a dataset survives the death of its worker, and goes on once."""

import io
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import select

from app.core.db import session_scope
from app.core.settings import get_settings
from app.core.store import get_store
from app.datasets.tables import Dataset
from tests.archives import tar
from tests.conftest import Live
from tests.models.data.pictures import encode, picture
from tests.workers.reading.reader import read_archive

PICTURES = 120


def archive() -> bytes:
    """Pictures that take some seconds to look at."""
    files = {
        f"{name}/{k:03d}.jpg": encode(picture(1000 * n + k, 500, 500), "JPEG")
        for n, name in enumerate(("forest", "harbor"))
        for k in range(PICTURES // 2)
    }
    return tar(files)


def row() -> Dataset:
    with session_scope() as session:
        return session.scalars(select(Dataset)).one()


def reading_child(live: Live) -> psutil.Process | None:
    """The process in which the worker reads, once it looks at pictures."""
    try:
        children = psutil.Process(live.worker().pid).children()
        return next((one for one in children if "workers.reading.child" in one.cmdline()), None)
    except psutil.NoSuchProcess:
        return None


def wait_until(what: Any, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def heap_is_filled() -> bool:
    scratch = get_settings().data_dir / "scratch"
    return any(path.stat().st_size > 0 for path in scratch.glob("*/dataset-*/heap"))


def test_a_killed_worker_and_a_killed_child_make_one_dataset(live: Live, tmp_path: Path) -> None:
    for key in get_store().keys("datasets"):
        get_store().delete(key)
    content = archive()
    expected = read_archive(tmp_path, content)["content_sha256"]
    sent = live.client.post(
        "/v1/datasets", files={"archive": ("big.tar", io.BytesIO(content))}, headers={"Prefer": "wait=0"}
    )
    assert sent.status_code == 202
    path = sent.headers["Location"]

    # the worker, in the middle: its child dies with it
    child = wait_until(lambda: reading_child(live))
    wait_until(heap_is_filled)
    os.kill(live.worker().pid, signal.SIGKILL)  # type: ignore[arg-type]
    live.worker().process.wait(timeout=10)  # type: ignore[union-attr]
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert live.client.get(path).json()["status"] == "running"
    live.revive()

    # then the child alone: the row waits for its lease and is read again; on a fast machine the reading may
    # be over before the service says that it is ready
    caught = wait_until(lambda: reading_child(live) or _finished(live, path))
    killed = isinstance(caught, psutil.Process)
    if isinstance(caught, psutil.Process):
        caught.kill()
    found = wait_until(lambda: _finished(live, path), 120)

    assert found["status"] == "ready", found["error"]
    assert found["content_sha256"] == expected
    assert found["pictures"] == PICTURES
    # a child that was caught may have answered just before
    assert row().attempts == row().fence
    assert row().attempts in ((2, 3) if killed else (2,))
    assert get_store().keys("datasets") == sorted([str(row().snapshot_key), str(row().inventory_key)])
    assert list((get_settings().data_dir / "scratch").glob("*/dataset-*")) == []


def _finished(live: Live, path: str) -> Any:
    found = live.client.get(path).json()
    return found if found["status"] in ("ready", "failed") else None
