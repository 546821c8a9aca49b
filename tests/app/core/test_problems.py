"""Every refusal is a problem document, whoever refuses."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from app.core.db import session_scope
from app.core.errors import PROBLEM_JSON, Unprocessable, every_problem
from app.core.problems import add_problem_handlers
from patchplan.embedded import Services


def check_problem(response: object, status: int, slug: str) -> None:
    """Assert that an answer is a well-formed problem document."""
    assert response.status_code == status  # type: ignore[attr-defined]
    assert response.headers["content-type"] == PROBLEM_JSON  # type: ignore[attr-defined]
    document = response.json()  # type: ignore[attr-defined]
    assert document["type"] == f"/problems/{slug}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]


def test_unknown_path(client: TestClient) -> None:
    response = client.get("/v1/nowhere")
    check_problem(response, 404, "not-found")
    assert response.json()["instance"] == "/v1/nowhere"


def test_wrong_method(client: TestClient) -> None:
    response = client.delete("/healthz")
    check_problem(response, 405, "method-not-allowed")
    assert "GET" in response.headers["allow"]


def test_a_wrong_method_is_told_all_that_the_path_has(client: TestClient) -> None:
    # each method has a route of its own, of which the framework names the first's
    for path, methods in (
        ("/v1/plans", "GET, HEAD, POST"),
        ("/v1/aliases/champion", "GET, HEAD, PUT, DELETE"),
    ):
        response = client.patch(path)
        check_problem(response, 405, "method-not-allowed")
        assert response.headers["allow"] == methods
        assert methods in response.json()["detail"]


@pytest.mark.parametrize(
    ("path", "query", "said"),
    [
        ("/v1/orders", "status=draft", "known: limit, state, token"),
        ("/v1/ledger", "from=2026-11-01", "known: limit, order, plan, token"),
        ("/v1/reports/savings", "tags=team=north", "tag, to"),
        ("/v1/releases/nosuch", "version=3", "it knows none"),
    ],
)
def test_a_parameter_that_nobody_knows_is_refused(
    client: TestClient, path: str, query: str, said: str
) -> None:
    response = client.get(f"{path}?{query}")
    check_problem(response, 422, "unprocessable")
    name = query.split("=")[0]
    assert f"no parameter `{name}`" in response.json()["detail"]
    assert said in response.json()["detail"]
    assert response.json()["errors"][0]["loc"] == ["query", name]


def test_who_has_no_key_hears_that_first(anonymous: TestClient) -> None:
    check_problem(anonymous.get("/v1/orders?status=draft"), 401, "unauthorized")
    assert anonymous.get("/healthz?from=a-probe").status_code == 200


def test_a_body_that_is_no_json_is_a_400(client: TestClient) -> None:
    response = client.post("/v1/orders", content='{"plans": [', headers={"Content-Type": "application/json"})
    check_problem(response, 400, "bad-request")
    assert response.json()["detail"] == "This is no JSON: Expecting value, at character 11."


@pytest.mark.parametrize("headers", [{"Content-Type": "application/x-www-form-urlencoded"}, {}])
def test_json_that_does_not_say_so_is_a_415(client: TestClient, headers: dict[str, str]) -> None:
    # as curl's --data alone sends it
    response = client.post("/v1/orders", content='{"plans": []}', headers=headers)
    check_problem(response, 415, "unsupported-media")
    assert response.json()["detail"] == "Send the body as application/json."


def test_a_refusal_does_not_name_the_exception(client: TestClient) -> None:
    response = client.post("/v1/orders", json={})
    check_problem(response, 422, "unprocessable")
    assert "Value error" not in response.text
    assert response.json()["detail"].startswith("body: an order is made of")


def broken_app() -> FastAPI:
    app = FastAPI()
    add_problem_handlers(app)

    @app.get("/typed")
    def typed(number: int) -> int:
        return number

    @app.get("/broken")
    def broken() -> None:
        raise ZeroDivisionError("secret of the inside")

    @app.get("/database")
    def database() -> None:
        raise OperationalError("SELECT 1", {}, Exception("server closed the connection"))

    return app


def test_validation_says_where() -> None:
    response = TestClient(broken_app()).get("/typed", params={"number": "seven"})
    check_problem(response, 422, "unprocessable")
    assert response.json()["errors"][0]["loc"] == ["query", "number"]


def test_what_breaks_is_a_500_without_its_inside() -> None:
    response = TestClient(broken_app(), raise_server_exceptions=False).get("/broken")
    check_problem(response, 500, "internal")
    assert "secret" not in response.text


def test_a_lost_database_is_503() -> None:
    response = TestClient(broken_app()).get("/database")
    check_problem(response, 503, "service-unavailable")
    assert response.headers["retry-after"]
    assert "SELECT" not in response.text


def test_text_that_no_column_holds_is_the_clients_mistake(database: Services) -> None:
    app = broken_app()

    @app.get("/kept")
    def kept(what: str) -> None:
        with session_scope() as session:
            session.execute(text(what), {"given": "a\0b", "json": r'"a\u0000b"'})

    client = TestClient(app, raise_server_exceptions=False)
    for statement in ("SELECT :given", "SELECT CAST(:json AS jsonb)"):
        answer = client.get("/kept", params={"what": statement})
        check_problem(answer, 422, "unprocessable")
        assert "SELECT" not in answer.text
    # what does not fit for another reason is not blamed on whoever asked
    for statement in ("SELECT CAST(:json AS integer)", "SELECT 1 / 0", "SELECT CAST(99999 AS smallint)"):
        check_problem(client.get("/kept", params={"what": statement}), 500, "internal")


def test_a_problem_may_quote_half_a_character() -> None:
    app = broken_app()

    @app.post("/quoting")
    def quoting(names: list[str]) -> None:
        raise Unprocessable(
            f"{names[0]} is unknown", errors=[{"loc": ["body", names[0]], "detail": "unknown"}]
        )

    answer = TestClient(app).post(
        "/quoting", content=r'["\ud800"]', headers={"Content-Type": "application/json"}
    )
    check_problem(answer, 422, "unprocessable")
    assert answer.json()["detail"] == "\ud800 is unknown"
    assert answer.json()["errors"][0]["loc"] == ["body", "\ud800"]


def test_slugs_are_unique_and_every_problem_has_its_page(anonymous: TestClient) -> None:
    problems = list(every_problem())
    assert len({problem.slug for problem in problems}) == len(problems)
    for problem in problems:
        page = anonymous.get(f"/problems/{problem.slug}")
        assert page.status_code == 200
        assert page.json()["status"] == problem.status
        assert page.json()["meaning"]


def test_unknown_problem(anonymous: TestClient) -> None:
    check_problem(anonymous.get("/problems/none-such"), 404, "not-found")


@pytest.mark.parametrize("given", ["abc-123", None, "x" * 100, "a b"])
def test_request_id_is_echoed_when_it_is_harmless(anonymous: TestClient, given: str | None) -> None:
    headers = {"X-Request-ID": given} if given else {}
    answered = anonymous.get("/healthz", headers=headers).headers["x-request-id"]
    assert (answered == given) == (given == "abc-123")
