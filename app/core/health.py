"""Is it alive, can it work, what does it count: ``/healthz``, ``/readyz``, ``/metrics``. None needs a key."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as CheckTimeoutError
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Gauge, generate_latest
from pydantic import BaseModel

from app.core.db import session_scope
from app.core.errors import ServiceUnavailable
from app.core.marker import StoreAway
from app.core.metrics import DATABASE_REGISTRY
from app.core.problems import problem_responses
from app.core.queue import get_queue
from app.core.revisions import NotMigrated, check_revision
from app.core.store import get_store

router = APIRouter(tags=["health"])

CHECK_S: Final = 3.0
PING_S: Final = 1.0

_checkers = ThreadPoolExecutor(max_workers=6, thread_name_prefix="readyz")
_asked: dict[Callable[[], None], Future[None]] = {}


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"

    model_config = {"json_schema_extra": {"examples": [{"status": "ok"}]}}


class Readiness(BaseModel):
    """Every part the service needs answered just now."""

    status: Literal["ready"] = "ready"
    checks: dict[str, str]

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "status": "ready",
                    "checks": {"database": "ok", "store": "ok", "broker": "ok", "worker": "ok"},
                }
            ]
        }
    }


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> Health:
    """Answers without asking anything else; restart the process when this fails."""
    return Health()


def check_database() -> None:
    """Raise when the database does not answer, NotMigrated when it is not the one this code reads."""
    with session_scope() as session:
        check_revision(session)


def check_store() -> None:
    """Raise when the object store does not answer, or what answers is another."""
    get_store().check()


def check_broker() -> None:
    """Raise when the broker does not answer."""
    with get_queue().connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=PING_S)
        connection.default_channel.client.ping()


def check_worker() -> None:
    """Raise when no worker answers."""
    # not the training workers: they answer to other names
    if not get_queue().control.ping(timeout=PING_S, limit=1, pattern="celery@*", matcher="glob"):
        raise RuntimeError("no worker answers")


Checks = dict[str, Callable[[], None]]


def the_checks() -> Checks:
    """What readiness means (a dependency)."""
    return {
        "database": check_database,
        "store": check_store,
        "broker": check_broker,
        "worker": check_worker,
    }


@router.get("/readyz", summary="Can the service work?", responses=problem_responses(ServiceUnavailable))
def readyz(checks: Annotated[Checks, Depends(the_checks)]) -> Readiness:
    """Really asks the database, the object store, the broker and a worker; 503 names those that are away.

    A database that was not migrated for this version is not ready either, and the answer says so.
    """
    answers = ask(checks)
    missing = [name for name, answer in answers.items() if answer != "ok"]
    if missing:
        raise ServiceUnavailable(f"Not ready: {', '.join(missing)}.", checks=answers)
    return Readiness(checks=answers)


def ask(checks: Checks) -> dict[str, str]:
    """What each part answers within ``CHECK_S`` seconds: "ok", or what is wrong."""
    futures = {name: _under_way(check) for name, check in checks.items()}
    deadline = time.monotonic() + CHECK_S
    answers: dict[str, str] = {}
    for name, future in futures.items():
        try:
            future.result(max(0.0, deadline - time.monotonic()))
            answers[name] = "ok"
        except CheckTimeoutError:
            answers[name] = f"no answer within {CHECK_S:g} s"
        except (NotMigrated, StoreAway) as error:
            answers[name] = str(error)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a part is the answer
            answers[name] = f"{type(error).__name__}: does not answer"
    return answers


def _under_way(check: Callable[[], None]) -> Future[None]:
    """The check under way, or a new one: a part that hangs holds one thread, however often it is asked."""
    known = _asked.get(check)
    if known is None or known.done():
        known = _asked[check] = _checkers.submit(check)
    return known


@router.get(
    "/metrics",
    summary="Prometheus metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus text format",
            "content": {
                "text/plain": {
                    "schema": {"type": "string"},
                    "example": 'patchplan_work_rows{status="queued",table="plans"} 0.0\n',
                }
            },
        }
    },
)
def metrics(checks: Annotated[Checks, Depends(the_checks)]) -> Response:
    """Requests and their times, messages to workers, rows by status, and which parts answer just now."""
    parts = CollectorRegistry()
    up = Gauge("patchplan_part_up", "Whether a part answers: as /readyz asks.", ["part"], registry=parts)
    for name, answer in ask(checks).items():
        up.labels(name).set(answer == "ok")
    body = generate_latest(REGISTRY) + generate_latest(DATABASE_REGISTRY) + generate_latest(parts)
    return Response(body, media_type=CONTENT_TYPE_LATEST)
