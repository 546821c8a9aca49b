"""The main job as a client does it, through real API and worker processes."""

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.conftest import Live
from tests.imagery import lr_geotiff, patch_geotiff

WAIT = {"Prefer": "wait=30"}


def post_plan(
    client: httpx.Client, content: bytes, headers: dict[str, str] | None = None, **fields: str
) -> Any:
    return client.post(
        "/v1/plans", files={"lr": ("x.tif", content)}, data=fields, headers={**WAIT, **(headers or {})}
    )


def post_hr(client: httpx.Client, plan_id: str, *contents: bytes, **fields: str) -> httpx.Response:
    files = [("files", (f"{number}.tif", content)) for number, content in enumerate(contents)]
    return client.post(f"/v1/plans/{plan_id}/acquisitions", files=files, data=fields)


def test_lr_to_plan_to_patches_to_class_to_saving(live: Live) -> None:
    answer = post_plan(
        live.client,
        lr_geotiff(),
        threshold="0",
        max_patches="3",
        price_per_km2="12.50",
        currency="EUR",
        tags=json.dumps({"team": "forest"}),
    )
    assert answer.status_code == 201, answer.text
    assert answer.headers["Preference-Applied"] == "wait=30"
    plan = answer.json()
    assert plan["status"] == "ready"
    [tile] = plan["tiles"]
    assert len(tile["chosen"]) == 3
    assert [patch["patch"] for patch in tile["patches"] if patch["selected"]] == tile["chosen"]

    received = post_hr(live.client, plan["id"], *[patch_geotiff(patch) for patch in tile["chosen"]])
    assert received.status_code == 201, received.text
    taken = [patch for file in received.json()["acquisitions"] for patch in file["patches"]]
    assert [patch["patch"] for patch in taken] == tile["chosen"]
    assert all(patch["chosen"] for patch in taken)

    classified = live.client.post(f"/v1/plans/{plan['id']}/classifications", headers=WAIT, json={"top_k": 2})
    assert classified.status_code == 201, classified.text
    [answered] = classified.json()["tiles"]
    assert answered["patches_used"] == tile["chosen"]
    assert answered["chosen_missing"] == []
    assert answered["weights"] == pytest.approx({"hr": 3 / 16, "lr": 13 / 16})
    assert len(answered["top"]) == 2
    assert sum(answered["probabilities"].values()) == pytest.approx(1, abs=1e-5)

    report = live.client.get("/v1/reports/savings", params={"group_by": "tag:team,month"})
    assert report.status_code == 200, report.text
    [group] = report.json()["groups"]
    assert group["group"]["tag:team"] == "forest"
    assert group["bought"]["patches"] == group["bought"]["chosen"] == 3
    assert Decimal(group["saving"]["cost"]) == Decimal(plan["totals"]["nominal_saving"])
