"""Traces, optional: requests, their SQL, and the work that a worker does for them (decision 0078).

They are sent by OTLP over HTTP where a standard variable asks for them (``OTEL_EXPORTER_OTLP_ENDPOINT``,
``OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`` or ``OTEL_TRACES_EXPORTER=otlp``) and the extra ``otel`` is installed.
Otherwise this module imports nothing of OpenTelemetry, and every function here does nothing.

A span holds routes, tables, ids of rows, SQL without its values and the kind of an error: no path, no query,
no header but the ids of a ``traceparent``, no message, so nothing that a client wrote.
"""

import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog
from sqlalchemy import Engine, event
from starlette.datastructures import Headers
from starlette.types import Scope

from app.core.settings import get_settings

log = structlog.get_logger(__name__)

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
SPOKEN: Final = "http/protobuf"
SQL_LENGTH: Final = 2000
LAST_SPANS_S: Final = 3.0
"""How long a process that ends waits for its last spans to be taken."""

# probes and scrapes come every few seconds and say nothing
QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})


class _Tracer:
    """OpenTelemetry as this process uses it; made only where it is wanted and installed."""

    def __init__(self, service: str) -> None:
        from opentelemetry import context, trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        name = os.environ.get("OTEL_SERVICE_NAME") or service
        # not the global one, which can be set once in a process and never taken back
        self.provider = TracerProvider(
            resource=Resource.create({"service.name": name}), shutdown_on_exit=False
        )
        self.provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self.tracer = self.provider.get_tracer("patchplan")
        self.api, self.nothing = trace, context.Context()
        self.carrier = TraceContextTextMapPropagator()
        self.trusts = get_settings().trust_traceparent
        self.kind, self.error = trace.SpanKind, trace.Status(trace.StatusCode.ERROR)
        self.work: dict[uuid.UUID, Any] = {}

    def under(self, traceparent: str | None) -> Any:
        """The context of a ``traceparent``, of no span where there is none."""
        return self.carrier.extract({"traceparent": traceparent} if traceparent else {}, self.nothing)

    def called(self, traceparent: str | None) -> dict[str, Any]:
        """Where a request's span stands, for one that comes with ``traceparent``.

        Anybody may send one, and with it whether, and into which trace, to record: unless callers are
        trusted the span begins a trace of its own, which names the caller's.
        """
        caller = self.under(traceparent)
        if self.trusts:
            return {"context": caller}
        span = self.api.get_current_span(caller).get_span_context()
        return {"context": self.nothing, "links": [self.api.Link(span)] if span.is_valid else []}


_on: _Tracer | None = None


def start(service: str) -> None:
    """Trace from now on, if that is wanted and can be done; says once why it cannot."""
    global _on
    if _on is not None or not _wanted():
        return
    spoken = next((os.environ[name] for name in PROTOCOLS if os.environ.get(name)), SPOKEN)
    if spoken != SPOKEN:
        log.warning("tracing_off", why=f"OTLP is spoken as {SPOKEN} alone", asked=spoken)
        return
    try:
        _on = _Tracer(service)
    except ImportError as error:
        log.warning("tracing_off", why="the extra is missing: pip install -e '.[otel]'", error=str(error))
        return
    for name, listener in _LISTENERS:
        event.listen(Engine, name, listener)
    log.info("tracing_on", service=service)


def stop() -> None:
    """Send what is left, within ``LAST_SPANS_S`` seconds, and trace no more."""
    global _on
    if _on is None:
        return
    on, _on = _on, None
    for name, listener in _LISTENERS:
        event.remove(Engine, name, listener)
    for span in on.work.values():
        span.end()
    # a receiver that is away would hold the end of the process up for half a minute
    last = threading.Thread(target=on.provider.shutdown, name="last-spans", daemon=True)
    last.start()
    last.join(LAST_SPANS_S)


def _wanted() -> bool:
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "")
    if exporter not in ("", "otlp", "none"):
        log.warning("tracing_off", why="traces go by OTLP alone", asked=exporter)
    return exporter == "otlp" or (not exporter and any(os.environ.get(name) for name in ENDPOINTS))


