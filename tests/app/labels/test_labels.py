"""Labels of tiles, and the loop closed: a dataset made of what was planned, bought and labelled."""

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from app.core.db import session_scope
from app.core.paging import token_of_number
from app.core.store import get_store
from app.datasets.tables import Dataset
from app.labels.reading import labels_of_plan, newest_labels
from models.data.sources import open_source
from tests.app.core.test_problems import check_problem
from tests.client import made_plan, post_hr
from tests.conftest import Live
from tests.imagery import hr_geotiff, lr_geotiff, patch_geotiff, scene
from workers.snapshots import fetch

WAIT = {"Prefer": "wait=60"}


@pytest.fixture
def plan(live: Live) -> Any:
    """A plan of two tiles."""
    return made_plan(live.client, lr_geotiff(tiles_x=2), tile_size_m="80.1")


def label(live: Live, plan: Any, *labels: tuple[int, str | None], **more: Any) -> Any:
    body = {"labels": [{"tile": tile, "class": name} for tile, name in labels], **more}
    return live.client.post(f"{plan['links']['self']}/labels", json=body)


def listed(live: Live, plan: Any, **params: Any) -> list[tuple[int, str | None]]:
    page = live.client.get(f"{plan['links']['self']}/labels", params=params).json()
    return [(one["tile"], one["class"]) for one in page["labels"]]


def test_the_newest_label_counts_and_none_is_lost(live: Live, plan: Any) -> None:
    answer = label(live, plan, (1, "forest"), (0, "field"), by="R. Okafor")
    assert answer.status_code == 201, answer.text
    first = answer.json()["labels"]
    assert [(one["tile"], one["class"], one["by"], one["key"]) for one in first] == [
        (0, "field", "R. Okafor", "test"),
        (1, "forest", "R. Okafor", "test"),
    ]
    assert label(live, plan, (1, "harbor")).status_code == 201
    assert listed(live, plan) == [(0, "field"), (1, "harbor")]
    assert label(live, plan, (0, None)).status_code == 201
    assert listed(live, plan) == [(1, "harbor")]
    assert listed(live, plan, history=True) == [(0, None), (1, "harbor"), (0, "field"), (1, "forest")]
    with session_scope() as session:
        assert labels_of_plan(session, uuid.UUID(plan["id"])) == {1: "harbor"}
        newest = session.scalars(newest_labels()).all()
    assert [(row.tile, row.class_name, row.key_name) for row in newest] == [
        (0, None, "test"),
        (1, "harbor", "test"),
    ]


def test_labels_come_in_pages(live: Live, plan: Any) -> None:
    label(live, plan, (0, "field"), (1, "forest"))
    for history, wanted in ((False, [0, 1]), (True, [1, 0])):
        path = f"{plan['links']['self']}/labels"
        page = live.client.get(path, params={"limit": 1, "history": history}).json()
        rest = live.client.get(path, params={"limit": 1, "history": history, "token": page["next"]}).json()
        assert [page["labels"][0]["tile"], rest["labels"][0]["tile"]] == wanted
        assert rest["next"] is None
    beyond = live.client.get(path, params={"history": False, "token": token_of_number(2**31)})
    check_problem(beyond, 422, "unprocessable")


def test_unknown_classes_are_refused_unless_they_are_meant(live: Live, plan: Any) -> None:
    answer = label(live, plan, (0, "field"), (1, "forrest"))
    assert answer.json()["type"] == "/problems/unknown-labels"
    assert answer.json()["known"] == ["field", "forest", "harbor"]
    assert listed(live, plan) == []
    assert label(live, plan, (1, "mangrove"), new_classes=True).status_code == 201
    assert label(live, plan, (0, "mangrove")).status_code == 201
    for name in ("a/b", ".hidden", "a\u202eb", " ", "x" * 201):
        assert label(live, plan, (0, name), new_classes=True).status_code == 422


