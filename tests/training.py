"""Small training runs for tests: a drawn dataset, a recipe of seconds, and how to follow a run."""

import io
import json
import tarfile
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.core.db import session_scope
from app.core.store import get_store
from app.core.work import WorkStatus, uuid7
from app.datasets.tables import Dataset, snapshot_key
from tests.models.scenes import CLASSES, write_scenes

# every section of a recipe that is trained in seconds; laid over a recipe that comes with the package
QUICK: dict[str, Any] = {
    "images": {
        "hr_px": 32,
        "lr_px": 16,
        "lr_input_px": 0,
        "ds": [2],
        "thin": 1,
        "fill": "lr",
        "augment": "flip",
    },
    "networks": {"policy": "tiny", "hr": "tiny", "lr": "tiny", "imagenet": False},
    "training": {"crossfit": 0, "fusion": "eq7"},
    "stages": {
        "hr": {"epochs": 2, "batch": 16, "lr": 0.01},
        "lr": {"epochs": 1, "batch": 16, "lr": 0.01},
        "pt": {"epochs": 1, "batch": 16, "lr": 0.01},
        "ft1": {"epochs": 0},
        "ft2": {"epochs": 1, "batch": 16, "lr": 0.01, "policy_lr": 0.0},
    },
    "classes": {},
}


def quick(**epochs: int) -> dict[str, Any]:
    """``QUICK`` with other numbers of epochs."""
    overrides: dict[str, Any] = json.loads(json.dumps(QUICK))
    for stage, number in epochs.items():
        overrides["stages"][stage]["epochs"] = number
    return overrides


def scenes_tar(per_class: int = 12) -> bytes:
    """A tar of drawn class folders."""
    with tempfile.TemporaryDirectory() as folder:
        write_scenes(Path(folder) / "scenes", per_class=per_class)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(Path(folder) / "scenes", "scenes")
        return packed.getvalue()


def kept_dataset(org_id: uuid.UUID, per_class: int = 12) -> uuid.UUID:
    """A dataset's ready row and its snapshot, as its reading would leave them."""
    import hashlib

    content = scenes_tar(per_class)
    digest, dataset_id = hashlib.sha256(content).hexdigest(), uuid7()
    get_store().put(snapshot_key(dataset_id, 1), content)
    with session_scope() as session:
        session.add(
            Dataset(
                id=dataset_id,
                org_id=org_id,
                name="scenes",
                origin="upload",
                request={},
                content_sha256=digest,
                snapshot_key=snapshot_key(dataset_id, 1),
                snapshot_bytes=len(content),
                classes=list(CLASSES),
                status=WorkStatus.READY,
                finished_at=_now(),
            )
        )
    return dataset_id


def _now() -> Any:
    from sqlalchemy import func

    return func.now()


def form(dataset: str | uuid.UUID, **changes: Any) -> dict[str, Any]:
    """The body of a small run."""
    return {
        "name": "small",
        "dataset": str(dataset),
        "recipe": "cifar10",
        "overrides": QUICK,
        "seed": 3,
        "device": "cpu",
        **changes,
    }


def post_run(client: Any, dataset: str | uuid.UUID, **changes: Any) -> dict[str, Any]:
    """A run, queued."""
    answer = client.post("/v1/training-runs", json=form(dataset, **changes))
    assert answer.status_code == 202, answer.text
    run: dict[str, Any] = answer.json()
    return run


def follow(client: httpx.Client, run_id: str, *until: str, seconds: float = 400) -> dict[str, Any]:
    """The run once it is in one of the states ``until`` (ready, failed or cancelled when none is named)."""
    wanted = until or ("ready", "failed", "cancelled")
    deadline = time.monotonic() + seconds
    while True:
        run: dict[str, Any] = client.get(f"/v1/training-runs/{run_id}").json()
        if run["status"] in wanted:
            return run
        assert time.monotonic() < deadline, run
        time.sleep(0.1)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads in a folder."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulators.EventAccumulator(str(folder))
    found.Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]
    }


def parse_events(text: str) -> list[dict[str, Any]]:
    """The events in a stream's text as a client reads them: ``event``, ``data``, of some the ``id``."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != ":")
        if "data" in fields:
            found.append({**fields, "data": json.loads(fields["data"])})
    return found
