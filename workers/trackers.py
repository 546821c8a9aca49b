"""Experiment trackers people already use: the metrics of a training run also go to MLflow and TensorBoard.

They are onlookers: a tracker that is slow, broken or gone costs a warning in the log and nothing else.
"""

import contextlib
import queue
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from app.core.settings import get_settings
from workers.mlflow import MlflowRun

log = structlog.get_logger(__name__)

WAITING_MOST: Final = 10_000
"""Metrics that wait for a tracker; those that come on top are not told to it."""

CLOSE_WITHIN_S: Final = 10.0


@dataclass(frozen=True)
class Story:
    """What a tracker is told of a run besides its metrics."""

    run_id: uuid.UUID
    name: str
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """An epoch's values; ``step`` counts the steps of the stage, ``at_ms`` is the time in ms since 1970."""

    prefix: str
    epoch: int
    step: int
    values: Mapping[str, float]
    at_ms: int


class Backend(Protocol):
    """One tracker, used by one thread; whatever it raises is logged, and it is not asked again."""

    def open(self) -> None:
        """Make or find the run."""

    def log(self, metric: Metric) -> None:
        """Write one epoch's values."""

    def close(self, status: str) -> None:
        """The run ended, or goes on elsewhere: finished, failed, killed or running."""

    def drop(self) -> None:
        """Let go of connections and files, however far it came."""


class Tracker:
    """All trackers that are set up, each with a thread of its own, so that no call here ever waits."""

    def __init__(self, backends: Mapping[str, Backend]) -> None:
        self._lines = [_Line(name, backend) for name, backend in backends.items()]

    def log(self, stage: str, epoch: int, step: int, values: Mapping[str, Any], member: int = 0) -> None:
        """Tell an epoch's values; those that are no numbers are left out."""
        prefix = stage if member == 0 else f"{stage}.{member}"
        numbers = {key: float(value) for key, value in values.items() if isinstance(value, int | float)}
        metric = Metric(prefix, epoch, step, numbers, time.time_ns() // 1_000_000)
        for line in self._lines:
            line.put(metric)

    def close(self, status: str) -> None:
        """Wait a little until what was told has arrived."""
        for line in self._lines:
            line.put(status)
        deadline = time.monotonic() + CLOSE_WITHIN_S
        for line in self._lines:
            line.join(max(0.0, deadline - time.monotonic()))


class _Line(threading.Thread):
    """What waits to be told to one tracker. A string is the end."""

    def __init__(self, name: str, backend: Backend) -> None:
        super().__init__(name=f"tracker-{name}", daemon=True)
        self._backend, self._named = backend, name
        self._waiting: queue.Queue[Metric | str] = queue.Queue(WAITING_MOST)
        self.start()

    def put(self, item: Metric | str) -> None:
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(item)

    def run(self) -> None:
        try:
            self._backend.open()
            while not isinstance(item := self._waiting.get(), str):
                self._backend.log(item)
            self._backend.close(item)
        except Exception as error:  # noqa: BLE001 - whatever a tracker's trouble is, it is not the run's
            log.warning("tracker_lost", tracker=self._named, error=repr(error))
        finally:
            with contextlib.suppress(Exception):
                self._backend.drop()


class TensorBoard:
    """Event files in a folder of the run's own, as TensorBoard reads them."""

    def __init__(self, folder: Path, story: Story) -> None:
        self._folder = folder / f"{story.name}-{story.run_id}"
        self._story = story

    def open(self) -> None:
        """Begin a file; a run that goes on after a restart has one for each part."""
        from tensorboardX import SummaryWriter  # an extra: needed only where it is asked for

        # files are named by the second: two parts of a run may begin in the same one
        self._writer = SummaryWriter(
            str(self._folder), flush_secs=5, filename_suffix=f".{uuid.uuid4().hex[:8]}"
        )
        rows = "\n".join(f"| {key} | {value} |" for key, value in sorted(self._story.params.items()))
        self._writer.add_text("run", f"| | |\n|---|---|\n{rows}", 0)

    def log(self, metric: Metric) -> None:
        """One scalar a value, by the stage's steps."""
        for key, value in {**metric.values, "epoch": float(metric.epoch)}.items():
            self._writer.add_scalar(f"{metric.prefix}/{key}", value, metric.step, metric.at_ms / 1000)
        self._writer.flush()

    def close(self, status: str) -> None:
        """Event files do not say how a run ended."""

    def drop(self) -> None:
        """Close the file, if there is one yet."""
        self._writer.close()


class Mlflow:
    """A run of an MLflow experiment."""

    def __init__(self, url: str, experiment: str, story: Story) -> None:
        self._url, self._experiment, self._story = url, experiment, story

    def open(self) -> None:
        """The run with our id, made where there is none: a run that goes on elsewhere is the same run."""
        self._run = MlflowRun(self._url, self._experiment)
        self._run.open(str(self._story.run_id), self._story.name, self._story.params)

    def log(self, metric: Metric) -> None:
        """All values of an epoch in one call."""
        values = {f"{metric.prefix}/{key}": value for key, value in metric.values.items()}
        self._run.log(values, metric.step, metric.at_ms)

    def close(self, status: str) -> None:
        """Say how the run ended; one that goes on elsewhere is left running."""
        self._run.close(status)

    def drop(self) -> None:
        """Close the connections."""
        self._run.drop()


def open_tracker(story: Story) -> Tracker:
    """The trackers that the settings name; none is a tracker too."""
    settings = get_settings()
    backends: dict[str, Backend] = {}
    if settings.mlflow_url is not None:
        backends["mlflow"] = Mlflow(settings.mlflow_url, settings.mlflow_experiment, story)
    if settings.tensorboard_dir is not None:
        backends["tensorboard"] = TensorBoard(settings.tensorboard_dir, story)
    return Tracker(backends)
