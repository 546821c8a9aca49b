"""Uploads: streamed, limited while they stream, harmless in name, gone afterwards."""

import hashlib
import os
import threading
import time
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from app.core.bodies import BodyLimitMiddleware
from app.core.problems import add_problem_handlers
from app.core.settings import get_settings
from app.core.uploads import receive, safe_name
from app.main import STALE_UPLOAD_S, _sweep_spool
from patchplan.supervise import environment

MEBIBYTE = 1024 * 1024
LIMIT = 2 * MEBIBYTE


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Path]:
    with environment({"PATCHPLAN_DATA_DIR": str(tmp_path), "PATCHPLAN_MAX_UPLOAD_BYTES": str(LIMIT)}):
        yield get_settings().spool_dir


@pytest.fixture
def desk(spool: Path) -> TestClient:
    """One route that takes an upload and says what came, and one that breaks on it."""
    app = FastAPI()
    add_problem_handlers(app)
    app.add_middleware(BodyLimitMiddleware)

    @app.post("/in")
    async def take(request: Request) -> dict[str, Any]:
        async with receive(request, file_fields={"lr", "files"}, text_fields={"tags"}) as upload:
            return {
                "fields": upload.fields,
                "files": [
                    {
                        "name": file.name,
                        "size": file.size,
                        "sha256": file.sha256,
                        "kept": hashlib.sha256(file.path.read_bytes()).hexdigest(),
                    }
                    for file in upload.files
                ],
                "fingerprint": upload.fingerprint,
            }

    @app.post("/breaks")
    async def break_on_it(request: Request) -> None:
        async with receive(request, file_fields={"lr"}):
            raise ZeroDivisionError

    return TestClient(app, raise_server_exceptions=False)


def left_behind(spool: Path) -> list[Path]:
    return list(spool.rglob("*")) if spool.exists() else []


def test_files_and_fields_arrive(desk: TestClient, spool: Path) -> None:
    big, small = os.urandom(MEBIBYTE), b"II*\x00"
    answer = desk.post(
        "/in",
        data={"tags": '{"aoi": "north"}'},
        files=[("lr", ("a.tif", big, "image/tiff")), ("files", ("b.tif", small, "image/tiff"))],
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["fields"] == {"tags": '{"aoi": "north"}'}
    for file, content in zip(answer.json()["files"], (big, small), strict=True):
        assert file["size"] == len(content)
        assert file["sha256"] == file["kept"] == hashlib.sha256(content).hexdigest()
    assert left_behind(spool) == []


def test_the_fingerprint_is_of_the_content_alone(desk: TestClient) -> None:
    def fingerprint(content: bytes, tags: str) -> str:
        answer = desk.post("/in", data={"tags": tags}, files={"lr": ("any.tif", content)})
        return str(answer.json()["fingerprint"])

    assert fingerprint(b"1", "a") == fingerprint(b"1", "a")
    assert len({fingerprint(b"1", "a"), fingerprint(b"2", "a"), fingerprint(b"1", "b")}) == 3


def endless(first: bytes, most: int, sent: list[int]) -> Iterator[bytes]:
    yield first
    block = b"x" * 65536
    while sum(sent) < most:
        sent.append(len(block))
        yield block


HEAD = (
    b'--frontier\r\nContent-Disposition: form-data; name="lr"; filename="a.tif"\r\n'
    b"Content-Type: image/tiff\r\n\r\n"
)
FORM = {"Content-Type": "multipart/form-data; boundary=frontier"}


class Watched:
    """An ASGI body that is made up as it is read, and counts what was asked of it."""

    def __init__(self, total: int) -> None:
        self.total, self.read = total, 0

    async def __call__(self) -> dict[str, Any]:
        block = HEAD if self.read == 0 else b"x" * 65536
        self.read += len(block)
        return {"type": "http.request", "body": block, "more_body": self.read < self.total}


async def post_endlessly(app: Any, body: Watched, headers: dict[str, str]) -> int:
    """POST without a client between, so that what the service asked for is known exactly."""
    status = 0

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": "/in",
        "raw_path": b"/in",
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("test", 1),
        "server": ("test", 80),
    }
    await app(scope, body, send)
    return status


