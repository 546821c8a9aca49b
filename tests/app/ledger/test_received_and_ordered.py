"""Patches received without an order, and orders of the same patches: paid once, in every sequence."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from app.core.db import session_scope
from app.ledger import received
from app.plans.service import get_ready_plan
from app.plans.tables import Plan
from tests.app.ledger.test_ledger import correct, entries
from tests.client import post_hr
from tests.imagery import NORTH, TILE_M, WEST, geotiff, patch_geotiff, scene
from tests.plans import ready_plan

BY_THE_PATCH = "example-archive/by-the-patch"
MINIMUM = "example-archive/small-minimum"
DOLLARS = "example-tasking/convex-refused"


def bare_plan(tiles_x: int = 1, **more: Any) -> uuid.UUID:
    """A plan with a price of its own, high enough for every patch to be some cents."""
    return ready_plan(tiles_x, 1, price="1000", currency="EUR", **more)


def draft(client: TestClient, *plans: uuid.UUID, product: str | None = None, again: bool = True) -> Any:
    """An order of all that the plans chose, as one that was drafted before anything came."""
    body: dict[str, Any] = {"plans": [str(plan) for plan in plans], "again": again}
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


def receive_row(client: TestClient, plan: uuid.UUID, row: int, *, tile: int = 0) -> None:
    """Four patches in one file, so that they are one entry."""
    pixels, side_m = scene(8, 32, seed=row), TILE_M / 4
    content = geotiff(pixels, 2.5, west=WEST + tile * TILE_M, north=NORTH - row * side_m)
    answer = post_hr(client, str(plan), content)
    assert answer.status_code == 201, answer.text


def prices(client: TestClient, plan: uuid.UUID, *patches: int, tile: int = 0) -> Decimal:
    """What these patches of a tile cost at the plan's own price, unrounded."""
    listed = client.get(f"/v1/plans/{plan}").json()["tiles"][tile]["patches"]
    return sum((Decimal(listed[patch]["price"]) for patch in patches), Decimal(0))


