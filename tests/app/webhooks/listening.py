"""A webhook's other end, and what a client says to register one and hear of it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fastapi.testclient import TestClient

from tests.plans import ready_plan

PRODUCT = "example-archive/by-the-patch"


class Listener(ThreadingHTTPServer):
    """A webhook's other end: notes what came, answers the next of ``answers`` (else 204)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.heard: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.hold = threading.Event()
        self.hold.set()

    def came(self, messages: int, *, within_s: float) -> bool:
        """Whether so many messages came, before the time is over."""
        until = time.monotonic() + within_s
        while len(self.heard) < messages and time.monotonic() < until:
            time.sleep(0.02)
        return len(self.heard) >= messages

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.server.hold.wait(10)
        status, headers = self.server.answers.pop(0) if self.server.answers else (204, {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def listening() -> Iterator[Listener]:
    server = Listener()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()


def registered(client: TestClient, url: str, **more: Any) -> Any:
    answer = client.post("/v1/webhooks", json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def draft(client: TestClient) -> str:
    answer = client.post("/v1/orders", json={"plans": [str(ready_plan())], "product": PRODUCT})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def deliveries(client: TestClient, hook: Any) -> list[Any]:
    found: list[Any] = client.get(f"/v1/webhooks/{hook['id']}/deliveries").json()["deliveries"]
    return found
