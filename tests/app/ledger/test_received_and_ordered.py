"""Patches received without an order, and orders of the same patches: paid once, in every sequence."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.app.ledger.test_ledger import entries
from tests.client import post_hr
from tests.imagery import patch_geotiff
from tests.plans import ready_plan

BY_THE_PATCH = "example-archive/by-the-patch"
MINIMUM = "example-archive/small-minimum"
DOLLARS = "example-tasking/convex-refused"


def bare_plan(tiles_x: int = 1, **more: Any) -> uuid.UUID:
    """A plan with a price of its own, high enough for every patch to be some cents."""
    return ready_plan(tiles_x, 1, price="1000", currency="EUR", **more)


def draft(client: TestClient, *plans: uuid.UUID, product: str | None = None) -> Any:
    body: dict[str, Any] = {"plans": [str(plan) for plan in plans]}
    answer = client.post("/v1/orders", json=body | ({} if product is None else {"product": product}))
    assert answer.status_code == 201, answer.text
    return answer.json()


def move(client: TestClient, order: Any, *states: str) -> Any:
    for to in states:
        answer = client.post(f"/v1/orders/{order['id']}/moves", json={"to": to})
        assert answer.status_code == 200, answer.text
        order = answer.json()
    return order


def quoted(client: TestClient, order: Any, total: str) -> Any:
    """The draft at a price that no patches add up to."""
    offer = {"total": total, "currency": order["currency"]}
    return client.post(f"/v1/orders/{order['id']}/quote", json=offer).json()


def receive(client: TestClient, plan: uuid.UUID, *patches: int, tile: int = 0, **form: str) -> None:
    files = [patch_geotiff(patch, tile_x=tile, seed=int(form.pop("seed", "1"))) for patch in patches]
    answer = post_hr(client, str(plan), *files, **form)
    assert answer.status_code == 201, answer.text


def prices(client: TestClient, plan: uuid.UUID, *patches: int, tile: int = 0) -> Decimal:
    """What these patches of a tile cost at the plan's own price, unrounded."""
    listed = client.get(f"/v1/plans/{plan}").json()["tiles"][tile]["patches"]
    return sum((Decimal(listed[patch]["price"]) for patch in patches), Decimal(0))


def spent(client: TestClient, currency: str = "EUR") -> Decimal:
    found = entries(client, limit=1000)
    return sum((Decimal(one["amount"]) for one in found if one["currency"] == currency), Decimal(0))


def test_received_then_placed(client: TestClient) -> None:
    plan = bare_plan()
    receive(client, plan, 5, 6, 0)
    order = move(client, quoted(client, draft(client, plan), "7.77"), "placed")
    assert spent(client) == Decimal("7.77") + prices(client, plan, 0)
    assert sum(Decimal(one["amount"]) for one in entries(client, order=order["id"])) == Decimal("7.77")


def test_placed_then_received(client: TestClient) -> None:
    plan = bare_plan()
    move(client, quoted(client, draft(client, plan), "7.77"), "placed")
    receive(client, plan, 5, 6, 0)
    assert spent(client) == Decimal("7.77") + prices(client, plan, 0)


def test_placed_then_received_then_cancelled(client: TestClient) -> None:
    plan = bare_plan()
    order = move(client, quoted(client, draft(client, plan), "7.77"), "placed")
    receive(client, plan, 5, 6, 0)
    receive(client, plan, 5, seed="2", replace="true")
    move(client, order, "cancelled")
    assert spent(client) == prices(client, plan, 5, 6, 0)


def test_received_then_placed_then_cancelled(client: TestClient) -> None:
    plan = bare_plan()
    receive(client, plan, 5, 6, 0)
    before = spent(client)
    move(client, quoted(client, draft(client, plan), "7.77"), "placed", "cancelled")
    assert spent(client) == before == prices(client, plan, 5, 6, 0)


def test_partly_received_before_and_after(client: TestClient) -> None:
    plan = bare_plan(2)
    receive(client, plan, 5, 0)
    order = draft(client, plan)
    receive(client, plan, 6, tile=1)
    move(client, order, "placed")
    receive(client, plan, 6, 9)
    receive(client, plan, 5, 15, tile=1)
    own = prices(client, plan, 0) + prices(client, plan, 15, tile=1)
    assert spent(client) == Decimal(order["price"]) + own
    move(client, order, "received")
    assert spent(client) == Decimal(order["price"]) + own


def test_several_orders_over_one_plan(client: TestClient) -> None:
    """Two orders cost what both cost; what one of them still buys is not paid by itself."""
    plan = bare_plan()
    receive(client, plan, 5, 0)
    first = move(client, quoted(client, draft(client, plan), "7.77"), "placed")
    second = move(client, quoted(client, draft(client, plan), "3.33"), "placed")
    own = prices(client, plan, 0)
    assert spent(client) == Decimal("11.10") + own
    move(client, first, "cancelled")
    assert spent(client) == Decimal("3.33") + own
    move(client, second, "cancelled")
    assert spent(client) == own + prices(client, plan, 5)


def test_what_a_polygon_covers_is_bought(client: TestClient) -> None:
    plan = bare_plan()
    receive(client, plan, *range(16))
    order = move(client, draft(client, plan, product=MINIMUM), "placed")
    assert order["tiles"][0]["patches"] == list(range(16))
    assert spent(client) == Decimal(order["price"])


def test_an_order_in_another_currency(client: TestClient) -> None:
    plan = bare_plan()
    receive(client, plan, 5, 0)
    order = move(client, draft(client, plan, product=DOLLARS), "placed")
    covered = order["tiles"][0]["patches"]
    left = prices(client, plan, *({5, 0} - set(covered)))
    assert (spent(client), spent(client, "USD")) == (left, Decimal(order["price"]))


def test_an_order_of_two_plans_takes_back_what_both_had_received(client: TestClient) -> None:
    near, far = bare_plan(), bare_plan()
    for plan in (near, far):
        receive(client, plan, 5, 0)
    order = move(client, draft(client, near, far), "placed")
    assert spent(client) == Decimal(order["price"]) + prices(client, near, 0) + prices(client, far, 0)
    move(client, order, "cancelled")
    assert spent(client) == prices(client, near, 5, 0) + prices(client, far, 5, 0)


def test_a_plan_without_a_price_of_its_own_pays_by_orders_alone(client: TestClient) -> None:
    plan = ready_plan()
    order = move(client, draft(client, plan, product=BY_THE_PATCH), "placed")
    receive(client, plan, 5, 0)
    assert spent(client) == Decimal(order["price"])
    move(client, order, "cancelled")
    assert spent(client) == 0


@pytest.mark.parametrize("first", ["placed", "cancelled"])
def test_at_once(client: TestClient, first: str) -> None:
    """Receiving and moving take turns at the plan, whoever is first."""
    for _ in range(4):
        plan = bare_plan()
        order = quoted(client, draft(client, plan), "7.77")
        other = quoted(client, draft(client, plan), "3.33")
        if first == "cancelled":
            order = move(client, order, "placed")
        before = spent(client)
        with ThreadPoolExecutor(4) as pool:
            jobs = [
                pool.submit(receive, client, plan, 5),
                pool.submit(move, client, order, first),
                pool.submit(receive, client, plan, 6, 0),
                pool.submit(move, client, other, "placed"),
            ]
            for job in jobs:
                job.result()
        bought = Decimal("7.77") if first == "placed" else Decimal("-7.77")
        assert spent(client) - before == bought + Decimal("3.33") + prices(client, plan, 0)
