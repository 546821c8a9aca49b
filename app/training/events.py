"""A run's server-sent events: `run` when it moves or gets on, `metric` for each epoch, `end` when it is over.

A watching client holds no thread and no session: it waits on the process's LISTEN connection.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from starlette.concurrency import run_in_threadpool

from app.core.auth import Principal, must_still_hold
from app.core.errors import Unauthorized
from app.core.notify import Listener
from app.core.work import wake_key
from app.training import reading
from app.training.states import OVER
from app.training.tables import TrainingRun

# proxies close what is silent for a minute; a lost notification is made up for by then, too
QUIET_S: Final = 10.0


async def stream(
    listener: Listener, principal: Principal, run_id: uuid.UUID, after: int
) -> AsyncIterator[bytes]:
    """The events after metric number ``after`` until the run is over, the key revoked or the client gone."""
    said: str | None = None
    with listener.subscribe(wake_key(TrainingRun.__tablename__, run_id)) as woken:
        yield b"retry: 2000\n\n"
        while True:
            woken.clear()
            try:
                found = await run_in_threadpool(_look, principal, run_id, after)
            except Unauthorized:
                return
            now = found.run.model_dump_json(include=_TOLD)
            if now != said:
                yield _event("run", now)
                said = now
            for row in found.metrics:
                yield _event("metric", reading.metric_out(row).model_dump_json(), row.id)
                after = row.id
            if len(found.metrics) == reading.METRICS_A_LOOK:
                continue
            if found.run.status in OVER:
                yield _event("end", found.run.model_dump_json(include={"status", "release", "error"}))
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(QUIET_S):
                    await woken.wait()
                    continue
            yield b": still here\n\n"


def _look(principal: Principal, run_id: uuid.UUID, after: int) -> reading.Look:
    must_still_hold(principal)
    return reading.look(principal.org_id, run_id, after)


_TOLD: Final[set[str]] = {"status", "progress", "checkpoint", "notices"}


def read_last_id(text: str | None) -> int:
    """The number in ``Last-Event-ID``; 0 for none, or for one that is not ours."""
    if text is None or not (text.isascii() and text.isdigit()) or len(text) > 18:
        return 0
    return int(text)


def _event(kind: str, data: str, number: int | None = None) -> bytes:
    head = "" if number is None else f"id: {number}\n"
    return f"{head}event: {kind}\ndata: {data}\n\n".encode()
