"""The desk that reads datasets, in this process: races, orphans, limits, object stores."""

import errno
import io
import json
import os
import tarfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from obstore.store import MemoryStore
from sqlalchemy import delete, event, select, text

from app.core.db import get_engine, session_scope
from app.core.errors import Conflict, DatasetLost, DatasetTooLarge, NotFound, SourceUnreadable
from app.core.paging import token_of_number
from app.core.store import Store, get_store
from app.datasets.sources import RemotePlace, place_of
from app.datasets.tables import Dataset, snapshot_key, upload_key
from patchplan.supervise import environment
from tests.app.core.test_problems import check_problem
from tests.archives import folders, tar, zipped
from tests.workers.reading.reader import JOB, read_archive
from workers import datasets
from workers.datasets import DatasetDesk, DatasetJob, clear_orphans
from workers.leases import Leases
from workers.objects import copy_object, copy_objects
from workers.reading import child
from workers.reading.child import Job
from workers.reading.heap import Heap
from workers.snapshots import fetch


@pytest.fixture
def desk(leases: Leases, tmp_path: Path, client: TestClient) -> Iterator[DatasetDesk]:
    for key in get_store().keys("datasets"):
        get_store().delete(key)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    yield DatasetDesk(leases, scratch)
    assert list(scratch.iterdir()) == []


def queue(client: TestClient, content: bytes) -> uuid.UUID:
    answer = client.post(
        "/v1/datasets", files={"archive": ("set.tar", io.BytesIO(content))}, headers={"Prefer": "wait=0"}
    )
    assert answer.status_code == 202, answer.text
    return uuid.UUID(answer.json()["id"])


def rows() -> dict[uuid.UUID, Dataset]:
    with session_scope() as session:
        return {row.id: row for row in session.scalars(select(Dataset))}


def test_two_uploads_of_one_content_at_once_are_one_dataset(client: TestClient, desk: DatasetDesk) -> None:
    first, second = queue(client, tar(folders())), queue(client, zipped(folders()))
    assert queue(client, tar(folders())) == first
    desk.work()
    found = rows()
    assert (found[first].same_as, found[second].same_as) == (None, first)
    assert found[second].content_sha256 == found[first].content_sha256
    assert len(get_store().keys("datasets")) == 2


@pytest.mark.parametrize("ask", ["read", "send"])
def test_two_datasets_of_one_content_may_be_deleted_while_they_are_looked_up(
    client: TestClient, desk: DatasetDesk, ask: str
) -> None:
    first, second = queue(client, zipped(folders())), queue(client, tar(folders()))
    desk.work()
    assert rows()[second].same_as == first

    def delete_both(row: Dataset, _context: object) -> None:
        if row.id == second:
            with get_engine().begin() as other:
                for gone in (second, first):
                    other.execute(delete(Dataset).where(Dataset.id == gone))

    event.listen(Dataset, "load", delete_both)
    try:
        if ask == "read":
            assert client.get(f"/v1/datasets/{second}").status_code == 404
        else:
            assert queue(client, tar(folders())) not in (first, second)
    finally:
        event.remove(Dataset, "load", delete_both)
    desk.work()
    assert {row.status for row in rows().values()} == ({"ready"} if ask == "send" else set())


def test_one_that_was_thought_dead_writes_nothing(
    client: TestClient, desk: DatasetDesk, tmp_path: Path
) -> None:
    dataset = queue(client, tar(folders()))
    (late,) = desk._leases.take(Dataset, 1)
    job = DatasetJob(late)
    for _ in job.steps(tmp_path):
        pass
    with session_scope() as session:
        session.execute(text("UPDATE datasets SET lease_expires_at = now() - interval '1 s'"))
    desk.work()
    ready = rows()[dataset]
    assert (ready.status, ready.fence) == ("ready", 2)
    desk._write(job)
    job.close()
    assert rows()[dataset].snapshot_key == ready.snapshot_key
    # what it puts even later is not its successor's, and is swept
    get_store().put(snapshot_key(dataset, late.fence), b"late")
    clear_orphans(timedelta(0))
    assert set(get_store().keys("datasets")) == {ready.snapshot_key, ready.inventory_key}