def test_reading_stops_at_the_limit(desk: TestClient, spool: Path) -> None:
    import asyncio

    body = Watched(1024 * MEBIBYTE)
    tracemalloc.start()
    status = asyncio.run(post_endlessly(desk.app, body, FORM))
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert status == 413
    assert body.read <= LIMIT + 2 * 65536
    assert peak < 3 * MEBIBYTE
    assert left_behind(spool) == []


def test_a_declared_length_over_the_limit_is_not_read_at_all(desk: TestClient) -> None:
    import asyncio

    body = Watched(1024 * MEBIBYTE)
    status = asyncio.run(post_endlessly(desk.app, body, FORM | {"Content-Length": str(LIMIT + 1)}))
    assert (status, body.read) == (413, 0)


def test_a_route_that_breaks_leaves_nothing(desk: TestClient, spool: Path) -> None:
    assert desk.post("/breaks", files={"lr": ("a.tif", b"1")}).status_code == 500
    assert left_behind(spool) == []


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{}", {"Content-Type": "application/json"}, 415),
        (b"", {}, 415),
        (b"x", {"Content-Type": "multipart/form-data"}, 400),
        (b"no boundary here", FORM, 400),
        (HEAD + b"cut short", FORM, 400),
        (b"--frontier\r\nContent-Disposition: form-data\r\n\r\nx\r\n--frontier--\r\n", FORM, 400),
        (b"--frontier\r\n" + b"X-Long: " + b"y" * 20_000 + b"\r\n\r\nx\r\n--frontier--\r\n", FORM, 400),
        (b'--frontier\r\nContent-Disposition: form-data; name="no"\r\n\r\nx\r\n--frontier--\r\n', FORM, 422),
        (b'--frontier\r\nContent-Disposition: form-data; name="lr"\r\n\r\nx\r\n--frontier--\r\n', FORM, 422),
        (b'--frontier\r\nContent-Disposition: form-data; name="tags"\r\n\r\n\xff\r\n--frontier--', FORM, 422),
        (b'--frontier\r\nContent-Disposition: form-data; name="tags"\r\n\r\n\0\r\n--frontier--', FORM, 422),
    ],
)
def test_what_cannot_be_read_is_refused(
    desk: TestClient, spool: Path, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = desk.post("/in", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert left_behind(spool) == []


def test_a_field_twice_or_too_long_is_refused(desk: TestClient) -> None:
    twice = [("tags", (None, "a")), ("tags", (None, "b"))]
    assert desk.post("/in", files=twice).status_code == 422
    long = "x" * (get_settings().max_field_bytes + 1)
    assert desk.post("/in", files={"tags": (None, long)}).status_code == 422


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\scenes\\a.tif", "a.tif"),
        ("a\x00b\r\n\x1b[31m.tif", "ab[31m.tif"),
        ("..", "upload"),
        ("", "upload"),
        ("\u202efit.a", "fit.a"),
        ("Straße 8.tif", "Straße 8.tif"),
    ],
)
def test_names_are_made_harmless(given_name: str, shown: str) -> None:
    assert safe_name(given_name) == shown


@given(st.text())
def test_no_name_can_be_a_path(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert len(safe) <= 120
    assert not set(safe) & {"/", "\\", "\x00", "\n", "\r"}
    assert Path("/spool", safe).resolve().parent == Path("/spool")


def test_processes_that_start_at_once_sweep_the_same_folders(spool: Path) -> None:
    stale = time.time() - 2 * STALE_UPLOAD_S
    for number in range(400):
        left = spool / f"upload-{number}"
        left.mkdir(parents=True)
        os.utime(left, (stale, stale))
    (spool / "upload-new").mkdir()
    start = threading.Barrier(4)

    def sweep(_: int) -> None:
        start.wait()
        _sweep_spool(spool)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(sweep, range(4)))
    assert [path.name for path in left_behind(spool)] == ["upload-new"]
