"""An object and the rows that name it: a COMMIT whose answer is lost may have gone through."""

import io
import tarfile
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from app.acquisitions.pixels import ReceivedPixels
from app.acquisitions.tables import Acquisition, ReceivedPatch
from app.core.db import session_scope
from app.core.store import get_store
from app.datasets.tables import Dataset
from app.ledger.tables import LedgerEntry
from app.plans.tables import Plan
from patchplan.embedded import Services
from tests.client import post_hr, post_plan
from tests.imagery import NORTH, WEST, geotiff, hr_geotiff, lr_geotiff, patch_geotiff, scene
from tests.lost import lost_at_commit
from tests.plans import ready_plan
from workers.datasets import clear_orphans
from workers.sweeping import sweep_store

NOW = timedelta(0)
KEY = {"Idempotency-Key": "once", "Prefer": "wait=0"}


@pytest.fixture(autouse=True)
def _empty_store(database: Services) -> None:
    for key in get_store().keys(""):
        get_store().delete(key)


def archive() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("field/empty.png"), io.BytesIO())
    return packed.getvalue()


def post_archive(client: TestClient, content: bytes) -> Any:
    files = {"archive": ("set.tar", io.BytesIO(content))}
    return client.post("/v1/datasets", files=files, headers={"Prefer": "wait=0"})


def ids(model: Any) -> list[uuid.UUID]:
    with session_scope() as session:
        return list(session.scalars(select(model.id)))


def pixels_of(plan_id: uuid.UUID, folder: Path) -> dict[int, Any]:
    """Every current patch's pixels as a classification would read them."""
    folder.mkdir()
    query = select(ReceivedPatch).where(
        ReceivedPatch.plan_id == plan_id, ReceivedPatch.superseded_in.is_(None)
    )
    with session_scope() as session:
        patches = session.scalars(query).all()
    read = ReceivedPixels(folder, 32)
    return {patch.patch: np.array(read.of(patch)) for patch in patches}


def test_a_plan_whose_commit_went_unanswered_keeps_its_raster(
    client: TestClient, tiny_releases: None
) -> None:
    with lost_at_commit("plans", written=True):
        answer = post_plan(client, lr_geotiff(), headers=KEY)
    assert answer.status_code == 503
    assert "nothing was changed" not in answer.json()["detail"]
    (plan,) = ids(Plan)
    assert get_store().keys() == [f"plans/{plan}/lr.tif"]
    again = post_plan(client, lr_geotiff(), headers=KEY)
    assert (again.json()["id"], again.headers["Idempotency-Replayed"]) == (str(plan), "true")


def test_a_dataset_whose_commit_went_unanswered_keeps_its_archive(client: TestClient) -> None:
    content = archive()
    with lost_at_commit("datasets", written=True):
        assert post_archive(client, content).status_code == 503
    (dataset,) = ids(Dataset)
    assert get_store().keys() == [f"datasets/{dataset}/upload"]
    assert post_archive(client, content).json()["id"] == str(dataset)


def test_patches_whose_commit_went_unanswered_keep_their_pixels(client: TestClient, tmp_path: Path) -> None:
    plan = ready_plan()
    with lost_at_commit("received_patches", written=True):
        assert post_hr(client, str(plan), hr_geotiff()).status_code == 503
    assert len(pixels_of(plan, tmp_path / "read")) == 16
    assert post_hr(client, str(plan), hr_geotiff()).status_code == 201
    assert len(ids(Acquisition)) == 1


def test_what_a_lost_commit_did_not_write_is_swept(client: TestClient, tiny_releases: None) -> None:
    kept = ready_plan()
    assert post_hr(client, str(kept), patch_geotiff(1)).status_code == 201
    assert post_archive(client, archive()).status_code == 202
    before = get_store().keys()
    with lost_at_commit("plans", written=False):
        assert post_plan(client, lr_geotiff(), headers=KEY).status_code == 503
    with lost_at_commit("received_patches", written=False):
        assert post_hr(client, str(kept), patch_geotiff(2)).status_code == 503
    with lost_at_commit("datasets", written=False):
        assert post_archive(client, archive() + bytes(512)).status_code == 503
    assert len(get_store().keys()) == len(before) + 3
    assert (len(ids(Plan)), len(ids(Acquisition)), len(ids(Dataset))) == (1, 1, 1)
    assert sweep_store(get_store(), NOW).removed
    clear_orphans(NOW)
    assert get_store().keys() == before


def test_what_fails_before_its_commit_leaves_no_object(client: TestClient) -> None:
    plan = ready_plan()
    assert post_hr(client, str(plan), patch_geotiff(1)).status_code == 201
    before = get_store().keys()
    assert post_hr(client, str(plan), patch_geotiff(2), patch_geotiff(1, seed=2)).status_code == 409
    assert get_store().keys() == before


