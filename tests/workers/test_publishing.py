"""What becomes of a finished folder: one row, verified files, a bounded cache."""

import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from app.core.db import session_scope
from app.core.errors import ReleaseLost
from app.core.settings import get_settings
from app.core.store import get_store
from app.releases.tables import ReleaseRow
from models.card import CardError
from models.precision import exact
from models.release import Release
from tests.app.releases.publishing import org_id, published, tiny_folder
from workers.cache import FETCH_S
from workers.publishing import publish
from workers.releases import Releases


def test_a_release_is_its_files_and_one_row(client: TestClient, tmp_path: Path) -> None:
    row = published(tmp_path, "mine")
    assert [key.rpartition("/")[2] for key in get_store().keys(row.folder_key)] == [
        "MODEL.md",
        "card.json",
        "weights.safetensors",
    ]
    assert get_store().get(f"{row.folder_key}/card.json").decode() == row.card
    assert get_store().get(f"{row.folder_key}/MODEL.md").startswith(b"# mine 1\n")
    assert published(tmp_path, "mine", seed=1).version == 2
    assert published(tmp_path, "other").version == 1


def test_one_run_is_one_release_however_often_it_is_published(client: TestClient, tmp_path: Path) -> None:
    run = uuid.uuid4()
    first = published(tmp_path, run=run)
    assert published(tmp_path, run=run).id == first.id
    with session_scope() as session:
        assert session.scalar(select(func.count()).select_from(ReleaseRow)) == 1


def test_of_many_at_once_each_gets_a_version_and_a_run_stays_one(client: TestClient, tmp_path: Path) -> None:
    run, org = uuid.uuid4(), org_id()
    folder = tiny_folder(tmp_path / "r")
    gate = threading.Barrier(6)

    def go(number: int) -> uuid.UUID:
        gate.wait()
        with session_scope() as session:
            of = run if number % 2 else None
            return publish(session, org_id=org, name="mine", folder=folder, training_run_id=of).id

    with ThreadPoolExecutor(6) as pool:
        ids = list(pool.map(go, range(6)))
    assert len(set(ids)) == 4
    with session_scope() as session:
        versions = session.scalars(select(ReleaseRow.version).order_by(ReleaseRow.version)).all()
    assert versions == [1, 2, 3, 4]


def test_what_is_rolled_back_is_no_release_and_can_be_published_again(
    client: TestClient, tmp_path: Path
) -> None:
    run, folder = uuid.uuid4(), tiny_folder(tmp_path / "r")
    before = set(get_store().keys("releases"))

    def go(fails: bool) -> uuid.UUID:
        with session_scope() as session:
            row = publish(session, org_id=org_id(), name="mine", folder=folder, training_run_id=run)
            if fails:
                raise RuntimeError("the run's last move was fenced out")
            return row.id

    with pytest.raises(RuntimeError):
        go(True)
    left = set(get_store().keys("releases")) - before
    release_id = go(False)
    assert len(left) == 3
    assert all(str(release_id) in key for key in left)
    assert set(get_store().keys("releases")) - before == left


