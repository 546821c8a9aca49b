"""MLflow and TensorBoard are told what the database is told; when they are gone nobody notices."""

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.core.auth import Organisation
from app.core.db import session_scope
from app.core.settings import get_settings
from tests.conftest import checkout, free_port
from tests.training import follow, kept_dataset, post_run, scalars
from workers.leases import Leases
from workers.mlflow import MlflowRun
from workers.trackers import Metric, Mlflow, Story, Tracker, open_tracker
from workers.training import TrainingDesk


def story(**params: str) -> Story:
    return Story(uuid.uuid4(), "harbours", {"seed": "0", **params})


def tell(tracker: Tracker) -> None:
    for epoch in range(3):
        tracker.log("hr", epoch, 10 * (epoch + 1), {"loss": 1.0 / (epoch + 1), "accuracy": 0.5, "said": "x"})
    tracker.log("pt", 0, 5, {"reward": 0.25, "s": 3.5})
    tracker.log("hr", 0, 10, {"loss": 9.0}, member=2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_what_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.trackers.CLOSE_WITHIN_S", 60.0)
    monkeypatch.setenv("PATCHPLAN_TENSORBOARD_DIR", str(tmp_path))
    monkeypatch.delenv("PATCHPLAN_MLFLOW_URL", raising=False)
    get_settings.cache_clear()
    told = story()
    tracker = open_tracker(told)
    tell(tracker)
    tracker.close("finished")
    folder = tmp_path / f"harbours-{told.run_id}"
    found = scalars(folder)
    assert [step for step, _ in found["hr/loss"]] == [10, 20, 30]
    assert [value for _, value in found["hr/loss"]] == pytest.approx([1, 0.5, 1 / 3])
    assert found["pt/reward"] == [(5, 0.25)]
    assert found["hr.2/loss"] == [(10, 9.0)]
    assert not any("said" in tag for tag in found)
    # a run that goes on after a restart adds to the same folder
    again = open_tracker(told)
    again.log("hr", 3, 40, {"loss": 0.2})
    again.close("running")
    # files of one second are read in the order of their numbers as text
    assert sorted(step for step, _ in scalars(folder)["hr/loss"]) == [10, 20, 30, 40]


def test_without_trackers_nothing_is_told_and_nothing_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATCHPLAN_TENSORBOARD_DIR", "PATCHPLAN_MLFLOW_URL"):
        monkeypatch.delenv(name, raising=False)
    get_settings.cache_clear()
    tracker = open_tracker(story())
    tell(tracker)
    tracker.close("finished")


@pytest.fixture
def deaf() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_dead_or_deaf_server_holds_nobody_up(deaf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.trackers.CLOSE_WITHIN_S", 0.5)
    for url in (deaf, f"http://127.0.0.1:{free_port()}", "http://no.such.host.invalid"):
        begun = time.monotonic()
        tracker = Tracker({"mlflow": Mlflow(url, "patchplan", story())})
        tell(tracker)
        told = time.monotonic()
        assert told - begun < 1
        tracker.close("finished")
        assert time.monotonic() - told < 2


def test_one_broken_tracker_leaves_the_others_alone(tmp_path: Path) -> None:
    heard: list[Metric | str] = []
    dropped: list[object] = []

    class Ear:
        def open(self) -> None:
            pass

        def log(self, metric: Metric) -> None:
            heard.append(metric)

        def close(self, status: str) -> None:
            heard.append(status)

        def drop(self) -> None:
            dropped.append(self)

    class Broken(Ear):
        def log(self, metric: Metric) -> None:
            raise RuntimeError("full")

    tracker = Tracker({"broken": Broken(), "ear": Ear()})
    tell(tracker)
    tracker.close("failed")
    assert heard[-1] == "failed"
    assert len(dropped) == 2
    metrics = [item for item in heard if isinstance(item, Metric)]
    assert [metric.prefix for metric in metrics] == ["hr", "hr", "hr", "pt", "hr.2"]
    assert metrics[0].values == {"loss": 1.0, "accuracy": 0.5}


def mlflow_command() -> str | None:
    """MLflow's server has a hundred packages; it lives in an environment of its own."""
    beside = checkout() / ".venv-mlflow" / "bin" / "mlflow"
    return os.environ.get("PATCHPLAN_TEST_MLFLOW") or (
        str(beside) if beside.exists() else shutil.which("mlflow")
    )


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow tracking server."""
    command = mlflow_command()
    if command is None:
        pytest.skip(
            "no MLflow: make test-full installs it into .venv-mlflow, PATCHPLAN_TEST_MLFLOW names one"
        )
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    words = ["server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"]
    words += [
        "--default-artifact-root",
        str(folder / "artifacts"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    url = f"http://127.0.0.1:{port}"
    # of the server only the tracking is wanted, none of its jobs
    env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([command, *words], stdout=log, stderr=log, env=env, start_new_session=True)
    try:
        deadline = time.monotonic() + 240
        while not _healthy(url):
            assert server.poll() is None, (folder / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, (folder / "log").read_text()[-2000:]
            time.sleep(0.5)
        yield url
    finally:
        os.killpg(server.pid, 15)
        server.wait(timeout=30)


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def ask(url: str, method: str, path: str, **given: Any) -> Any:
    answer = httpx.request(method, f"{url}/api/2.0/mlflow/{path}", timeout=30, trust_env=False, **given)
    assert answer.status_code == 200, answer.text
    return answer.json()


def run_of(url: str, told: Story) -> Any:
    experiment = ask(url, "GET", "experiments/get-by-name", params={"experiment_name": "patchplan"})
    wanted = {
        "experiment_ids": [experiment["experiment"]["experiment_id"]],
        "filter": f"tags.`patchplan.training_run` = '{told.run_id}'",
    }
    runs = ask(url, "POST", "runs/search", json=wanted)["runs"]
    assert len(runs) == 1
    return runs[0]


def history(url: str, run: Any, key: str) -> list[tuple[int, float]]:
    found = ask(
        url, "GET", "metrics/get-history", params={"run_id": run["info"]["run_id"], "metric_key": key}
    )
    return sorted((int(one["step"]), one["value"]) for one in found["metrics"])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_mlflow_keeps_what_was_told_and_a_run_that_goes_on_is_one_run(
    mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.trackers.CLOSE_WITHIN_S", 60.0)
    monkeypatch.setattr("workers.mlflow.TIMEOUT_S", 30.0)
    told = story(recipe="ucmerced", long="x" * 2000)
    first = Tracker({"mlflow": Mlflow(mlflow_server, "patchplan", told)})
    tell(first)
    first.log("hr", 3, 40, {"loss": float("nan")})
    first.close("running")
    run = run_of(mlflow_server, told)
    assert (run["info"]["run_name"], run["info"]["status"]) == ("harbours", "RUNNING")
    params = {one["key"]: one["value"] for one in run["data"]["params"]}
    assert (params["recipe"], params["seed"], len(params["long"])) == ("ucmerced", "0", 500)
    second = Tracker({"mlflow": Mlflow(mlflow_server, "patchplan", told)})
    second.log("hr", 4, 50, {"loss": 0.2})
    second.close("finished")
    run = run_of(mlflow_server, told)
    assert run["info"]["status"] == "FINISHED"
    losses = history(mlflow_server, run, "hr/loss")
    assert [step for step, _ in losses] == [10, 20, 30, 50]
    assert [value for _, value in losses] == pytest.approx([1, 0.5, 1 / 3, 0.2])
    assert history(mlflow_server, run, "pt/reward") == [(5, 0.25)]
    assert history(mlflow_server, run, "hr.2/loss") == [(10, 9.0)]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_training_run_is_told_to_mlflow(
    mlflow_server: str, client: TestClient, leases: Leases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.trackers.CLOSE_WITHIN_S", 60.0)
    monkeypatch.setattr("workers.mlflow.TIMEOUT_S", 30.0)
    monkeypatch.setenv("PATCHPLAN_MLFLOW_URL", mlflow_server)
    get_settings.cache_clear()
    with session_scope() as session:
        dataset = kept_dataset(session.scalars(select(Organisation.id)).one())
    posted = post_run(client, dataset)
    TrainingDesk(leases, tmp_path).work()
    run = follow(client, posted["id"])  # type: ignore[arg-type]
    assert run["status"] == "ready", run["error"]
    told = run_of(mlflow_server, Story(run["id"], "small", {}))
    assert (told["info"]["run_name"], told["info"]["status"]) == ("small", "FINISHED")
    params = {one["key"]: one["value"] for one in told["data"]["params"]}
    assert (params["dataset"], params["recipe"], params["seed"]) == (str(dataset), "cifar10", "3")
    curves = client.get(f"/v1/training-runs/{run['id']}/metrics").json()["metrics"]
    assert {point["stage"] for point in curves} == {"hr", "lr", "pt", "ft2"}
    for stage, value in (("hr", "loss"), ("lr", "accuracy"), ("pt", "reward"), ("ft2", "s")):
        wanted = [(point["step"], point["values"][value]) for point in curves if point["stage"] == stage]
        assert history(mlflow_server, told, f"{stage}/{value}") == wanted


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_mlflow_that_refuses_is_an_error_of_its_own(mlflow_server: str) -> None:
    run = MlflowRun(mlflow_server, "patchplan")
    run.open(str(uuid.uuid4()), "x", {})
    with pytest.raises(httpx.HTTPStatusError):
        run.log({"": 1.0}, -1, -1)
    run.drop()
