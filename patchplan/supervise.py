"""The whole service on one machine: embedded services where none are given, the API, a worker."""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
from obstore.exceptions import BaseError as StoreError

from app.core import db, queue, store
from app.core.settings import get_settings
from patchplan.child import Child
from patchplan.embedded import embedded_postgres, embedded_valkey, locked
from patchplan.errors import ServingError
from patchplan.keys import first_key
from patchplan.migrate import migrate
from patchplan.stopping import check_stop
from patchplan.stopping import stopped_by_signals as stopped_by_signals

READY_S: Final = 300
STEADY_S: Final = 60
BACKOFF_MOST_S: Final = 30

Say = Callable[[str], None]


@dataclass
class Service:
    """A running service: where it is, the file that holds its first key, its processes by name."""

    url: str
    key_file: Path
    children: dict[str, Child] = field(default_factory=dict)
    _retry_at: dict[str, float] = field(default_factory=dict)
    _failures: dict[str, int] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The admin's key made at the first start."""
        return self.key_file.read_text().strip()

    def revive(self, say: Say) -> None:
        """Start again what has died, each child a little later every time it dies at once."""
        now = time.monotonic()
        for name, child in self.children.items():
            if child.alive() or now < self._retry_at.get(name, 0):
                continue
            if name not in self._retry_at:
                failures = 0 if now - child.started_at > STEADY_S else self._failures.get(name, 0) + 1
                self._failures[name] = failures
                self._retry_at[name] = now + min(2.0**failures / 2, BACKOFF_MOST_S)
                code = child.process.returncode if child.process else "?"
                say(f"{name} ended ({code}); it will be started again")
                continue
            del self._retry_at[name]
            child.start()
            self.write_state()

    def write_state(self) -> None:
        """Note addresses and process ids in the data folder, for this user's eyes only."""
        settings = get_settings()
        state = {
            "url": self.url,
            "database_url": settings.database_url,
            "broker_url": settings.broker_url,
            "pid": os.getpid(),
            "children": {name: child.pid for name, child in self.children.items()},
        }
        path = state_file(settings.data_dir)
        part = path.with_suffix(".part")
        part.touch(mode=0o600)
        part.write_text(json.dumps(state, indent=2) + "\n")
        part.replace(path)


def state_file(data_dir: Path) -> Path:
    """Where a running service notes its addresses; there is none while nothing runs."""
    return data_dir / "running.json"


@contextmanager
def serving(*, say: Say = print, port: int | None = None) -> Iterator[Service]:
    """The service, ready to be used, until the block ends; raises ServingError or EmbeddedError.

    What ``PATCHPLAN_DATABASE_URL`` and ``PATCHPLAN_BROKER_URL`` name is used as it is; what they do not name
    is started. ``port`` 0 takes a free one. The settings are changed for the block, for this process too.
    """
    with ExitStack() as stack:
        data_dir = get_settings().data_dir.absolute()
        stack.enter_context(locked(data_dir))
        address = _address(get_settings().host, get_settings().port if port is None else port)
        children: dict[str, Child] = {}
        given = {"PATCHPLAN_DATA_DIR": str(data_dir), "PATCHPLAN_PORT": str(address[1])}
        if not get_settings().database_url:
            say("starting PostgreSQL")
            database = stack.enter_context(embedded_postgres(data_dir))
            given["PATCHPLAN_DATABASE_URL"], children["postgres"] = database
        if not get_settings().broker_url:
            say("starting Valkey")
            broker = stack.enter_context(embedded_valkey(data_dir))
            given["PATCHPLAN_BROKER_URL"], children["valkey"] = broker
        stack.enter_context(environment(given))
        say("bringing the database up to date")
        migrate()
        _must_have_its_store()
        key_file = first_key(data_dir, say)
        db.dispose_engine()
        check_stop()
        (data_dir / "logs").mkdir(exist_ok=True)
        say("starting the API and two workers, one for training")
        children["worker"] = stack.enter_context(_running(_worker(data_dir)))
        children["trainer"] = stack.enter_context(_running(_worker(data_dir, "training")))
        children["api"] = stack.enter_context(_running(_api(data_dir)))
        service = Service(f"http://{_in_url(address[0])}:{address[1]}", key_file, children)
        service.write_state()
        stack.callback(state_file(data_dir).unlink, missing_ok=True)
        wait_until_ready(service)
        yield service


def up(say: Say = print) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP, then stop every child."""
    with stopped_by_signals(), serving(say=say) as service:
        say(f"PatchPlan answers at {service.url} (reference: {service.url}/docs)")
        say(f"data folder: {get_settings().data_dir}   key: {_where_the_key_is(service.key_file)}")
        say("Ctrl-C stops it")
        _keep_alive(service, say)
    say("stopped")


def _where_the_key_is(path: Path) -> str:
    # of a database that was restored, or is another folder's, the keys are known by their hashes alone
    return str(path) if path.exists() else "one that was made before; `patchplan keys create` makes another"


def _keep_alive(service: Service, say: Say) -> None:
    while True:
        time.sleep(0.25)
        check_stop()
        service.revive(say)


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for the block; the settings are read anew at both ends."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    forget_settings()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        forget_settings()


def forget_settings() -> None:
    """Let every part of this process read ``PATCHPLAN_*`` anew."""
    db.dispose_engine()
    get_settings.cache_clear()
    queue.get_queue.cache_clear()
    store.get_store.cache_clear()


def wait_until_ready(service: Service, seconds: float = READY_S) -> None:
    """Wait for ``/readyz``; raises ServingError when a child ends or time runs out."""
    deadline = time.monotonic() + seconds
    answer = "no answer"
    while time.monotonic() < deadline:
        check_stop()
        for name, child in service.children.items():
            if not child.alive():
                raise ServingError(f"{name} ended while starting.\n{child.log_tail()}")
        try:
            response = httpx.get(f"{service.url}/readyz", timeout=10, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        if response.status_code == httpx.codes.OK:
            return
        answer = response.text
    raise ServingError(f"Not ready after {seconds:g} s: {answer}")


def _must_have_its_store() -> None:
    """Mark a new store, and refuse to start without the one that the database has noted."""
    try:
        store.get_store().check()
    except StoreError as error:
        why = str(error).splitlines()[0]
        raise ServingError(f'{why}\n(docs/operations.md, "The object store\'s marker")') from error


@contextmanager
def _running(child: Child) -> Iterator[Child]:
    try:
        child.start()
        yield child
    finally:
        child.stop()


def _api(data_dir: Path) -> Child:
    command = [sys.executable, "-m", "patchplan", "api"]
    return Child("api", command, log=data_dir / "logs" / "api.log", death_signal=signal.SIGKILL)


def _worker(data_dir: Path, queue: str | None = None) -> Child:
    # killed with its parent: its rows are leased, and whoever serves next takes them up
    name = "worker" if queue is None else "trainer"
    return Child(
        name,
        [sys.executable, "-m", "workers", *(["--queue", queue] if queue else [])],
        log=data_dir / "logs" / f"{name}.log",
        death_signal=signal.SIGKILL,
        grace_s=30,
    )


def _address(host: str, port: int) -> tuple[str, int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServingError(
                f"Cannot listen on {host}:{port} ({error.strerror}); set PATCHPLAN_PORT to another port."
            ) from error
        return host, probe.getsockname()[1]


def _in_url(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