def test_damaged_weights_and_impossible_names_are_refused(client: TestClient, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path / "r")
    before = get_store().keys("releases")
    with pytest.raises(ValueError, match="no name"), session_scope() as session:
        publish(session, org_id=org_id(), name="../up", folder=folder)
    with (folder / "weights.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CardError, match="hash"), session_scope() as session:
        publish(session, org_id=org_id(), name="mine", folder=folder)
    assert get_store().keys("releases") == before


def test_workers_fetch_once_and_check_every_time(client: TestClient, tmp_path: Path) -> None:
    row = published(tmp_path, threshold=0.25)

    def get() -> Release:
        return Releases().get(row.name, row.weights_sha256, row.id)

    assert get().card.threshold == 0.25
    cached = get_settings().release_cache_dir / row.card_sha256
    kept = get_store().get(f"{row.folder_key}/weights.safetensors")
    get_store().delete(f"{row.folder_key}/weights.safetensors")
    assert get().card.version == "1"
    (cached / "weights.safetensors").write_bytes(b"bit rot")
    with pytest.raises(ReleaseLost, match="no longer has the weights") as lost:
        get()
    assert lost.value.extra == {"release": str(row.id), "weights_sha256": row.weights_sha256}
    get_store().put(f"{row.folder_key}/weights.safetensors", b"bit rot there too")
    with pytest.raises(ReleaseLost, match="damaged weights"):
        get()
    get_store().put(f"{row.folder_key}/weights.safetensors", kept)
    assert get().card.version == "1"


def test_who_answers_leaves_tf32_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """For good and in all threads: one that only measures would give it back to the others."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    Releases()
    with exact():
        pass
    assert not torch.backends.cudnn.allow_tf32


def test_memory_and_disk_are_bounded_and_the_oldest_goes(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [published(tmp_path, f"r{k}", seed=k) for k in range(4)]
    monkeypatch.setenv("PATCHPLAN_RELEASES_IN_MEMORY", "2")
    monkeypatch.setenv("PATCHPLAN_RELEASE_CACHE_BYTES", str(3 * rows[0].weights_bytes))
    monkeypatch.setenv("PATCHPLAN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("PATCHPLAN_STORE_URL", f"file://{get_settings().data_dir.absolute()}/store")
    get_settings.cache_clear()
    releases = Releases()
    first = releases.get("r0", rows[0].weights_sha256, rows[0].id)
    for row in rows:
        releases.get(row.name, row.weights_sha256, row.id)
        assert releases.loaded() <= 2
    folders = {path.name for path in get_settings().release_cache_dir.iterdir()}
    assert rows[3].card_sha256 in folders
    assert rows[0].card_sha256 not in folders
    assert len(folders) <= 3
    again = releases.get("r0", rows[0].weights_sha256, rows[0].id)
    assert again is not first
    assert releases.get("r0", rows[0].weights_sha256, rows[0].id) is again


def test_what_killed_fetches_left_is_removed(client: TestClient, tmp_path: Path) -> None:
    row = published(tmp_path)
    cache = get_settings().release_cache_dir
    killed, slow = cache / ".aa.12.0123abcd", cache / ".bb.13.0123abcd"
    long_ago = time.time() - 2 * FETCH_S
    for part in (killed, slow):
        part.mkdir(parents=True)
        (part / ".weights.safetensors.12.part").write_bytes(b"half")
    for path in (killed / ".weights.safetensors.12.part", killed, slow):
        os.utime(path, (long_ago, long_ago))
    Releases().get(row.name, row.weights_sha256, row.id)
    assert not killed.exists()
    # a file that grows does not touch its folder
    assert slow.exists()


def test_a_device_without_room_damages_no_release(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object, **__: object) -> Release:
        raise torch.OutOfMemoryError("CUDA out of memory")

    row = published(tmp_path)
    Releases().get(row.name, row.weights_sha256, row.id)
    with monkeypatch.context() as full:
        full.setattr(Release, "load", no_room)
        with pytest.raises(torch.OutOfMemoryError):
            Releases().get(row.name, row.weights_sha256, row.id)
    # what was fetched is still there
    get_store().delete(f"{row.folder_key}/weights.safetensors")
    assert Releases().get(row.name, row.weights_sha256, row.id).card.version == "1"


def test_a_release_is_loaded_once_for_all_who_ask(client: TestClient, tmp_path: Path) -> None:
    row = published(tmp_path)
    releases = Releases()
    gate = threading.Barrier(4)

    def get(_: int) -> object:
        gate.wait()
        return releases.get(row.name, row.weights_sha256, row.id)

    with ThreadPoolExecutor(4) as pool:
        assert len({id(found) for found in pool.map(get, range(4))}) == 1