def cents(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.01"), rounding=ROUND_HALF_EVEN)


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


def test_partly_received_before_and_after(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(received, "TILES_AT_ONCE", 1)
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
    order = draft(client, plan, product=MINIMUM)
    receive(client, plan, *range(16))
    order = move(client, order, "placed")
    assert order["tiles"][0]["patches"] == list(range(16))
    assert spent(client) == Decimal(order["price"])


@pytest.mark.parametrize("again", [True, False])
def test_what_had_come_and_is_merely_covered_stays_paid(client: TestClient, again: bool) -> None:
    plan = bare_plan()
    receive(client, plan, 5, 0)
    order = move(client, draft(client, plan, product=MINIMUM, again=again), "placed")
    [tile] = order["tiles"]
    assert (tile["patches"], tile["paid_before"]) == (list(range(16)), [] if again else [0, 5])
    assert spent(client) == Decimal(order["price"]) + prices(client, plan, *tile["paid_before"])
    move(client, order, "cancelled")
    assert spent(client) == prices(client, plan, 5, 0)


def test_an_order_in_another_currency(client: TestClient) -> None:
    plan = bare_plan()
    receive(client, plan, 5, 0)
    order = move(client, draft(client, plan, product=DOLLARS), "placed")
    [tile] = order["tiles"]
    left = prices(client, plan, *({5, 0} - ({*tile["patches"]} - {*tile["paid_before"]})))
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


@pytest.mark.parametrize("to", ["placed", "cancelled"])
def test_a_move_waits_for_what_is_being_received(client: TestClient, to: str) -> None:
    plan = bare_plan()
    order = draft(client, plan)
    if to == "cancelled":
        order = move(client, order, "placed")
    with ThreadPoolExecutor(1) as pool:
        with session_scope() as session:
            org_id = session.scalars(select(Plan.org_id).where(Plan.id == plan)).one()
            get_ready_plan(session, org_id, plan, lock=True)
            moving = pool.submit(move, client, order, to)
            with pytest.raises(TimeoutError):
                moving.result(timeout=0.5)
        assert moving.result()["state"] == to


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


def test_a_credit_note_outlives_orders_that_come_and_go(client: TestClient) -> None:
    plan = bare_plan()
    receive_row(client, plan, 1)
    [entry] = entries(client)
    assert correct(client, entry, "-0.10").status_code == 201
    before = spent(client)
    first, second = (quoted(client, draft(client, plan), total) for total in ("7.77", "3.33"))
    first = move(client, first, "placed")
    # half of the credit stays with the patches that the order does not buy
    left = prices(client, plan, 4, 7) - Decimal("0.05")
    assert spent(client) == Decimal("7.77") + left
    [standing] = [one for one in entries(client) if one["kind"] == "acquisition" and one["patches"] == [4, 7]]
    assert correct(client, entry, "-0.01").status_code == 422
    assert correct(client, standing, "-0.76").status_code == 422
    assert correct(client, standing, "0.02").status_code == 201
    second = move(client, second, "placed")
    move(client, first, "cancelled")
    assert spent(client) == Decimal("3.33") + left + Decimal("0.02")
    move(client, second, "cancelled")
    assert spent(client) == before + Decimal("0.02")


def test_corrections_and_moves_at_once(client: TestClient) -> None:
    """A correction is of what stands: it is made before the order takes over, or it is refused."""
    for _ in range(4):
        plan = bare_plan()
        receive(client, plan, 5)
        [entry] = entries(client, plan=plan)
        order = draft(client, plan)
        with ThreadPoolExecutor(3) as pool:
            corrections = [pool.submit(correct, client, entry, "-0.01") for _ in range(2)]
            pool.submit(move, client, order, "placed").result()
        assert {answer.result().status_code for answer in corrections} <= {201, 422}
        amounts = [Decimal(one["amount"]) for one in entries(client, plan=plan)]
        assert sum(amounts) == Decimal(order["price"])


def test_the_ledger_says_why(client: TestClient) -> None:
    plan = bare_plan()
    receive_row(client, plan, 1)
    [first] = entries(client)
    order = move(client, draft(client, plan), "placed", "cancelled")
    told = [(one["kind"], one["patches"], one["reason"]) for one in entries(client) if not one["order_id"]]
    placed, cancelled = (f"Order {order['id']} was {state}." for state in ("placed", "cancelled"))
    assert sorted(told, key=str) == [
        ("acquisition", [4, 5, 6, 7], None),
        ("acquisition", [4, 7], placed),
        ("acquisition", [5, 6], cancelled),
        ("reversal", [4, 5, 6, 7], placed),
    ]
    [taken] = [one for one in entries(client) if one["corrects"] == first["id"]]
    assert Decimal(taken["amount"]) == -Decimal(first["amount"])


STEPS = st.one_of(
    st.tuples(st.just("patches"), st.integers(0, 1), st.sets(st.integers(0, 15), min_size=1, max_size=3)),
    st.tuples(st.just("row"), st.integers(0, 1), st.integers(0, 3)),
    st.tuples(st.just("draft"), st.sampled_from([None, MINIMUM]), st.booleans()),
    st.tuples(st.sampled_from(["placed", "received", "cancelled"]), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("correct"), st.integers(0, 9), st.integers(1, 9)),
)


@given(steps=st.lists(STEPS, min_size=4, max_size=9))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_sequence_adds_up(client: TestClient, steps: list[Any]) -> None:
    """What was spent is the price of live orders, and of what was received and none of them bought."""
    name = uuid.uuid4().hex
    plan = bare_plan(2, chosen=lambda tile: (5, 6) if tile else (0, 1, 5), tags={"plan": name})
    listed = client.get(f"/v1/plans/{plan}").json()["tiles"]
    own = {(tile, n): Decimal(listed[tile]["patches"][n]["price"]) for tile in (0, 1) for n in range(16)}
    orders: list[Any] = []
    came: set[tuple[int, int]] = set()
    corrected = Decimal(0)

    def check() -> None:
        live = [order for order in orders if order["state"] in ("placed", "received")]
        tiles = [one for order in live for one in order["tiles"]]
        covered = {(one["tile"], n) for one in tiles for n in one["patches"]}
        bought = {(one["tile"], n) for one in tiles for n in one["patches"] if n not in one["paid_before"]}
        total = sum((Decimal(one["amount"]) for one in entries(client, plan=plan, limit=1000)), Decimal(0))
        expected = sum((own[place] for place in came - bought), Decimal(0))
        expected += sum((Decimal(order["price"]) for order in live), Decimal(0))
        if not (live and corrected):
            # corrections of what live orders took over wait for these to be cancelled
            assert total == expected + corrected
        groups = client.get("/v1/reports/savings", params={"tag": f"plan={name}"}).json()["purchases"]
        assert [Decimal(group["spent"]) for group in groups] == [cents(total) for _ in groups]
        counted = [(group["patches"], group["tiles"], group["full_hr"]["patches"]) for group in groups]
        everything = (len(came | covered), 2, 32) if came | covered else (0, 0, 0)
        assert counted in ([], [(0, 0, 0)]) if everything == (0, 0, 0) else counted == [everything]

    for number, (what, which, more) in enumerate(steps):
        if what == "row":
            row = {(which, n) for n in range(4 * more, 4 * more + 4)}
            if came.isdisjoint(row):
                receive_row(client, plan, more, tile=which)
                came |= row
        elif what == "patches" and (new := sorted(n for n in more if (which, n) not in came)):
            receive(client, plan, *new, tile=which)
            came |= {(which, n) for n in new}
        elif what == "draft":
            live = [order for order in orders if order["state"] in ("placed", "received")]
            had = came | {
                (one["tile"], n) for order in live for one in order["tiles"] for n in one["patches"]
            }
            if more or {(0, 0), (0, 1), (0, 5), (1, 5), (1, 6)} - had:
                order = draft(client, plan, product=which, again=bool(more))
                asked = {(one["tile"], n) for one in order["tiles"] for n in one["patches"]}
                assert more or which or asked.isdisjoint(had)
                orders.append(quoted(client, order, f"{number + 1}.01"))
        elif what == "correct":
            standing = [one for one in entries(client, plan=plan) if one["kind"] == "acquisition"]
            if standing:
                answer = correct(client, standing[which % len(standing)], f"0.0{more}")
                corrected += Decimal(f"0.0{more}") if answer.status_code == 201 else 0
        elif what in ("placed", "received", "cancelled") and which < len(orders):
            answer = client.post(f"/v1/orders/{orders[which]['id']}/moves", json={"to": what})
            orders[which] = answer.json() if answer.status_code == 200 else orders[which]
        check()
    orders = [move(client, one, "cancelled") if one["state"] == "placed" else one for one in orders]
    check()
