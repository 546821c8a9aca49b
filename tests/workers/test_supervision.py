"""What a supervisor hears from its trainer, and what of it the database takes."""

import json
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.exc import DataError

from app.core.auth import Organisation
from app.core.db import session_scope
from app.training.tables import TrainingRun
from tests.training import kept_dataset, post_run
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