def test_objects_whose_process_died_before_the_commit_are_swept(
    client: TestClient, desk: DatasetDesk
) -> None:
    kept = queue(client, tar(folders()))
    orphan = upload_key(uuid.uuid4())
    get_store().put(orphan, b"put, never committed")
    clear_orphans()
    assert get_store().exists(orphan)
    clear_orphans(timedelta(0))
    assert get_store().keys("datasets") == [upload_key(kept)]
    # where nothing has a row the database is another one's
    get_store().put(orphan, b"put, never committed")
    with session_scope() as session:
        session.execute(text("DELETE FROM datasets"))
    clear_orphans(timedelta(0))
    assert len(get_store().keys("datasets")) == 2


def test_a_dataset_deleted_while_it_is_read_leaves_nothing(client: TestClient, desk: DatasetDesk) -> None:
    dataset = queue(client, tar(folders()))
    (row,) = desk._leases.take(Dataset, 1)
    assert client.delete(f"/v1/datasets/{dataset}").status_code == 204
    desk._read(DatasetJob(row))
    assert (rows(), get_store().keys("datasets")) == ({}, [])


def test_one_that_something_refers_to_stays(client: TestClient, desk: DatasetDesk) -> None:
    dataset = queue(client, tar(folders()))
    desk.work()
    with session_scope() as session:
        session.execute(text("CREATE TABLE uses (dataset_id uuid REFERENCES datasets (id))"))
        session.execute(text("INSERT INTO uses VALUES (:id)"), {"id": dataset})
    try:
        assert client.delete(f"/v1/datasets/{dataset}").status_code == 409
        assert len(get_store().keys("datasets")) == 2
    finally:
        with session_scope() as session:
            session.execute(text("DROP TABLE uses"))


def test_a_stopped_desk_gives_its_dataset_back(client: TestClient, desk: DatasetDesk) -> None:
    dataset = queue(client, tar(folders()))
    (row,) = desk._leases.take(Dataset, 1)
    desk.stop()
    desk._read(DatasetJob(row))
    back = rows()[dataset]
    assert (back.status, back.attempts) == ("queued", 0)
    assert get_store().keys("datasets") == [upload_key(dataset)]


