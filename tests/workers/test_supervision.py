"""What a supervisor hears from its trainer, and what of it the database takes."""

import json
import sys
import threading
import uuid
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from obstore.exceptions import GenericError
from sqlalchemy import select
from sqlalchemy.exc import DataError

from app.core.auth import Organisation
from app.core.db import session_scope
from app.core.store import get_store
from app.training.tables import TrainingRun
from tests.training import kept_dataset, post_run
from workers import trainer
from workers.leases import Leases
from workers.supervision import Supervision
from workers.trackers import Tracker

METRIC = {"kind": "metric", "stage": "hr", "member": 0, "epoch": 0, "step": 5}
NAN = float("nan")


@pytest.fixture
def supervision(client: TestClient, leases: Leases, tmp_path: Path) -> Supervision:
    """A supervisor that holds its run and whose trainer was not started."""
    with session_scope() as session:
        org_id = session.scalars(select(Organisation.id)).one()
    post_run(client, kept_dataset(org_id))
    (row,) = leases.take(TrainingRun, 1)
    found = Supervision(row, leases, tmp_path, threading.Event())
    found._tracker = Tracker({})
    found._folder.mkdir()
    return found


def say(supervision: Supervision, *events: dict[str, Any]) -> None:
    """What a trainer would have written, heard by its supervisor."""
    with supervision._spec.events.open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)
    for event in supervision._trainer.said():
        supervision._hear(event)


def metrics(client: TestClient, run_id: uuid.UUID) -> list[dict[str, Any]]:
    answer = client.get(f"/v1/training-runs/{run_id}/metrics")
    assert answer.status_code == 200, answer.text
    return [metric["values"] for metric in answer.json()["metrics"]]


def test_values_that_are_not_finite_are_told_as_null(client: TestClient, supervision: Supervision) -> None:
    say(
        supervision,
        {**METRIC, "values": {"loss": NAN, "reward": float("-inf"), "seconds": 1.0}},
        {"kind": "progress", "doing": "training", "share": 0.5, "eta_s": float("inf")},
    )
    supervision._write()
    run = supervision._row
    assert metrics(client, run.id) == [{"loss": None, "reward": None, "seconds": 1.0}]
    assert client.get(f"/v1/training-runs/{run.id}").json()["progress"]["eta_s"] is None
    say(supervision, {**METRIC, "epoch": 1, "values": {"loss": 2.0}})
    supervision._write()
    assert metrics(client, run.id)[1] == {"loss": 2.0}


def test_what_the_database_will_never_take_is_not_waited_for(supervision: Supervision) -> None:
    supervision._hear({**METRIC, "values": {"loss": NAN}})
    with pytest.raises(DataError):
        supervision._write()


def test_a_store_that_is_away_costs_a_run_no_attempt(
    supervision: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(prefix: str) -> list[str]:
        raise GenericError("the store does not answer")

    monkeypatch.setattr(get_store(), "keys", away)
    assert supervision.run() == "away"
    with session_scope() as session:
        row = session.get_one(TrainingRun, supervision._row.id)
    assert (row.status, row.attempts) == ("running", 0)
    assert row.lease_owner is not None
    # what it has learned may lie nowhere else
    assert supervision._folder.exists()


def test_a_trainer_that_cannot_fetch_its_data_says_that_it_may_pass(
    supervision: Supervision, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> list[str]:
        raise GenericError("the store does not answer")

    spec = supervision._folder / "spec.json"
    spec.write_text(json.dumps(asdict(supervision._spec)))
    monkeypatch.setattr(trainer, "die_with_parent", lambda *_: None)
    monkeypatch.setattr(trainer, "sys", SimpleNamespace(stdin=sys.__stdin__, stderr=sys.stderr))
    monkeypatch.setattr(trainer, "_prepare", away)
    assert trainer.main([str(spec)]) == trainer.AWAY
    assert supervision._end(trainer.AWAY) == "away"
