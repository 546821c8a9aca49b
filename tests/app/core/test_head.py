"""HEAD answers as GET does, and says nothing."""

import itertools
from collections.abc import AsyncIterator

import anyio
import pytest
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.core.head import HeadMiddleware
from app.main import create_app

PATHS = create_app().openapi()["paths"]
OPEN = [path for path, methods in PATHS.items() if "get" in methods and "{" not in path]


@pytest.mark.parametrize("path", OPEN)
def test_what_can_be_read_can_be_asked_about(client: TestClient, path: str) -> None:
    told, asked = client.get(path), client.head(path)
    assert asked.status_code == told.status_code
    assert asked.content == b""
    assert asked.headers["content-type"] == told.headers["content-type"]
    if path not in ("/metrics", "/v1/reports/savings"):  # which say when they were made
        assert asked.headers.get("content-length") == told.headers.get("content-length")


def test_refusals_are_those_of_get(client: TestClient, anonymous: TestClient) -> None:
    assert anonymous.head("/v1/plans").status_code == 401
    assert client.head("/v1/plans?limit=0").status_code == 422
    assert client.head("/v1/nowhere").status_code == 404
    posted = next(path for path, methods in PATHS.items() if set(methods) == {"post"})
    refused = client.head(posted.replace("{", "").replace("}", ""))
    assert (refused.status_code, refused.headers["allow"], refused.content) == (405, "POST", b"")


def test_it_is_counted_as_what_it_is(client: TestClient) -> None:
    def count() -> float:
        labels = {"method": "HEAD", "route": "/v1/plans", "status": "200"}
        return REGISTRY.get_sample_value("patchplan_http_requests_total", labels) or 0.0

    before = count()
    client.head("/v1/plans")
    assert count() == before + 1


def test_an_endless_answer_ends() -> None:
    written = []

    async def ever() -> AsyncIterator[bytes]:
        for number in itertools.count():
            written.append(number)
            yield b"event\n"
            await anyio.sleep(0)

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await StreamingResponse(ever())(scope, receive, send)

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        scope["asgi"] = {"version": "3.0", "spec_version": "2.4"}
        await HeadMiddleware(endless)(scope, receive, send)

    assert TestClient(served).head("/").content == b""
    assert written
