"""What is seen of each request from outside: its id, its log line, its metrics."""

import re
import time
import uuid
from typing import Final

import structlog
from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core import tracing
from app.core.tracing import QUIET

log = structlog.get_logger("patchplan.requests")

REQUESTS = Counter("patchplan_http_requests_total", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram(
    "patchplan_http_request_seconds",
    "Time until the answer was sent.",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
ID_SHAPE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class ObserveMiddleware:
    """Outermost middleware: gives each request an id (``X-Request-ID``), logs and counts it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if ID_SHAPE.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500
        method = scope["method"] if scope["method"] in METHODS else "other"
        begun = time.perf_counter()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        with (
            tracing.request(scope, method) as trace,
            structlog.contextvars.bound_contextvars(request_id=request_id, **trace),
        ):
            try:
                await self._app(scope, receive, send_with_id)
            except Exception:
                log.exception("request_broke", method=scope["method"], path=scope["path"])
                raise
            finally:
                trace["status"] = status
                self._record(scope, method, status, time.perf_counter() - begun)

    @staticmethod
    def _record(scope: Scope, method: str, status: int, seconds: float) -> None:
        # the route's template, not the path: one series per route, not per plan
        route = getattr(scope.get("route"), "path", "unmatched")
        REQUESTS.labels(method, route, str(status)).inc()
        SECONDS.labels(method, route).observe(seconds)
        if route not in QUIET:
            log.info("request", method=method, path=scope["path"], status=status, ms=round(seconds * 1000, 1))
