"""The OpenAPI document: valid, with examples everywhere, and it says the truth about keys and problems."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.conftest import checkout

OPEN = ("/healthz", "/readyz", "/metrics", "/problems/{slug}")


@pytest.fixture
def document(anonymous: TestClient) -> dict[str, Any]:
    answer = anonymous.get("/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_it_is_valid(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        assert operation.get("summary"), (method, path)
        assert operation.get("description"), (method, path)
        assert operation.get("tags"), (method, path)
    ids = [operation["operationId"] for _path, _method, operation in operations(document)]
    assert len(set(ids)) == len(ids)


def has_example(content: dict[str, Any], document: dict[str, Any]) -> bool:
    if {"example", "examples"} & content.keys():
        return True
    schema = content.get("schema", {})
    # OpenAPI 3.1 lets examples stand beside a reference
    if {"example", "examples"} & schema.keys():
        return True
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    properties = schema.get("properties", {})
    return bool({"example", "examples"} & schema.keys()) or (
        bool(properties) and all({"example", "examples", "$ref"} & one.keys() for one in properties.values())
    )


def test_every_body_has_an_example(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        bodies = {"request": operation.get("requestBody", {})} | operation["responses"]
        for where, body in bodies.items():
            for media, content in body.get("content", {}).items():
                if not media.startswith("image/"):
                    assert has_example(content, document), (method, path, where, media)


def examples(document: dict[str, Any]) -> Iterator[tuple[object, dict[str, Any], Any]]:
    """Where each example stands, its schema, and itself."""
    holders: list[tuple[object, dict[str, Any], dict[str, Any]]] = [
        (name, schema, schema) for name, schema in document["components"]["schemas"].items()
    ]
    for path, method, operation in operations(document):
        bodies = {"request": operation.get("requestBody", {})} | operation["responses"]
        for where, body in bodies.items():
            for media, content in body.get("content", {}).items():
                if media.endswith("json"):
                    holders.append(((method, path, where, media), content.get("schema", {}), content))
        holders += [
            ((method, path, parameter["name"]), parameter["schema"], parameter["schema"])
            for parameter in operation.get("parameters", [])
        ]
    for place, schema, holder in holders:
        several = holder.get("examples", [])
        if isinstance(several, dict):
            several = [one["value"] for one in several.values()]
        for example in [*several, *([holder["example"]] if "example" in holder else [])]:
            yield place, schema, example


def test_examples_are_as_their_schemas_say(document: dict[str, Any]) -> None:
    found = list(examples(document))
    assert len(found) > 500
    wrong = [
        (place, error.message)
        for place, schema, example in found
        for error in Draft202012Validator(schema | {"components": document["components"]}).iter_errors(
            example
        )
    ]
    assert wrong == []


def test_every_parameter_has_an_example_or_speaks_for_itself(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for parameter in operation.get("parameters", []):
            schema = parameter["schema"]
            spoken = {"example", "examples"} & (parameter.keys() | schema.keys())
            assert spoken or schema.get("format") == "uuid" or "enum" in schema or "default" in schema, (
                method,
                path,
                parameter["name"],
            )


def test_everything_but_health_needs_a_key(document: dict[str, Any], anonymous: TestClient) -> None:
    for path, method, operation in operations(document):
        if path in OPEN:
            assert "security" not in operation, path
            continue
        assert operation["security"] == [{"ApiKey": []}], path
        assert {"401", "403"} <= operation["responses"].keys(), path
        address = path.replace("{", "").replace("}", "")
        assert anonymous.request(method, address).status_code == 401, (method, path)


def test_errors_are_problem_documents_everywhere(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"], (method, path, status)


def test_the_reference_needs_no_other_host(anonymous: TestClient) -> None:
    page = anonymous.get("/docs").text
    assert "/v1/plans" in page
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page


def test_examples_are_of_the_shipped_release(document: dict[str, Any]) -> None:
    example = document["components"]["schemas"]["ReleaseOut"]["example"]
    card = json.loads((checkout() / "releases" / example["name"] / "card.json").read_text())
    assert {name: card[name] for name in ("hr_px", "lr_px", "fusion", "fill")} == {
        name: example[name] for name in ("hr_px", "lr_px", "fusion", "fill")
    }
    assert example["figures"].keys() <= card["figures"].keys()
    assert set(re.findall(r'"(ucmerced[^"./]*)"', json.dumps(document))) == {example["name"]}