@pytest.mark.parametrize("fields", [{}, {"replace": "true"}])
def test_pixels_the_store_has_lost_are_put_back_by_the_same_file(
    client: TestClient, tmp_path: Path, fields: dict[str, str]
) -> None:
    plan = ready_plan()
    # the second file brings what the first has not, so that its slots are not its patches' numbers
    contents = [patch_geotiff(2), hr_geotiff()]
    first = post_hr(client, str(plan), *contents)
    assert first.status_code == 201
    before, keys = pixels_of(plan, tmp_path / "before"), get_store().keys()
    assert len(before) == 16
    for key in keys:
        get_store().delete(key)
    again = post_hr(client, str(plan), *contents, **fields)
    assert (again.status_code, again.json()) == (201, first.json())
    assert get_store().keys() == keys
    after = pixels_of(plan, tmp_path / "after")
    assert all(np.array_equal(before[patch], after[patch]) for patch in before)


def pair_geotiff(patch: int, seed: int) -> bytes:
    """HR of a patch and its neighbour to the east, in one file."""
    row, col = divmod(patch, 4)
    return geotiff(scene(8, 16, seed=seed), 2.5, west=WEST + col * 20, north=NORTH - row * 20)


def lose(acquisition: Any) -> None:
    [key] = [key for key in get_store().keys("plans") if acquisition["id"] in key]
    get_store().delete(key)


def written() -> tuple[int, int, int]:
    """How many acquisitions, received patches and entries of the ledger there are."""
    counted = [select(func.count()).select_from(each) for each in (Acquisition, ReceivedPatch, LedgerEntry)]
    with session_scope() as session:
        acquisitions, patches, entries = (session.scalars(each).one() for each in counted)
    return acquisitions, patches, entries


def sent(client: TestClient, plan: uuid.UUID, *contents: bytes, **fields: str) -> list[Any]:
    answer = post_hr(client, str(plan), *contents, **fields)
    assert answer.status_code == 201, answer.text
    found: list[Any] = answer.json()["acquisitions"]
    return found


@pytest.mark.parametrize("fields", [{}, {"replace": "true"}])
def test_what_was_replaced_since_stays_so_when_lost_pixels_are_put_back(
    client: TestClient, tmp_path: Path, fields: dict[str, str]
) -> None:
    plan = ready_plan(price="1000", currency="EUR")
    pair = pair_geotiff(0, seed=1)
    [first] = sent(client, plan, pair)
    sent(client, plan, patch_geotiff(0, seed=2), replace="true")
    before, rows, keys = pixels_of(plan, tmp_path / "before"), written(), get_store().keys()
    lose(first)
    assert sent(client, plan, pair, **fields) == [first]
    after = pixels_of(plan, tmp_path / "after")
    assert (sorted(after), written(), get_store().keys()) == ([0, 1], rows, keys)
    assert all(np.array_equal(before[patch], after[patch]) for patch in before)
    # nothing is missing any more: these are other bytes again
    assert post_hr(client, str(plan), pair).status_code == 409
    sent(client, plan, pair, replace="true")
    assert not np.array_equal(pixels_of(plan, tmp_path / "replaced")[0], before[0])


def test_lost_pixels_are_put_back_beside_a_new_file_that_is_entered_once(
    client: TestClient, tmp_path: Path
) -> None:
    plan = ready_plan(price="1000", currency="EUR")
    pair = pair_geotiff(0, seed=1)
    [first] = sent(client, plan, pair)
    sent(client, plan, patch_geotiff(0, seed=2), replace="true")
    acquisitions, patches, entries = written()
    lose(first)
    assert sent(client, plan, pair, patch_geotiff(5))[0] == first
    assert written() == (acquisitions + 1, patches + 1, entries + 1)
    assert sorted(pixels_of(plan, tmp_path / "after")) == [0, 1, 5]


def test_a_file_that_left_a_patch_to_another_is_put_back_when_it_comes_alone(
    client: TestClient, tmp_path: Path
) -> None:
    plan = ready_plan()
    one, pair = patch_geotiff(6, seed=1), pair_geotiff(6, seed=2)
    second = sent(client, plan, one, pair)[1]
    assert [entry["reason"] for entry in second["refused"]] == ["already_in_this_request"]
    before, rows = pixels_of(plan, tmp_path / "before"), written()
    lose(second)
    assert sent(client, plan, pair) == [second]
    after = pixels_of(plan, tmp_path / "after")
    assert (sorted(after), written()) == ([6, 7], rows)
    assert all(np.array_equal(before[patch], after[patch]) for patch in before)


def test_pixels_that_only_an_earlier_revision_has_are_put_back_too(
    client: TestClient, tmp_path: Path
) -> None:
    plan = ready_plan()
    old, new = patch_geotiff(0, seed=1), patch_geotiff(0, seed=2)
    [first] = sent(client, plan, old)
    was = pixels_of(plan, tmp_path / "was")
    sent(client, plan, new, replace="true")
    keys, rows, now = get_store().keys(), written(), pixels_of(plan, tmp_path / "now")
    lose(first)
    assert sent(client, plan, old) == [first]
    assert (get_store().keys(), written()) == (keys, rows)
    assert np.array_equal(pixels_of(plan, tmp_path / "then")[0], now[0])
    # of the first nothing stands: to replace is what replace means
    lose(first)
    [third] = sent(client, plan, old, replace="true")
    assert third["id"] != first["id"]
    assert set(keys) < set(get_store().keys())
    assert np.array_equal(pixels_of(plan, tmp_path / "replaced")[0], was[0])
