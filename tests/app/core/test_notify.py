"""Waiting for a row: no wakeup is lost, and nothing is held meanwhile."""

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial

import psycopg
import pytest

from app.core import notify, work
from app.core.db import database_url, get_engine, libpq_url, session_scope
from app.core.notify import Listener
from app.core.work import WorkStatus, wake_key
from patchplan.embedded import Services
from tests.app.core.errand import Errand, add_errands, errand_table, read_errand


@pytest.fixture(autouse=True)
def table(services: Services) -> Iterator[None]:
    with errand_table():
        yield


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener(libpq_url(database_url()))
    await listener.start()
    try:
        await eventually(lambda: listener.connected)
        yield listener
    finally:
        await listener.stop()


async def eventually(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def run(body: Callable[[Listener], Awaitable[None]]) -> None:
    async def main() -> None:
        async with listening() as listener:
            await body(listener)

    asyncio.run(main())


def answer(errand_id: uuid.UUID) -> None:
    with session_scope() as session:
        (row,) = work.claim(session, Errand, "a", 1, 60)
        assert work.finish(session, Errand, errand_id, row.fence, answer="done")


def look_for(errand_id: uuid.UUID) -> Callable[[], str | None]:
    def look() -> str | None:
        row = read_errand(errand_id)
        return row.answer if row.status == WorkStatus.READY else None

    return look


def test_who_waits_is_woken_at_the_commit() -> None:
    (errand_id,) = add_errands(1)

    async def body(listener: Listener) -> None:
        worker = threading.Timer(0.2, answer, [errand_id])
        worker.start()
        began = time.monotonic()
        found = await listener.until(wake_key("errands", errand_id), 20, look_for(errand_id))
        worker.join()
        assert found == "done"
        assert time.monotonic() - began < 10

    run(body)


def test_an_answer_between_looking_and_waiting_is_not_missed() -> None:
    (errand_id,) = add_errands(1)
    looks = 0

    def look_then_answer() -> str | None:
        nonlocal looks
        looks += 1
        seen = look_for(errand_id)()
        if looks == 1:
            # the row is finished after we looked and before we wait
            answer(errand_id)
        return seen

    async def body(listener: Listener) -> None:
        began = time.monotonic()
        assert await listener.until(wake_key("errands", errand_id), 20, look_then_answer) == "done"
        assert time.monotonic() - began < 10
        assert looks == 2

    run(body)


def test_time_runs_out_with_a_last_look() -> None:
    (errand_id,) = add_errands(1)

    async def body(listener: Listener) -> None:
        assert await listener.until(wake_key("errands", errand_id), 0.1, look_for(errand_id)) is None
        assert not await listener.wait(wake_key("errands", errand_id), 0.05)

    run(body)


def test_only_the_waiter_of_the_row_is_woken() -> None:
    first, second = add_errands(2)

    async def body(listener: Listener) -> None:
        waits = [asyncio.create_task(listener.wait(wake_key("errands", one), 1)) for one in (first, second)]
        await asyncio.sleep(0.05)
        await asyncio.to_thread(answer, first)
        assert await asyncio.gather(*waits) == [True, False]

    run(body)


def test_a_cut_connection_comes_back_and_wakes_everyone() -> None:
    (errand_id,) = add_errands(1)

    async def body(listener: Listener) -> None:
        key = wake_key("errands", errand_id)
        waiting = asyncio.create_task(listener.until(key, 20, look_for(errand_id)))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(cut_listeners)
        # said while nobody hears
        await asyncio.to_thread(answer, errand_id)
        assert await waiting == "done"

    run(body)


def test_who_hears_nothing_looks_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a pooler that lends connections by transaction: LISTEN is taken, and nothing comes."""
    monkeypatch.setattr(notify, "HEARS_WITHIN_S", 0.2)
    monkeypatch.setattr(notify, "DEAF_AGAIN_S", 0.2)
    comes = psycopg.AsyncConnection.notifies

    async def nothing_comes(connection: psycopg.AsyncConnection) -> AsyncIterator[psycopg.Notify]:
        async for notice in comes(connection):
            if not notice.payload:
                yield notice

    monkeypatch.setattr(psycopg.AsyncConnection, "notifies", nothing_comes)
    (errand_id,) = add_errands(1)

    async def body(listener: Listener) -> None:
        worker = threading.Timer(1, answer, [errand_id])
        worker.start()
        began = time.monotonic()  # before it is known
        assert await listener.until(wake_key("errands", errand_id), 60, look_for(errand_id)) == "done"
        assert time.monotonic() - began < 20
        assert listener.deaf
        worker.join()
        monkeypatch.setattr(psycopg.AsyncConnection, "notifies", comes)
        await asyncio.to_thread(cut_listeners)  # the next connection hears
        await eventually(lambda: not listener.deaf)

    run(body)


def test_who_hears_is_not_taken_for_deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "HEARS_WITHIN_S", 60)
    said: list[str] = []
    say = Listener._say

    async def told(listener: Listener, key: str) -> None:
        await say(listener, key)
        said.append(key)

    monkeypatch.setattr(Listener, "_say", told)

    async def body(listener: Listener) -> None:
        await eventually(lambda: bool(said))
        await eventually(lambda: not asyncio_tasks("patchplan-listener-hears"))
        assert not listener.deaf

    run(body)
    assert len(said) == 1


def test_who_stops_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even in the middle of finding out whether it hears."""
    begun = threading.Event()
    say = Listener._say

    async def slow(listener: Listener, key: str) -> None:
        begun.set()
        await asyncio.sleep(30)
        await say(listener, key)

    monkeypatch.setattr(Listener, "_say", slow)

    async def body(listener: Listener) -> None:
        await eventually(begun.is_set)
        await listener.stop()
        assert not asyncio_tasks("patchplan-listener-hears")

    run(body)


def asyncio_tasks(name: str) -> list[asyncio.Task[None]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == name]


def cut_listeners() -> None:
    with psycopg.connect(libpq_url(database_url()), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'patchplan-listener' AND datname = current_database()"
        )


def test_waiting_holds_no_connection_of_the_pool() -> None:
    ids = add_errands(60)
    looked: list[uuid.UUID] = []

    def look(errand_id: uuid.UUID) -> str | None:
        answer = look_for(errand_id)()
        looked.append(errand_id)
        return answer

    async def body(listener: Listener) -> None:
        waits = [
            asyncio.create_task(listener.until(wake_key("errands", one), 600, partial(look, one)))
            for one in ids
        ]
        await eventually(lambda: len(looked) == len(ids), 90)
        await eventually(lambda: get_engine().pool.checkedout() == 0)  # type: ignore[attr-defined]
        assert not any(wait.done() for wait in waits)
        for wait in waits:
            wait.cancel()

    run(body)
