"""Orders of what a second look says to buy: drafted from classifications, once, and the ledger knows them."""

import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from app.classifications.tables import Classification
from app.core.db import session_scope
from app.core.work import uuid7
from app.orders.schemas import OrderForm
from app.orders.service import fingerprint
from tests.app.classifications.test_second_look import two_looks
from tests.app.orders.test_orders import entries
from tests.client import classify, made_plan, post_hr
from tests.conftest import Live
from tests.imagery import lr_geotiff, patch_geotiff
from tests.plans import ready_plan
from tests.releases import ALL_AT_ONCE


@pytest.fixture
def dear(live: Live, tmp_path: Path) -> str:
    return two_looks(tmp_path / "dear", ALL_AT_ONCE)


def ordered(client: httpx.Client | TestClient, **body: Any) -> Any:
    return client.post("/v1/orders", json=body)


def test_what_to_buy_next_is_ordered_and_entered_once(live: Live, dear: str) -> None:
    client = live.client
    plan = made_plan(
        client, lr_geotiff(), release=dear, max_patches="3", price_per_km2="2000", currency="EUR"
    )
    post_hr(client, plan["id"], patch_geotiff(0), patch_geotiff(15))
    classified = classify(client, plan["id"])
    (tile,) = classified["tiles"]
    (following,) = tile["buy_next"]
    answer = ordered(client, classifications=[classified["id"]])
    assert answer.status_code == 201, answer.text
    order = answer.json()
    assert order["plans"] == [plan["id"]]
    assert order["tiles"] == [{"plan_id": plan["id"], "tile": 0, "patches": [following], "paid_before": []}]
    price = Decimal(plan["tiles"][0]["patches"][following]["price"])
    assert Decimal(order["price"]) == price.quantize(Decimal("0.01"))
    before = sum(entry.amount for entry in entries())
    placed = client.post(f"/v1/orders/{order['id']}/moves", json={"to": "placed"})
    assert placed.status_code == 200
    post_hr(client, plan["id"], patch_geotiff(following))
    # what the order bought is not entered again when it comes
    assert sum(entry.amount for entry in entries()) == before + Decimal(order["price"])
    (group,) = client.get("/v1/reports/savings").json()["purchases"]
    assert (group["tiles"], group["patches"], group["full_hr"]["patches"]) == (1, 3, 16)
    late = ordered(client, classifications=[classified["id"]])
    assert late.json()["type"] == "/problems/nothing-to-order"
    assert late.json()["left_out"] == {"received": 1, "ordered": 0}
    again = ordered(client, classifications=[classified["id"]], again=True)
    assert [one["patches"] for one in again.json()["tiles"]] == [[following]]


def test_what_a_polygon_merely_covers_stays_paid(live: Live, dear: str) -> None:
    """The first two patches were bought before; the least polygon around the third covers them again."""
    client = live.client
    plan = made_plan(
        client, lr_geotiff(), release=dear, max_patches="3", price_per_km2="2000", currency="EUR"
    )
    post_hr(client, plan["id"], patch_geotiff(0), patch_geotiff(15))
    body = {
        "classifications": [classify(client, plan["id"])["id"]],
        "product": "example-archive/small-minimum",
    }
    before = sum(entry.amount for entry in entries())
    order = ordered(client, **body).json()
    assert {0, 15} < {*order["tiles"][0]["patches"]}
    for to, price in (("placed", Decimal(order["price"])), ("cancelled", 0)):
        assert client.post(f"/v1/orders/{order['id']}/moves", json={"to": to}).status_code == 200
        assert sum(entry.amount for entry in entries()) == before + price
    # one that asks again for all that the plan chose buys them itself
    whole = ordered(client, plans=[plan["id"]], product=body["product"], again=True).json()
    assert client.post(f"/v1/orders/{whole['id']}/moves", json={"to": "placed"}).status_code == 200
    assert sum(entry.amount for entry in entries()) == Decimal(whole["price"])


def test_what_a_placed_order_brings_is_not_ordered_again(live: Live, dear: str) -> None:
    client = live.client
    plan = made_plan(client, lr_geotiff(), release=dear, max_patches="3")
    post_hr(client, plan["id"], patch_geotiff(0), patch_geotiff(15))
    body = {
        "classifications": [classify(client, plan["id"])["id"]],
        "product": "example-archive/by-the-patch",
    }
    order = ordered(client, **body).json()
    assert ordered(client, **body).status_code == 201  # a draft has bought nothing
    for to, status in (("placed", 422), ("cancelled", 201)):
        assert client.post(f"/v1/orders/{order['id']}/moves", json={"to": to}).status_code == 200
        assert ordered(client, **body).status_code == status


def test_only_what_says_what_to_buy_is_ordered(live: Live, dear: str) -> None:
    client = live.client
    once = made_plan(client, lr_geotiff(), threshold="0", max_patches="4")
    silent = ordered(client, classifications=[classify(client, once["id"])["id"]])
    assert silent.status_code == 422
    assert "looks once" in silent.json()["detail"]
    twice = made_plan(client, lr_geotiff(), release=dear)
    first, second = (classify(client, twice["id"])["id"] for _ in range(2))
    assert "two classifications" in ordered(client, classifications=[first, second]).json()["detail"]
    assert ordered(client, classifications=[first, first]).status_code == 422
    assert ordered(client, classifications=[]).status_code == 422
    assert ordered(client, classifications=[first], plans=[twice["id"]]).status_code == 422
    assert ordered(client, classifications=[str(uuid.uuid4())]).status_code == 404
    with live.as_key(live.new_key(org="globex")) as stranger:
        assert stranger.post("/v1/orders", json={"classifications": [first]}).status_code == 404


def test_a_classification_that_is_not_ready_is_no_order(client: TestClient) -> None:
    row = Classification(
        id=uuid7(), plan_id=ready_plan(), revision=0, top_k=1, release="tiny", release_version="1",
        weights_sha256="0" * 64, streams="hr+lr", fusion="eq7", classes=["a"], fmow=[None],
    )  # fmt: skip
    with session_scope() as session:
        session.add(row)
    early = ordered(client, classifications=[str(row.id)])
    assert early.status_code == 409
    assert "queued" in early.json()["detail"]


def test_keys_from_before_classifications_could_be_ordered_still_hold() -> None:
    """The fingerprint that version 1 of the form had, of a body that meant the same."""
    form = OrderForm(plans=[uuid.UUID(int=1)], product="a/b")
    assert fingerprint(form) == "6ae2d7d26462af2ebe237e68dd07dbb3ec42cbf7f04670772723ec57fd537e4a"
    assert (
        fingerprint(form.model_copy(update={"plans": None, "classifications": form.plans}))
        != "6ae2d7d26462af2ebe237e68dd07dbb3ec42cbf7f04670772723ec57fd537e4a"
    )
