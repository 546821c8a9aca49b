"""Bodies held in memory end at a limit before anybody is asked for a key; uploads have their own."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.core.settings import get_settings
from app.main import create_app
from patchplan.embedded import Services
from tests.app.core.test_problems import check_problem
from tests.imagery import lr_geotiff

LIMIT = 20_000
PIECE = 1000
# these look at the key first, and read bodies piece by piece
STREAMED = {
    ("post", "/v1/plans"),
    ("post", "/v1/plans/{plan_id}/acquisitions"),
    ("post", "/v1/datasets"),
    ("post", "/v1/price-lists"),
}


@pytest.fixture(autouse=True)
def _limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PATCHPLAN_MAX_JSON_BYTES", str(LIMIT))
    get_settings.cache_clear()
    yield
    monkeypatch.undo()
    get_settings.cache_clear()


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app()


def sent(
    app: FastAPI, method: str, path: str, size: int, kind: str = "application/json", declared: bool = False
) -> tuple[int, int]:
    """The status of a request with ``size`` bytes of body and no key, and how many bytes of it were read."""
    path = path.replace("{plan_id}", "0199c0de-0000-7000-8000-000000000001")
    headers = [(b"content-type", kind.encode())]
    if declared:
        headers.append((b"content-length", str(size).encode()))
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method.upper(),
        "scheme": "http",
        "path": path,
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("x", 80),
    }
    read, answered = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal read
        piece = min(PIECE, size - read)
        read += piece
        return {"type": "http.request", "body": b" " * piece, "more_body": read < size}

    async def send(message: dict[str, Any]) -> None:
        answered.append(message)

    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    return answered[0]["status"], read


def routes_with_bodies(app: FastAPI) -> list[tuple[str, str]]:
    return [
        (method, path)
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
        if "requestBody" in operation
    ]


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", "text/plain"])
def test_without_a_key_no_route_reads_more_than_the_limit(
    app: FastAPI, database: Services, kind: str
) -> None:
    routes = routes_with_bodies(app)
    assert set(routes) > STREAMED
    for method, path in routes:
        status, read = sent(app, method, path, 100 * LIMIT, kind)
        if (method, path) in STREAMED:
            assert (status, read) == (401, 0), path
        else:
            assert status == 413, path
            assert LIMIT < read <= LIMIT + PIECE, path


def test_a_length_over_the_limit_is_refused_unread(app: FastAPI, database: Services) -> None:
    assert sent(app, "post", "/v1/budgets", LIMIT + 1, declared=True) == (413, 0)
    # read to its end: blanks are no JSON
    assert sent(app, "post", "/v1/budgets", LIMIT, declared=True) == (400, LIMIT)


def test_the_refusal_is_a_problem_that_says_the_limit(client: TestClient) -> None:
    answer = client.post(
        "/v1/budgets", content=b" " * (LIMIT + 1), headers={"content-type": "application/json"}
    )
    check_problem(answer, 413, "payload-too-large")
    assert answer.json()["limit_bytes"] == LIMIT
    assert answer.headers["x-request-id"]
    yaml = client.post(
        "/v1/price-lists", content=b"#" * (LIMIT + 1), headers={"content-type": "application/yaml"}
    )
    check_problem(yaml, 413, "payload-too-large")


def test_uploads_have_a_limit_of_their_own(client: TestClient) -> None:
    content = lr_geotiff(8, 8)
    assert len(content) > LIMIT
    answer = client.post("/v1/plans", files={"lr": ("lr.tif", content)}, headers={"Prefer": "wait=0"})
    assert answer.status_code == 202, answer.text


def test_every_route_with_a_body_says_that_it_may_be_too_large(app: FastAPI) -> None:
    for method, path in routes_with_bodies(app):
        assert "413" in app.openapi()["paths"][path][method]["responses"], path
