"""What the OpenAPI document says beyond what each route says of itself."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.core.errors import (
    PROBLEM_JSON,
    BadRequest,
    Forbidden,
    Internal,
    PayloadTooLarge,
    ProblemError,
    Unauthorized,
    Unprocessable,
    UnsupportedMedia,
)
from app.core.problems import problem_responses

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457 problem details; some problems add members of their own.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "examples": ["/problems/not-found"]},
        "title": {"type": "string", "examples": ["Not found"]},
        "status": {"type": "integer", "minimum": 400, "maximum": 599, "examples": [404]},
        "detail": {"type": "string", "examples": ["There is nothing at /v1/nowhere."]},
        "instance": {"type": "string", "format": "uri-reference", "examples": ["/v1/nowhere"]},
        "errors": {
            "type": "array",
            "description": "For 422: where each value that was refused stands.",
            "items": {
                "type": "object",
                "required": ["loc", "detail"],
                "properties": {
                    "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
                    "detail": {"type": "string"},
                },
            },
        },
    },
    "examples": [
        {
            "type": "/problems/not-found",
            "title": "Not found",
            "status": 404,
            "detail": "There is nothing at /v1/nowhere.",
            "instance": "/v1/nowhere",
        }
    ],
}


def complete_openapi(app: FastAPI) -> dict[str, Any]:
    """The document, with every route's problems as they really are; built once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
            license_info=app.license_info,
            servers=[{"url": "/", "description": "This service"}],
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        schemas["Problem"] = PROBLEM_SCHEMA
        for schema in schemas.values():
            for example in _examples_of(schema):
                _put_nulls_back(example, schema, schemas)
        for path in document["paths"].values():
            for operation in path.values():
                for answer in operation["responses"].values():
                    for content in answer.get("content", {}).values():
                        for example in _examples_of(content):
                            _put_nulls_back(example, content.get("schema", {}), schemas)
                _say_problems(operation)
        app.openapi_schema = document
    return app.openapi_schema


def _say_problems(operation: dict[str, Any]) -> None:
    answers: dict[str, Any] = operation["responses"]
    framework = answers.get("422", {}).get("content", {})
    if PROBLEM_JSON not in framework and framework:
        # FastAPI's own shape of a validation error, which this service never sends
        answers["422"] = problem_responses(Unprocessable)[422]
    common: list[type[ProblemError]] = [Internal]
    if operation.get("security"):
        # the last for parameters in the query that the call does not know
        common += [Unauthorized, Forbidden, Unprocessable]
    body = operation.get("requestBody")
    if body:
        common.append(PayloadTooLarge)
        if "application/json" in body["content"]:
            common += [BadRequest, UnsupportedMedia]
    for status, answer in problem_responses(*common).items():
        answers.setdefault(str(status), answer)
    operation["responses"] = dict(sorted(answers.items()))


def _examples_of(holder: dict[str, Any]) -> list[Any]:
    """The examples of a schema or of a media type; those that several share are one object."""
    found = [holder["example"]] if "example" in holder else []
    several = holder.get("examples", [])
    if isinstance(several, dict):
        return found + [one["value"] for one in several.values() if "value" in one]
    return found + list(several)


def _put_nulls_back(example: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Give an example the members that its schema requires and that are null in it.

    FastAPI leaves every None out of the document, those in examples too; answers do have these members.
    """
    kinds = [_resolved(kind, schemas) for kind in (schema, *schema.get("anyOf", ()))]
    if isinstance(example, list):
        for kind in kinds:
            for item in example:
                _put_nulls_back(item, kind.get("items", {}), schemas)
    if not isinstance(example, dict):
        return
    for kind in kinds:
        members = kind.get("properties", {})
        others = kind.get("additionalProperties")
        for name in kind.get("required", ()):
            if name not in example and {"type": "null"} in members.get(name, {}).get("anyOf", ()):
                example[name] = None
        for name, value in example.items():
            inner = members.get(name, others)
            if isinstance(inner, dict):
                _put_nulls_back(value, inner, schemas)


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schemas[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
    return found
