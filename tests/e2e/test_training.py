"""Training runs through a real API with real workers: followed, killed, cancelled, gone on with.

Whatever happens to a run, it ends as one release, bit by bit that of the run nobody disturbed.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from sqlalchemy import select

from app.core.db import session_scope
from app.core.store import get_store
from app.releases.tables import ReleaseRow
from app.training.tables import TrainingRun
from patchplan.child import Child
from patchplan.embedded import Services
from patchplan.supervise import Service, environment, serving, wait_until_ready
from tests.conftest import make_key
from tests.training import follow, parse_events, post_run, quick, scalars, scenes_tar

# ten processes may share two cores with others
pytestmark = pytest.mark.timeout(900)

# long enough to be hit in the middle, on a fast machine too
RUN = {"overrides": quick(hr=60, lr=10, pt=10, ft2=10)}


@dataclass
class Party:
    """A service with a broker of its own, which may be killed too."""

    service: Service
    client: httpx.Client

    def child(self, name: str) -> Child:
        return self.service.children[name]

    def kill(self, name: str) -> None:
        """``kill -9`` a part of the service and start it again."""
        child = self.child(name)
        assert child.process is not None
        child.process.kill()
        child.process.wait(10)
        child.start()

    def trainers(self) -> list[psutil.Process]:
        """The trainer's processes: those of any worker, dead or alive."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                mine = str(self.scratch) in " ".join(words)
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    @property
    def scratch(self) -> Path:
        return Path(os.environ["PATCHPLAN_DATA_DIR"]).absolute() / "scratch"


@pytest.fixture(scope="module")
def party(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Party]:
    """API, worker, trainer and broker over a database of their own; leases are short."""
    folder = tmp_path_factory.mktemp("party")
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE training")
    given = {
        "PATCHPLAN_DATABASE_URL": services.database_url.replace("/patchplan?", "/training?"),
        "PATCHPLAN_BROKER_URL": "",
        "PATCHPLAN_DATA_DIR": str(folder / "data"),
        "PATCHPLAN_RELEASES_DIR": str(folder),
        "PATCHPLAN_LEASE_S": "3",
        "PATCHPLAN_HEARTBEAT_S": "0.5",
        "PATCHPLAN_SWEEP_S": "0.5",
        "PATCHPLAN_TENSORBOARD_DIR": str(folder / "tensorboard"),
        "OMP_NUM_THREADS": "1",
    }
    with environment(given), serving(say=lambda _line: None, port=0) as service:
        headers = {"Authorization": f"Bearer {make_key()}"}
        with httpx.Client(base_url=service.url, headers=headers, timeout=120, trust_env=False) as client:
            yield Party(service, client)


@dataclass
class Undisturbed:
    """The dataset, and what a run on it comes to when nobody disturbs it."""

    dataset: str
    run: dict[str, Any]
    events: list[dict[str, Any]]
    sha256: str


@pytest.fixture(scope="module")
def undisturbed(party: Party) -> Undisturbed:
    sent = party.client.post(
        "/v1/datasets", files={"archive": ("scenes.tar", scenes_tar())}, headers={"Prefer": "wait=60"}
    )
    assert sent.json()["status"] == "ready", sent.text
    dataset = sent.json()["id"]
    run = post_run(party.client, dataset, **RUN)
    events = party.client.get(f"/v1/training-runs/{run['id']}/events", timeout=150)
    done = follow(party.client, run["id"])
    assert done["status"] == "ready", done["error"]
    return Undisturbed(dataset, done, parse_events(events.text), released(done).weights_sha256)


def released(run: dict[str, Any]) -> ReleaseRow:
    """The one release of a run."""
    with session_scope() as session:
        rows = session.scalars(select(ReleaseRow).where(ReleaseRow.training_run_id == run["id"])).all()
    assert [str(row.id) for row in rows] == [run["release"]]
    return rows[0]


def kept_row(run_id: str) -> TrainingRun:
    with session_scope() as session:
        return session.scalars(select(TrainingRun).where(TrainingRun.id == run_id)).one()


