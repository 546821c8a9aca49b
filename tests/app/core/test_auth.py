"""Keys: who gets in, and with which scopes."""

from typing import Annotated

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from app.core import auth
from app.core.auth import Principal, require
from app.core.db import session_scope
from app.core.errors import Unauthorized
from app.core.problems import add_problem_handlers
from patchplan.embedded import Services
from tests.conftest import KeyMaker


@pytest.fixture
def guarded(database: Services) -> TestClient:
    app = FastAPI()
    add_problem_handlers(app)

    @app.get("/plan")
    def plan(principal: Annotated[Principal, Depends(require("plan"))]) -> str:
        return str(principal.org_id)

    @app.get("/admin")
    def admin(principal: Annotated[Principal, Depends(require("admin"))]) -> str:
        return str(principal.org_id)

    return TestClient(app)


def ask(client: TestClient, path: str, key: str | None) -> int:
    headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
    return client.get(path, headers=headers).status_code


def test_a_key_opens_what_its_scopes_say(guarded: TestClient, api_key: KeyMaker) -> None:
    planner, reporter, admin = api_key("plan"), api_key("report"), api_key("admin")
    assert [ask(guarded, "/plan", key) for key in (planner, reporter, admin)] == [200, 403, 200]
    assert [ask(guarded, "/admin", key) for key in (planner, reporter, admin)] == [403, 403, 200]


@pytest.mark.parametrize(
    "wrong", [None, "", "nonsense", "pp__", "pp_000000000000_secret", "pp_a\u00e9_b", "pp_%_x"]
)
def test_no_key_no_entry(guarded: TestClient, wrong: str | None) -> None:
    encoded = wrong.encode("latin-1").decode("latin-1") if wrong else wrong
    headers = {"Authorization": f"Bearer {encoded}".encode("latin-1")} if wrong is not None else {}
    response = guarded.get("/plan", headers=headers)  # type: ignore[arg-type]
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")


def test_the_right_prefix_with_another_secret_is_refused(guarded: TestClient, api_key: KeyMaker) -> None:
    key = api_key("plan")
    assert ask(guarded, "/plan", key[:-1] + ("A" if key[-1] != "A" else "B")) == 401


def test_a_revoked_key_is_refused(guarded: TestClient, api_key: KeyMaker) -> None:
    key = api_key("plan")
    with session_scope() as session:
        assert auth.revoke_key(session, key.split("_")[1])
        assert not auth.revoke_key(session, "000000000000")
    assert ask(guarded, "/plan", key) == 401


def test_a_revoked_key_cannot_be_revoked_twice(api_key: KeyMaker) -> None:
    prefix = api_key("plan").split("_")[1]
    with session_scope() as session:
        assert auth.revoke_key(session, prefix)
    with session_scope() as session:
        assert not auth.revoke_key(session, prefix)


def test_the_secret_is_not_kept(api_key: KeyMaker) -> None:
    key = api_key("plan")
    with session_scope() as session:
        row = session.scalars(select(auth.ApiKey)).one()
        kept = " ".join(str(getattr(row, column.key)) for column in auth.ApiKey.__table__.columns)
        assert key.split("_", 2)[2] not in kept
        with pytest.raises(Unauthorized):
            auth.authenticate(session, f"pp_{row.prefix}_{row.digest.hex()}")


def test_organisations_are_apart(guarded: TestClient, api_key: KeyMaker) -> None:
    keys = [api_key("plan", org="acme"), api_key("plan", org="acme"), api_key("plan", org="other")]
    ids = [guarded.get("/plan", headers={"Authorization": f"Bearer {key}"}).json() for key in keys]
    assert ids[0] == ids[1] != ids[2]


def test_a_key_needs_known_scopes(database: Services) -> None:
    with session_scope() as session:
        organisation = auth.get_or_create_organisation(session, "acme")
        for scopes in ([], ["everything"]):
            with pytest.raises(ValueError):
                auth.create_key(session, organisation, scopes)
