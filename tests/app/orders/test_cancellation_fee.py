"""What a vendor charges for cancelling: money in the ledger that buys no patch, to the cent."""

import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.core.db import session_scope
from app.ledger.tables import EntryKind
from app.orders.schemas import MoveForm
from app.orders.service import fingerprint
from tests.app.core.test_problems import check_problem
from tests.app.ledger.test_ledger import correct
from tests.app.ledger.test_ledger import entries as read_entries
from tests.app.ledger.test_received_and_ordered import bare_plan, move, prices, quoted, receive, spent
from tests.app.orders.test_left_out import drafted
from tests.app.orders.test_orders import entries
from tests.plans import ready_plan

BY_THE_PATCH = "example-archive/by-the-patch"
CLASSIC = "example-archive/classic"


def cancelled(
    client: TestClient, order: Any, fee: object, currency: str | None = "EUR", **headers: str
) -> Any:
    body = {"to": "cancelled", "cancellation_fee": fee, "currency": currency, "reason": "clouds all month"}
    return client.post(f"/v1/orders/{order['id']}/moves", json=body, headers=headers)


def placed(client: TestClient, *plans: uuid.UUID, total: str = "100.00", product: str = CLASSIC) -> Any:
    return move(client, quoted(client, drafted(client, *plans, product=product), total), "placed")


@pytest.mark.parametrize("fee", ["33.33", "0.01", "100.00"])
def test_the_ledger_adds_up_to_the_fee(client: TestClient, fee: str) -> None:
    order = placed(client, ready_plan(3, 1), ready_plan(west=500_000.0))
    answer = cancelled(client, order, fee)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["state"], answer.json()["cancellation_fee"]) == ("cancelled", fee)
    assert answer.json()["price"] == "100.00"
    of_order = read_entries(client, order=order["id"], limit=1000)
    assert sum(Decimal(entry["amount"]) for entry in of_order) == spent(client) == Decimal(fee)
    fees = [entry for entry in of_order if entry["kind"] == EntryKind.CANCELLATION_FEE]
    assert len(fees) == len([entry for entry in of_order if entry["kind"] == "purchase"]) > 1
    assert sum(Decimal(entry["amount"]) for entry in fees) == Decimal(fee)
    assert {(entry["currency"], entry["reason"]) for entry in fees} == {("EUR", "clouds all month")}
    assert all(entry["patches"] == [] and entry["area_km2"] == 0 for entry in fees)
    [move_of_it] = [one for one in answer.json()["moves"] if one["to"] == "cancelled"]
    assert {entry["at"] for entry in fees} == {move_of_it["at"]}
    csv = client.get("/v1/ledger", headers={"Accept": "text/csv"}).text
    assert csv.count(",cancellation_fee,") == len(fees)
    [listed] = client.get("/v1/orders").json()["orders"]
    assert listed["cancellation_fee"] == fee


def test_reports_show_it_as_spent_for_nothing(client: TestClient) -> None:
    north = ready_plan(2, 1, tags={"team": "north"})
    south = ready_plan(west=500_000.0, tags={"team": "south"})
    order = placed(client, north, south)
    cancelled(client, order, "33.35")
    [group] = client.get("/v1/reports/savings").json()["purchases"]
    assert (group["spent"], group["patches"], group["tiles"], group["area_km2"]) == ("33.35", 0, 0, 0)
    assert (group["full_hr"]["cost"], group["nominal_cost"]) == ("0.00", "0.00")
    assert group["real_saving"]["cost"] == "-33.35"
    teams = client.get("/v1/reports/savings", params={"group_by": "tag:team"}).json()["purchases"]
    of_team = {
        name: sum((entry.amount for entry in entries(plan_id=plan)), Decimal(0))
        for name, plan in (("north", north), ("south", south))
    }
    assert sum(of_team.values()) == Decimal("33.35")
    for one in teams:
        assert abs(Decimal(one["spent"]) - of_team[one["group"]["tag:team"]]) <= Decimal("0.005")
    rated = {"currency": "USD", "rate": "2020-01-01:EUR=2"}
    [dollars] = client.get("/v1/reports/savings", params=rated).json()["purchases"]
    assert dollars["spent"] == "66.70"


def test_beside_another_order_it_changes_money_alone(client: TestClient) -> None:
    plan = ready_plan(2, 1)
    kept = placed(client, plan, total="7.77", product=BY_THE_PATCH)
    [before] = client.get("/v1/reports/savings").json()["purchases"]
    other = drafted(client, plan, product=CLASSIC, again=True)
    cancelled(client, move(client, other, "placed"), "5.00")
    [after] = client.get("/v1/reports/savings").json()["purchases"]
    assert after["spent"] == str(Decimal(kept["price"]) + 5)
    for name in ("tiles", "patches", "s_histogram", "area_km2", "nominal_cost", "full_hr", "nominal_saving"):
        assert after[name] == before[name], name


