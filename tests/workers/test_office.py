"""A worker process's beginning and end."""

from fastapi.testclient import TestClient

from app.core.settings import get_settings
from tests.client import WAIT, post_plan
from tests.imagery import lr_geotiff
from workers.app import Office, celery_app


def test_an_office_answers_and_leaves_nothing(client: TestClient) -> None:
    office = Office()
    office.open()
    try:
        answer = post_plan(client, lr_geotiff(), headers=WAIT)
        assert answer.json()["status"] == "ready"
    finally:
        office.close()
    assert not office.scratch.exists()
    assert not any(desk.is_alive() for desk in office.desks.values())


def test_messages_of_unknown_kinds_are_nothing_to_worry_about() -> None:
    celery_app.tasks["workers.look"]("no such table")


def test_the_scratch_folder_is_in_the_data_folder(client: TestClient) -> None:
    assert Office().scratch.is_relative_to(get_settings().data_dir)
