"""An installed release that another of its name has replaced: no plan is answered by it unawares."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core.errors import ReleaseReplaced
from app.core.settings import get_settings
from app.releases.service import get_card
from models.card import CARD_FILE, Card
from models.release import tiny_release
from tests.app.core.test_problems import check_problem
from tests.workers.conftest import CLASSES, queue_plan
from workers.desk import Desk
from workers.releases import Releases

NOW = {"Prefer": "wait=0"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the release `tiny`, which may be replaced."""
    folder = tmp_path / "replaceable" / "tiny"
    tiny_release(folder, CLASSES)
    monkeypatch.setenv("PATCHPLAN_RELEASES_DIR", str(folder.parent))
    get_settings.cache_clear()
    yield folder
    monkeypatch.undo()
    get_settings.cache_clear()


def replaced(folder: Path) -> Card:
    """Another release of the same name and version, copied with the times of the first one's files."""
    before = folder / CARD_FILE
    stat = before.stat()
    card = tiny_release(folder, CLASSES, seed=7)
    os.utime(before, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return card


def asked(client: TestClient, plan: str, **body: Any) -> Any:
    return client.post(f"/v1/plans/{plan}/classifications", json=body, headers=NOW)


def shown(client: TestClient, queued: Any) -> Any:
    assert queued.status_code == 202, queued.text
    return client.get(queued.json()["links"]["self"]).json()


def test_a_plan_is_not_classified_by_another_release_of_that_name(
    client: TestClient, plan_desk: Desk, classify_desk: Desk, folder: Path
) -> None:
    plan = queue_plan(client)
    plan_desk.work()
    old = client.get(f"/v1/plans/{plan}").json()["release"]
    new = replaced(folder)
    assert (new.version, new.name) == (old["version"], old["name"])
    refused = asked(client, plan)
    check_problem(refused, 409, "release-replaced")
    assert refused.json()["release"] == "tiny"
    # who names it has it
    queued = asked(client, plan, release="tiny")
    classify_desk.work()
    answer = shown(client, queued)
    assert answer["status"] == "ready"
    assert answer["release"]["weights_sha256"] == new.weights_sha256 != old["weights_sha256"]


def test_labels_are_of_the_classes_that_the_name_stands_for(
    client: TestClient, plan_desk: Desk, folder: Path
) -> None:
    plan = queue_plan(client)
    plan_desk.work()
    replaced(folder)
    labels = {"labels": [{"tile": 0, "class": CLASSES[0]}]}
    answer = client.post(f"/v1/plans/{plan}/labels", json=labels)
    assert answer.status_code == 201, answer.text


def test_a_release_that_comes_back_answers_again(
    client: TestClient, plan_desk: Desk, classify_desk: Desk, folder: Path
) -> None:
    plan = queue_plan(client)
    plan_desk.work()
    replaced(folder)
    assert asked(client, plan).status_code == 409
    tiny_release(folder, CLASSES)
    queued = asked(client, plan)
    classify_desk.work()
    assert shown(client, queued)["status"] == "ready"


def test_what_was_queued_before_fails_and_says_so(
    client: TestClient, plan_desk: Desk, classify_desk: Desk, folder: Path
) -> None:
    plan = queue_plan(client)
    plan_desk.work()
    queued = asked(client, plan)
    replaced(folder)
    classify_desk.work()
    answer = shown(client, queued)
    assert answer["status"] == "failed"
    assert answer["error"]["type"] == "/problems/release-replaced"


def test_what_is_in_memory_answers_what_was_asked_of_it(
    client: TestClient, plan_desk: Desk, classify_desk: Desk, folder: Path
) -> None:
    plan = queue_plan(client)
    plan_desk.work()
    asked(client, plan)
    classify_desk.work()
    queued = asked(client, plan)
    replaced(folder)
    classify_desk.work()
    assert shown(client, queued)["status"] == "ready"


def test_a_release_replaced_while_it_is_loaded_is_not_taken_for_the_old_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = get_card("tiny")
    replaced(folder)
    # the card was read just before
    monkeypatch.setattr("workers.releases.get_card", lambda _: old)
    with pytest.raises(ReleaseReplaced):
        Releases().get("tiny", old.weights_sha256)
