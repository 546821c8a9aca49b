"""What is there already, or on its way, is not asked for again, and the order says so."""

import uuid
from decimal import Decimal
from typing import Any

import pytest
from fastapi.testclient import TestClient
from shapely.geometry import shape

from app.orders.schemas import OrderForm
from app.orders.service import fingerprint
from tests.app.core.test_problems import check_problem
from tests.app.ledger.test_received_and_ordered import bare_plan, cents, move, prices, quoted, receive, spent
from tests.app.orders.test_orders import entries
from tests.plans import ready_plan

BY_THE_PATCH = "example-archive/by-the-patch"
MINIMUM = "example-archive/small-minimum"
CHOSEN = [5, 6, 9, 10]


def ordered(client: TestClient, *plans: uuid.UUID, key: str | None = None, **body: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post("/v1/orders", json={"plans": [str(plan) for plan in plans]} | body, headers=headers)


def drafted(client: TestClient, *plans: uuid.UUID, **body: Any) -> Any:
    answer = ordered(client, *plans, **body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def asked(order: Any) -> list[int]:
    """The patches of an order of one tile."""
    [tile] = order["tiles"]
    found: list[int] = tile["patches"]
    return found


def test_what_was_received_is_left_out_and_told(client: TestClient) -> None:
    plan = bare_plan()
    receive(client, plan, 5, 0)
    order = drafted(client, plan)
    assert asked(order) == [6, 9, 10]
    one = {"plan_id": str(plan), "tile": 0, "received": [5], "ordered": []}
    assert order["left_out"] == {"received": 1, "ordered": 0, "tiles": [one]}
    assert Decimal(order["price"]) == cents(prices(client, plan, 6, 9, 10))
    assert order["full_hr"]["nominal"] == str(cents(prices(client, plan, *range(16))))
    [listed] = client.get("/v1/orders").json()["orders"]
    assert listed["left_out"] == {"received": 1, "ordered": 0}
    # no polygon lies on it, and what is entered is what the order said
    headers = {"Accept": "application/geo+json"}
    features = client.get(f"/v1/orders/{order['id']}", headers=headers).json()["features"]
    patches = client.get(f"/v1/plans/{plan}", headers=headers).json()["features"]
    [there] = [shape(one["geometry"]) for one in patches if one["properties"]["patch"] == 5]
    for feature in features:
        assert shape(feature["geometry"]).intersection(there).area < 1e-6 * there.area
    move(client, quoted(client, order, "7.77"), "placed")
    [purchase] = entries(kind="purchase")
    assert purchase.patches == 1 << 6 | 1 << 9 | 1 << 10
    assert spent(client) == Decimal("7.77") + prices(client, plan, 5, 0)


def test_what_a_placed_order_covers_is_left_out(client: TestClient) -> None:
    plan = ready_plan()
    body = {"product": BY_THE_PATCH}
    receive(client, plan, 5)
    first = drafted(client, plan, **body)
    # a draft has bought nothing yet
    assert drafted(client, plan, **body)["left_out"]["ordered"] == 0
    move(client, first, "placed")
    refused = ordered(client, plan, **body)
    check_problem(refused, 422, "nothing-to-order")
    assert refused.json()["left_out"] == {"received": 1, "ordered": 3}
    assert "1 were received and 3 are in orders" in refused.json()["detail"]
    move(client, first, "received")
    assert ordered(client, plan, **body).status_code == 422


def test_what_a_cancelled_order_did_not_bring_is_asked_for_again(client: TestClient) -> None:
    """A cancelled order takes money back, not pixels."""
    plan = ready_plan()
    body = {"product": BY_THE_PATCH}
    order = move(client, drafted(client, plan, **body), "placed")
    receive(client, plan, 5)
    move(client, order, "cancelled")
    again = drafted(client, plan, **body)
    assert (asked(again), again["left_out"]["received"]) == ([6, 9, 10], 1)


def test_what_an_order_took_over_was_received_all_the_same(client: TestClient) -> None:
    """The entry of what came is reversed when an order that was drafted before pays for it."""
    plan = bare_plan()
    order = drafted(client, plan)
    receive(client, plan, 5)
    order = move(client, order, "placed")
    assert [entry.patches for entry in entries(kind="reversal")] == [1 << 5]
    refused = ordered(client, plan)
    assert refused.json()["left_out"] == {"received": 1, "ordered": 3}
    move(client, order, "cancelled")
    assert asked(drafted(client, plan)) == [6, 9, 10]


def test_a_patch_that_was_replaced_is_there(client: TestClient) -> None:
    plan = bare_plan()
    receive(client, plan, 5)
    receive(client, plan, 5, seed="2", replace="true")
    assert asked(drafted(client, plan)) == [6, 9, 10]


def test_with_again_all_is_ordered(client: TestClient) -> None:
    plan = bare_plan()
    receive(client, plan, *CHOSEN)
    check_problem(ordered(client, plan), 422, "nothing-to-order")
    order = drafted(client, plan, again=True)
    assert asked(order) == CHOSEN
    assert order["left_out"] == {"received": 0, "ordered": 0, "tiles": []}
    move(client, order, "placed")
    assert asked(drafted(client, plan, again=True)) == CHOSEN


def test_a_tile_of_which_all_is_there_has_no_part_in_the_order(client: TestClient) -> None:
    plan = bare_plan(2)
    receive(client, plan, *CHOSEN, tile=1)
    receive(client, plan, 5)
    order = drafted(client, plan)
    assert [(tile["tile"], tile["patches"]) for tile in order["tiles"]] == [(0, [6, 9, 10])]
    assert [(tile["tile"], tile["received"]) for tile in order["left_out"]["tiles"]] == [
        (0, [5]),
        (1, CHOSEN),
    ]
    # full HR is that of the whole plan
    assert order["full_hr"]["nominal"] == str(
        cents(prices(client, plan, *range(16)) + prices(client, plan, *range(16), tile=1))
    )


def test_pixels_are_those_of_the_plan_they_were_sent_to(client: TestClient) -> None:
    """Two plans over the same ground may be of two days; who has a file for both sends it to both."""
    first, second = bare_plan(), bare_plan()
    receive(client, first, 5)
    assert asked(drafted(client, second)) == CHOSEN
    both = drafted(client, first, second)
    tiles = {tile["plan_id"]: tile for tile in both["tiles"]}
    # the polygon around the second's patch covers the first's, which is there
    assert tiles[str(second)] == {"plan_id": str(second), "tile": 0, "patches": CHOSEN, "paid_before": []}
    assert tiles[str(first)]["paid_before"] == ([5] if 5 in tiles[str(first)]["patches"] else [])
    assert [one["plan_id"] for one in both["left_out"]["tiles"]] == [str(first)]
    move(client, both, "placed")
    assert spent(client) == Decimal(both["price"]) + prices(client, first, 5)
    third = bare_plan()
    receive(client, third, 5)
    assert asked(drafted(client, third)) == [6, 9, 10]


@pytest.mark.parametrize("worth", [None, "9"])
def test_a_least_polygon_covers_what_is_there_and_does_not_pay_for_it(
    client: TestClient, worth: str | None
) -> None:
    plan = bare_plan()
    receive(client, plan, 5)
    order = drafted(client, plan, product=MINIMUM, **({} if worth is None else {"patch_worth": worth}))
    [tile] = order["tiles"]
    assert (tile["patches"], tile["paid_before"]) == (list(range(16)), [5])
    assert (order["left_out"]["received"], order["dropped"]) == (1, [])


def test_a_key_answers_with_the_draft_it_made(client: TestClient) -> None:
    plan = bare_plan()
    first = drafted(client, plan, key="k1")
    receive(client, plan, 5)
    replayed = ordered(client, plan, key="k1")
    assert replayed.headers["Idempotency-Replayed"] == "true"
    assert replayed.json() == first
    assert asked(first) == CHOSEN
    assert asked(drafted(client, plan, key="k2")) == [6, 9, 10]
    check_problem(ordered(client, plan, key="k2", again=True), 422, "idempotency-mismatch")
    # what was refused made nothing: the key is still free
    receive(client, plan, 6, 9, 10)
    assert ordered(client, plan, key="k3").status_code == 422
    assert asked(drafted(client, plan, key="k3", again=True)) == CHOSEN


def test_keys_from_before_one_could_ask_again_still_hold() -> None:
    """The fingerprint of a body that says nothing of it, as it was without the field."""
    form = OrderForm(plans=[uuid.UUID(int=1)], product="a/b")
    assert fingerprint(form) == "6ae2d7d26462af2ebe237e68dd07dbb3ec42cbf7f04670772723ec57fd537e4a"
    assert fingerprint(form.model_copy(update={"again": True})) != fingerprint(form)
