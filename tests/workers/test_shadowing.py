"""A shadow sees live plans after they were answered, in idle time, and never shows in an answer."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.core.db import session_scope
from app.core.work import WorkStatus
from app.plans.tables import TileRow
from app.releases.finding import Found
from app.releases.tables import ShadowPlan
from models.card import load_card
from tests.app.releases.publishing import published, tiny_folder
from tests.client import post_hr
from tests.conftest import KeyMaker
from tests.imagery import hr_geotiff, lr_geotiff
from tests.workers.conftest import queue_plan
from workers.desk import Desk
from workers.leases import Leases
from workers.releases import Releases
from workers.shadow_classes import ShadowClassifyDesk
from workers.shadowing import ShadowDesk

NOW = {"Prefer": "wait=0"}
PRICED = {"price_per_km2": "12.50", "currency": "EUR"}


@pytest.fixture
def desk(leases: Leases, tmp_path: Path) -> ShadowDesk:
    return ShadowDesk(Releases(), leases, tmp_path)


def stand(client: TestClient, alias: str, release: Any) -> None:
    answer = client.put(f"/v1/aliases/{alias}", json={"release": str(release)}, headers=NOW)
    assert answer.status_code in (200, 201), answer.text


def rows() -> list[ShadowPlan]:
    with session_scope() as session:
        return list(session.scalars(select(ShadowPlan)))


def chosen(plan_id: str) -> Iterator[list[bool]]:
    with session_scope() as session:
        query = select(TileRow).where(TileRow.plan_id == uuid.UUID(plan_id)).order_by(TileRow.tile)
        for row in session.scalars(query):
            yield row.chosen


def test_the_difference_is_that_of_two_plans(
    client: TestClient, plan_desk: Desk, desk: ShadowDesk, tmp_path: Path
) -> None:
    shadow = published(tmp_path, seed=3, threshold=0.45)
    image = lr_geotiff(4, 4)
    early = queue_plan(client, image, tile_size_m="80.1")
    plan_desk.work()
    stand(client, "shadow", shadow.id)
    live = queue_plan(client, image, tile_size_m="80.1", **PRICED)
    plan_desk.work()
    answer = client.get(f"/v1/plans/{live}").text
    desk.work()
    assert client.get(f"/v1/plans/{live}").text == answer
    assert "shadow" not in answer
    assert str(shadow.id) not in answer
    assert [(str(row.plan_id), row.status) for row in rows()] == [(live, WorkStatus.READY)]
    # plans from before, and those that were asked of another release, are none of its business
    assert early != live
    by_hand = queue_plan(client, image, tile_size_m="80.1", release=str(shadow.id), **PRICED)
    plan_desk.work()
    desk.work()
    assert len(rows()) == 1

    report = client.get(f"/v1/releases/{shadow.id}/shadow").json()
    ours, theirs = list(chosen(live)), list(chosen(by_hand))
    pairs = [pair for tile in zip(ours, theirs, strict=True) for pair in zip(*tile, strict=True)]
    assert (report["plans"], report["waiting"], report["failed"], report["tiles"]) == (1, 0, 0, len(ours))
    assert report["patches"] == len(pairs)
    assert report["both"] == sum(a and b for a, b in pairs)
    assert report["champion_only"] == sum(a and not b for a, b in pairs)
    assert report["shadow_only"] == sum(b and not a for a, b in pairs)
    assert report["same_decision"] == pytest.approx(sum(a == b for a, b in pairs) / len(pairs), abs=1e-6)
    mean = report["shadow_s"] - report["champion_s"]
    assert report["difference"]["value"] == pytest.approx(mean, abs=1e-5)
    low, high = report["difference"]["ci95"]
    assert low <= mean <= high
    costs = {
        plan: client.get(f"/v1/plans/{plan}").json()["totals"]["chosen_cost"] for plan in (live, by_hand)
    }
    assert report["costs"] == [
        {
            "currency": "EUR",
            "champion": costs[live],
            "shadow": costs[by_hand],
            "difference": str(Decimal(costs[by_hand]) - Decimal(costs[live])),
        }
    ]


def test_it_waits_while_a_client_waits(
    client: TestClient, plan_desk: Desk, desk: ShadowDesk, tmp_path: Path
) -> None:
    stand(client, "shadow", published(tmp_path, seed=3).id)
    queue_plan(client)
    plan_desk.work()
    waiting = queue_plan(client, lr_geotiff(seed=1))
    desk.work()
    assert [row.status for row in rows()] == [WorkStatus.QUEUED]
    plan_desk.work()
    desk.work()
    assert client.get(f"/v1/plans/{waiting}").json()["status"] == "ready"
    assert [row.status for row in rows()] == [WorkStatus.READY] * 2


def test_without_the_alias_nothing_runs_beside(
    client: TestClient, plan_desk: Desk, desk: ShadowDesk, tmp_path: Path
) -> None:
    shadow = published(tmp_path, seed=3)
    stand(client, "shadow", shadow.id)
    assert client.delete("/v1/aliases/shadow").status_code == 204
    queue_plan(client)
    plan_desk.work()
    desk.work()
    assert rows() == []
    report = client.get(f"/v1/releases/{shadow.id}/shadow").json()
    assert (report["plans"], report["difference"], report["costs"]) == (0, None, [])


def test_one_organisations_shadow_never_sees_anothers_plans(
    client: TestClient, api_key: KeyMaker, plan_desk: Desk, desk: ShadowDesk, tmp_path: Path
) -> None:
    stand(client, "shadow", published(tmp_path, seed=3).id)
    others = {"Authorization": f"Bearer {api_key(org='other')}"} | NOW
    assert client.post("/v1/plans", files={"lr": ("x.tif", lr_geotiff())}, headers=others).status_code == 202
    plan_desk.work()
    desk.work()
    assert rows() == []


def test_many_workers_shadow_a_plan_once(
    client: TestClient, plan_desk: Desk, desk: ShadowDesk, leases: Leases, tmp_path: Path
) -> None:
    stand(client, "shadow", published(tmp_path, seed=3).id)
    queue_plan(client)
    plan_desk.work()
    for _ in range(2):
        ShadowDesk(Releases(), Leases(), tmp_path).work()
    desk.work()
    assert [(row.status, row.attempts) for row in rows()] == [(WorkStatus.READY, 1)]


def classify(client: TestClient, plan: str, **body: Any) -> str:
    answer = client.post(f"/v1/plans/{plan}/classifications", json=body, headers=NOW)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def said(client: TestClient, plan: str, classification: str) -> list[Any]:
    """Each tile's class by all there is and by LR alone, and whether HR patches were there."""
    answer = client.get(f"/v1/plans/{plan}/classifications/{classification}").json()
    assert answer["status"] == "ready", answer
    return [(t["class"], t["streams"]["lr"]["class"], bool(t["patches_used"])) for t in answer["tiles"]]


