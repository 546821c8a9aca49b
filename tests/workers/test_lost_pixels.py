"""Pixels that the store has lost: what needs them says which they are, and how they come back."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core.errors import PixelsLost
from app.core.settings import get_settings
from app.core.store import get_store
from app.core.work import WorkStatus
from tests.app.core.test_problems import check_problem
from tests.client import post_hr, post_plan
from tests.imagery import hr_geotiff, lr_geotiff
from tests.mounts import unmount
from tests.workers.conftest import queue_plan
from tests.workers.test_desk import expire_leases, plan_row
from workers.desk import Desk
from workers.labelled import write_tiles

NOW = {"Prefer": "wait=0"}
HR = hr_geotiff()


@pytest.fixture
def plan(client: TestClient, plan_desk: Desk) -> str:
    """A ready plan whose HR was received and has been lost since."""
    plan = queue_plan(client)
    plan_desk.work()
    lose_hr(client, plan)
    return plan


def lose_hr(client: TestClient, plan: str, **fields: str) -> None:
    assert post_hr(client, plan, HR, **fields).status_code == 201
    [key] = get_store().keys(f"plans/{plan}/acquisitions")
    get_store().delete(key)


def classified(client: TestClient, plan: str, desk: Desk) -> Any:
    path = f"/v1/plans/{plan}/classifications"
    queued = client.post(path, json={}, headers=NOW)
    assert queued.status_code == 202, queued.text
    desk.work()
    return client.get(f"{path}/{queued.json()['id']}").json()


def names_the_file(problem: Any, client: TestClient, plan: str) -> bool:
    [received] = client.get(f"/v1/plans/{plan}/acquisitions").json()["acquisitions"]
    sha256 = hashlib.sha256(HR).hexdigest()
    return (
        (problem["plan_id"], problem["acquisition_id"], problem["file_sha256"])
        == (plan, received["id"], sha256)
        and sha256 in problem["detail"]
        and "Send its file again" in problem["detail"]
    )


def test_a_classification_names_the_file_that_brings_them_back(
    client: TestClient, plan: str, classify_desk: Desk
) -> None:
    failed = classified(client, plan, classify_desk)
    assert failed["status"] == "failed"
    assert failed["error"]["type"] == "/problems/pixels-lost"
    assert names_the_file(failed["error"], client, plan)
    assert post_hr(client, plan, HR).status_code == 201
    [tile] = classified(client, plan, classify_desk)["tiles"]
    assert len(tile["patches_used"]) == 16


def test_so_does_the_preview(client: TestClient, plan: str) -> None:
    answer = client.get(f"/v1/plans/{plan}/preview.png")
    check_problem(answer, 500, "pixels-lost")
    assert names_the_file(answer.json(), client, plan)
    assert post_hr(client, plan, HR).status_code == 201
    assert client.get(f"/v1/plans/{plan}/preview.png").status_code == 200


def test_the_form_fields_that_the_file_was_sent_with_are_named(client: TestClient, plan_desk: Desk) -> None:
    plan = queue_plan(client)
    plan_desk.work()
    lose_hr(client, plan, bands="3, 2,1", scale="0.0039")
    problem = client.get(f"/v1/plans/{plan}/preview.png").json()
    assert names_the_file(problem, client, plan)
    assert "with bands=3,2,1 and scale=0.0039, " in problem["detail"]
    # without them the same bytes are other pixels
    assert post_hr(client, plan, HR).status_code == 409
    assert post_hr(client, plan, HR, **problem["form"]).status_code == 201
    assert client.get(f"/v1/plans/{plan}/preview.png").status_code == 200


def test_so_does_a_dataset_of_labelled_tiles(client: TestClient, plan: str, tmp_path: Path) -> None:
    chosen = {"plans": {plan: {"revision": 1, "tiles": {"0": "field"}}}}
    with pytest.raises(PixelsLost) as lost:
        list(write_tiles(tmp_path / "tiles.tar", chosen, tmp_path))
    assert names_the_file(lost.value.document(), client, plan)


def test_a_classification_without_its_lr_raster_says_to_plan_again(
    client: TestClient, plan: str, classify_desk: Desk
) -> None:
    get_store().delete(f"plans/{plan}/lr.tif")
    failed = classified(client, plan, classify_desk)
    assert failed["error"]["type"] == "/problems/pixels-lost"
    assert failed["error"]["plan_id"] == plan
    assert "acquisition_id" not in failed["error"]
    assert "as a new plan" in failed["error"]["detail"]


def test_a_store_that_is_not_mounted_has_lost_nothing(client: TestClient, plan_desk: Desk) -> None:
    plan = queue_plan(client)
    mount = unmount(get_settings().data_dir / "store")
    try:
        plan_desk.work()
        row = plan_row(plan)
        assert (row.status, row.attempts, row.error) == (WorkStatus.RUNNING, 0, None)
        check_problem(post_plan(client, lr_geotiff(seed=1)), 503, "service-unavailable")
    finally:
        mount()
    expire_leases()
    plan_desk.work()
    assert plan_row(plan).status == WorkStatus.READY
