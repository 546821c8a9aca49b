"""``/v1/datasets`` through a real API, a real worker and its reading child."""

import io
import shutil
import time
from collections.abc import Iterable
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
from workers.scratch import LOCK
from workers.snapshots import fetch

WAIT = {"Prefer": "wait=60"}


def post(client: httpx.Client, archive: bytes, **fields: str) -> httpx.Response:
    return client.post(
        "/v1/datasets", files={"archive": ("set.tar", io.BytesIO(archive))}, data=fields, headers=WAIT
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
    clears_up([])
    return found["error"]


def left() -> list[str]:
    """Objects and scratch files of datasets."""
    settings = get_settings()
    scratch = [path.name for path in (settings.data_dir / "scratch").glob("*/*") if path.name != LOCK]
    return [*get_store().keys("datasets"), *scratch, *(p.name for p in settings.spool_dir.glob("*"))]


def clears_up(expected: Iterable[object]) -> None:
    """The worker deletes what is not needed once its answer is committed."""
    deadline = time.monotonic() + 20
    while set(left()) != set(expected):
        assert time.monotonic() < deadline, left()
        time.sleep(0.05)


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
    clears_up([row.snapshot_key, row.inventory_key])


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
    clears_up([canonical.snapshot_key, canonical.inventory_key])


def test_bad_content_is_a_failed_dataset_and_leaves_nothing(live: Live) -> None:
    good = split_folders()
    slips = {**good, "../escaped.png": b"x"}
    leaks = {**good, "test/forest/again.png": good["train/forest/0.png"]}
    for archive, slug in (
        (tar(slips), "unsafe-names"),
        (zipped(leaks), "leaking-splits"),
        (tar(folders(("forest",))), "one-class"),
        (zipped(good)[:-600], "archive-refused"),
    ):
        problem = refused(live.client, archive)
        assert problem["type"] == f"/problems/{slug}"
        assert live.client.get(problem["type"]).status_code == 200
    assert {row.status for row in rows()} == {"failed"}
    # a failed upload may be sent again: it is read anew
    assert refused(live.client, tar(slips))
    assert len(rows()) == 5


def test_what_can_be_seen_at_once_makes_no_row(live: Live) -> None:
    def slug(answer: httpx.Response) -> str:
        assert answer.headers["content-type"] == "application/problem+json"
        return str(answer.json()["type"]).rpartition("/")[2]

    assert slug(post(live.client, b"no archive at all")) == "archive-refused"
    assert slug(post(live.client, tar(folders()), max_unreadable="-1")) == "unprocessable"
    assert slug(post(live.client, tar(folders()), classes='["one"]')) == "unprocessable"
    assert slug(post(live.client, tar(folders()), name="../up")) == "unprocessable"
    for body, wanted in (
        ({"uri": "/etc"}, "source-not-allowed"),
        ({"uri": "s3://bucket/images"}, "source-not-allowed"),
        ({"uri": "/a", "from": {"tags": {"a": "b"}}}, "unprocessable"),
        ({"from": {}}, "unprocessable"),
        ({"from": {"tags": {"a": "\0"}}}, "unprocessable"),
        ({"uri": "/a", "classes": ["a\0", "b"]}, "unprocessable"),
        ({"from": {"tags": {"team": "nobody"}}}, "not-found"),
        ({}, "unprocessable"),
    ):
        assert slug(live.client.post("/v1/datasets", json=body)) == wanted, body
    assert slug(live.client.post("/v1/datasets", content=b"x")) == "unsupported-media"
    for no_json in (b"", b"{", b'{"uri": "\xff"}'):
        answer = live.client.post(
            "/v1/datasets", content=no_json, headers={"Content-Type": "application/json"}
        )
        assert (answer.status_code, slug(answer)) == (400, "bad-request"), no_json
        assert answer.json()["detail"].startswith("This is no JSON: ")
    huge = live.client.post(
        "/v1/datasets",
        content=b" " * 2_000_000,
        headers={"Content-Type": "application/json"},
    )
    assert slug(huge) == "payload-too-large"
    assert rows() == []
    assert left() == []


def test_folders_that_were_opened_and_no_others(live: Live, tmp_path: Path) -> None:
    root = Path(str(get_settings().dataset_folders))
    files = split_folders()
    for name, content in files.items():
        path = root / "harbors 2026" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "out").symlink_to(tmp_path)
    (root / "packed.tar").write_bytes(tar(files))
    (root.parent / f"{root.name}-secret").mkdir(exist_ok=True)
    try:
        for uri in (
            "relative",
            "/",
            f"{root}/../",
            f"{root}/out",
            f"{root}-secret",
            f"file://elsewhere{root}",
        ):
            answer = live.client.post("/v1/datasets", json={"uri": uri})
            assert answer.json()["type"] == "/problems/source-not-allowed", uri
        found = live.client.post("/v1/datasets", json={"uri": f"{root}/harbors 2026"}, headers=WAIT)
        assert found.status_code == 201, found.text
        assert found.json()["status"] == "ready", found.json()["error"]
        assert found.json()["name"] == "harbors-2026"
        for uri in (f"file://{root}/harbors%202026", f"{root}/packed.tar"):
            again = live.client.post("/v1/datasets", json={"uri": uri}, headers=WAIT)
            assert (again.status_code, again.json()["id"]) == (200, found.json()["id"])
        assert (root / "packed.tar").exists()
        gone = live.client.post("/v1/datasets", json={"uri": f"{root}/gone"}, headers=WAIT).json()
        assert gone["error"]["type"] == "/problems/source-unreadable"
    finally:
        shutil.rmtree(root)


