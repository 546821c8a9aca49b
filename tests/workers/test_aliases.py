"""Aliases: moved one at a time, rolled back in one call, each organisation's own; and the gate."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.core.auth import Principal, Scope
from app.core.errors import NotFound, PreconditionFailed
from app.releases import promoting
from app.releases.alias_schemas import AliasForm
from tests.app.releases.publishing import kept_dataset, labelled_by, org_id, published
from tests.conftest import KeyMaker
from tests.imagery import lr_geotiff
from tests.workers.conftest import queue_plan
from workers.comparing import CompareDesk
from workers.desk import Desk
from workers.leases import Leases
from workers.releases import Releases

NOW = {"Prefer": "wait=0"}


def put(client: TestClient, name: str, release: Any, if_match: str | None = None, **body: Any) -> Any:
    headers = NOW | ({} if if_match is None else {"If-Match": if_match})
    return client.put(f"/v1/aliases/{name}", json={"release": str(release), **body}, headers=headers)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def compare_desk(leases: Leases, tmp_path: Path) -> CompareDesk:
    """``work()`` makes all comparisons that were asked for."""
    return CompareDesk(Releases(), leases, tmp_path)


@pytest.fixture
def dataset(client: TestClient, tmp_path: Path) -> uuid.UUID:
    """Pictures that the untrained release with seed 1 is always right about without buying."""
    return kept_dataset(labelled_by(tmp_path, seed=1))


@pytest.mark.parametrize("name", ["none-such", "%00", "a%00b"])
def test_what_was_never_an_alias_is_not_found(client: TestClient, name: str) -> None:
    base = f"/v1/aliases/{name}"
    for answer in (
        client.get(base),
        client.delete(base),
        client.post(f"{base}/rollback"),
        client.post(f"{base}/rollback", json={"reason": "worse"}),
        client.get(f"{base}/history"),
    ):
        assert answer.status_code == 404, answer.text


def test_an_alias_is_made_moved_and_read(client: TestClient, tmp_path: Path) -> None:
    first, second = published(tmp_path, seed=0), published(tmp_path, seed=1)
    answer = put(client, "candidate", first.id)
    assert (answer.status_code, answer.headers["ETag"]) == (201, '"1"')
    again = put(client, "candidate", first.id)
    assert (again.status_code, again.headers["ETag"]) == (200, '"1"')
    moved = put(client, "candidate", second.id, reason="better on harbours")
    assert (moved.status_code, moved.json()["release_version"], moved.json()["version"]) == (200, "2", 2)
    assert client.get("/v1/aliases/candidate").json() == moved.json()
    assert client.get("/v1/releases/candidate").json()["id"] == str(second.id)
    assert client.get(f"/v1/releases/{second.id}").json()["aliases"] == ["candidate"]
    assert [alias["name"] for alias in client.get("/v1/aliases").json()["aliases"]] == ["candidate"]
    steps = client.get("/v1/aliases/candidate/history").json()["steps"]
    assert [(step["version"], step["release"], step["reason"]) for step in steps] == [
        (2, str(second.id), "better on harbours"),
        (1, str(first.id), None),
    ]
    page = client.get("/v1/aliases/candidate/history?limit=1").json()
    rest = client.get("/v1/aliases/candidate/history", params={"token": page["next"]}).json()
    assert page["steps"] + rest["steps"] == steps
    assert rest["next"] is None


def test_plans_are_made_with_the_champion_of_the_moment_and_keep_it(
    client: TestClient, plan_desk: Desk, classify_desk: Desk, tmp_path: Path
) -> None:
    first, second = published(tmp_path, seed=0), published(tmp_path, seed=1)
    before = queue_plan(client)
    put(client, "champion", first.id)
    with_first = queue_plan(client)
    put(client, "champion", second.id, force=True, reason="a trial")
    with_second, by_id = queue_plan(client), queue_plan(client, release=str(first.id))
    by_name = queue_plan(client, release="tiny-hr")
    plan_desk.work()
    made = {plan: client.get(f"/v1/plans/{plan}").json() for plan in (before, with_first, with_second, by_id)}
    assert {plan["status"] for plan in made.values()} == {"ready"}
    assert [plan["release"]["id"] for plan in made.values()] == [
        None,
        str(first.id),
        str(second.id),
        str(first.id),
    ]
    assert client.get(f"/v1/plans/{by_name}").json()["release"]["name"] == "tiny-hr"
    asked = client.post(f"/v1/plans/{with_first}/classifications", headers=NOW)
    assert asked.status_code == 202, asked.text
    classify_desk.work()
    found = client.get(asked.headers["Location"]).json()
    assert found["status"] == "ready", found["error"]
    assert found["release"]["id"] == str(first.id)
    other = client.post(f"/v1/plans/{with_first}/classifications", json={"release": "champion"}, headers=NOW)
    assert other.json()["release"]["id"] == str(second.id)


def test_going_back_twice_undoes_two(client: TestClient, tmp_path: Path) -> None:
    rows = [published(tmp_path, seed=seed) for seed in range(3)]
    for row in rows:
        put(client, "nightly", row.id)
    back = client.post("/v1/aliases/nightly/rollback", json={"reason": "too many harbours"})
    assert (back.status_code, back.json()["release"]) == (200, str(rows[1].id))
    assert back.json()["last"]["reason"] == "too many harbours"
    assert client.post("/v1/aliases/nightly/rollback").json()["release"] == str(rows[0].id)
    assert client.post("/v1/aliases/nightly/rollback").status_code == 409
    put(client, "nightly", rows[2].id)
    assert client.post("/v1/aliases/nightly/rollback").json()["release"] == str(rows[0].id)
    kinds = [step["kind"] for step in client.get("/v1/aliases/nightly/history").json()["steps"]]
    assert kinds == ["rollback", "move", "rollback", "rollback", "move", "move", "move"]
    assert client.delete("/v1/aliases/nightly").status_code == 204
    for answer in (
        client.get("/v1/aliases/nightly"),
        client.delete("/v1/aliases/nightly"),
        client.post("/v1/aliases/nightly/rollback"),
    ):
        assert answer.status_code == 404
    assert client.get("/v1/aliases/nightly/history").json()["steps"][0]["kind"] == "remove"
    assert put(client, "nightly", rows[0].id).json()["version"] == 9


def test_of_many_who_read_the_same_version_one_moves_it(client: TestClient, tmp_path: Path) -> None:
    rows = [published(tmp_path, seed=seed) for seed in range(5)]
    assert put(client, "candidate", rows[0].id).headers["ETag"] == '"1"'
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda row: put(client, "candidate", row.id, if_match='"1"'), rows[1:]))
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]
    late = client.post("/v1/aliases/candidate/rollback", headers={"If-Match": '"1"'})
    assert (late.status_code, late.json()["type"]) == (412, "/problems/precondition-failed")
    assert client.delete("/v1/aliases/candidate", headers={"If-Match": "x"}).status_code == 422
    assert client.delete("/v1/aliases/candidate", headers={"If-Match": '"2"'}).status_code == 204


def test_only_one_can_be_the_first_champion_without_a_gate(client: TestClient, tmp_path: Path) -> None:
    rows = [published(tmp_path, seed=seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda row: put(client, "champion", row.id), rows))
    assert min(answer.status_code for answer in answers) == 201
    assert all(answer.status_code in (412, 422) for answer in answers if answer.status_code != 201)
    assert client.get("/v1/aliases/champion").json()["version"] == 1


@pytest.mark.parametrize(
    "name", ["Champion", "tiny", "0199c0de-0000-7000-8000-00000000000a", "a b", "x" * 101]
)
def test_names_that_no_alias_can_have(client: TestClient, tmp_path: Path, name: str) -> None:
    row = published(tmp_path)
    assert put(client, name, row.id).status_code == 422
    assert client.get("/v1/aliases").json()["aliases"] == []


def test_an_alias_may_stand_for_an_installed_release(client: TestClient) -> None:
    assert put(client, "candidate", "tiny-hr").json()["release"] == "tiny-hr"
    assert put(client, "other", "candidate").json()["release"] == "tiny-hr"
    unknown = put(client, "candidate", "nowhere")
    assert (unknown.status_code, unknown.json()["errors"][0]["loc"]) == (422, ["body", "release"])


def test_another_organisation_sees_and_moves_nothing(
    client: TestClient, api_key: KeyMaker, tmp_path: Path
) -> None:
    row = published(tmp_path)
    put(client, "champion", row.id)
    others = bearer(api_key(org="other"))
    for path in (
        f"/v1/releases/{row.id}",
        f"/v1/releases/{row.id}/model-page",
        f"/v1/releases/{row.id}/shadow",
    ):
        assert client.get(path).status_code == 200, path
        assert client.get(path, headers=others).status_code == 404, path
    for path in ("/v1/aliases/champion", "/v1/aliases/champion/history", "/v1/releases/champion"):
        assert client.get(path, headers=others).status_code == 404, path
    listed = client.get("/v1/releases", headers=others).json()["releases"]
    assert [release["name"] for release in listed] == ["tiny", "tiny-hr"]
    assert listed[0]["default"]
    assert client.get("/v1/aliases", headers=others).json()["aliases"] == []
    taken = client.put("/v1/aliases/champion", json={"release": str(row.id)}, headers=others)
    assert taken.status_code == 422
    assert client.post("/v1/aliases/champion/rollback", headers=others).status_code == 404
    assert client.post(f"/v1/releases/{row.id}/compare/tiny", headers=others).status_code == 404
    plan = client.post(
        "/v1/plans",
        files={"lr": ("x.tif", lr_geotiff())},
        data={"release": str(row.id)},
        headers=others | NOW,
    )
    assert (plan.status_code, plan.json()["errors"][0]["loc"]) == (422, ["body", "release"])


def test_a_key_that_may_not_train_may_read_but_not_move(
    client: TestClient, api_key: KeyMaker, tmp_path: Path
) -> None:
    row = published(tmp_path)
    put(client, "candidate", row.id)
    planner = bearer(api_key("plan"))
    assert client.get("/v1/aliases/candidate", headers=planner).status_code == 200
    for method, path in (
        ("PUT", "/v1/aliases/candidate"),
        ("POST", "/v1/aliases/candidate/rollback"),
        ("DELETE", "/v1/aliases/candidate"),
        ("POST", f"/v1/releases/{row.id}/compare/tiny"),
    ):
        answer = client.request(method, path, json={"release": str(row.id)}, headers=planner)
        assert answer.status_code == 403, path


def test_releases_are_listed_installed_ones_first_then_page_by_page(
    client: TestClient, tmp_path: Path
) -> None:
    rows = [published(tmp_path, seed=seed) for seed in range(5)]
    names, token = list[str](), None
    for _ in range(3):
        page = client.get("/v1/releases", params={"limit": 2, **({"token": token} if token else {})}).json()
        names += [release["id"] for release in page["releases"]]
        token = page["next"]
    assert token is None
    assert names == ["tiny", "tiny-hr", *(str(row.id) for row in reversed(rows))]
    page_text = client.get(f"/v1/releases/{rows[0].id}/model-page")
    assert page_text.headers["content-type"] == "text/markdown; charset=utf-8"
    assert page_text.text.startswith("# mine 1\n")


class Gated:
    """A champion that is always right and buys nothing, and candidates of other kinds."""

    def __init__(self, client: TestClient, desk: CompareDesk, folder: Path, dataset: uuid.UUID) -> None:
        self.client, self.desk, self.folder, self.dataset = client, desk, folder, dataset
        self.champion = self.release(seed=1, threshold=0.99)
        assert put(client, "champion", self.champion.id).status_code == 201

    def release(self, seed: int, threshold: float, **also: Any) -> Any:
        return published(self.folder, seed=seed, threshold=threshold, dataset=self.dataset, **also)

    def promote(self, candidate: Any, **body: Any) -> Any:
        asked = put(self.client, "champion", candidate.id, **body)
        if asked.status_code == 409 and asked.json()["type"] == "/problems/gate-undecided":
            assert asked.headers["Retry-After"]
            self.desk.work()
            asked = put(self.client, "champion", candidate.id, **body)
        return asked

    def standing(self) -> str:
        return str(self.client.get("/v1/aliases/champion").json()["release"])


@pytest.fixture
def gated(client: TestClient, compare_desk: CompareDesk, tmp_path: Path, dataset: uuid.UUID) -> Gated:
    return Gated(client, compare_desk, tmp_path, dataset)


def test_the_gate_keeps_out_what_is_less_accurate(gated: Gated) -> None:
    refused = gated.promote(gated.release(seed=0, threshold=0.99))
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/promotion-refused")
    gate = refused.json()["gate"]
    assert (gate["less_accurate"], gate["more_expensive"]) == ([4], [])
    assert gate["accuracy"]["4"]["p"] < 0.001
    assert gated.standing() == str(gated.champion.id)
    assert gated.client.get(gate["comparison"]).json()["status"] == "ready"


def test_the_gate_keeps_out_what_is_more_expensive(gated: Gated) -> None:
    refused = gated.promote(gated.release(seed=1, threshold=0.0))
    assert refused.status_code == 409
    assert refused.json()["gate"]["more_expensive"] == [4]
    assert gated.standing() == str(gated.champion.id)


def test_the_gate_lets_through_what_is_as_good_and_keeps_what_it_saw(gated: Gated) -> None:
    equal = gated.release(seed=1, threshold=0.98)
    promoted = gated.promote(equal)
    assert promoted.status_code == 200, promoted.text
    assert gated.standing() == str(equal.id)
    last = promoted.json()["last"]
    assert not last["forced"]
    assert last["gate"]["accuracy"]["4"]["p"] == 1.0
    assert last["gate"]["dataset"] == str(gated.dataset)
    assert gated.client.post("/v1/aliases/champion/rollback").json()["release"] == str(gated.champion.id)


def test_removing_the_champion_is_no_way_past_the_gate(gated: Gated) -> None:
    assert gated.client.delete("/v1/aliases/champion").status_code == 204
    refused = gated.promote(gated.release(seed=0, threshold=0.99))
    assert (refused.status_code, refused.json()["type"]) == (409, "/problems/promotion-refused")
    assert gated.client.get("/v1/aliases/champion").status_code == 404
    back = put(gated.client, "champion", gated.champion.id)
    assert back.status_code == 200
    assert not back.json()["last"]["forced"]
    assert gated.standing() == str(gated.champion.id)


def test_force_needs_a_reason_and_is_recorded(gated: Gated) -> None:
    worse = gated.release(seed=0, threshold=0.99)
    assert put(gated.client, "champion", worse.id, force=True).status_code == 422
    forced = put(gated.client, "champion", worse.id, force=True, reason="the old one leaks a class")
    assert forced.status_code == 200
    last = forced.json()["last"]
    assert (last["forced"], last["reason"], last["gate"]) == (True, "the old one leaks a class", None)


def test_other_classes_are_a_clear_problem(gated: Gated) -> None:
    other = gated.release(seed=1, threshold=0.99, name="other", classes=["field", "forest", "runway"])
    refused = put(gated.client, "champion", other.id)
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/classes-differ")
    assert (refused.json()["lacks"], refused.json()["adds"]) == (["harbor"], ["runway"])
    compared = gated.client.post(f"/v1/releases/{other.id}/compare/{gated.champion.id}", headers=NOW)
    assert (compared.status_code, compared.json()["type"]) == (422, "/problems/classes-differ")
    assert compared.json()["lacks"] == ["harbor"]


def test_without_held_out_images_the_gate_says_so(gated: Gated) -> None:
    row = published(gated.folder, seed=1, threshold=0.97)
    unknown = put(gated.client, "champion", row.id)
    # the champion's data set serves where the candidate brings none
    assert unknown.json()["type"] == "/problems/gate-undecided"
    assert put(gated.client, "champion", "tiny", force=True, reason="start anew").status_code == 200
    nothing = put(gated.client, "champion", row.id)
    assert (nothing.status_code, nothing.json()["type"]) == (422, "/problems/nothing-held-out")
    named = put(gated.client, "champion", row.id, dataset=str(gated.dataset))
    assert named.json()["type"] == "/problems/gate-undecided"
    assert put(gated.client, "champion", row.id, dataset=str(uuid.uuid4())).status_code == 404


def test_a_champion_moved_while_the_gate_decides_stays(gated: Gated, api_key: KeyMaker) -> None:
    equal = gated.release(seed=1, threshold=0.98)
    principal = Principal(org_id(), uuid.uuid4(), frozenset({Scope.TRAIN}))
    form = AliasForm(release=str(equal.id))
    gate = promoting.begin(principal, "champion", form, None)
    assert isinstance(gate, promoting.Gate)
    gated.desk.work()
    put(gated.client, "champion", "tiny", force=True, reason="faster")
    with pytest.raises(PreconditionFailed):
        promoting.end(principal, "champion", form, gate)
    assert gated.standing() == "tiny"


def test_a_dataset_deleted_while_the_gate_decides_takes_the_comparison_along(
    gated: Gated, tmp_path: Path
) -> None:
    other = kept_dataset(labelled_by(tmp_path / "other", seed=2))
    principal = Principal(org_id(), uuid.uuid4(), frozenset({Scope.TRAIN}))
    form = AliasForm(release=str(gated.release(seed=1, threshold=0.98).id), dataset=other)
    gate = promoting.begin(principal, "champion", form, None)
    assert isinstance(gate, promoting.Gate)
    assert not promoting.is_finished(gate.comparison_id)
    assert gated.client.delete(f"/v1/datasets/{other}").status_code == 204
    assert promoting.is_finished(gate.comparison_id)
    with pytest.raises(NotFound):
        promoting.end(principal, "champion", form, gate)
    assert gated.standing() == str(gated.champion.id)