def wait_until(condition: Any, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_run_is_told_as_it_goes_and_ends_as_a_release(party: Party, undisturbed: Undisturbed) -> None:
    run, told = undisturbed.run, undisturbed.events
    epochs = [event for event in told if event["event"] == "metric"]
    stages = [(e["data"]["stage"], e["data"]["epoch"]) for e in epochs]
    assert stages == [(s, k) for s, n in (("hr", 60), ("lr", 10), ("pt", 10), ("ft2", 10)) for k in range(n)]
    assert set(epochs[0]["data"]["values"]) == {"loss", "accuracy", "seconds"}
    assert set(epochs[-1]["data"]["values"]) == {"loss", "reward", "accuracy", "s", "seconds"}
    states = [event["data"]["status"] for event in told if event["event"] == "run"]
    assert states[-1] == "ready"
    assert told[-1]["event"] == "end"
    assert told[-1]["data"]["release"] == run["release"]
    # a client that was cut off hears what it has not heard
    last = {"Last-Event-ID": epochs[42]["id"]}
    again = parse_events(party.client.get(f"/v1/training-runs/{run['id']}/events", headers=last).text)
    assert [event for event in again if event["event"] == "metric"] == epochs[43:]
    curves: list[Any] = []
    token: str | None = ""
    while token is not None:
        page = party.client.get(
            f"/v1/training-runs/{run['id']}/metrics",
            params={"limit": 40} | ({"token": token} if token else {}),
        ).json()
        curves, token = [*curves, *page["metrics"]], page["next"]
    assert [point["values"] for point in curves] == [e["data"]["values"] for e in epochs]
    shown = party.client.get(f"/v1/releases/{run['release']}")
    assert shown.status_code == 200, shown.text
    # a run that is over leaves no checkpoint and no file behind
    assert get_store().keys(f"training/{run['id']}") == []
    assert list(party.scratch.glob("*/train-*")) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_has_the_curves_of_a_run(party: Party, undisturbed: Undisturbed) -> None:
    told = [event["data"] for event in undisturbed.events if event["event"] == "metric"]
    folder = Path(os.environ["PATCHPLAN_TENSORBOARD_DIR"]) / f"small-{undisturbed.run['id']}"
    found = scalars(folder)
    assert set(found) == {f"{e['stage']}/{key}" for e in told for key in (*e["values"], "epoch")}
    for stage, value in (("hr", "loss"), ("pt", "reward"), ("ft2", "s")):
        steps, values = zip(*found[f"{stage}/{value}"], strict=True)
        wanted = [(e["step"], e["values"][value]) for e in told if e["stage"] == stage]
        assert steps == tuple(step for step, _ in wanted)
        assert values == pytest.approx([value for _, value in wanted], rel=1e-5)


def test_the_command_writes_the_same_weights(undisturbed: Undisturbed, tmp_path: Path) -> None:
    import json

    row = kept_row(undisturbed.run["id"])
    recipe, data = tmp_path / "recipe.json", tmp_path / "scenes.tar"
    recipe.write_text(json.dumps(row.recipe))
    with session_scope() as session:
        from app.datasets.tables import Dataset

        key = session.get_one(Dataset, row.dataset_id).snapshot_key
    assert key is not None
    get_store().get_to_file(key, data)
    words = ["--recipe", str(recipe), "--data", str(data), "--out", str(tmp_path / "small"), "--seed", "3"]
    subprocess.run([sys.executable, "-m", "patchplan", "train", *words], check=True, capture_output=True)
    card = json.loads((tmp_path / "small" / "card.json").read_text())
    assert card["weights_sha256"] == undisturbed.sha256
    assert card["training"]["processor"]
    assert card["training"]["threads"] == 1


def test_three_kills_and_one_release(party: Party, undisturbed: Undisturbed) -> None:
    run = post_run(party.client, undisturbed.dataset, **RUN)
    wait_until(lambda: kept_row(run["id"]).checkpoint_key is not None)
    party.kill("valkey")
    (trainer, *_) = party.trainers()
    trainer.kill()
    wait_until(lambda: kept_row(run["id"]).fence == 2)
    wait_until(lambda: (kept_row(run["id"]).checkpoint_key or "").split("/")[-1] > "000002")
    party.kill("trainer")
    done = follow(party.client, run["id"])
    assert done["status"] == "ready", done["error"]
    assert kept_row(run["id"]).fence == 3
    assert released(done).weights_sha256 == undisturbed.sha256
    assert len(party.client.get(f"/v1/training-runs/{run['id']}/metrics").json()["metrics"]) == 90
    wait_until_ready(party.service)


def test_cancel_frees_the_device_while_data_is_loaded_and_without_a_broker(
    party: Party, undisturbed: Undisturbed
) -> None:
    broker = party.child("valkey")
    assert broker.process is not None
    broker.process.kill()
    broker.process.wait(10)
    try:
        run = post_run(party.client, undisturbed.dataset, **RUN)
        wait_until(lambda: bool(party.trainers()))
        begun = time.monotonic()
        asked = party.client.post(f"/v1/training-runs/{run['id']}/cancel")
        assert asked.json()["status"] == "cancelling"
        wait_until(lambda: not party.trainers(), 10)
        follow(party.client, run["id"], "cancelled", seconds=10)
        assert time.monotonic() - begun < 10
    finally:
        broker.start()
    assert party.client.post(f"/v1/training-runs/{run['id']}/cancel").json()["status"] == "cancelled"
    assert party.client.post(f"/v1/training-runs/{run['id']}/resume").json()["status"] == "queued"
    wait_until(lambda: kept_row(run["id"]).checkpoint_key is not None)
    party.client.post(f"/v1/training-runs/{run['id']}/cancel")
    cancelled = follow(party.client, run["id"], "cancelled", seconds=10)
    assert party.trainers() == []
    assert cancelled["checkpoint"] is not None
    # one that was being carried just then goes a moment after the move
    wait_until(lambda: len(get_store().keys(f"training/{run['id']}")) == 1, 10)
    party.client.post(f"/v1/training-runs/{run['id']}/resume")
    done = follow(party.client, run["id"])
    assert done["status"] == "ready", done["error"]
    assert released(done).weights_sha256 == undisturbed.sha256


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_twenty_runs_killed_at_random(party: Party, undisturbed: Undisturbed) -> None:
    seed = int(os.environ.get("PATCHPLAN_TEST_SEED", str(time.time_ns())))
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(20):
        run = post_run(party.client, undisturbed.dataset, **RUN)
        for _ in range(chance.randint(1, 3)):
            time.sleep(chance.uniform(0, 12))
            victim = chance.choice(["trainer", "valkey", "child"])
            if victim != "child":
                party.kill(victim)
            for trainer in party.trainers() if victim == "child" else ():
                with contextlib.suppress(psutil.Error):
                    os.kill(trainer.pid, signal.SIGKILL)
        done = follow(party.client, run["id"], seconds=180)
        assert done["status"] == "ready", (seed, done["error"])
        assert released(done).weights_sha256 == undisturbed.sha256, seed
    with session_scope() as session:
        runs = session.scalars(select(TrainingRun.release_id)).all()
        releases = session.scalars(select(ReleaseRow.id)).all()
    assert sorted(map(str, runs)) == sorted(map(str, releases)), seed
