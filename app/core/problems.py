"""Turns every refusal, ours and the framework's, into ``application/problem+json``."""

import errno
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from obstore.exceptions import BaseError as StoreError
from psycopg.errors import CharacterNotInRepertoire, UntranslatableCharacter
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from app.core.db import DATABASE_LOST
from app.core.errors import (
    PROBLEM_JSON,
    BadRequest,
    Internal,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    ProblemError,
    ServiceUnavailable,
    Unprocessable,
    UnsupportedMedia,
    problem_document,
)

log = structlog.get_logger(__name__)

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE})

METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")

BY_STATUS: dict[int, type[ProblemError]] = {
    problem.status: problem
    for problem in (BadRequest, NotFound, MethodNotAllowed, PayloadTooLarge, UnsupportedMedia, Unprocessable)
}


def add_problem_handlers(app: FastAPI) -> None:
    """Register the handlers; nothing else in the service writes an error answer."""
    app.add_exception_handler(ProblemError, _ours)
    app.add_exception_handler(HTTPException, _frameworks)
    app.add_exception_handler(RequestValidationError, _validation)
    for lost in DATABASE_LOST:
        app.add_exception_handler(lost, _database_lost)
    app.add_exception_handler(DataError, _not_kept)
    app.add_exception_handler(StoreError, _store_lost)
    app.add_exception_handler(OSError, _machine_full)
    app.add_exception_handler(Exception, _unexpected)


class ProblemResponse(JSONResponse):
    """A problem document, which may quote what the client sent."""

    media_type = PROBLEM_JSON

    def render(self, content: Any) -> bytes:
        """The document in UTF-8, which has no half of a surrogate pair: that is escaped, as JSON has it."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace")


def problem_response(
    request: Request, problem: ProblemError, headers: dict[str, str] | None = None
) -> Response:
    """The answer for ``problem``."""
    return ProblemResponse(
        jsonable_encoder(problem.document(_here(request))),
        status_code=problem.status,
        headers={**problem.headers, **(headers or {})},
    )


def problem_responses(*problems: type[ProblemError]) -> dict[int | str, dict[str, Any]]:
    """``responses=`` of a route that may answer with ``problems``, with an example of each.

    Each route also has 401, 403, 413 and 500 by itself where they apply: see ``app.core.openapi``.
    """
    by_status: dict[int | str, dict[str, Any]] = {}
    for problem in problems:
        response = by_status.setdefault(
            problem.status,
            {
                "description": HTTPStatus(problem.status).phrase,
                "content": {
                    PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}}
                },
            },
        )
        response["content"][PROBLEM_JSON]["examples"][problem.slug] = {
            "summary": problem.title,
            "value": problem_document(problem.status, problem.slug, problem.title, first_line(problem)),
        }
    return by_status


def _here(request: Request) -> str:
    """The request's path as a URI reference: what the server decoded, encoded again."""
    return quote(request.url.path, safe="/:@!$&'()*+,;=~")


def pydantic_says(item: Mapping[str, Any]) -> str:
    """What one of a ValidationError's errors says, without the name of the exception our own checks raise."""
    message: str = item["msg"]
    return message.removeprefix("Value error, ")


def first_line(problem: type[ProblemError]) -> str:
    """What the class's docstring says in short."""
    return (problem.__doc__ or problem.title).strip().splitlines()[0]


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem_response(request, error)


async def _frameworks(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ProblemError):
        # raised while FastAPI read the body, which takes everything there for a 400
        return problem_response(request, error.__cause__)
    known = BY_STATUS.get(error.status_code)
    headers = dict(error.headers or {})
    if known is None:
        phrase = HTTPStatus(error.status_code).phrase
        document = problem_document(error.status_code, "http", phrase, str(error.detail), _here(request)) | {
            "type": "about:blank"
        }
        return ProblemResponse(document, error.status_code, headers)
    if known is NotFound:
        detail = f"There is nothing at {request.url.path}."
    elif known is MethodNotAllowed:
        # the framework names the methods of the first route with this path, and each has one
        headers["Allow"] = ", ".join(methods := _methods_here(request))
        detail = f"{request.method} is not possible here; {', '.join(methods)} is."
    else:
        detail = str(error.detail)
    return problem_response(request, known(detail), headers)


def _methods_here(request: Request) -> list[str]:
    """The methods that the request's path has, whichever of its routes has them."""
    found = []
    for method in METHODS:
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            found += ["GET", "HEAD"] if method == "GET" else [method]
    return found


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    for item in error.errors():
        if item["type"] == "json_invalid":
            why = f"{item['ctx']['error']}, at character {item['loc'][-1]}"
            return problem_response(request, BadRequest(f"This is no JSON: {why}."))
        if tuple(item["loc"]) == ("body",) and isinstance(item.get("input"), bytes):
            # what does not call itself JSON is handed on as it came
            return problem_response(request, UnsupportedMedia("Send the body as application/json."))
    errors = [{"loc": list(item["loc"]), "detail": pydantic_says(item)} for item in error.errors()]
    where = "; ".join(
        f"{'.'.join(str(step) for step in item['loc'])}: {item['detail']}" for item in errors[:3]
    )
    return problem_response(request, Unprocessable(where or "The values do not fit.", errors=errors))


async def _database_lost(request: Request, error: Exception) -> Response:
    log.error("database_lost", path=request.url.path, error=str(error))
    # where the answer to COMMIT was lost, it may have gone through
    lost = ServiceUnavailable(
        "The database does not answer; it is not known whether the request was carried out. The same request "
        "with the same Idempotency-Key is safe."
    )
    return problem_response(request, lost)


async def _not_kept(request: Request, error: Exception) -> Response:
    assert isinstance(error, DataError)
    # only clients send such text; any other value that does not fit its column is a mistake of ours
    if isinstance(error.orig, CharacterNotInRepertoire | UntranslatableCharacter) or "NUL" in str(error.orig):
        log.warning("text_not_kept", path=request.url.path, error=str(error.orig))
        return problem_response(
            request,
            Unprocessable("A text holds a character that cannot be kept, such as NUL; nothing was changed."),
        )
    log.error("unhandled", path=request.url.path, exc_info=error)
    return await _unexpected(request, error)


async def _store_lost(request: Request, error: Exception) -> Response:
    log.error("store_lost", path=request.url.path, error=str(error).splitlines()[0])
    return problem_response(
        request, ServiceUnavailable("The object store does not answer. Send the same request again later.")
    )


async def _machine_full(request: Request, error: Exception) -> Response:
    if isinstance(error, OSError) and error.errno in FULL:
        log.error("machine_full", path=request.url.path, error=str(error))
        full = ServiceUnavailable(f"The service has no room left ({error.strerror}); nothing was changed.")
        return problem_response(request, full)
    log.error("unhandled", path=request.url.path, exc_info=error)
    return await _unexpected(request, error)


async def _unexpected(request: Request, _error: Exception) -> Response:
    # the traceback is logged by the middleware that re-raises after this answer
    request_id = getattr(request.state, "request_id", None)
    detail = "Something broke on our side; the request id finds it in the log."
    return problem_response(request, Internal(detail, request_id=request_id))