def test_lists_and_inventories_come_in_pages(live: Live) -> None:
    first = made(live.client, tar(folders(each=5)))
    second = made(live.client, tar({**folders(first=50), "forest/bad.png": b"bad"}))
    page = live.client.get("/v1/datasets", params={"limit": 1}).json()
    assert [one["id"] for one in page["datasets"]] == [second["id"]]
    page = live.client.get("/v1/datasets", params={"limit": 1, "token": page["next"]}).json()
    assert [one["id"] for one in page["datasets"]] == [first["id"]]
    assert page["next"] is None
    seen: list[str] = []
    token = None
    while True:
        asked = {"limit": 3} | ({"token": token} if token else {})
        page = live.client.get(first["links"]["pictures"], params=asked).json()
        seen += [one["picture"] for one in page["pictures"]]
        token = page["next"]
        if token is None:
            break
    assert seen == sorted(folders(each=5))
    pictures = live.client.get(second["links"]["pictures"]).json()["pictures"]
    assert pictures[-1]["picture"] == "forest/bad.png"
    assert pictures[-1]["unreadable"]
    assert pictures[0] | {"sha256": ""} == {
        "picture": "forest/0.png",
        "class": "forest",
        "split": None,
        "width": 20,
        "height": 24,
        "bands": 3,
        "type": "uint8",
        "gsd_m": None,
        "bytes": pictures[0]["bytes"],
        "sha256": "",
        "unreadable": None,
    }
    for token in ("x", "YXQgOTk5OTk5OTk5OTk5OTk5OTk5", "YXQgNQ"):
        answer = live.client.get(first["links"]["pictures"], params={"token": token})
        assert answer.status_code == 422, token


def test_a_key_sees_its_own_organisations_datasets(live: Live) -> None:
    archive = tar(folders())
    mine = made(live.client, archive)
    with live.as_key(live.new_key("train", org="other")) as other:
        assert other.get(mine["links"]["self"]).status_code == 404
        assert other.get(mine["links"]["pictures"]).status_code == 404
        assert other.delete(mine["links"]["self"]).status_code == 404
        assert other.get("/v1/datasets").json()["datasets"] == []
        theirs = made(other, archive)
        assert theirs["id"] != mine["id"]
        assert theirs["content_sha256"] == mine["content_sha256"]
    with live.as_key(live.new_key("plan", "acquire", "report")) as planner:
        assert planner.get(mine["links"]["self"]).status_code == 403
        assert post(planner, archive).status_code == 403


def test_deleting(live: Live) -> None:
    archive = tar(folders())
    found = made(live.client, archive)
    assert post(live.client, zipped(folders())).status_code == 200
    assert live.client.delete(found["links"]["self"]).status_code == 204
    assert live.client.get(found["links"]["self"]).status_code == 404
    clears_up([])
    assert rows() == []
    again = made(live.client, archive)
    assert again["id"] != found["id"]
    assert again["content_sha256"] == found["content_sha256"]
