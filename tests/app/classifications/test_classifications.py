"""What is there: both streams, their fusion, and which patches it rests on."""

from typing import Any

import pytest

from tests.client import classify, made_plan, post_hr
from tests.conftest import Live
from tests.imagery import hr_geotiff, lr_geotiff, patch_geotiff

CLASSES = {"field", "forest", "harbor"}


@pytest.fixture
def plan(live: Live) -> Any:
    """A plan of one tile with four chosen patches."""
    return made_plan(live.client, lr_geotiff(), threshold="0", max_patches="4")


def test_without_any_patch_the_answer_is_the_lr_streams(live: Live, plan: Any) -> None:
    [tile] = classify(live.client, plan["id"])["tiles"]
    assert tile["status"] == "classified"
    assert tile["weights"] == {"hr": 0.0, "lr": 1.0}
    assert tile["patches_used"] == []
    assert tile["chosen_missing"] == plan["tiles"][0]["chosen"]
    assert tile["streams"]["hr"] is None
    assert tile["probabilities"] == pytest.approx(tile["streams"]["lr"]["probabilities"], abs=1e-6)
    assert tile["class"] == tile["streams"]["lr"]["class"]


def test_some_of_the_chosen_and_one_more(live: Live, plan: Any) -> None:
    chosen = plan["tiles"][0]["chosen"]
    other = next(patch for patch in range(16) if patch not in chosen)
    post_hr(live.client, plan["id"], patch_geotiff(chosen[1]), patch_geotiff(other))
    found = classify(live.client, plan["id"], top_k=2)
    [tile] = found["tiles"]
    assert tile["patches_used"] == sorted([chosen[1], other])
    assert tile["chosen_missing"] == [patch for patch in chosen if patch != chosen[1]]
    assert tile["weights"] == {"hr": 0.125, "lr": 0.875}
    # Eq. 7
    for name in CLASSES:
        hr, lr = (tile["streams"][stream]["probabilities"][name] for stream in ("hr", "lr"))
        assert tile["probabilities"][name] == pytest.approx(0.125 * hr + 0.875 * lr, abs=1e-5)
    assert set(tile["probabilities"]) == CLASSES
    assert [entry["class"] for entry in tile["top"]] == sorted(
        CLASSES, key=lambda n: -tile["probabilities"][n]
    )[:2]
    assert tile["top"][0] == {
        "class": tile["class"],
        "fmow": tile["fmow"],
        "probability": tile["probability"],
    }
    assert found["fusion"] == tile["fusion"] == "eq7"
    assert found["release"]["name"] == "tiny"


def test_with_every_patch_the_answer_is_the_hr_streams(live: Live, plan: Any) -> None:
    post_hr(live.client, plan["id"], hr_geotiff())
    [tile] = classify(live.client, plan["id"])["tiles"]
    assert tile["weights"] == {"hr": 1.0, "lr": 0.0}
    assert tile["chosen_missing"] == []
    assert tile["probabilities"] == pytest.approx(tile["streams"]["hr"]["probabilities"], abs=1e-6)


def test_a_release_of_one_stream_does_not_guess(live: Live) -> None:
    plan = made_plan(
        live.client, lr_geotiff(2, 1), release="tiny-hr", tile_size_m="80.1", threshold="0", max_patches="2"
    )
    post_hr(live.client, plan["id"], patch_geotiff(5))
    with_patch, without = classify(live.client, plan["id"])["tiles"]
    assert with_patch["status"] == "classified"
    assert with_patch["streams"]["lr"] is None
    assert with_patch["weights"] == {"hr": 1.0, "lr": 0.0}
    assert without["status"] == "unclassifiable"
    assert without["class"] is without["probability"] is without["probabilities"] is without["fmow"] is None
    assert without["top"] == []
    assert without["streams"] == {"hr": None, "lr": None}


def test_classifications_are_kept(live: Live, plan: Any) -> None:
    first = classify(live.client, plan["id"])
    second = classify(live.client, plan["id"])
    assert live.client.get(first["links"]["self"]).json() == first
    listed = live.client.get(plan["links"]["classifications"]).json()["classifications"]
    assert [entry["id"] for entry in listed] == [second["id"], first["id"]]
    assert second["tiles"] == first["tiles"]


def test_classifications_go_from_page_to_page(live: Live, plan: Any) -> None:
    made = [classify(live.client, plan["id"])["id"] for _ in range(3)]
    path = plan["links"]["classifications"]
    first = live.client.get(path, params={"limit": 2}).json()
    made.append(classify(live.client, plan["id"])["id"])  # a new one moves nothing on the pages that follow
    rest = live.client.get(path, params={"limit": 2, "token": first["next"]}).json()
    pages = [[entry["id"] for entry in page["classifications"]] for page in (first, rest)]
    assert pages == [[made[2], made[1]], [made[0]]]
    assert rest["next"] is None
    assert live.client.get(path, params={"token": "mine"}).status_code == 422


def test_another_release_may_answer_if_it_reads_the_same_patches(live: Live, plan: Any) -> None:
    assert classify(live.client, plan["id"], release="tiny-hr")["release"]["name"] == "tiny-hr"


def test_the_body_may_be_left_out(live: Live, plan: Any) -> None:
    answer = live.client.post(plan["links"]["classifications"], headers={"Prefer": "wait=20"})
    assert answer.status_code == 201
    assert len(answer.json()["tiles"][0]["top"]) == 3


@pytest.mark.parametrize("body", [{"top_k": 0}, {"top_k": "x"}, {"release": "none"}, {"topk": 1}, [], "x"])
def test_bad_bodies(live: Live, plan: Any, body: Any) -> None:
    assert live.client.post(plan["links"]["classifications"], json=body).status_code == 422


def test_what_is_not_there(live: Live, plan: Any) -> None:
    nothing = "00000000-0000-7000-8000-000000000000"
    assert live.client.get(f"{plan['links']['classifications']}/{nothing}").status_code == 404
    assert live.client.post(f"/v1/plans/{nothing}/classifications").status_code == 404
    found = classify(live.client, plan["id"])
    other = made_plan(live.client, lr_geotiff(seed=2))
    assert live.client.get(f"{other['links']['classifications']}/{found['id']}").status_code == 404