@pytest.mark.parametrize(
    "body",
    [
        {"labels": []},
        {"labels": [{"tile": 2, "class": "field"}]},
        {"labels": [{"tile": -1, "class": "field"}]},
        {"labels": [{"tile": 0, "class": "field"}, {"tile": 0, "class": "forest"}]},
        {"labels": [{"tile": 0}]},
        {"labels": [{"tile": 0, "class": "field"}], "more": 1},
        {"labels": [{"tile": 0, "class": "field"}], "by": "a\0b"},
        {"labels": [{"tile": 0, "class": "\ud800"}]},
    ],
)
def test_labels_that_make_no_sense(live: Live, plan: Any, body: Any) -> None:
    answer = live.client.post(
        f"{plan['links']['self']}/labels",
        content=json.dumps(body),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 422
    assert listed(live, plan, history=True) == []


def test_labels_belong_to_an_organisation_and_need_their_scopes(live: Live, plan: Any) -> None:
    path = f"{plan['links']['self']}/labels"
    body = {"labels": [{"tile": 0, "class": "field"}]}
    with live.as_key(live.new_key(org="other")) as other:
        assert other.get(path).status_code == 404
        assert other.post(path, json=body).status_code == 404
        answer = other.post("/v1/datasets", json={"from": {"plans": [plan["id"]]}})
        assert answer.status_code == 404
    with live.as_key(live.new_key("plan")) as planner:
        assert planner.post(path, json=body).status_code == 403
        assert planner.get(path).status_code == 200


def test_labelled_tiles_with_all_their_hr_become_a_dataset(live: Live, tmp_path: Path) -> None:
    for key in get_store().keys("datasets"):
        get_store().delete(key)
    plans = []
    for seed, name in enumerate(("field", "field", "harbor", "forest")):
        plan = made_plan(live.client, lr_geotiff(seed=seed), tags={"team": "coast"})
        label(live, plan, (0, "forest"))
        assert label(live, plan, (0, name)).status_code == 201
        plans.append(plan)
    asked = {"from": {"tags": {"team": "coast"}}, "name": "coast"}
    nothing = live.client.post("/v1/datasets", json=asked)
    assert nothing.json()["type"] == "/problems/missing-pictures"
    for seed, plan in enumerate(plans[:3]):
        assert post_hr(live.client, plan["id"], hr_geotiff(seed=50 + seed)).status_code == 201
    # of the last only some: it stays out
    assert post_hr(live.client, plans[3]["id"], patch_geotiff(0), patch_geotiff(5)).status_code == 201

    answer = live.client.post("/v1/datasets", json=asked, headers=WAIT)
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert found["status"] == "ready", found["error"]
    assert (found["form"], found["classes"], found["pictures"]) == ("tiles", ["field", "harbor"], 3)
    assert found["source"] == {
        "plans": 3,
        "tiles": 3,
        "labelled_without_hr": 1,
        "tags": {"team": "coast"},
    }
    assert found["inventory"]["gsd_m"]["median"] == pytest.approx(2.5, rel=2e-3)
    with session_scope() as session:
        row = session.scalars(select(Dataset)).one()
    source = open_source(fetch(row, tmp_path))
    by_plan = {name.split("/")[1][:36]: i for i, name in enumerate(source.ids)}
    for seed, plan in enumerate(plans[:3]):
        image = source.read(by_plan[plan["id"]])
        assert np.array_equal(image, scene(32, 32, seed=50 + seed).transpose(1, 2, 0))
        assert source.classes[source.labels[by_plan[plan["id"]]]] == ("field", "field", "harbor")[seed]

    # the same tiles named by their plans are the same dataset; another label makes another
    named = {"from": {"plans": [plan["id"] for plan in plans]}}
    again = live.client.post("/v1/datasets", json=named, headers=WAIT)
    assert (again.status_code, again.json()["id"]) == (200, found["id"])
    label(live, plans[1], (0, "harbor"))
    other = live.client.post("/v1/datasets", json=named, headers=WAIT)
    assert (other.status_code, other.json()["status"]) == (201, "ready")
    assert other.json()["content_sha256"] != found["content_sha256"]
    assert live.client.get(found["links"]["self"]).json() == found


def test_tiles_of_one_class_are_no_dataset(live: Live) -> None:
    plan = made_plan(live.client, lr_geotiff())
    label(live, plan, (0, "field"))
    assert post_hr(live.client, plan["id"], hr_geotiff()).status_code == 201
    answer = live.client.post("/v1/datasets", json={"from": {"plans": [plan["id"]]}})
    assert answer.json()["type"] == "/problems/one-class"
    assert live.client.get("/v1/datasets").json()["datasets"] == []
