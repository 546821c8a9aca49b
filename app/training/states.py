"""The states of a training run and every move between them. The database refuses all others by a trigger."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class RunStatus(StrEnum):
    """Where a run stands. ``cancelling``: it was told to stop and its trainer still holds the device."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    READY = "ready"
    FAILED = "failed"


MOVES: Final[Mapping[RunStatus, frozenset[RunStatus]]] = {
    # failed: its trainer died too often without getting any further
    RunStatus.QUEUED: frozenset({RunStatus.RUNNING, RunStatus.CANCELLED, RunStatus.FAILED}),
    # running: another worker took it over; queued: its worker gave it back
    RunStatus.RUNNING: frozenset(
        {
            RunStatus.RUNNING,
            RunStatus.QUEUED,
            RunStatus.CANCELLING,
            RunStatus.CANCELLED,
            RunStatus.READY,
            RunStatus.FAILED,
        }
    ),
    RunStatus.CANCELLING: frozenset({RunStatus.CANCELLED}),
    # resumed from the last checkpoint
    RunStatus.CANCELLED: frozenset({RunStatus.QUEUED}),
    RunStatus.FAILED: frozenset({RunStatus.QUEUED}),
    RunStatus.READY: frozenset(),
}

OVER: Final = frozenset({RunStatus.CANCELLED, RunStatus.READY, RunStatus.FAILED})

# what a client may ask for, by where the run stands; the other moves are the workers'
REQUESTS: Final[Mapping[str, frozenset[RunStatus]]] = {
    "cancel": frozenset({RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.CANCELLING, RunStatus.CANCELLED}),
    "resume": frozenset({RunStatus.CANCELLED, RunStatus.FAILED}),
}