def test_a_dataset_whose_child_is_killed_has_cost_an_attempt(
    client: TestClient, desk: DatasetDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = queue(client, tar(folders()))
    steps = DatasetJob.steps

    def killed(job: DatasetJob, scratch: Path) -> Iterator[None]:
        for _ in steps(job, scratch):
            if job._child is not None:
                job._child.kill()
            yield

    monkeypatch.setattr(DatasetJob, "steps", killed)
    desk.work()
    row = rows()[dataset]
    assert (row.status, row.attempts) == ("running", 1)


@pytest.mark.parametrize(("number", "attempts"), [(errno.ENOSPC, 1), (errno.EIO, 0)])
def test_a_dataset_that_may_fill_the_disk_itself_is_not_tried_for_a_day(
    client: TestClient, desk: DatasetDesk, monkeypatch: pytest.MonkeyPatch, number: int, attempts: int
) -> None:
    dataset = queue(client, tar(folders()))

    def broken(job: Job) -> Heap:
        raise OSError(number, os.strerror(number))

    def steps(job: DatasetJob, scratch: Path) -> Iterator[None]:
        """As the child leaves it and the desk reads it."""
        folder = scratch / str(job.row.id)
        folder.mkdir()
        job._folder = folder
        monkeypatch.setattr(child, "_confine", lambda *_: None)
        monkeypatch.setattr(child, "read", lambda _, job: broken(job))
        (folder / child.JOB).write_text(json.dumps(asdict(JOB)))
        child.main(folder, 0, 0)
        datasets._answer(folder, 0)
        yield

    monkeypatch.setattr(DatasetJob, "steps", steps)
    desk.work()
    row = rows()[dataset]
    assert (row.status, row.attempts) == ("running", attempts)


def test_the_child_has_no_more_memory_than_it_may(client: TestClient, desk: DatasetDesk) -> None:
    with environment({"PATCHPLAN_DATASET_MEMORY_BYTES": str(220 * 1024 * 1024)}):
        # a header of an archive that has to be held whole
        huge = tarfile.TarInfo("forest/a.png")
        huge.pax_headers = {"comment": "x" * (150 * 1024 * 1024)}
        dataset = queue(client, tar(folders(), extra=[huge]))
        desk.work()
    error = rows()[dataset].error
    assert error is not None
    assert error["type"] == "/problems/dataset-too-large"
    assert get_store().keys("datasets") == []


def test_reading_takes_no_longer_than_it_may(client: TestClient, desk: DatasetDesk) -> None:
    with environment({"PATCHPLAN_DATASET_TIME_S": "0.05"}):
        dataset = queue(client, tar(folders()))
        desk.work()
    error = rows()[dataset].error
    assert error is not None
    assert error["type"] == "/problems/dataset-too-large"
    assert "longer than the 0.05 s" in error["detail"]
    assert get_store().keys("datasets") == []


def test_a_snapshot_is_fetched_once_and_checked(
    client: TestClient, desk: DatasetDesk, tmp_path: Path
) -> None:
    dataset = queue(client, tar(folders()))
    with pytest.raises(Conflict):
        fetch(dataset, tmp_path)
    desk.work()
    row = rows()[dataset]
    path = fetch(row, tmp_path)
    stamp = path.stat().st_mtime_ns
    assert fetch(row, tmp_path).stat().st_mtime_ns == stamp
    path.unlink()
    get_store().put(str(row.snapshot_key), b"other bytes")
    with pytest.raises(DatasetLost, match="damaged"):
        fetch(row, tmp_path)
    with pytest.raises(DatasetLost, match="no longer has the snapshot") as lost:
        fetch(row, tmp_path)
    assert lost.value.extra == {"dataset_id": str(dataset), "content_sha256": row.content_sha256}
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    with pytest.raises(NotFound):
        fetch(uuid.uuid4(), tmp_path)


def test_damage_that_keeps_the_size_is_put_back_too(
    client: TestClient, desk: DatasetDesk, tmp_path: Path
) -> None:
    dataset = queue(client, tar(folders()))
    desk.work()
    row = rows()[dataset]
    whole = get_store().get(str(row.snapshot_key))
    get_store().put(str(row.snapshot_key), bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(DatasetLost, match="damaged"):
        fetch(row, tmp_path)
    queue(client, tar(folders()))
    desk.work()
    assert get_store().get(str(row.snapshot_key)) == whole
    assert fetch(row, tmp_path).read_bytes() == whole


@pytest.mark.parametrize("sent", [tar, zipped])
def test_damage_is_put_back_before_anybody_has_met_it(
    client: TestClient, desk: DatasetDesk, sent: Callable[[dict[str, bytes]], bytes]
) -> None:
    dataset = queue(client, tar(folders()))
    desk.work()
    row = rows()[dataset]
    whole = get_store().get(str(row.snapshot_key))
    get_store().put(str(row.snapshot_key), whole[:-1] + bytes([whole[-1] ^ 1]))
    again = queue(client, sent(folders()))
    desk.work()
    assert rows()[again].same_as == dataset
    assert get_store().get(str(row.snapshot_key)) == whole


@pytest.mark.parametrize("stop", [False, True])
def test_a_twin_is_compared_unlocked_and_a_desk_can_be_stopped_meanwhile(
    client: TestClient, desk: DatasetDesk, monkeypatch: pytest.MonkeyPatch, stop: bool
) -> None:
    dataset = queue(client, tar(folders()))
    desk.work()
    row = rows()[dataset]
    again = queue(client, zipped(folders()))
    read, compared = Store._found, []

    def reading(store: Store, key: str, *args: Any) -> Any:
        if key == row.snapshot_key:
            compared.append(key)
            with session_scope() as other:
                other.execute(select(Dataset).where(Dataset.id == dataset).with_for_update(nowait=True))
            if stop:
                desk.stop()
        return read(store, key, *args)

    monkeypatch.setattr(Store, "_found", reading)
    desk.work()
    assert compared
    found = rows()[again]
    assert (found.status, found.same_as) == (("queued", None) if stop else ("ready", dataset))


def test_a_damaged_twin_that_is_deleted_meanwhile_leaves_nothing(
    client: TestClient, desk: DatasetDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = queue(client, tar(folders()))
    desk.work()
    row = rows()[dataset]
    get_store().put(str(row.snapshot_key), b"damaged")
    again = queue(client, zipped(folders()))
    write = DatasetDesk._write

    def late(desk: DatasetDesk, job: DatasetJob) -> None:
        assert client.delete(f"/v1/datasets/{dataset}").status_code == 204
        write(desk, job)

    monkeypatch.setattr(DatasetDesk, "_write", late)
    desk.work()
    found = rows()[again]
    assert (found.status, found.same_as) == ("ready", None)
    assert set(get_store().keys("datasets")) == {found.snapshot_key, found.inventory_key}


@pytest.mark.parametrize("damage", ["empty", "cut at a line's end", "page 2", "page 2's start", "no objects"])
def test_damage_anywhere_in_an_inventory_is_met_and_put_back(
    client: TestClient, desk: DatasetDesk, damage: str
) -> None:
    dataset = queue(client, tar(folders()))
    desk.work()
    key = str(rows()[dataset].inventory_key)
    whole = get_store().get(key)
    path = f"/v1/datasets/{dataset}/pictures"
    query: dict[str, Any] = {"limit": 3}
    if damage not in ("empty", "no objects"):
        query["token"] = client.get(path, params=query).json()["next"]
    page = client.get(path, params=query).json()
    first = len(b"".join(whole.splitlines(keepends=True)[:3]))
    damaged = {
        "empty": b"",
        "cut at a line's end": whole[:first],
        "page 2": whole[:first] + b"?" + whole[first + 1 :],
        "page 2's start": whole[: first - 1] + b"?" + whole[first:],
        "no objects": b"1\n" * 8,
    }[damage]
    get_store().put(key, damaged)
    check_problem(client.get(path, params=query), 500, "dataset-lost")
    # by reading alone nothing goes
    assert get_store().get(key) == damaged
    assert queue(client, tar(folders())) != dataset
    desk.work()
    assert get_store().get(key) == whole
    assert client.get(path, params=query).json() == page
    for number in (3, len(whole) + 1, 10**14):
        query["token"] = token_of_number(number)
        check_problem(client.get(path, params=query), 422, "unprocessable")


def test_an_inventory_that_is_put_back_is_counted_anew(client: TestClient, desk: DatasetDesk) -> None:
    dataset = queue(client, tar(folders()))
    desk.work()
    get_store().put(str(rows()[dataset].inventory_key), b"")
    queue(client, tar(folders() | {"forest/z.png": b"no picture"}))
    desk.work()
    found = client.get(f"/v1/datasets/{dataset}").json()
    pages = client.get(f"/v1/datasets/{dataset}/pictures").json()
    assert (found["inventory"]["unreadable"]["pictures"], found["warnings"]) == (1, ["unreadable_pictures"])
    assert [p["picture"] for p in pages["pictures"] if p["unreadable"]] == ["forest/z.png"]


@pytest.mark.parametrize("how", ["other bytes", "cut short"])
def test_a_damaged_inventory_is_lost_and_put_back(client: TestClient, desk: DatasetDesk, how: str) -> None:
    dataset = queue(client, tar(folders()))
    desk.work()
    key = str(rows()[dataset].inventory_key)
    whole = get_store().get(key)
    path = f"/v1/datasets/{dataset}/pictures"
    pages = client.get(path).json()
    check_problem(client.get(path, params={"token": token_of_number(3)}), 422, "unprocessable")
    if how == "other bytes":
        get_store().put(key, b"?" * (len(whole) - 1) + b"\n")
    else:
        get_store().put(key, whole[:-5])
        token = client.get(path).json()["next"]
        path += f"?token={token}"
    check_problem(client.get(path), 500, "dataset-lost")
    queue(client, tar(folders()))
    desk.work()
    assert get_store().get(key) == whole
    assert client.get(f"/v1/datasets/{dataset}/pictures").json() == pages


@pytest.mark.parametrize("sent", [tar, zipped])
def test_what_the_store_has_lost_is_put_back_by_whoever_sends_it_again(
    client: TestClient, desk: DatasetDesk, tmp_path: Path, sent: Callable[[dict[str, bytes]], bytes]
) -> None:
    dataset = queue(client, tar(folders()))
    desk.work()
    row = rows()[dataset]
    kept = {key: get_store().get(key) for key in get_store().keys("datasets")}
    pages = client.get(f"/v1/datasets/{dataset}/pictures").json()
    get_store().delete(str(row.inventory_key))
    answer = client.get(f"/v1/datasets/{dataset}/pictures")
    check_problem(answer, 500, "dataset-lost")
    assert answer.json()["dataset_id"] == str(dataset)
    # cut short, as by a disk that was full
    get_store().put(str(row.snapshot_key), kept[str(row.snapshot_key)][:100])
    again = queue(client, sent(folders()))
    assert again != dataset
    desk.work()
    assert rows()[again].same_as == dataset
    assert {key: get_store().get(key) for key in get_store().keys("datasets")} == kept
    assert client.get(f"/v1/datasets/{again}/pictures").json() == pages
    assert fetch(again, tmp_path).read_bytes() == kept[str(row.snapshot_key)]
    # nothing is lost by now: the same upload is the same dataset again
    same = client.post("/v1/datasets", files={"archive": ("set.tar", io.BytesIO(tar(folders())))})
    assert same.json()["id"] == str(dataset)


def spent(steps: Any) -> None:
    for _ in steps:
        pass


def test_objects_of_a_store_become_a_dataset(tmp_path: Path) -> None:
    store, files = MemoryStore(), folders()
    for name, content in files.items():
        store.put(name, content)
    path = tmp_path / "objects.tar"
    spent(copy_objects(store, path, 10**9, 100))
    expected = read_archive(tmp_path, tar(files))["content_sha256"]
    assert read_archive(tmp_path, path.read_bytes())["content_sha256"] == expected
    store.put("packed.zip", zipped(files))
    spent(copy_object(store, "packed.zip", path, 10**9))
    assert read_archive(tmp_path, path.read_bytes())["content_sha256"] == expected
    with pytest.raises(DatasetTooLarge):
        spent(copy_objects(store, path, 10**9, 3))
    with pytest.raises(DatasetTooLarge):
        spent(copy_objects(store, path, 100, 100))
    with pytest.raises(SourceUnreadable):
        spent(copy_objects(MemoryStore(), path, 100, 100))


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("s3://open/images", True),
        ("s3://open/images/2026/", True),
        ("s3://open/images-secret", False),
        ("s3://open/images/../secret", False),
        ("s3://open/images/%2e%2e/secret", False),
        ("s3://open/images/%252e%252e/secret", False),
        ("s3://open/images/x\\..\\..\\secret", False),
        ("s3://open/images/x%5c..%5C..%5csecret", False),
        ("s3://open/images?x=1", False),
        ("s3://other/images", False),
        ("https://open/images", False),
        ("memory:///images", False),
    ],
)
def test_urls_that_were_opened(url: str, good: bool) -> None:
    with environment({"PATCHPLAN_DATASET_URLS": "gs://elsewhere/, s3://open/images"}):
        if good:
            assert place_of(url) == RemotePlace(url)
        else:
            with pytest.raises(Exception, match="not read from there"):
                place_of(url)
