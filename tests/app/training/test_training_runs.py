"""``/v1/training-runs``: what is refused at once, who sees what, which moves there are."""

import hashlib
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError

from app.core.auth import Organisation
from app.core.db import session_scope
from app.core.settings import get_settings
from app.core.work import PATIENCE, claim, put_off
from app.training.schemas import TrainingForm
from app.training.states import MOVES, RunStatus
from app.training.tables import TrainingMetric, TrainingRun
from models.release import tiny_release
from tests.conftest import KeyMaker
from tests.models.scenes import CLASSES
from tests.training import QUICK, form, kept_dataset, parse_events, post_run, quick
from workers.training import close_cancelled


def organisation(name: str = "acme") -> uuid.UUID:
    with session_scope() as session:
        return session.scalars(select(Organisation.id).where(Organisation.name == name)).one()


@pytest.fixture
def dataset(client: TestClient) -> uuid.UUID:
    return kept_dataset(organisation(), per_class=2)


def refused(client: TestClient, body: dict[str, Any], status: int = 422) -> dict[str, Any]:
    answer = client.post("/v1/training-runs", json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get("/v1/training-runs").json()["runs"] == []
    problem: dict[str, Any] = answer.json()
    return problem


def with_overrides(dataset: uuid.UUID, **sections: Any) -> dict[str, Any]:
    return form(dataset, overrides={**QUICK, **sections})


@pytest.mark.parametrize(
    ("sections", "said", "place"),
    [
        ({"stages": {"hr": {"epocs": 3}}}, "stages.hr.epocs is unknown", "stages"),
        ({"stages": {"hr": {"epochs": -1}}}, "0..100000", "stages"),
        ({"stages": {"hr": {"epochs": 10**400}}}, "not a number", "stages"),
        ({"stages": {"hr": {"lr": 1e999}}}, "not a number", "stages"),
        ({"stages": {"hq": {"epochs": 1}}}, "only hr, lr, pt, ft1, ft2", "stages"),
        ({"networks": {"hr": "vgg"}}, "networks.hr: one of", "networks"),
        ({"networks": "tiny"}, "missing", "networks"),
        ({"images": {"hr_px": 4096}}, "8..1024", "images"),
        ({"images": {"ds": [3]}}, "images.ds", "images"),
        ({"images": {"grid": 8}}, "images.grid: 4", "grid"),
        ({"name": "other"}, "unknown", "name"),
        ({"description": "a\0b"}, "NUL", "description"),
        ({"classes": {"x": {"y": {"z": {"w": {}}}}}}, "too deeply", "classes"),
    ],
)
def test_a_wrong_recipe_is_refused_at_once(
    client: TestClient, dataset: uuid.UUID, sections: dict[str, Any], said: str, place: str
) -> None:
    body = json.dumps(with_overrides(dataset, **sections))
    answer = client.post("/v1/training-runs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert problem["type"] == "/problems/recipe-refused"
    assert said in problem["detail"]
    (error,) = problem["errors"]
    assert error["loc"][:2] == ["body", "overrides"]
    assert place in (*error["loc"], "networks")


def test_stages_recipes_and_parents_that_make_no_sense(client: TestClient, dataset: uuid.UUID) -> None:
    assert "no recipe" in refused(client, form(dataset, recipe="nosuch"))["detail"]
    refused(client, form(dataset, recipe="../../etc/passwd"))
    refused(client, form(dataset, stages=["hr", "xx"]))
    refused(client, form(dataset, stages=[]))
    assert "no epochs for ft1" in refused(client, form(dataset, stages=["hr", "ft1"]))["detail"]
    assert "names the release" in refused(client, form(dataset, stages=["pt", "ft2"]))["detail"]
    assert "no release" in refused(client, form(dataset, stages=["pt"], parent="nosuch"))["detail"]
    refused(client, form(dataset, name="../x"))
    refused(client, form(dataset, name="a..b"))
    refused(client, form(dataset, device="tpu"))
    refused(client, form(dataset, seed=-1))
    assert "16 cannot be shared" in refused(client, form(dataset, processes=16))["detail"]
    refused(client, form(uuid.uuid4()))


def test_a_parent_must_have_the_classes_and_the_networks(
    client: TestClient, dataset: uuid.UUID, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_release(tmp_path / "other", classes=["field", "forest", "harbor"])
    tiny_release(tmp_path / "same", classes=list(CLASSES))
    monkeypatch.setenv("PATCHPLAN_RELEASES_DIR", str(tmp_path))
    get_settings.cache_clear()
    body = form(dataset, stages=["pt", "ft2"], parent="other")
    problem = refused(client, body)
    assert problem["type"] == "/problems/training-data-refused"
    assert "it has no across, along, quarter" in problem["detail"]
    wrong = {
        **body,
        "parent": "same",
        "overrides": quick() | {"networks": {"policy": "resnet8", "hr": "tiny"}},
    }
    assert "has policy 'tiny'" in refused(client, wrong)["detail"]
    run = post_run(client, dataset, stages=["pt", "ft2"], parent="same")
    assert (run["parent"], run["stages"]) == ("same", ["pt", "ft2"])
    get_settings.cache_clear()


def test_a_dataset_must_be_ones_own_and_have_classes(client: TestClient, api_key: KeyMaker) -> None:
    api_key(org="others")
    refused(client, form(kept_dataset(organisation("others"), per_class=2)))
    mine = kept_dataset(organisation(), per_class=2)
    with session_scope() as session:
        session.execute(text("UPDATE datasets SET classes = '{one}' WHERE id = :id"), {"id": mine})
    assert refused(client, form(mine))["type"] == "/problems/training-data-refused"


def test_runs_are_the_organisations_own_and_need_the_scope(
    client: TestClient, dataset: uuid.UUID, api_key: KeyMaker
) -> None:
    run = post_run(client, dataset)
    paths = [("GET", ""), ("GET", "/events"), ("GET", "/metrics"), ("POST", "/cancel"), ("POST", "/resume")]
    for key, status in ((api_key("train", org="others"), 404), (api_key("plan", "report"), 403)):
        headers = {"Authorization": f"Bearer {key}"}
        for method, path in paths:
            answer = client.request(method, f"/v1/training-runs/{run['id']}{path}", headers=headers)
            assert answer.status_code == status, path
    assert client.get("/v1/training-runs", headers=headers).status_code == 403
    other = {"Authorization": f"Bearer {api_key('train', org='others')}"}
    assert client.get("/v1/training-runs", headers=other).json()["runs"] == []


def test_lists_page_and_filter(client: TestClient, dataset: uuid.UUID) -> None:
    ids = [post_run(client, dataset, seed=seed)["id"] for seed in range(5)]
    client.post(f"/v1/training-runs/{ids[1]}/cancel")
    found, token = [], None
    while True:
        page = client.get(
            "/v1/training-runs", params={"limit": 2} | ({"token": token} if token else {})
        ).json()
        found += [run["id"] for run in page["runs"]]
        token = page["next"]
        if token is None:
            break
    assert found == ids[::-1]
    cancelled = client.get("/v1/training-runs", params={"status": "cancelled"}).json()["runs"]
    assert [run["id"] for run in cancelled] == [ids[1]]
    for bad in ("x", "WyJhIl0", "é", "W1tbW1tbW1tb"):
        assert client.get("/v1/training-runs", params={"token": bad}).status_code == 422
        path = f"/v1/training-runs/{ids[0]}/metrics"
        assert client.get(path, params={"token": bad}).status_code == 422


def test_the_same_request_twice_is_one_run(client: TestClient, dataset: uuid.UUID) -> None:
    key = {"Idempotency-Key": "abc"}
    first = client.post("/v1/training-runs", json=form(dataset), headers=key)
    again = client.post("/v1/training-runs", json=form(dataset), headers=key)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    other = client.post("/v1/training-runs", json=form(dataset, seed=9), headers=key)
    assert other.status_code == 422
    assert other.json()["type"] == "/problems/idempotency-mismatch"
    assert client.post("/v1/training-runs", json=form(dataset)).json()["id"] != first.json()["id"]


def test_a_request_is_the_same_with_its_keys_in_another_order(client: TestClient, dataset: uuid.UUID) -> None:
    def turned(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: turned(inner) for name, inner in reversed(value.items())}

    key = {"Idempotency-Key": "order"}
    first = client.post("/v1/training-runs", json=form(dataset), headers=key)
    again = client.post("/v1/training-runs", json=turned(form(dataset)), headers=key)
    assert json.dumps(turned(form(dataset))) != json.dumps(form(dataset))
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert again.headers["Idempotency-Replayed"] == "true"


def test_a_key_is_looked_up_before_what_may_have_changed_since(
    client: TestClient, dataset: uuid.UUID
) -> None:
    """A recipe that is no longer there, and a fingerprint of a run from before keys were sorted."""
    body = form(dataset, recipe="gone")
    sent = TrainingForm.model_validate(body).model_dump_json()
    for name, kept in (("new", json.dumps(json.loads(sent), sort_keys=True)), ("old", sent)):
        key = {"Idempotency-Key": name}
        made = client.post("/v1/training-runs", json=form(dataset), headers=key).json()
        digest = hashlib.sha256(kept.encode()).hexdigest()
        with session_scope() as session:
            row = update(TrainingRun).where(TrainingRun.id == uuid.UUID(made["id"]))
            session.execute(row.values(recipe_name="gone", fingerprint=digest))
        again = client.post("/v1/training-runs", json=body, headers=key)
        assert (again.status_code, again.json()["id"]) == (202, made["id"]), again.text
        other = client.post("/v1/training-runs", json=form(dataset), headers=key)
        assert other.json()["type"] == "/problems/idempotency-mismatch"
    fresh = client.post("/v1/training-runs", json=body, headers={"Idempotency-Key": "fresh"})
    assert fresh.json()["type"] == "/problems/recipe-refused"


@pytest.mark.parametrize("value", ['"\\ud800"', "1e999", '{"a":' * 300 + "1" + "}" * 300])
def test_what_no_recipe_holds_is_refused_with_a_key_too(
    client: TestClient, dataset: uuid.UUID, value: str
) -> None:
    body = json.dumps(form(dataset, overrides={"description": "HERE"})).replace('"HERE"', value)
    headers = {"Content-Type": "application/json", "Idempotency-Key": "odd"}
    answer = client.post("/v1/training-runs", content=body, headers=headers)
    assert answer.status_code == 422, answer.text
    assert answer.json()["type"] == "/problems/recipe-refused"


def set_state(run_id: uuid.UUID, state: RunStatus) -> None:
    """Put a run into a state past the trigger, with all that the other constraints ask."""
    held = state in (RunStatus.RUNNING, RunStatus.CANCELLING)
    over = state in (RunStatus.READY, RunStatus.FAILED, RunStatus.CANCELLED)
    with session_scope() as session:
        session.execute(text("ALTER TABLE training_runs DISABLE TRIGGER training_runs_move"))
        session.execute(
            update(TrainingRun).where(TrainingRun.id == run_id).values(**values(state, held, over))
        )
        session.execute(text("ALTER TABLE training_runs ENABLE TRIGGER training_runs_move"))


def values(state: RunStatus, held: bool, over: bool) -> dict[str, Any]:
    return {
        "status": state,
        "lease_owner": "me" if held else None,
        "lease_expires_at": func.now() + text("interval '1 h'") if held else None,
        "finished_at": func.now() if over else None,
        "release_id": uuid.uuid4() if state is RunStatus.READY else None,
    }


def test_the_database_knows_the_moves_and_no_other(client: TestClient, dataset: uuid.UUID) -> None:
    run_id = uuid.UUID(post_run(client, dataset)["id"])
    done: dict[RunStatus, set[RunStatus]] = {state: set() for state in RunStatus}
    refusals: set[bool] = set()
    for old in RunStatus:
        for new in RunStatus:
            set_state(run_id, old)
            held = new in (RunStatus.RUNNING, RunStatus.CANCELLING)
            over = new in (RunStatus.READY, RunStatus.FAILED, RunStatus.CANCELLED)
            try:
                with session_scope() as session:
                    session.execute(update(TrainingRun).values(**values(new, held, over)))
                done[old].add(new)
            except DBAPIError as error:
                refusals.add("does not go from" in str(error))
    assert refusals == {True}
    assert done == {state: set(moves) for state, moves in MOVES.items()}
    with pytest.raises(DBAPIError, match="begins as queued"), session_scope() as session:
        session.execute(text(INSERT_RUNNING))


INSERT_RUNNING = """
INSERT INTO training_runs (id, org_id, dataset_id, name, recipe_name, overrides, recipe, stages, seed, device,
    processes, fingerprint, status, lease_owner, lease_expires_at)
SELECT gen_random_uuid(), org_id, dataset_id, name, recipe_name, overrides, recipe, stages, seed, device,
    processes, fingerprint, 'running', 'me', now() FROM training_runs
"""


@pytest.mark.parametrize(
    ("state", "cancel", "resume"),
    [
        (RunStatus.QUEUED, "cancelled", None),
        (RunStatus.RUNNING, "cancelling", None),
        (RunStatus.CANCELLING, "cancelling", None),
        (RunStatus.CANCELLED, "cancelled", "queued"),
        (RunStatus.FAILED, None, "queued"),
        (RunStatus.READY, None, None),
    ],
)
def test_what_clients_may_ask_for(
    client: TestClient, dataset: uuid.UUID, state: RunStatus, cancel: str | None, resume: str | None
) -> None:
    run_id = post_run(client, dataset)["id"]
    for request, outcome in (("cancel", cancel), ("resume", resume)):
        set_state(uuid.UUID(run_id), state)
        answer = client.post(f"/v1/training-runs/{run_id}/{request}")
        if outcome is None:
            assert answer.status_code == 409
            problem = answer.json()
            assert problem["type"] == "/problems/run-move-refused"
            assert problem["run_status"] == state
            possible = [name for name, to in (("cancel", cancel), ("resume", resume)) if to]
            assert problem["moves"] == possible
        else:
            assert answer.json()["status"] == outcome


def test_a_run_whose_worker_died_while_it_was_cancelled_is_cancelled(
    client: TestClient, dataset: uuid.UUID
) -> None:
    ids = [uuid.UUID(post_run(client, dataset, seed=seed)["id"]) for seed in range(2)]
    for run_id in ids:
        set_state(run_id, RunStatus.CANCELLING)
    with session_scope() as session:
        session.execute(text("UPDATE training_runs SET lease_expires_at = now() - interval '1 s'"))
    # by whoever asks, or by the next worker that looks
    assert client.post(f"/v1/training-runs/{ids[0]}/cancel").json()["status"] == "cancelled"
    close_cancelled()
    assert client.get(f"/v1/training-runs/{ids[1]}").json()["status"] == "cancelled"


def test_a_run_for_a_gpu_waits_for_one(client: TestClient, dataset: uuid.UUID) -> None:
    post_run(client, dataset, device="cuda")
    run = post_run(client, dataset, device="cpu")
    with session_scope() as session:
        taken = claim(session, TrainingRun, "me", 5, 30, TrainingRun.device != "cuda")
    assert [str(row.id) for row in taken] == [run["id"]]


def put_off_often(run_id: uuid.UUID) -> int:
    """What an outage of the store of some minutes does to a run; the attempts that count afterwards."""
    for _ in range(get_settings().max_attempts + 2):
        with session_scope() as session:
            taken = claim(session, TrainingRun, "me", 5, 0)
            if not taken:
                break
            put_off(session, TrainingRun, run_id, taken[0].fence)
    with session_scope() as session:
        return session.get_one(TrainingRun, run_id).attempts


def begun_days_ago(run_id: uuid.UUID, checkpoint: timedelta | None = None) -> None:
    """A run of ``run_id`` is under way since three days ago, its last checkpoint is as old as given."""
    three_days = func.clock_timestamp() - 3 * PATIENCE
    with session_scope() as session:
        (row,) = claim(session, TrainingRun, "me", 5, 0)
        assert row.id == run_id
        at = session.scalar(select(func.clock_timestamp())) or datetime.now(UTC)
        kept = {"stage": "hr", "member": 0, "epochs": 1, "at": (at - (checkpoint or PATIENCE)).isoformat()}
        session.execute(
            update(TrainingRun).values(started_at=three_days, checkpoint=kept if checkpoint else None)
        )


def test_a_resumed_run_waits_for_the_store_as_long_as_a_new_one(
    client: TestClient, dataset: uuid.UUID
) -> None:
    run_id = uuid.UUID(post_run(client, dataset)["id"])
    begun_days_ago(run_id)
    set_state(run_id, RunStatus.CANCELLED)
    resumed = client.post(f"/v1/training-runs/{run_id}/resume").json()
    assert (resumed["status"], resumed["started_at"], resumed["finished_at"]) == ("queued", None, None)
    assert put_off_often(run_id) == 0
    assert client.get(f"/v1/training-runs/{run_id}").json()["started_at"] is not None


@pytest.mark.parametrize(
    ("checkpoint", "patient"),
    [(timedelta(minutes=5), True), (PATIENCE + timedelta(hours=1), False), (None, False)],
)
def test_a_run_of_days_is_patient_from_its_last_checkpoint(
    client: TestClient, dataset: uuid.UUID, checkpoint: timedelta | None, patient: bool
) -> None:
    run_id = uuid.UUID(post_run(client, dataset)["id"])
    begun_days_ago(run_id, checkpoint)
    counted = put_off_often(run_id)
    assert counted < 2 if patient else counted == get_settings().max_attempts
    assert (client.get(f"/v1/training-runs/{run_id}").json()["status"] == "failed") != patient


@pytest.fixture
def finished(client: TestClient, dataset: uuid.UUID) -> str:
    """A failed run with three epochs."""
    run_id = str(post_run(client, dataset)["id"])
    with session_scope() as session:
        for epoch in range(3):
            session.add(
                TrainingMetric(run_id=run_id, stage="hr", member=0, epoch=epoch, step=1, values={"loss": 1.0})
            )
            session.flush()
    set_state(uuid.UUID(run_id), RunStatus.FAILED)
    return run_id


@pytest.mark.parametrize("last", ["", "junk", "-1", "9" * 30, "1e3"])
def test_events_of_a_run_that_is_over_end_at_once(client: TestClient, finished: str, last: str) -> None:
    answer = client.get(f"/v1/training-runs/{finished}/events", headers={"Last-Event-ID": last})
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = parse_events(answer.text)
    assert [event["event"] for event in told] == ["run", "metric", "metric", "metric", "end"]
    later = client.get(f"/v1/training-runs/{finished}/events", headers={"Last-Event-ID": told[1]["id"]})
    assert [event["data"]["epoch"] for event in parse_events(later.text) if event["event"] == "metric"] == [
        1,
        2,
    ]


def test_an_epoch_done_again_stands_once(client: TestClient, finished: str) -> None:
    with pytest.raises(DBAPIError, match="uq_training_metrics"), session_scope() as session:
        session.add(TrainingMetric(run_id=finished, stage="hr", member=0, epoch=0, step=1, values={}))


def test_a_dataset_that_is_being_deleted_is_not_there(client: TestClient, dataset: uuid.UUID) -> None:
    with ThreadPoolExecutor(1) as pool, session_scope() as session:
        session.execute(text("DELETE FROM datasets WHERE id = :id"), {"id": dataset})
        asked = pool.submit(client.post, "/v1/training-runs", json=form(dataset))
        with pytest.raises(TimeoutError):
            asked.result(timeout=0.5)
        session.commit()
        answer = asked.result()
    assert (answer.status_code, answer.json()["errors"][0]["loc"]) == (422, ["body", "dataset"])
