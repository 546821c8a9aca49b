"""``/v1/datasets`` through a real API, a real worker and its reading child."""

import io
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.core.db import session_scope
from app.core.settings import get_settings
from app.core.store import get_store
from app.datasets.tables import Dataset
from models.data.sources import open_source
from tests.archives import folders, split_folders, tar, tar_gz, zipped
from tests.conftest import Live
from workers.snapshots import fetch

WAIT = {"Prefer": "wait=60"}


def post(client: httpx.Client, archive: bytes, name: str = "set.tar", **fields: str) -> httpx.Response:
    return client.post(
        "/v1/datasets", files={"archive": (name, io.BytesIO(archive))}, data=fields, headers=WAIT
    )


def made(client: httpx.Client, archive: bytes, **fields: str) -> Any:
    """A dataset that is ready and new."""
    answer = post(client, archive, **fields)
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert found["status"] == "ready", found["error"]
    return found


def refused(client: httpx.Client, archive: bytes, **fields: str) -> Any:
    """The problem of a dataset that cannot be used; nothing of it is left but the row that says why."""
    answer = post(client, archive, **fields)
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert found["status"] == "failed"
    assert found["inventory"] is None
    assert found["content_sha256"] is None
    assert left() == []
    return found["error"]


def left() -> list[str]:
    """Objects and scratch files of datasets."""
    settings = get_settings()
    scratch = [path.name for path in (settings.data_dir / "scratch").glob("*/*")]
    return [*get_store().keys("datasets"), *scratch, *(p.name for p in settings.spool_dir.glob("*"))]


def rows() -> list[Dataset]:
    with session_scope() as session:
        return list(session.scalars(select(Dataset).order_by(Dataset.id)))


@pytest.fixture(autouse=True)
def _empty_store(live: Live) -> None:
    for key in get_store().keys("datasets"):
        get_store().delete(key)


def test_class_folders_become_a_snapshot(live: Live, tmp_path: Path) -> None:
    files = folders(("forest", "harbor", "runway"), each=3) | {"README.txt": b"Drawn."}
    found = made(live.client, tar(files), name="drawn")
    assert found["form"] == "folders"
    assert found["classes"] == ["forest", "harbor", "runway"]
    assert (found["pictures"], found["train"]) == (9, 0)
    inventory = found["inventory"]
    assert [entry["pictures"] for entry in inventory["classes"]] == [3, 3, 3]
    assert inventory["splits"] is None
    assert inventory["sizes"] == {"min": [20, 24], "median": [20, 24], "max": [20, 24], "distinct": 1}
    assert inventory["bands"] == {"3": 9}
    assert inventory["ignored"] == {"files that are no pictures": 1}
    assert inventory["gsd_m"] is None
    assert found["warnings"] == []
    assert live.client.get(found["links"]["self"]).json() == found
    (row,) = rows()
    source = open_source(fetch(row, tmp_path))
    assert source.name == "drawn"
    assert source.classes == ("forest", "harbor", "runway")
    assert sorted(source.ids) == sorted(name for name in files if name.endswith(".png"))
    assert set(left()) == {row.snapshot_key, row.inventory_key}


def test_declared_splits_are_kept(live: Live, tmp_path: Path) -> None:
    found = made(live.client, zipped(split_folders()))
    assert (found["pictures"], found["train"], found["val"], found["test"]) == (16, 8, 4, 4)
    assert found["inventory"]["splits"] == {"test": 4, "train": 8, "val": 4}
    path = fetch(rows()[0], tmp_path)
    assert len(open_source(path, split="train")) == 8
    assert len(open_source(path, split="test")) == 4
    assert fetch(rows()[0].id, tmp_path) == path


def test_the_same_content_is_the_same_dataset(live: Live) -> None:
    files = split_folders()
    turned = dict(reversed(files.items()))
    first = made(live.client, tar(files), name="first")
    for archive in (
        tar(turned, mtime=1_700_000_000),
        zipped(files),
        tar_gz(turned),
        tar({f"wrapped/{n}": d for n, d in files.items()}),
    ):
        answer = post(live.client, archive, name="other")
        assert answer.status_code == 200, answer.text
        assert answer.json() == first
        assert answer.headers["Location"] == first["links"]["self"]
    assert len(live.client.get("/v1/datasets").json()["datasets"]) == 1
    aliases = [row for row in rows() if row.same_as is not None]
    assert len(aliases) == 4
    asked = live.client.get(f"/v1/datasets/{aliases[0].id}")
    assert asked.json() == first
    assert asked.headers["Content-Location"] == first["links"]["self"]
    canonical = next(row for row in rows() if row.same_as is None)
    assert set(left()) == {canonical.snapshot_key, canonical.inventory_key}
