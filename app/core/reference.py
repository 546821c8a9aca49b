"""Pages for people: the API reference (drawn from the OpenAPI document) and what each problem means.

Made here rather than by a viewer from another host: the service must explain itself without the internet.
"""

import html
import json
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from app.core.errors import NotFound, every_problem
from app.core.problems import problem_responses

router = APIRouter()

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: 1rem }
code, pre { font: 14px/1.45 ui-monospace, monospace; background: #f4f4f4; border-radius: 4px }
pre { padding: .8rem; overflow: auto; max-height: 24rem } code { padding: .1rem .3rem }
td, th { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0 }
.method { font-weight: 700; text-transform: uppercase }
"""


class ProblemType(BaseModel):
    """What a problem's ``type`` means."""

    type: str
    title: str
    status: int
    meaning: str

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "type": "/problems/not-found",
                    "title": "Not found",
                    "status": 404,
                    "meaning": "There is nothing here, or it belongs to another organisation.",
                }
            ]
        }
    }


@router.get(
    "/problems/{slug}",
    tags=["problems"],
    summary="What a problem means",
    responses=problem_responses(NotFound),
)
def read_problem(slug: Annotated[str, Path(examples=["not-found"])]) -> ProblemType:
    """The page behind the ``type`` of every problem document."""
    for problem in every_problem():
        if problem.slug == slug:
            meaning = " ".join((problem.__doc__ or problem.title).split())
            return ProblemType(
                type=f"/problems/{slug}", title=problem.title, status=problem.status, meaning=meaning
            )
    raise NotFound(f"There is no problem called {slug!r}.")


@router.get("/docs", include_in_schema=False)
def read_reference(request: Request) -> HTMLResponse:
    """The API reference."""
    return HTMLResponse(reference_page(request.app.openapi()))


def reference_page(document: dict[str, Any]) -> str:
    """One page that lists every operation of an OpenAPI document."""
    info = document["info"]
    parts = [
        f"<h1>{_e(info['title'])} {_e(info['version'])}</h1><p>{_e(info.get('description', ''))}</p>",
        '<p>Machines read <a href="/openapi.json">/openapi.json</a>.</p>',
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(_operation(path, method, operation))
    head = f"<meta charset=utf-8><title>{_e(info['title'])}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>"


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    text = [f"<h2><span class=method>{_e(method)}</span> <code>{_e(path)}</code></h2>"]
    text.append(f"<p><b>{_e(operation.get('summary', ''))}</b> {_e(operation.get('description', ''))}</p>")
    rows = [
        (item["name"], item["in"], item.get("description") or item["schema"].get("description", ""))
        for item in operation.get("parameters", [])
    ]
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        fields = content.get("schema", {}).get("properties", {})
        rows += [(name, media, schema.get("description", "")) for name, schema in fields.items()]
    if rows:
        text.append("<table>" + "".join(_row(*row) for row in rows) + "</table>")
    for status, answer in operation["responses"].items():
        text.append(f"<p><code>{_e(status)}</code> {_e(answer.get('description', ''))}</p>")
        text += [
            f"<pre>{_e(json.dumps(content['example'], indent=2, ensure_ascii=False))}</pre>"
            for content in answer.get("content", {}).values()
            if "example" in content
        ]
    return "".join(text)


def _row(name: str, where: str, meaning: str) -> str:
    return f"<tr><td><code>{_e(name)}</code><td>{_e(where)}<td>{_e(meaning)}</tr>"


def _e(value: object) -> str:
    return html.escape(str(value))
