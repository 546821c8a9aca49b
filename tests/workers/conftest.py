"""A worker's desks in this process, over a real database, with untrained releases."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY

from app.classifications.tables import Classification
from app.core.settings import get_settings
from app.plans.tables import Plan
from models.release import tiny_release
from tests.imagery import lr_geotiff
from workers.classifying import ClassifyJob
from workers.desk import Desk
from workers.leases import Leases
from workers.planning import PlanJob
from workers.releases import Releases

CLASSES = ["field", "forest", "harbor"]


@pytest.fixture(scope="session")
def releases_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The releases `tiny` (two streams) and `tiny-hr` (one)."""
    folder = tmp_path_factory.mktemp("releases")
    tiny_release(folder / "tiny", classes=CLASSES)
    tiny_release(folder / "tiny-hr", classes=CLASSES, streams="hr", seed=1)
    return folder


@pytest.fixture(autouse=True)
def _with_releases(releases_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PATCHPLAN_RELEASES_DIR", str(releases_dir))
    monkeypatch.setenv("PATCHPLAN_DEFAULT_RELEASE", "tiny")
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture
def leases() -> Leases:
    """Leases without a heartbeat thread: a test beats when it wants to."""
    return Leases()


@pytest.fixture
def plan_desk(leases: Leases, tmp_path: Path) -> Desk:
    """The desk for plans; ``work()`` works until nothing is left."""
    releases = Releases()
    return Desk(lambda row: PlanJob(row, releases), Plan, leases, tmp_path)


@pytest.fixture
def classify_desk(leases: Leases, tmp_path: Path) -> Desk:
    """The desk for classifications."""
    releases = Releases()
    return Desk(lambda row: ClassifyJob(row, releases), Classification, leases, tmp_path)


def queue_plan(client: TestClient, content: bytes | None = None, **fields: str) -> str:
    """Post a plan without waiting for it; returns its id."""
    answer = client.post(
        "/v1/plans",
        files={"lr": ("lr.tif", content or lr_geotiff())},
        data=fields,
        headers={"Prefer": "wait=0"},
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def forwards(kind: str = "plans") -> float:
    """Forwards counted so far in this process."""
    return REGISTRY.get_sample_value("patchplan_forwards_total", {"kind": kind}) or 0.0
