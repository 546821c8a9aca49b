"""Waiting for a row without holding a thread or a session: one LISTEN connection per API process."""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterator
from typing import Annotated, TypeVar

import psycopg
import structlog
from fastapi import Depends, Request
from psycopg import sql
from starlette.concurrency import run_in_threadpool

from app.core.work import CHANNEL

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

RECONNECT_S = 0.5
HEARS_WITHIN_S = 5.0
DEAF_LOOK_S = 1.0
DEAF_AGAIN_S = 60.0


class Listener:
    """Wakes waiters when ``work.announce`` has spoken of their key (``table:id``).

    The order that loses no wakeup: subscribe, look at the row, wait. ``until`` does just that. While the
    connection is down nothing is heard, so a new connection wakes everyone once to look for themselves.

    A pooler that lends connections by transaction (PgBouncer) takes LISTEN and tells nothing. Each new
    connection is therefore spoken to; while it is ``deaf``, ``until`` looks every ``DEAF_LOOK_S``.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._task: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._deaf = False

    async def start(self) -> None:
        """Begin listening in the background; returns at once, the database may come up later."""
        self._task = asyncio.create_task(self._listen_forever(), name="patchplan-listener")

    async def stop(self) -> None:
        """Close the connection and end the background task."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    @property
    def connected(self) -> bool:
        """Whether the connection is up."""
        return self._connected.is_set()

    @property
    def deaf(self) -> bool:
        """Whether what is announced does not come through this connection."""
        return self._deaf

    @contextlib.contextmanager
    def subscribe(self, key: str) -> Iterator[asyncio.Event]:
        """An event set at every announcement of ``key`` from now on."""
        event = asyncio.Event()
        self._waiters.setdefault(key, set()).add(event)
        try:
            yield event
        finally:
            waiting = self._waiters[key]
            waiting.discard(event)
            if not waiting:
                del self._waiters[key]

    async def wait(self, key: str, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for an announcement made after this call; False when none came."""
        with self.subscribe(key) as event:
            return await _set_within(event, timeout)

    async def until(self, key: str, timeout: float, look: Callable[[], Answer | None]) -> Answer | None:
        """Call ``look`` (in a thread; short session of its own) now and at each wakeup until it answers.

        Returns its answer, or that of a last look after ``timeout`` seconds, which may be None.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        with self.subscribe(key) as event:
            while True:
                event.clear()
                answer = await run_in_threadpool(look)
                left = deadline - loop.time()
                if answer is not None or left <= 0:
                    return answer
                await _set_within(event, min(left, DEAF_LOOK_S) if self._deaf else left)

    async def _listen_forever(self) -> None:
        while True:
            try:
                await self._listen()
            except (psycopg.Error, OSError) as error:
                self._connected.clear()
                log.warning("listener_reconnects", error=str(error))
                await asyncio.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        connection = await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, connect_timeout=5, application_name="patchplan-listener"
        )
        async with connection:
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
            self._connected.set()
            self._wake_all()
            spoken_to = asyncio.create_task(self._speak_to_itself(), name="patchplan-listener-hears")
            try:
                async for notice in connection.notifies():
                    self._wake(notice.payload)
            finally:
                spoken_to.cancel()
                await asyncio.gather(spoken_to, return_exceptions=True)

    async def _speak_to_itself(self) -> None:
        """Until it is heard once: a busy machine may have been slow to say it."""
        while True:
            key = f"listener:{uuid.uuid4()}"
            try:
                with self.subscribe(key) as heard:
                    await self._say(key)
                    deaf = not await _set_within(heard, HEARS_WITHIN_S)
            except (psycopg.Error, OSError) as error:
                # nothing was said: whether it hears is as open as before
                log.warning("listener_not_spoken_to", error=str(error))
            else:
                known, self._deaf = self._deaf, deaf
                if not deaf:
                    return
                if not known:
                    log.warning("listener_is_deaf", hint="a pooler that lends connections by transaction?")
                    self._wake_all()
            await asyncio.sleep(DEAF_AGAIN_S)

    async def _say(self, key: str) -> None:
        # through another connection, as those who announce do
        connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, connect_timeout=5)
        async with connection:
            await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, key))

    def _wake_all(self) -> None:
        for key in list(self._waiters):
            self._wake(key)

    def _wake(self, key: str) -> None:
        for event in self._waiters.get(key, ()):
            event.set()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


def get_listener(request: Request) -> Listener:
    """The listener of this process (a dependency)."""
    listener: Listener = request.app.state.listener
    return listener


ListenerDep = Annotated[Listener, Depends(get_listener)]