def test_what_had_come_is_entered_beside_it(client: TestClient) -> None:
    plan = bare_plan()
    order = placed(client, plan)
    receive(client, plan, 5, 0)
    cancelled(client, order, "12.50")
    assert spent(client) == Decimal("12.50") + prices(client, plan, 5, 0)


def test_a_fee_is_corrected_as_a_purchase_is(client: TestClient) -> None:
    order = placed(client, ready_plan())
    cancelled(client, order, "12.50")
    [fee] = [entry for entry in read_entries(client) if entry["kind"] == EntryKind.CANCELLATION_FEE]
    assert correct(client, fee, "-12.51").status_code == 422
    assert correct(client, fee, "-2.50").status_code == 201
    assert spent(client) == 10
    [purchase] = [entry for entry in read_entries(client) if entry["kind"] == "purchase"]
    assert correct(client, purchase, "-1.00").status_code == 422


@pytest.mark.parametrize(
    ("fee", "currency"),
    [
        ("100.01", "EUR"),
        ("-0.01", "EUR"),
        ("0.001", "EUR"),
        (5, "EUR"),
        (5.5, "EUR"),
        ("5.00", "USD"),
        ("5.00", None),
        (None, "EUR"),
        ("five", "EUR"),
        ("5.00", "XXX"),
    ],
)
def test_a_fee_that_cannot_be_leaves_the_order_placed(
    client: TestClient, fee: object, currency: str | None
) -> None:
    order = placed(client, ready_plan())
    check_problem(cancelled(client, order, fee, currency), 422, "unprocessable")
    assert client.get(f"/v1/orders/{order['id']}").json()["state"] == "placed"
    assert spent(client) == 100


def test_only_cancelling_what_was_placed_costs(client: TestClient) -> None:
    order = drafted(client, ready_plan(), product=CLASSIC)
    early = cancelled(client, order, "5.00")
    check_problem(early, 422, "unprocessable")
    assert early.json()["errors"][0]["loc"] == ["body", "cancellation_fee"]
    for to in ("placed", "received"):
        body = {"to": to, "cancellation_fee": "5.00", "currency": "EUR"}
        check_problem(client.post(f"/v1/orders/{order['id']}/moves", json=body), 422, "unprocessable")
    received = move(client, order, "placed", "received")
    check_problem(cancelled(client, received, "5.00"), 409, "order-move-refused")
    assert entries(kind="cancellation_fee") == []


def test_a_fee_of_nothing_is_noted_and_entered_nowhere(client: TestClient) -> None:
    order = placed(client, ready_plan())
    assert cancelled(client, order, "0.00").json()["cancellation_fee"] == "0.00"
    assert {entry.kind for entry in entries()} == {"purchase", "reversal"}
    assert spent(client) == 0


def test_in_a_currency_without_cents(client: TestClient) -> None:
    plan = ready_plan(3, 1, price="90000", currency="JPY")
    order = move(client, drafted(client, plan), "placed")
    check_problem(cancelled(client, order, "10.5", "JPY"), 422, "unprocessable")
    assert cancelled(client, order, "10", "JPY").status_code == 200
    assert spent(client, "JPY") == 10


def test_webhooks_tell_of_it(client: TestClient) -> None:
    order = placed(client, ready_plan())
    hook = {"url": "https://example.com/hook", "events": ["order.cancelled"]}
    assert client.post("/v1/webhooks", json=hook).status_code == 201
    cancelled(client, order, "5.00")
    with session_scope() as session:
        [body] = session.scalars(text("SELECT body FROM webhook_deliveries")).all()
    assert json.loads(body)["data"]["cancellation_fee"] == "5.00"


def test_one_key_charges_once(client: TestClient) -> None:
    order = placed(client, ready_plan())
    key = {"Idempotency-Key": "c1"}
    first, again = (cancelled(client, order, "5.00", **key) for _ in range(2))
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json() == first.json()
    check_problem(cancelled(client, order, "6.00", **key), 422, "idempotency-mismatch")
    assert spent(client) == 5


def test_keys_from_before_there_were_fees_still_hold() -> None:
    """The fingerprint of a body that says nothing of a fee, as it was without the field."""
    before = "b3f83c8a4f4e6ea55022563b53df6c7a7ad8920c01d35c609ffcde0a9b5814ae"
    assert fingerprint(MoveForm(to="cancelled", reason="clouds")) == before
    fee = {"to": "cancelled", "reason": "clouds", "cancellation_fee": "5.00", "currency": "EUR"}
    assert fingerprint(MoveForm.model_validate(fee)) != before


def test_the_database_holds_fees_to_cancelled_orders(client: TestClient) -> None:
    order = placed(client, ready_plan())
    for value in ("5", "-1"):
        with pytest.raises(IntegrityError, match="fee_of_a_cancelled"), session_scope() as session:
            session.execute(text(f"UPDATE orders SET cancellation_fee = {value}"))
    cancelled(client, order, "5.00")
    with pytest.raises(IntegrityError, match="fee_of_a_cancelled"), session_scope() as session:
        session.execute(text("UPDATE orders SET cancellation_fee = -1"))
