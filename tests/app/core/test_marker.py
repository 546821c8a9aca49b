"""A store that is not there is not an empty one: it is known by its marker, wherever it moves."""

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from obstore.store import MemoryStore
from sqlalchemy import delete, select

from app.core.db import session_scope
from app.core.marker import MARKER, TRUSTED_S, ObjectStoreRow, StoreAway, StoreMarker
from app.core.store import Store, backend_here, get_store
from patchplan.embedded import Services
from patchplan.supervise import environment
from tests.app.core.test_problems import check_problem
from tests.conftest import checkout, free_port
from tests.mounts import unmount
from tests.plans import ready_plan
from workers.sweeping import sweep_store


def noted() -> uuid.UUID | None:
    with session_scope() as session:
        return session.scalar(select(ObjectStoreRow.id))


def note(store_id: uuid.UUID | None) -> None:
    with session_scope() as session:
        session.execute(delete(ObjectStoreRow))
        if store_id is not None:
            session.add(ObjectStoreRow(id=store_id))


def marked(folder: Path) -> str:
    return (folder / MARKER).read_text().splitlines()[0]


@pytest.fixture
def folder(database: Services, tmp_path: Path) -> Iterator[Path]:
    """An empty store of a database that knows none."""
    folder, before = tmp_path / "store", noted()
    folder.mkdir()
    note(None)
    with environment({"PATCHPLAN_STORE_URL": folder.as_uri()}):
        yield folder
    note(before)


@pytest.fixture
def kept(folder: Path) -> Path:
    """A store that keeps `a/b`."""
    get_store().put("a/b", b"kept")
    return folder


def test_the_first_use_marks_the_store_and_notes_it(kept: Path) -> None:
    assert marked(kept) == str(noted())
    assert get_store().keys() == ["a/b"]
    assert list(get_store().keys_before(datetime.now(UTC) + timedelta(days=1))) == ["a/b"]


