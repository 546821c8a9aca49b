"""Traces of a real request and of the work it made, as a real receiver of OTLP over HTTP takes them."""

import gzip
import json
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from sqlalchemy import text
from structlog.testing import capture_logs

from app.core import tracing
from app.core.db import session_scope
from app.core.errors import ServiceUnavailable
from app.core.settings import get_settings
from app.plans.tables import Plan
from tests.app.webhooks.listening import draft, listening, registered
from tests.conftest import checkout, free_port
from tests.imagery import lr_geotiff
from tests.workers.conftest import queue_plan
from workers.delivering import DeliveryDesk
from workers.desk import Desk
from workers.leases import Leases

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ABOVE = "00f067aa0ba902b7"
SECRET = "field-of-barley"
VARIABLES = (
    *(*tracing.ENDPOINTS, *tracing.PROTOCOLS, "OTEL_TRACES_EXPORTER", "OTEL_SERVICE_NAME"),
    *("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"),
)


class Receiver:
    """Keeps the spans that are posted to ``/v1/traces``."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.bodies: list[bytes] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                assert self.headers["Content-Type"] == "application/x-protobuf"
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            told = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            self.services.add(told["service.name"])
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Span:
        (span,) = self.named(name)
        return span


def attributes(span: Span) -> dict[str, Any]:
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes}


@pytest.fixture(autouse=True)
def _untraced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    yield
    tracing.stop()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver, which processes are told of from now on."""
    found = Receiver()
    thread = threading.Thread(target=found.server.serve_forever, args=(0.05,))
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", found.url)
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server in front that is trusted to send ``traceparent``."""
    monkeypatch.setenv("PATCHPLAN_TRUST_TRACEPARENT", "true")
    get_settings.cache_clear()


def traceparent_of(plan_id: str) -> str | None:
    with session_scope() as session:
        found = session.get(Plan, uuid.UUID(plan_id))
        assert found is not None
        return found.traceparent


def test_a_request_and_its_work_are_one_trace(
    receiver: Receiver, trusting: None, client: TestClient, plan_desk: Desk
) -> None:
    client.headers["traceparent"] = f"00-{TRACE}-{ABOVE}-01"
    plan = queue_plan(client, tags=json.dumps({"crop": SECRET}))
    plan_desk.work()
    tracing.stop()

    posted = receiver.one("POST /v1/plans")
    assert posted.kind == Span.SPAN_KIND_SERVER
    assert (posted.trace_id.hex(), posted.parent_span_id.hex()) == (TRACE, ABOVE)
    assert attributes(posted) == {
        "http.request.method": "POST",
        "http.response.status_code": 202,
        "http.route": "/v1/plans",
    }
    worked = receiver.one("work plans")
    assert worked.kind == Span.SPAN_KIND_CONSUMER
    assert (worked.trace_id, worked.parent_span_id) == (posted.trace_id, posted.span_id)
    told = {"patchplan.table": "plans", "patchplan.id": plan, "patchplan.attempt": 1}
    assert attributes(worked) == told | {"patchplan.status": "ready"}
    assert [event.name for event in worked.events] == ["forward"]
    assert receiver.one("send plans").parent_span_id == posted.span_id

    written = [span for span in receiver.named("INSERT") if "INTO plans" in attributes(span)["db.query.text"]]
    assert [span.parent_span_id for span in written] == [posted.span_id]
    closed = [span for span in receiver.named("UPDATE") if span.parent_span_id == worked.span_id]
    assert any(attributes(span)["db.query.text"].startswith("UPDATE plans") for span in closed)


@pytest.mark.parametrize("sampler", ["parentbased_always_on", "parentbased_always_off", "always_on"])
@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_strangers_traceparent_decides_nothing(
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    sampler: str,
    flags: str,
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    client = request.getfixturevalue("client")
    for key in (client.headers["Authorization"], "Bearer nobody's"):
        client.get("/v1/plans", headers={"traceparent": f"00-{TRACE}-{ABOVE}-{flags}", "Authorization": key})
    client.get("/v1/plans", headers={"traceparent": "00-nonsense"})
    tracing.stop()
    found = receiver.named("GET /v1/plans")
    assert len(found) == (0 if "off" in sampler else 3)
    assert not any(span.parent_span_id for span in found)
    assert TRACE not in {span.trace_id.hex() for span in found}
    links = [[(link.trace_id.hex(), link.span_id.hex()) for link in span.links] for span in found]
    assert links == [[(TRACE, ABOVE)], [(TRACE, ABOVE)], []][: len(found)]


def test_a_trusted_traceparent_decides(receiver: Receiver, trusting: None, client: TestClient) -> None:
    for flags in ("00", "01"):
        client.get("/v1/plans", headers={"traceparent": f"00-{TRACE}-{ABOVE}-{flags}"})
    tracing.stop()
    assert receiver.one("GET /v1/plans").trace_id.hex() == TRACE


def test_webhooks_messages_are_in_the_trace_of_what_they_tell(
    receiver: Receiver, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATCHPLAN_WEBHOOK_NETWORKS", "127.0.0.0/8")
    get_settings.cache_clear()
    desk = DeliveryDesk()
    with listening() as listener:
        listener.answers = [(503, {})]
        registered(client, listener.url)
        draft(client)
        assert desk.work() == 1
        with session_scope() as session:
            session.execute(text("UPDATE webhook_deliveries SET next_try_at = now()"))
        assert desk.work() == 1
    tracing.stop()
    drafted = receiver.one("POST /v1/orders")
    refused, heard = sorted(
        receiver.named("work webhook_deliveries"), key=lambda span: attributes(span)["patchplan.attempt"]
    )
    for span in (refused, heard):
        assert (span.trace_id, span.parent_span_id) == (drafted.trace_id, drafted.span_id)
        assert attributes(span)["patchplan.table"] == "webhook_deliveries"
    assert refused.status.code == Status.STATUS_CODE_ERROR
    assert attributes(refused)["error.type"] == "NotDelivered"
    assert attributes(heard)["patchplan.status"] == "delivered"
    assert any(
        attributes(span)["db.query.text"].startswith("UPDATE webhook_deliveries")
        for span in receiver.named("UPDATE")
        if span.parent_span_id == heard.span_id
    )
    assert listener.url.encode() not in b"".join(receiver.bodies)


def test_nothing_that_a_client_wrote_is_told(receiver: Receiver, client: TestClient) -> None:
    key = client.headers["Authorization"].removeprefix("Bearer ")
    made = client.post(
        "/v1/plans",
        files={"lr": (f"{SECRET}.tif", lr_geotiff())},
        data={"tags": json.dumps({"crop": SECRET})},
        headers={"Prefer": "wait=0", "User-Agent": SECRET, "X-Request-ID": SECRET},
    )
    assert made.status_code == 202, made.text
    client.get(f"/v1/plans?tag=crop:{SECRET}")
    client.get(f"/{SECRET}")
    client.request(SECRET, "/v1/plans")
    tracing.stop()
    assert {span.name for span in receiver.spans} >= {"POST /v1/plans", "GET /v1/plans", "GET"}
    sent = b"".join(receiver.bodies)
    assert SECRET.encode() not in sent
    assert key.encode() not in sent


def test_every_span_has_one_above_it_but_requests(receiver: Receiver, client: TestClient) -> None:
    client.get("/readyz")
    client.get("/metrics")
    client.get("/v1/plans")
    tracing.stop()
    assert {span.name for span in receiver.spans if not span.parent_span_id} == {"GET /v1/plans"}
    assert receiver.services == {"patchplan-api"}


def test_work_that_fails_says_so_and_not_why(receiver: Receiver, client: TestClient, leases: Leases) -> None:
    plan = queue_plan(client)

    def refuse(row: Any) -> Any:
        job = _Refused()
        job.row = row
        return job

    Desk(refuse, Plan, leases, checkout()).work()
    tracing.stop()
    worked = receiver.one("work plans")
    assert worked.status.code == Status.STATUS_CODE_ERROR
    assert attributes(worked)["error.type"] == "ServiceUnavailable"
    assert SECRET.encode() not in b"".join(receiver.bodies)
    assert attributes(worked)["patchplan.id"] == plan


class _Refused:
    row: Plan

    def open(self, _scratch: Any) -> None:
        raise ServiceUnavailable(SECRET)

    def close(self) -> None:
        pass


def test_lines_of_the_log_name_the_trace(receiver: Receiver, client: TestClient) -> None:
    with tracing.request({"type": "http", "path": "/", "headers": []}, "GET") as trace:
        carried = tracing.traceparent()
    assert carried is not None
    assert carried.split("-")[1] == trace["trace_id"]


def test_without_the_variable_nothing_is_traced(client: TestClient, plan_desk: Desk) -> None:
    client.headers["traceparent"] = f"00-{TRACE}-{ABOVE}-01"
    plan = queue_plan(client)
    plan_desk.work()
    assert traceparent_of(plan) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("OTEL_TRACES_EXPORTER", "zipkin"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
)
def test_what_is_not_spoken_is_said_once(
    name: str, value: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with capture_logs() as lines:
        tracing.start("patchplan-api")
    assert [(line["event"], line["asked"]) for line in lines] == [("tracing_off", value)]
    assert tracing.traceparent() is None


def test_none_is_off_whatever_else_is_set(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    with capture_logs() as lines:
        tracing.start("patchplan-api")
    assert lines == []
    assert tracing.traceparent() is None


def test_without_the_extra_one_line_says_so(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules: importing it raises ImportError, as where it is not installed
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with capture_logs() as lines:
        tracing.start("patchplan-api")
    (line,) = lines
    assert line["event"] == "tracing_off"
    assert "[otel]" in line["why"]


def test_a_receiver_that_is_away_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch, client: TestClient
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(tracing, "LAST_SPANS_S", 0.2)
    tracing.start("patchplan-api")
    assert client.get("/v1/plans").status_code == 200
    tracing.stop()


def test_nothing_is_imported_where_nobody_asks() -> None:
    # the bare API comes with FastAPI's newer versions
    code = (
        "import sys; from app.core import tracing; from app.main import create_app; create_app();"
        " tracing.start('patchplan-api');"
        " heavy = ('opentelemetry.sdk', 'opentelemetry.exporter');"
        " sys.exit(any(name.startswith(heavy) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=checkout()).returncode == 0
