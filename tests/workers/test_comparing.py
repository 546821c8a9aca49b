"""Comparisons: both on the same held-out pictures, measured once, and by one worker only."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, text

from app.core.db import session_scope
from app.core.store import get_store
from app.core.work import WorkStatus
from app.releases.tables import Comparison
from models.data.sources import open_source
from tests.app.releases.publishing import CLASSES, kept_dataset, labelled_by, org_id, published, tarred
from workers.comparing import CompareDesk
from workers.leases import Leases
from workers.releases import Releases

NOW = {"Prefer": "wait=0"}
PRICE = {"price_per_km2": "12.50", "currency": "EUR"}


@pytest.fixture
def dataset(client: TestClient, tmp_path: Path) -> uuid.UUID:
    """Pictures that the untrained release with seed 1 is always right about without buying."""
    return kept_dataset(labelled_by(tmp_path, seed=1))


@pytest.fixture
def pair(client: TestClient, tmp_path: Path, dataset: uuid.UUID) -> tuple[str, str]:
    """One that buys all patches, and one that is always right and buys none."""
    first = published(tmp_path, "all", seed=0, threshold=0.0, dataset=dataset)
    second = published(tmp_path, "none", seed=1, threshold=0.99, dataset=dataset)
    return str(first.id), str(second.id)


@pytest.fixture
def desk(leases: Leases, tmp_path: Path) -> CompareDesk:
    return CompareDesk(Releases(), leases, tmp_path)


def asked(client: TestClient, pair: tuple[str, str], **params: str) -> Any:
    return client.post(f"/v1/releases/{pair[0]}/compare/{pair[1]}", params=params, headers=NOW)


def rows() -> list[Comparison]:
    with session_scope() as session:
        return list(session.scalars(select(Comparison).order_by(Comparison.created_at)))


def test_both_on_the_same_pictures_with_what_a_tile_costs(
    client: TestClient, pair: tuple[str, str], desk: CompareDesk, dataset: uuid.UUID
) -> None:
    answer = asked(client, pair)
    assert (answer.status_code, answer.json()["status"], answer.json()["by_ds"]) == (202, "queued", None)
    desk.work()
    found = client.get(answer.headers["Location"], params=PRICE | {"dataset": str(dataset)}).json()
    assert found["status"] == "ready", found["error"]
    assert found["held_out"] == {"n": 90, "how": "the published split: test held out"}
    nobody_knows = {"release": "unknown", "other": "unknown", "release_images": 0, "other_images": 0}
    assert found["seen"] == nobody_knows
    measured = found["by_ds"]["4"]
    assert measured["other"]["accuracy"]["value"] == 1.0
    assert (measured["release"]["s_mean"]["value"], measured["other"]["s_mean"]["value"]) == (16.0, 0.0)
    assert measured["share"]["value"] == 1.0
    assert measured["accuracy"]["only_release"] == 0
    wrong = measured["accuracy"]["only_other"]
    assert measured["release"]["accuracy"]["value"] == pytest.approx(1 - wrong / 90, abs=1e-4)
    assert Decimal(measured["release"]["cost_per_tile"]) == Decimal("0.0064") * Decimal("12.5")
    assert Decimal(measured["other"]["cost_per_tile"]) == 0
    assert sum(one["n"] for one in measured["per_class"]) == 90
    assert {one["class"] for one in measured["per_class"]} <= set(CLASSES)
    assert found["verdict"] == {"level": 0.05, "less_accurate": [4], "more_expensive": [4]}


def test_the_gate_says_what_the_champion_has_learned_from(
    client: TestClient, desk: CompareDesk, tmp_path: Path
) -> None:
    """It decides all the same: a champion that knows the images is the harder one to beat."""
    files = labelled_by(tmp_path, seed=1)
    dataset = kept_dataset(files)
    (tmp_path / "drawn.tar").write_bytes(tarred(files))
    story = {"data_sha256": open_source(tmp_path / "drawn.tar").digest(), "seed": 0, "held_out": "one split"}
    champion = published(
        tmp_path, "champion", seed=1, threshold=0.99, dataset=dataset, training=story | {"held_out": "folds"}
    )
    candidate = published(tmp_path, "candidate", seed=0, threshold=0.0, dataset=dataset, training=story)
    assert client.put("/v1/aliases/champion", json={"release": str(champion.id)}).status_code == 201
    asked(client, (str(candidate.id), str(champion.id)))
    desk.work()
    refused = client.put("/v1/aliases/champion", json={"release": str(candidate.id)})
    assert refused.status_code == 409
    found = refused.json()
    assert found["gate"]["seen"] == {
        "release": "no", "other": "yes", "release_images": 0, "other_images": 90,
    }  # fmt: skip
    assert found["gate"]["held_out"]["n"] == 90
    assert found["detail"].endswith("The champion learned from 90 of these 90 images.")


def test_the_same_question_is_answered_once(
    client: TestClient, pair: tuple[str, str], desk: CompareDesk, tmp_path: Path
) -> None:
    first = asked(client, pair).json()["id"]
    assert asked(client, pair).json()["id"] == first
    desk.work()
    again = asked(client, pair)
    assert (again.status_code, again.json()["id"], again.json()["status"]) == (201, first, "ready")
    assert len(rows()) == 1
    assert list(tmp_path.glob("compare-*")) == []
    evaluations = get_store().keys(f"evaluations/{org_id()}")
    back = asked(client, (pair[1], pair[0])).json()["id"]
    assert back != first
    desk.work()
    # the other way round nothing was measured again
    assert get_store().keys(f"evaluations/{org_id()}") == evaluations
    results = {str(row.id): row.result for row in rows()}
    there, here = results[first], results[back]
    assert there is not None
    assert here is not None
    for figure in ("accuracy", "share"):
        assert there["by_ds"]["4"][figure]["value"] == -here["by_ds"]["4"][figure]["value"]


def test_answers_that_the_store_has_damaged_are_asked_for_again(
    client: TestClient, pair: tuple[str, str], desk: CompareDesk
) -> None:
    first = asked(client, pair)
    desk.work()
    by_ds = client.get(first.headers["Location"]).json()["by_ds"]
    kept = get_store().keys("evaluations")
    whole = [get_store().get(key) for key in kept]
    get_store().put(kept[0], b"")
    # the middle of the second is turned over, its list of files stays good
    cut = len(whole[1]) // 3
    get_store().put(kept[1], whole[1][:cut] + bytes(64) + whole[1][cut + 64 :])
    with session_scope() as session:
        session.execute(text("DELETE FROM comparisons"))
    again = asked(client, pair)
    desk.work()
    found = client.get(again.headers["Location"]).json()
    assert (found["status"], found["by_ds"]) == ("ready", by_ds), found["error"]


def test_what_cannot_be_compared_is_said_at_once(
    client: TestClient, pair: tuple[str, str], dataset: uuid.UUID
) -> None:
    assert asked(client, (pair[0], pair[0])).status_code == 422
    assert asked(client, (pair[0], str(uuid.uuid4()))).status_code == 404
    assert asked(client, pair, dataset=str(uuid.uuid4())).status_code == 404
    assert asked(client, pair, price_per_km2="12.50").status_code == 422
    assert asked(client, pair, price_per_km2="-1", currency="EUR").status_code == 422
    assert asked(client, ("tiny", "tiny-hr")).json()["type"] == "/problems/nothing-held-out"
    assert client.get(f"/v1/releases/{pair[0]}/compare/{pair[1]}").status_code == 404
    assert rows() == []


def test_installed_releases_are_compared_on_a_data_set_that_is_named(
    client: TestClient, dataset: uuid.UUID, desk: CompareDesk
) -> None:
    answer = asked(client, ("tiny", "tiny-hr"), dataset=str(dataset))
    desk.work()
    found = client.get(answer.headers["Location"]).json()
    assert found["status"] == "ready", found["error"]
    assert found["release"] == {"id": "tiny", "name": "tiny", "version": "0"}


def test_a_comparison_that_failed_is_tried_again(
    client: TestClient, pair: tuple[str, str], desk: CompareDesk, dataset: uuid.UUID
) -> None:
    keys = [key for key in get_store().keys("datasets") if str(dataset) in key]
    content = get_store().get(keys[0])
    get_store().delete(keys[0])
    answer = asked(client, pair)
    desk.work()
    failed = client.get(answer.headers["Location"]).json()
    assert (failed["status"], failed["error"]["type"]) == ("failed", "/problems/dataset-lost")
    assert failed["error"]["dataset_id"] == str(dataset)
    get_store().put(keys[0], content)
    again = asked(client, pair)
    assert again.json()["id"] != failed["id"]
    desk.work()
    assert client.get(again.headers["Location"]).json()["status"] == "ready"


def test_a_worker_told_to_stop_hands_the_comparison_back(
    client: TestClient, pair: tuple[str, str], desk: CompareDesk, leases: Leases, tmp_path: Path
) -> None:
    asked(client, pair)
    steps = 0

    def stop_at_the_second() -> bool:
        nonlocal steps
        steps += 1
        return steps > 2

    desk._stopping.is_set = stop_at_the_second  # type: ignore[method-assign]
    desk.work()
    row = rows()[0]
    assert (row.status, row.attempts) == (WorkStatus.QUEUED, 0)
    CompareDesk(Releases(), leases, tmp_path).work()
    assert rows()[0].status == WorkStatus.READY


def test_a_worker_thought_dead_writes_nothing(
    client: TestClient, pair: tuple[str, str], desk: CompareDesk, leases: Leases, tmp_path: Path
) -> None:
    asked(client, pair)
    write = desk._write

    def overtaken(job: Any) -> None:
        with session_scope() as session:
            session.execute(text("UPDATE comparisons SET lease_expires_at = now() - interval '1 s'"))
        CompareDesk(Releases(), Leases(), tmp_path).work()
        job._result = {"late": True}
        write(job)

    desk._write = overtaken  # type: ignore[method-assign]
    desk.work()
    row = rows()[0]
    assert (row.status, row.fence) == (WorkStatus.READY, 2)
    assert row.result is not None
    assert "late" not in row.result


def test_a_dataset_deleted_while_its_comparison_is_waited_for(client: TestClient, tmp_path: Path) -> None:
    first, second = (str(published(tmp_path, seed=seed).id) for seed in (0, 1))
    dataset = kept_dataset(labelled_by(tmp_path / "pictures", seed=1))
    path = f"/v1/releases/{first}/compare/{second}?dataset={dataset}"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.post, path, headers={"Prefer": "wait=2"})
        until = time.monotonic() + 2
        while not rows() and time.monotonic() < until:
            time.sleep(0.02)
        assert client.delete(f"/v1/datasets/{dataset}").status_code == 204
        assert waiting.result().status_code == 404


def test_a_dataset_that_is_being_deleted_is_not_there(
    client: TestClient, pair: tuple[str, str], tmp_path: Path
) -> None:
    dataset = kept_dataset(labelled_by(tmp_path / "pictures", seed=2))
    with ThreadPoolExecutor(1) as pool, session_scope() as session:
        session.execute(text("DELETE FROM datasets WHERE id = :id"), {"id": dataset})
        waiting = pool.submit(asked, client, pair, dataset=str(dataset))
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.5)
        session.commit()
        assert waiting.result().status_code == 404
