"""How long calls take beside each other: in turn, so that what else the machine does falls on all of them."""

import contextlib
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

Call = Callable[[], object]
Name = TypeVar("Name")


def seconds(calls: Mapping[Name, Call], device: torch.device, repeats: int = 9) -> dict[Name, float]:
    """The median seconds of each call; every round makes each call once, after one that does not count.

    With one thread on a CPU it is the processor's time that counts: what it takes on an idle machine.
    """
    clock = time.process_time if by_processor(device) else time.perf_counter
    taken: dict[Name, list[float]] = {name: [] for name in calls}
    for k in range(repeats + 1):
        for name, call in calls.items():
            _wait(device)
            started = clock()
            call()
            _wait(device)
            if k:
                taken[name].append(clock() - started)
    return {name: statistics.median(values) for name, values in taken.items()}


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread of the processor."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def by_processor(device: torch.device) -> bool:
    return device.type == "cpu" and torch.get_num_threads() == 1


def hardware(device: torch.device) -> dict[str, Any]:
    """What the figures were taken on and how."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "device": gpu or _processor(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "clock": "processor time" if by_processor(device) else "wall clock",
        "torch": torch.__version__,
        "tf32": bool(device.type == "cuda" and torch.backends.cudnn.allow_tf32),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
