"""Releases for the API when it runs in this process."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.settings import get_settings
from models.release import tiny_release


@pytest.fixture
def tiny_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The release `tiny` for this process's API."""
    tiny_release(tmp_path / "releases" / "tiny", classes=["field", "forest"])
    monkeypatch.setenv("PATCHPLAN_RELEASES_DIR", str(tmp_path / "releases"))
    get_settings.cache_clear()
    yield
    monkeypatch.undo()
    get_settings.cache_clear()
