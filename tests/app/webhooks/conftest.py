"""Hosts that hear webhooks, and settings that let webhooks go to them."""

from collections.abc import Iterator

import pytest

from app.core.settings import get_settings
from tests.app.webhooks.listening import Listener, listening


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as server:
        yield server


@pytest.fixture
def silent() -> Iterator[Listener]:
    """A host that takes messages and does not answer until its `hold` is set."""
    with listening() as server:
        server.hold.clear()
        yield server


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings that let webhooks go to this machine."""
    monkeypatch.setenv("PATCHPLAN_WEBHOOK_NETWORKS", "127.0.0.0/8, ::1")
    monkeypatch.setenv("PATCHPLAN_WEBHOOK_TIMEOUT_S", "5")
    monkeypatch.setenv("PATCHPLAN_WEBHOOK_ATTEMPTS", "3")
    get_settings.cache_clear()
    yield
    monkeypatch.undo()
    get_settings.cache_clear()