def test_whoever_comes_first_all_note_the_same(folder: Path) -> None:
    code = "from app.core.store import get_store; get_store().put(f'a/{__import__(\"os\").getpid()}', b'x')"
    command = [sys.executable, "-c", code]
    running = [subprocess.Popen(command, cwd=checkout(), env=os.environ) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4
    assert marked(folder) == str(noted())
    assert len(get_store().keys("a")) == 4


USES: dict[str, Callable[[Store, Path], object]] = {
    "put": lambda store, _: store.put("a/c", b"new"),
    "get": lambda store, _: store.get("a/b"),
    "get_from": lambda store, _: store.get_from("a/b", 0, 4),
    "get_to_file": lambda store, path: store.get_to_file("a/b", path),
    "exists": lambda store, _: store.exists("a/b"),
    "delete": lambda store, _: store.delete("a/b"),
    "keys": lambda store, _: store.keys(),
    "keys_before": lambda store, _: list(store.keys_before(datetime.now(UTC))),
    "check": lambda store, _: store.check(),
    "sweep": lambda store, _: sweep_store(store, timedelta(0)),
}


@pytest.mark.parametrize("use", USES)
def test_where_nothing_is_mounted_nothing_is_lost_nor_written(kept: Path, tmp_path: Path, use: str) -> None:
    mount = unmount(kept)
    with pytest.raises(StoreAway, match="no marker"):
        USES[use](get_store(), tmp_path / "copy")
    # whoever starts now finds the same
    get_store.cache_clear()
    with pytest.raises(StoreAway, match="no marker"):
        USES[use](get_store(), tmp_path / "copy")
    assert list(kept.iterdir()) == []
    mount()
    assert get_store().get("a/b") == b"kept"
    with pytest.raises(KeyError):
        get_store().get("a/none")


def test_another_store_in_its_place_is_not_it(kept: Path) -> None:
    unmount(kept)
    (kept / MARKER).write_text(f"{uuid.uuid4()}\n")
    with pytest.raises(StoreAway, match="another store"):
        get_store().put("a/c", b"new")
    (kept / MARKER).write_text("")
    with pytest.raises(StoreAway, match="damaged"):
        get_store().put("a/c", b"new")
    assert [path.name for path in kept.iterdir()] == [MARKER]


def test_an_object_that_comes_with_its_store_is_not_missing(kept: Path) -> None:
    class Mounting(StoreMarker):
        """The store that is mounted after an object was looked for, and before its marker is."""

        def check(self, *, anew: bool = False) -> None:
            mount()
            super().check(anew=anew)

    store = Store(backend_here(), Mounting(backend_here()))
    mount = unmount(kept)
    assert store.get("a/b") == b"kept"


def test_a_store_that_moves_with_its_marker_is_the_same(kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept, tmp_path / "new")
    with environment({"PATCHPLAN_STORE_URL": (tmp_path / "new").as_uri()}):
        assert get_store().get("a/b") == b"kept"
        get_store().put("a/c", b"new")


def test_a_new_database_takes_the_store_it_finds(kept: Path) -> None:
    store_id = marked(kept)
    note(None)
    get_store.cache_clear()
    assert get_store().get("a/b") == b"kept"
    get_store().check()
    assert str(noted()) == store_id


def test_an_old_database_marks_its_store_and_no_empty_one(folder: Path) -> None:
    ready_plan()
    with pytest.raises(StoreAway, match="is empty"):
        get_store().keys()
    assert (noted(), list(folder.iterdir())) == (None, [])
    Store(backend_here()).put("plans/1/lr.tif", b"x")
    assert get_store().keys() == ["plans/1/lr.tif"]
    assert marked(folder) == str(noted())


def test_a_database_that_does_not_answer_says_nothing_of_the_store(kept: Path) -> None:
    away = f"postgresql://postgres:secret@127.0.0.1:{free_port()}/none"
    with environment({"PATCHPLAN_DATABASE_URL": away}), pytest.raises(StoreAway, match="does not answer"):
        get_store().get("a/none")


def test_a_remote_store_is_looked_at_now_and_then_but_before_a_loss(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = MemoryStore()
    store = Store(backend, StoreMarker(backend))
    store.put("a/b", b"x")
    Store(backend).delete(MARKER)
    store.put("a/c", b"x")
    with pytest.raises(StoreAway):
        store.get("a/none")
    # seen to be away, it is looked at every time
    with pytest.raises(StoreAway):
        store.put("a/d", b"x")
    Store(backend).put(MARKER, str(noted()).encode())
    store.put("a/d", b"x")
    Store(backend).delete(MARKER)
    later = time.monotonic() + TRUSTED_S
    monkeypatch.setattr("app.core.marker.time.monotonic", lambda: later)
    with pytest.raises(StoreAway):
        store.put("a/e", b"x")


def test_the_api_says_that_the_store_is_away(client: TestClient, kept: Path) -> None:
    assert client.get("/readyz").json()["checks"]["store"] == "ok"
    plan = ready_plan()
    mount = unmount(kept)
    readiness = client.get("/readyz")
    assert readiness.status_code == 503
    assert "no marker" in readiness.json()["checks"]["store"]
    path = f"/v1/plans/{plan}/preview.png"
    check_problem(client.get(path), 503, "service-unavailable")
    mount()
    assert client.get("/readyz").json()["checks"]["store"] == "ok"
    check_problem(client.get(path), 500, "pixels-lost")


def claim(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "patchplan", "store", "claim", *options]
    return subprocess.run(command, cwd=checkout(), env=os.environ, capture_output=True, text=True)


def test_a_store_is_claimed_by_a_person(kept: Path) -> None:
    (kept / MARKER).unlink()
    done = claim()
    assert (done.returncode, done.stdout.strip()) == (0, str(noted())), done.stderr
    assert get_store().get("a/b") == b"kept"
    (kept / MARKER).write_text(f"{uuid.uuid4()}\n")
    refused = claim()
    assert refused.returncode == 1
    assert "another database's" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert claim("--force").returncode == 0
    get_store().put("a/c", b"new")


def test_a_damaged_marker_is_made_anew_by_force_alone(kept: Path) -> None:
    before = noted()
    # as a machine leaves it that lost its power while it wrote
    (kept / MARKER).write_bytes(b"")
    with pytest.raises(StoreAway, match="damaged"):
        get_store().put("a/c", b"new")
    refused = claim()
    assert (refused.returncode, "--force" in refused.stderr) == (1, True)
    done = claim("--force")
    assert (done.returncode, done.stdout.strip(), marked(kept)) == (0, str(before), str(before)), done.stderr
    get_store().put("a/c", b"new")


def test_a_store_that_cannot_be_read_is_not_claimed(kept: Path) -> None:
    (kept / MARKER).unlink()
    (kept / MARKER).mkdir()
    for options in ((), ("--force",)):
        done = claim(*options)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert "--force" not in done.stderr
