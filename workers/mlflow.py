"""A run on an MLflow tracking server, through its REST API 2.0: four calls, each with a time limit.

MLflow's own client tries a dead server again for minutes by default and brings thirty packages along.
"""

import math
import time
from collections.abc import Mapping
from typing import Any, Final

import httpx

TIMEOUT_S: Final = 5.0
OURS: Final = "patchplan.training_run"
ENDED: Final = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}

PARAM_LENGTH: Final = 500
"""Characters of a value that every MLflow since 1.0 takes."""


class MlflowRun:
    """One run. Every call raises httpx.HTTPError where the server does not answer, or refuses."""

    def __init__(self, url: str, experiment: str) -> None:
        self._client = httpx.Client(base_url=f"{url.rstrip('/')}/api/2.0/mlflow/", timeout=TIMEOUT_S)
        self._experiment = experiment
        self._id = ""

    def open(self, our_id: str, name: str, params: Mapping[str, str]) -> None:
        """The run tagged with our id, made where there is none."""
        experiment = self._experiment_id()
        found = self._post(
            "runs/search",
            experiment_ids=[experiment],
            filter=f"tags.`{OURS}` = '{our_id}'",
            max_results=1,
        )
        runs = found.get("runs")
        if runs:
            self._id = runs[0]["info"]["run_id"]
            self._post("runs/update", run_id=self._id, status="RUNNING")
            return
        tags = [{"key": OURS, "value": our_id}]
        made = self._post(
            "runs/create", experiment_id=experiment, run_name=name, start_time=_now_ms(), tags=tags
        )
        self._id = made["run"]["info"]["run_id"]
        told = [{"key": key, "value": value[:PARAM_LENGTH]} for key, value in params.items()]
        self._post("runs/log-batch", run_id=self._id, params=told)

    def log(self, values: Mapping[str, float], step: int, at_ms: int) -> None:
        """Metrics of one step; MLflow keeps no NaN, so what is not finite is left out."""
        metrics = [
            {"key": key, "value": value, "timestamp": at_ms, "step": step}
            for key, value in values.items()
            if math.isfinite(value)
        ]
        self._post("runs/log-batch", run_id=self._id, metrics=metrics)

    def close(self, status: str) -> None:
        """Say how the run ended: finished, failed, killed; anything else leaves it running."""
        if status in ENDED:
            self._post("runs/update", run_id=self._id, status=ENDED[status], end_time=_now_ms())

    def drop(self) -> None:
        """Close the connections."""
        self._client.close()

    def _experiment_id(self) -> str:
        answer = self._client.get("experiments/get-by-name", params={"experiment_name": self._experiment})
        if answer.status_code == httpx.codes.NOT_FOUND:
            answer = self._client.post("experiments/create", json={"name": self._experiment})
            if answer.status_code == httpx.codes.BAD_REQUEST:  # somebody else made it in the meantime
                answer = self._client.get(
                    "experiments/get-by-name", params={"experiment_name": self._experiment}
                )
        found = answer.raise_for_status().json()
        return str(found["experiment"]["experiment_id"] if "experiment" in found else found["experiment_id"])

    def _post(self, path: str, **body: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._client.post(path, json=body).raise_for_status().json()
        return answer


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