@contextmanager
def request(scope: Scope, method: str) -> Iterator[dict[str, Any]]:
    """A span for one HTTP request, in the caller's trace where that is trusted.

    Put ``status`` into the dict. ``method`` is one of HTTP's, not any that a client may write.
    The dict has ``trace_id`` for the log where the request is traced.
    """
    answer: dict[str, Any] = {}
    if _on is None or scope["path"] in QUIET:
        yield answer
        return
    on = _on
    place = on.called(Headers(scope=scope).get("traceparent"))
    with on.tracer.start_as_current_span(
        method, **place, kind=on.kind.SERVER, record_exception=False, set_status_on_exception=False
    ) as span:
        answer["trace_id"] = f"{span.get_span_context().trace_id:032x}"
        try:
            yield answer
        finally:
            route, status = getattr(scope.get("route"), "path", None), answer.get("status", 500)
            span.update_name(f"{method} {route}" if route else method)
            told: dict[str, Any] = {"http.request.method": method, "http.response.status_code": status}
            span.set_attributes(told | ({"http.route": route} if route else {}))
            if status >= 500:
                span.set_status(on.error)


@contextmanager
def sending(kind: str) -> Iterator[None]:
    """A span for telling workers that there is work of ``kind``."""
    if _on is None or not _on.api.get_current_span().is_recording():
        yield
        return
    with _on.tracer.start_as_current_span(f"send {kind}", kind=_on.kind.PRODUCER):
        yield


def traceparent() -> str | None:
    """Where the current trace goes on (W3C, 55 characters), to be kept beside the work; None without one."""
    carrier: dict[str, str] = {}
    if _on is not None:
        _on.carrier.inject(carrier)
    return carrier.get("traceparent")


def taken(table: str, row_id: uuid.UUID, attempt: int, parent: str | None) -> None:
    """A worker begins with a row: a span in the trace of the request that made it, until ``over``."""
    if _on is None:
        return
    over(row_id)
    told: dict[str, Any] = {
        "patchplan.table": table,
        "patchplan.id": str(row_id),
        "patchplan.attempt": attempt,
    }
    _on.work[row_id] = _on.tracer.start_span(
        f"work {table}", _on.under(parent), kind=_on.kind.CONSUMER, attributes=told
    )


@contextmanager
def during(row_id: uuid.UUID) -> Iterator[None]:
    """What this thread does in the block belongs to the row's span."""
    span = _on.work.get(row_id) if _on is not None else None
    if _on is None or span is None:
        yield
        return
    with _on.api.use_span(span, record_exception=False, set_status_on_exception=False):
        yield


def forwarded(row_id: uuid.UUID, jobs: int, tiles: int) -> None:
    """A forward that ``jobs`` rows share begins: a moment in each one's span."""
    if _on is not None and (span := _on.work.get(row_id)) is not None:
        span.add_event("forward", {"patchplan.jobs": jobs, "patchplan.tiles": tiles})


def outcome(row_id: uuid.UUID, status: str, error: Exception | None = None) -> None:
    """How the row ended, before ``over``; of an error its kind, not what it says."""
    if _on is None or (span := _on.work.get(row_id)) is None:
        return
    span.set_attribute("patchplan.status", str(status))
    if error is not None:
        span.set_attribute("error.type", type(error).__name__)
    if error is not None or status == "failed":
        span.set_status(_on.error)


def over(row_id: uuid.UUID) -> None:
    """The worker has nothing more to do with the row."""
    if _on is not None and (span := _on.work.pop(row_id, None)) is not None:
        span.end()


def _before(conn: Any, _cursor: Any, statement: str, _parameters: Any, _context: Any, _many: bool) -> None:
    # by itself, a worker's look for work every few seconds would be a trace of its own
    if _on is None or not _on.api.get_current_span().is_recording():
        return
    words = statement.split(maxsplit=1)
    operation = words[0].upper() if words else "SQL"
    told = {
        "db.system.name": "postgresql",
        "db.operation.name": operation,
        "db.query.text": statement[:SQL_LENGTH],
    }
    conn.info["span"] = _on.tracer.start_span(operation, kind=_on.kind.CLIENT, attributes=told)


def _after(conn: Any, _cursor: Any, _statement: str, _parameters: Any, _context: Any, _many: bool) -> None:
    if (span := conn.info.pop("span", None)) is not None:
        span.end()


def _failed(context: Any) -> None:
    if context.connection is None or (span := context.connection.info.pop("span", None)) is None:
        return
    span.set_attribute("error.type", type(context.original_exception).__name__)
    if _on is not None:
        span.set_status(_on.error)
    span.end()


_LISTENERS: Final = (
    ("before_cursor_execute", _before),
    ("after_cursor_execute", _after),
    ("handle_error", _failed),
)
