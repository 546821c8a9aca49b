"""The object store on a local folder: whole objects or none, and no way out of it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.store import Store, backend_here
from patchplan.supervise import environment


@pytest.fixture(params=["folder", "url"])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    given = {"PATCHPLAN_DATA_DIR": str(tmp_path)}
    if request.param == "url":
        (tmp_path / "elsewhere").mkdir()
        given["PATCHPLAN_STORE_URL"] = f"file://{tmp_path}/elsewhere"
    with environment(given):
        yield Store(backend_here())


def test_bytes_and_files_come_back(store: Store, tmp_path: Path) -> None:
    content = os.urandom(9 * 1024 * 1024)
    source = tmp_path / "source"
    source.write_bytes(content)
    store.put("plans/1/lr.tif", source)
    store.put("plans/2/lr.tif", content[:10])
    store.get_to_file("plans/1/lr.tif", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content
    assert store.get("plans/2/lr.tif") == content[:10]
    assert store.keys("plans") == ["plans/1/lr.tif", "plans/2/lr.tif"]


def test_an_object_can_be_replaced_and_deleted(store: Store) -> None:
    store.put("a/b", b"one")
    store.put("a/b", b"two")
    assert store.get("a/b") == b"two"
    assert store.exists("a/b")
    store.delete("a/b")
    store.delete("a/b")
    assert not store.exists("a/b")
    assert store.keys() == []


def test_a_missing_object_is_a_key_error(store: Store, tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        store.get("no/such")
    target = tmp_path / "out" / "file"
    target.parent.mkdir()
    with pytest.raises(KeyError):
        store.get_to_file("no/such", target)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("key", ["../outside", "a/../../outside", "/etc/outside"])
def test_no_key_leads_out(store: Store, tmp_path: Path, key: str) -> None:
    before = {path for path in tmp_path.rglob("*") if "outside" in path.name}
    with contextlib.suppress(Exception):  # refused in whatever way
        store.put(key, b"x")
    found = {path for path in tmp_path.rglob("*") if "outside" in path.name} - before
    inside = (tmp_path / "store", tmp_path / "elsewhere")
    assert all(any(path.is_relative_to(root) for root in inside) for path in found)
    assert not Path("/etc/outside").exists()
