"""Which releases there are."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.core.errors import NotFound, ServiceUnavailable, Unprocessable
from app.core.settings import get_settings
from app.releases import service
from models.release import tiny_release
from tests.client import post_plan
from tests.conftest import Live
from tests.imagery import lr_geotiff

NO_WAIT = {"Prefer": "wait=0"}


def test_the_cards_of_all_releases(live: Live) -> None:
    found = live.client.get("/v1/releases").json()["releases"]
    assert [(release["name"], release["streams"], release["default"]) for release in found] == [
        ("tiny", "hr+lr", True),
        ("tiny-hr", "hr", False),
    ]
    assert found[0]["classes"][1] == {"name": "forest", "fmow": None}
    assert found[0]["tile_m"] == {"nominal": 80.0, "min": 40.0, "max": 160.0}
    assert live.client.get("/v1/releases/tiny").json() == found[0]


@pytest.mark.parametrize("name", ["none", "..", "%2e%2e", "%2Fetc", "tiny%00", "tiny%2Fcard.json", "x" * 101])
def test_a_release_that_is_not_there(live: Live, name: str) -> None:
    assert live.client.get(f"/v1/releases/{name}").status_code in (404, 422)


def test_any_key_may_read_them(live: Live) -> None:
    with live.as_key(live.new_key("report")) as client:
        assert client.get("/v1/releases").status_code == 200


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A releases folder with the release `a`."""
    tiny_release(tmp_path / "a", classes=["field", "forest"])
    monkeypatch.setenv("PATCHPLAN_RELEASES_DIR", str(tmp_path))
    monkeypatch.delenv("PATCHPLAN_DEFAULT_RELEASE", raising=False)
    get_settings.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    get_settings.cache_clear()


def test_a_release_is_called_what_its_folder_is_called(folder: Path) -> None:
    shutil.copytree(folder / "a", folder / "b")
    assert [card.name for card in service.list_cards()] == ["a", "b"]
    assert service.get_card("b").weights_sha256 == service.get_card("a").weights_sha256


def test_a_folder_without_a_readable_card_is_no_release(folder: Path) -> None:
    (folder / "b").mkdir()
    (folder / "c").mkdir()
    (folder / "c" / "card.json").write_text("{}")
    (folder / "notes.txt").write_text("x")
    assert [card.name for card in service.list_cards()] == ["a"]
    for name in ("b", "c"):
        with pytest.raises(NotFound):
            service.get_card(name)


def test_a_card_that_changes_is_read_anew(folder: Path) -> None:
    assert service.get_card("a").threshold == 0.5
    path = folder / "a" / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"threshold": 0.25}))
    assert service.get_card("a").threshold == 0.25


def test_which_release_a_request_means(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_release(folder / "b", classes=["field", "forest"], seed=1)
    assert service.choose_card("b").name == "b"
    assert service.choose_card(None).name == "a"
    monkeypatch.setenv("PATCHPLAN_DEFAULT_RELEASE", "b")
    get_settings.cache_clear()
    assert service.choose_card(None).name == "b"
    with pytest.raises(Unprocessable):
        service.choose_card("../a")


def test_a_default_that_is_not_installed_is_the_services_trouble_not_the_clients(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATCHPLAN_DEFAULT_RELEASE", "gone")
    get_settings.cache_clear()
    with pytest.raises(ServiceUnavailable, match="'gone' is not installed"):
        service.choose_card(None)
    assert service.choose_card("a").name == "a"
    monkeypatch.setenv("PATCHPLAN_DEFAULT_RELEASE", "")
    get_settings.cache_clear()
    assert service.choose_card(None).name == "a"


def test_without_any_release_nothing_can_be_planned(folder: Path) -> None:
    shutil.rmtree(folder / "a")
    with pytest.raises(ServiceUnavailable):
        service.choose_card(None)


def test_plans_are_not_made_with_a_release_of_other_patches(folder: Path, client: TestClient) -> None:
    tiny_release(folder / "b", classes=["field", "forest"])
    path = folder / "b" / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"grid": 8}))
    assert post_plan(client, lr_geotiff(), headers=NO_WAIT, release="a").status_code == 202
    refused = post_plan(client, lr_geotiff(), headers=NO_WAIT, release="b")
    assert (refused.status_code, refused.json()["errors"][0]["loc"]) == (422, ["body", "release"])
    assert "8 x 8 patches" in refused.json()["detail"]