def test_classes_differ_as_two_classifications_do(
    client: TestClient, plan_desk: Desk, classify_desk: Desk, desk: ShadowDesk, leases: Leases, tmp_path: Path
) -> None:
    classes = ShadowClassifyDesk(Releases(), leases, tmp_path)
    shadow = published(tmp_path, seed=3)
    plan = queue_plan(client, lr_geotiff(4, 4), tile_size_m="80.1")
    plan_desk.work()
    classify(client, plan)
    classify_desk.work()
    stand(client, "shadow", shadow.id)
    # what was answered before the alias was moved is none of its business, and without HR there is LR
    live = [classify(client, plan)]
    assert post_hr(client, plan, hr_geotiff(2, 4)).status_code == 201
    live.append(classify(client, plan))
    waiting = queue_plan(client)
    classify_desk.work()
    classes.work()
    report = client.get(f"/v1/releases/{shadow.id}/shadow").json()["classes"]
    assert (report["classifications"], report["waiting"], report["same_class"]) == (0, 2, None)

    plan_desk.work()
    assert client.get(f"/v1/plans/{waiting}").json()["status"] == "ready"
    answers = [client.get(f"/v1/plans/{plan}/classifications/{each}").text for each in live]
    classes.work()
    assert [client.get(f"/v1/plans/{plan}/classifications/{each}").text for each in live] == answers
    by_hand = classify(client, plan, release=str(shadow.id))
    classify_desk.work()
    classes.work()
    report = client.get(f"/v1/releases/{shadow.id}/shadow").json()["classes"]
    assert (report["classifications"], report["waiting"], report["failed"]) == (2, 0, 0)
    lr_only, ours = (said(client, plan, each) for each in live)
    theirs = said(client, plan, by_hand)
    assert {with_hr for *_, with_hr in lr_only} == {False}
    with_hr = [(a[0], b[0]) for a, b in zip(ours, theirs, strict=True) if a[2]]
    assert len(with_hr) == 8
    assert report["with_hr"] == {"tiles": 8, "same_class": sum(a == b for a, b in with_hr) / 8}
    lr = [(a[1], b[1]) for a, b in zip(ours, theirs, strict=True)]
    assert report["lr"]["tiles"] == 32
    assert report["lr"]["same_class"] == pytest.approx(sum(a == b for a, b in lr) / 16, abs=1e-6)
    assert report["tiles"] == 32
    apart = sum(each["tiles"] for each in report["differences"])
    assert report["same_class"] == pytest.approx(1 - apart / 32, abs=1e-6)
    assert apart > 0
    assert all(each["champion"] != each["shadow"] for each in report["differences"])
    assert list(tmp_path.glob("shadow_classifications-*")) == []


def test_a_shadow_that_reads_other_patches_is_not_asked_for_classes(tmp_path: Path, leases: Leases) -> None:
    desk = ShadowClassifyDesk(Releases(), leases, tmp_path)
    champion = Found.of_card(load_card(tiny_folder(tmp_path / "one")))
    assert desk.can_stand_in(champion, champion)
    assert not desk.can_stand_in(replace(champion, card=replace(champion.card, hr_px=64)), champion)
