"""Training runs through a real API with real workers: followed, killed, gone on with, one release each."""

from tests.conftest import Live
from tests.training import follow, parse_events, post_run, quick, scenes_tar


def uploaded(live: Live) -> str:
    """A dataset that is ready."""
    answer = live.client.post(
        "/v1/datasets", files={"archive": ("scenes.tar", scenes_tar())}, headers={"Prefer": "wait=40"}
    )
    assert answer.status_code in (200, 201), answer.text
    dataset = answer.json()
    assert dataset["status"] == "ready", dataset
    return str(dataset["id"])


def test_a_run_from_upload_to_release(live: Live) -> None:
    dataset = uploaded(live)
    run = post_run(live.client, dataset, overrides=quick())
    told = parse_events(live.client.get(f"/v1/training-runs/{run['id']}/events", timeout=120).text)
    done = follow(live.client, run["id"])
    assert done["status"] == "ready", done["error"]
    epochs = [event for event in told if event["event"] == "metric"]
    assert [(e["data"]["stage"], e["data"]["epoch"]) for e in epochs] == [
        ("hr", 0),
        ("hr", 1),
        ("lr", 0),
        ("pt", 0),
        ("ft2", 0),
    ]
    assert {"loss", "accuracy", "seconds"} == set(epochs[0]["data"]["values"])
    assert {"loss", "reward", "accuracy", "s", "seconds"} == set(epochs[-1]["data"]["values"])
    assert told[-1]["event"] == "end"
    assert told[-1]["data"]["release"] == done["release"]
    # a client that was cut off hears what it has not heard
    again = live.client.get(
        f"/v1/training-runs/{run['id']}/events", headers={"Last-Event-ID": epochs[2]["id"]}
    )
    heard = [event for event in parse_events(again.text) if event["event"] == "metric"]
    assert heard == epochs[3:]
    curves = live.client.get(f"/v1/training-runs/{run['id']}/metrics").json()["metrics"]
    assert [point["values"] for point in curves] == [e["data"]["values"] for e in epochs]
    release = live.client.get(f"/v1/releases/{done['release']}")
    assert release.status_code == 200, release.text
    assert release.json()["name"] == "small"
