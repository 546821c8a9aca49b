"""Keys: who gets in, and with which scopes."""

import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from app.core import auth
from app.core.auth import Principal, require
from app.core.db import session_scope
from app.core.errors import Unauthorized
from app.core.problems import add_problem_handlers
from app.core.work import announce
from app.datasets.tables import Dataset
from app.training.tables import TrainingRun
from patchplan.embedded import Services
from tests.archives import folders, tar
from tests.client import kept
from tests.conftest import KeyMaker, Live
from tests.imagery import lr_geotiff, patch_geotiff
from tests.plans import ready_plan
from tests.training import form, kept_dataset


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


@pytest.mark.parametrize("route", ["/v1/plans", "/v1/plans/{plan}/acquisitions", "/v1/datasets"])
def test_a_key_revoked_while_its_upload_comes_is_refused(live: Live, route: str) -> None:
    plan = ready_plan()
    key = live.new_key()
    field = {"/v1/plans": "lr", "/v1/datasets": "archive"}.get(route, "files")
    content = {"lr": lr_geotiff(), "archive": tar(folders()), "files": patch_geotiff(5)}[field]

    def body() -> Iterator[bytes]:
        named = f'name="{field}"; filename="a"'
        yield f"--b\r\nContent-Disposition: form-data; {named}\r\n\r\n".encode() + content[:100]
        # by now the server has let the request in
        time.sleep(0.5)
        with session_scope() as session:
            assert auth.revoke_key(session, key.split("_")[1])
        yield content[100:] + b"\r\n--b--\r\n"

    before = kept()
    with live.as_key(key) as client:
        answer = client.post(
            route.format(plan=plan),
            content=body(),
            headers={"Content-Type": "multipart/form-data; boundary=b", "Prefer": "wait=0"},
        )
    assert answer.status_code == 401, answer.text
    assert kept() == before
    with session_scope() as session:
        assert session.scalar(select(func.count()).select_from(Dataset)) == 0


def test_watching_a_run_ends_with_the_key(live: Live) -> None:
    key = live.new_key("train")
    with session_scope() as session:
        org_id = session.scalars(select(auth.Organisation.id)).one()
    # for a GPU, so that it is not over before
    asked = form(kept_dataset(org_id, per_class=2), device="cuda")
    run = live.client.post("/v1/training-runs", json=asked).json()["id"]
    with live.as_key(key) as client, client.stream("GET", f"/v1/training-runs/{run}/events") as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("retry")
        while not next(lines).startswith("data"):
            pass
        with session_scope() as session:
            assert auth.revoke_key(session, key.split("_")[1])
            announce(session, TrainingRun, uuid.UUID(run))
        assert [line for line in lines if line.startswith("data")] == []
    assert live.client.get(f"/v1/training-runs/{run}").json()["status"] in ("queued", "running")


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


def test_an_organisation_made_twice_at_once_is_one(database: Services) -> None:
    def make() -> uuid.UUID:
        with session_scope() as session:
            return auth.get_or_create_organisation(session, "new").id

    with ThreadPoolExecutor(1) as pool, session_scope() as session:
        first = auth.get_or_create_organisation(session, "new").id
        second = pool.submit(make)
        with pytest.raises(TimeoutError):
            second.result(timeout=0.5)
        session.commit()
        assert second.result() == first
    assert make() == first


def test_a_key_needs_known_scopes(database: Services) -> None:
    with session_scope() as session:
        organisation = auth.get_or_create_organisation(session, "acme")
        for scopes in ([], ["everything"]):
            with pytest.raises(ValueError):
                auth.create_key(session, organisation, scopes)
