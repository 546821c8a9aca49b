"""A desk's thread: whatever its work raises, it looks again, and not more often than it should."""

import threading
import time
from collections.abc import Iterator

import pytest

from app.core.settings import get_settings
from workers.looking import Looking

SWEEP_S = 0.1


class Clumsy(Looking):
    """Breaks at every look but the last."""

    kind = "clumsy"

    def __init__(self, breaks: int) -> None:
        super().__init__("desk-clumsy")
        self.at: list[float] = []
        self.done = threading.Event()
        self._breaks = breaks

    def work(self) -> None:
        self.at.append(time.monotonic())
        if len(self.at) <= self._breaks:
            raise UnicodeError("label empty or too long")
        self.done.set()


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PATCHPLAN_SWEEP_S", str(SWEEP_S))
    get_settings.cache_clear()
    yield
    monkeypatch.undo()
    get_settings.cache_clear()


def test_a_desk_outlives_what_its_work_raises() -> None:
    desk = Clumsy(breaks=3)
    desk.start()
    try:
        assert desk.done.wait(10)
        assert desk.is_alive()
    finally:
        desk.stop()
        desk.join(10)
    assert all(
        later - earlier >= SWEEP_S * 0.9 for earlier, later in zip(desk.at, desk.at[1:4], strict=False)
    )
