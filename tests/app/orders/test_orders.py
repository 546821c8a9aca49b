"""Orders over HTTP: drafted, quoted, moved, handed over; nobody else's, and each thing once."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import product as pairs
from typing import Any

import pytest
import shapely
from fastapi.testclient import TestClient
from shapely.geometry import shape
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from stapi_pydantic import OrderParameters, OrderPayload

from app.core import queue
from app.core.db import session_scope
from app.ledger.shares import shares
from app.orders.states import MOVES, OrderState
from app.orders.tables import Order
from tests.conftest import KeyMaker
from tests.plans import ready_plan

ARCHIVE = "example-archive/small-minimum"
CLASSIC = "example-archive/classic"


def drafted(client: TestClient, plan: uuid.UUID, product: str | None = ARCHIVE, **headers: str) -> Any:
    body = {"plans": [str(plan)]} | ({} if product is None else {"product": product})
    answer = client.post("/v1/orders", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


def moved(client: TestClient, order_id: str, to: str | None, **headers: str) -> Any:
    return client.post(f"/v1/orders/{order_id}/moves", json={"to": to}, headers=headers)


def entries(**filters: Any) -> list[Any]:
    where = " AND ".join(f"{name} = :{name}" for name in filters) or "true"
    with session_scope() as session:
        rows = session.execute(text(f"SELECT * FROM ledger WHERE {where} ORDER BY at, id"), filters)
        return list(rows.all())


def test_a_draft_is_legal_and_its_sums_are_right(client: TestClient) -> None:
    plan = ready_plan(2, 2)
    order = drafted(client, plan)
    estimate = {name: Decimal(value) for name, value in order["estimate"].items() if isinstance(value, str)}
    lines = sum(Decimal(line["amount"]) for line in order["lines"])
    assert estimate["net"] == lines + estimate["unused_minimum"] + estimate["fee"] + estimate["rounding"]
    assert estimate["total"] == estimate["net"] + estimate["vat"] == Decimal(order["price"])
    # 0.1 km² at 17.50 is what the smallest polygon costs
    assert estimate["total"] == Decimal("1.75")
    assert order["state"] == "draft"
    assert order["currency"] == "EUR"
    assert order["product"] == f"{ARCHIVE}@1"
    bought = {(tile["tile"], patch) for tile in order["tiles"] for patch in tile["patches"]}
    assert bought >= {(tile, patch) for tile in range(4) for patch in (5, 6, 9, 10)}
    assert order["estimate"]["patches"] == len(bought)
    assert [move["to"] for move in order["moves"]] == ["draft"]
    saving, full = order["saving"], order["full_hr"]
    assert Decimal(saving["real"]) == Decimal(full["total"]) - estimate["total"]
    assert saving["nominal_share"] == pytest.approx(0.75, abs=0.05)


def test_without_a_product_the_plans_own_price_counts(client: TestClient) -> None:
    plan = ready_plan(price="1000", currency="USD")
    order = drafted(client, plan, None)
    assert order["product"] == "ad-hoc"
    assert order["currency"] == "USD"
    assert order["saving"]["nominal"] == order["saving"]["real"]
    bought = {(tile["tile"], patch) for tile in order["tiles"] for patch in tile["patches"]}
    assert bought == {(0, patch) for patch in (5, 6, 9, 10)}


def test_patches_that_are_not_worth_their_polygon_are_dropped(client: TestClient) -> None:
    """Two tiles 4 km apart: nine patches share one least polygon (1.75), the tenth would need its own."""
    alone = 49
    plan = str(
        ready_plan(50, 1, chosen=lambda tile: (0,) if tile == alone else range(9) if tile == 0 else ())
    )
    asked = {"plans": [plan], "product": ARCHIVE}
    everything = client.post("/v1/orders", json=asked).json()
    assert everything["dropped"] == []
    some = client.post("/v1/orders", json=asked | {"patch_worth": "0.50"}).json()
    assert some["dropped"] == [{"plan_id": plan, "tile": alone, "patches": [0]}]
    assert some["estimate"]["total"] == "1.75" < everything["estimate"]["total"]
    # what is not bought costs nothing, alone or otherwise: nine of ten alike patches are left to pay for
    nine, ten = (
        Decimal(o["full_hr"]["nominal"]) - Decimal(o["saving"]["nominal"]) for o in (some, everything)
    )
    assert nine == pytest.approx(ten * 9 / 10, abs=Decimal("0.01"))
    assert nine < ten
    nothing = client.post("/v1/orders", json=asked | {"patch_worth": "0.10"})
    assert (nothing.status_code, nothing.json()["type"]) == (422, "/problems/nothing-to-order")
    for refused in ("0", "-1", 0.5):
        assert client.post("/v1/orders", json=asked | {"patch_worth": refused}).status_code == 422


def test_no_bound_is_above_the_price(client: TestClient) -> None:
    """50.4 JPY and 12.6 JPY of VAT are 63 exactly; rounded one by one they are 50 + 12."""
    product = {
        "key": "a",
        "name": "A",
        "vendor": "v",
        "source": "made up",
        "currency": "JPY",
        "price_per_km2": "0",
        "fixed_fee": "50.4",
        "vat_rate": "0.25",
    }
    assert client.post("/v1/price-lists", json={"name": "rounds", "products": [product]}).status_code == 201
    order = drafted(client, ready_plan(), "rounds/a")
    assert (order["price"], order["bound"]) == ("62", "62")


def test_the_whole_way(client: TestClient) -> None:
    plan = ready_plan(2, 1, chosen=lambda tile: (0, 1) if tile == 0 else ())
    order = drafted(client, plan)
    total = Decimal(order["estimate"]["total"])
    offer = {"total": "1.99", "currency": "EUR", "reference": "Q-1", "valid_until": "2999-12-31"}
    quoted = client.post(f"/v1/orders/{order['id']}/quote", json=offer).json()
    assert quoted["state"] == "quoted"
    assert quoted["quote"]["difference"] == str(Decimal("1.99") - total)
    assert quoted["price"] == "1.99"
    # revised
    again = client.post(f"/v1/orders/{order['id']}/quote", json=offer | {"total": "1.89"}).json()
    assert again["price"] == "1.89"
    assert entries() == []
    placed = moved(client, order["id"], "placed").json()
    assert placed["state"] == "placed"
    bought = entries(kind="purchase")
    assert sum(entry.amount for entry in bought) == Decimal("1.89")
    assert {(entry.tile, entry.release, entry.product) for entry in bought} >= {(0, "tiny", f"{ARCHIVE}@1")}
    assert all(entry.lon is not None and -180 <= entry.lon <= 180 for entry in bought)
    received = moved(client, order["id"], "received").json()
    assert [move["to"] for move in received["moves"]] == ["draft", "quoted", "quoted", "placed", "received"]
    assert [entry.amount for entry in entries(kind="delivery")] == [0]
    assert moved(client, order["id"], "cancelled").status_code == 409


def test_a_cancelled_order_is_taken_back(client: TestClient) -> None:
    order = drafted(client, ready_plan(2, 2), CLASSIC)
    moved(client, order["id"], "placed")
    moved(client, order["id"], "cancelled")
    assert sum(entry.amount for entry in entries()) == 0
    assert {entry.kind for entry in entries()} == {"purchase", "reversal"}
    # a draft that is cancelled never was in the ledger
    other = drafted(client, ready_plan())
    assert moved(client, other["id"], "cancelled").json()["state"] == "cancelled"
    assert entries(order_id=other["id"]) == []


def test_the_database_holds_the_table_of_moves(client: TestClient) -> None:
    first = uuid.UUID(drafted(client, ready_plan(), "example-archive/by-the-patch")["id"])
    way: dict[OrderState, list[str]] = {
        OrderState.DRAFT: [],
        OrderState.QUOTED: ["quoted"],
        OrderState.PLACED: ["placed"],
        OrderState.RECEIVED: ["placed", "received"],
        OrderState.CANCELLED: ["cancelled"],
    }
    with session_scope() as session:
        row = session.get_one(Order, first)
        values = {column.name: getattr(row, column.name) for column in Order.__table__.columns}
    for here, to in pairs(OrderState, OrderState):
        order = uuid.uuid4()
        with session_scope() as session:
            session.add(Order(**values | {"id": order}))
            session.flush()
            for state in way[here]:
                session.execute(
                    text("UPDATE orders SET state = :to WHERE id = :id"), {"to": state, "id": order}
                )
        move = {"to": to, "id": order}
        if to in MOVES[here] or to == here:
            with session_scope() as session:
                session.execute(text("UPDATE orders SET state = :to WHERE id = :id"), move)
        else:
            with pytest.raises(IntegrityError, match="cannot move"), session_scope() as session:
                session.execute(text("UPDATE orders SET state = :to WHERE id = :id"), move)


def test_what_the_database_refuses_beside_moves(client: TestClient) -> None:
    order = drafted(client, ready_plan())
    moved(client, order["id"], "placed")
    for statement in (
        "UPDATE orders SET total = 0",
        "UPDATE orders SET quote_total = 0, quoted_at = now()",
        "UPDATE ledger SET amount = 0",
        "DELETE FROM ledger",
        "UPDATE order_moves SET \"to\" = 'draft'",
        "DELETE FROM order_moves",
    ):
        with pytest.raises(IntegrityError), session_scope() as session:
            session.execute(text(statement))
    with session_scope() as session:
        row = session.get_one(Order, uuid.UUID(order["id"]))
        values = {column.name: getattr(row, column.name) for column in Order.__table__.columns}
    with pytest.raises(IntegrityError), session_scope() as session:
        session.add(Order(**values | {"id": uuid.uuid4(), "state": "placed"}))


def test_of_moves_at_once_one_is_made(client: TestClient) -> None:
    order = drafted(client, ready_plan(2, 2))
    targets = ["placed", "cancelled"] * 4
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda to: moved(client, order["id"], to), targets))
    made = [answer.json()["state"] for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} == {200, 409}
    # placed and then cancelled is a way; cancelled twice or placed twice is none
    assert sorted(made) in (["cancelled"], ["cancelled", "placed"])
    assert sum(entry.amount for entry in entries()) == 0
    for refused in (answer.json() for answer in answers if answer.status_code == 409):
        assert refused["type"] == "/problems/order-move-refused"
        # of the state it met: cancelled, or placed by another before it
        assert refused["moves"] in ([], ["cancelled", "received"])


def test_a_move_answers_what_it_made(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another move that comes between this one and its answer does not show in it."""
    order = drafted(client, ready_plan())
    send = queue.send

    def cancelled_meanwhile(what: str) -> None:
        monkeypatch.setattr(queue, "send", send)
        assert moved(client, order["id"], "cancelled").json()["state"] == "cancelled"
        send(what)

    monkeypatch.setattr(queue, "send", cancelled_meanwhile)
    placed = moved(client, order["id"], "placed").json()
    assert placed["state"] == "placed"
    assert [move["to"] for move in placed["moves"]] == ["draft", "placed"]
    assert client.get(f"/v1/orders/{order['id']}").json()["state"] == "cancelled"


def test_placing_with_one_key_enters_once(client: TestClient) -> None:
    order = drafted(client, ready_plan())
    with ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(lambda _: moved(client, order["id"], "placed", **{"Idempotency-Key": "p1"}), range(6))
        )
    assert {answer.status_code for answer in answers} == {200}
    assert sum("Idempotency-Replayed" in answer.headers for answer in answers) == 5
    assert sum(entry.amount for entry in entries()) == Decimal(order["price"])
    assert moved(client, order["id"], "placed").status_code == 409
    mismatch = moved(client, order["id"], "received", **{"Idempotency-Key": "p1"})
    assert mismatch.status_code == 422
    assert mismatch.json()["type"] == "/problems/idempotency-mismatch"


def test_drafting_with_one_key_makes_one_order(client: TestClient) -> None:
    plan = ready_plan()
    key = {"Idempotency-Key": "d1"}
    body = {"plans": [str(plan)], "product": ARCHIVE}
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: client.post("/v1/orders", json=body, headers=key), range(4)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = client.post("/v1/orders", json=body | {"product": CLASSIC}, headers=key)
    assert other.json()["type"] == "/problems/idempotency-mismatch"
    assert len(client.get("/v1/orders").json()["orders"]) == 1


def test_lists_page_and_filter(client: TestClient) -> None:
    plan = ready_plan()
    ids = [drafted(client, plan)["id"] for _ in range(3)]
    moved(client, ids[1], "placed")
    first = client.get("/v1/orders", params={"limit": 2}).json()
    second = client.get("/v1/orders", params={"limit": 2, "token": first["next"]}).json()
    assert [order["id"] for order in first["orders"] + second["orders"]] == ids[::-1]
    assert second["next"] is None
    placed = client.get("/v1/orders", params={"state": "placed"}).json()["orders"]
    assert [order["id"] for order in placed] == [ids[1]]
    assert client.get("/v1/orders", params={"token": "nonsense"}).status_code == 422


@pytest.fixture
def stranger(client: TestClient, api_key: KeyMaker) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key(org='other')}"}


def test_an_order_is_its_organisations_own(client: TestClient, stranger: dict[str, str]) -> None:
    plan = ready_plan()
    order = drafted(client, plan)
    base = f"/v1/orders/{order['id']}"
    body = {"plans": [str(plan)], "product": ARCHIVE}
    assert client.get(base, headers=stranger).status_code == 404
    assert client.post(f"{base}/moves", json={"to": "placed"}, headers=stranger).status_code == 404
    offer = {"total": "1", "currency": "EUR"}
    assert client.post(f"{base}/quote", json=offer, headers=stranger).status_code == 404
    assert client.get(f"{base}/requests/stapi", headers=stranger).status_code == 404
    assert client.post("/v1/orders", json=body, headers=stranger).status_code == 404
    assert client.get("/v1/orders", headers=stranger).json()["orders"] == []
    moved(client, order["id"], "placed")
    assert client.get("/v1/ledger", headers=stranger).json()["entries"] == []
    assert client.get("/v1/reports/savings", headers=stranger).json()["purchases"] == []


def test_orders_need_the_scope_to_acquire(client: TestClient, api_key: KeyMaker) -> None:
    planner = {"Authorization": f"Bearer {api_key('plan', 'report')}"}
    assert client.get("/v1/orders", headers=planner).status_code == 403
    buyer = {"Authorization": f"Bearer {api_key('acquire')}"}
    assert client.get("/v1/orders", headers=buyer).status_code == 200


def test_as_geojson(client: TestClient) -> None:
    order = drafted(client, ready_plan(2, 2))
    answer = client.get(f"/v1/orders/{order['id']}", headers={"Accept": "application/geo+json"})
    assert answer.headers["Content-Type"] == "application/geo+json"
    features = answer.json()["features"]
    assert [feature["properties"]["line"] for feature in features] == [
        line["line"] for line in order["lines"]
    ]
    for feature in features:
        polygon = shape(feature["geometry"])
        assert polygon.is_valid
        assert polygon.geom_type == "Polygon"
        assert shapely.is_ccw(polygon.exterior)
    assert client.get(f"/v1/orders/{order['id']}", headers={"Accept": "text/csv"}).status_code == 406


def test_as_a_stapi_order(client: TestClient) -> None:
    order = drafted(client, ready_plan(2, 2))
    base = f"/v1/orders/{order['id']}/requests/stapi"
    span = {"start": "2026-12-01T00:00:00Z", "end": "2026-12-31T00:00:00Z"}
    answer = client.get(base, params=span).json()
    assert answer["path"] == "/products/small-minimum/orders"
    assert len(answer["requests"]) == len(order["lines"])
    for body, line in zip(answer["requests"], order["lines"], strict=True):
        checked = OrderPayload[OrderParameters].model_validate_json(json.dumps(body))
        assert checked.datetime[0].isoformat() == "2026-12-01T00:00:00+00:00"
        assert shape(body["geometry"]).equals(shape(line["geometry"]))
    assert client.get(base).status_code == 422
    backwards = {"start": span["end"], "end": span["start"]}
    assert client.get(base, params=backwards).status_code == 422
    assert client.get(base, params={**span, "start": "2026-12-01T00:00:00"}).status_code == 422


def test_as_planet_takes_it(client: TestClient) -> None:
    order = drafted(client, ready_plan(2, 2))
    base = f"/v1/orders/{order['id']}/requests/planet"
    wanted = {"item_id": ["20201129_150531_19_1065"], "item_type": "PSScene", "product_bundle": "visual"}
    answer = client.get(base, params=wanted).json()
    [body] = answer["requests"]
    assert set(body) == {"name", "source_type", "products", "tools"}
    assert body["products"] == [
        {"item_ids": ["20201129_150531_19_1065"], "item_type": "PSScene", "product_bundle": "visual"}
    ]
    [tool] = body["tools"]
    assert shape(tool["clip"]["aoi"]).is_valid
    assert "item_id" in client.get(base).json()["detail"]
    many = client.get(base, params=wanted | {"item_id": [f"{n}" for n in range(501)]})
    assert (many.status_code, many.json()["type"]) == (422, "/problems/unprocessable")


def test_a_polygon_that_planet_cannot_clip_is_refused(client: TestClient) -> None:
    """Every other patch of 8 x 8 tiles touches the next at its corners: one outline of many vertices."""
    plan = ready_plan(
        8, 8, price="1000", currency="EUR", chosen=lambda tile: (0, 2, 4, 5, 6, 7, 8, 10, 12, 13, 14, 15)
    )
    order = drafted(client, plan, None)
    counts = [len(ring) for line in order["lines"] for ring in line["geometry"]["coordinates"]]
    assert sum(counts) > 500
    wanted = {"item_id": ["1"], "item_type": "PSScene", "product_bundle": "visual"}
    answer = client.get(f"/v1/orders/{order['id']}/requests/planet", params=wanted)
    assert answer.status_code == 422
    assert "500" in answer.json()["detail"]


def test_a_vendor_may_have_as_long_a_name_as_a_price_list_takes(client: TestClient) -> None:
    product = {
        "key": "a",
        "name": "A",
        "vendor": "v" * 500,
        "source": "made up",
        "currency": "EUR",
        "price_per_km2": "9",
    }
    assert client.post("/v1/price-lists", json={"name": "long", "products": [product]}).status_code == 201
    order = drafted(client, ready_plan(), "long/a")
    assert moved(client, order["id"], "placed").status_code == 200
    assert {entry.vendor for entry in entries()} == {"v" * 500}


def test_as_up42_takes_it(client: TestClient) -> None:
    order = drafted(client, ready_plan(2, 2))
    base = f"/v1/orders/{order['id']}/requests/up42"
    product = "4f866cd3-d816-4c98-ace3-e6105623cf13"
    answer = client.get(base, params={"data_product": product, "scene": "s-1"}).json()
    [body] = answer["requests"]
    assert answer["path"] == "/v2/orders/estimate"
    assert set(body) == {"dataProduct", "displayName", "params", "featureCollection", "tags"}
    assert body["params"] == {"id": "s-1"}
    assert body["featureCollection"]["type"] == "FeatureCollection"
    assert len(body["featureCollection"]["features"]) == len(order["lines"])


def test_bad_orders_leave_nothing(client: TestClient) -> None:
    plan, unchosen = str(ready_plan()), str(ready_plan(chosen=()))
    priced, other = str(ready_plan(price="2", currency="EUR")), str(ready_plan(price="3", currency="EUR"))
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"plans": [plan], "product": "nowhere/nothing"}, 422, "unknown-product"),
        ({"plans": [plan], "product": "example-tasking/last-year"}, 422, "price-list-expired"),
        ({"plans": [plan]}, 422, "unprocessable"),
        ({"plans": [priced, other]}, 422, "unprocessable"),
        ({"plans": [unchosen], "product": ARCHIVE}, 422, "nothing-to-order"),
        ({"plans": [str(uuid.uuid4())], "product": ARCHIVE}, 404, "not-found"),
        ({"budget": str(uuid.uuid4())}, 404, "not-found"),
        ({"plans": [plan, plan], "product": ARCHIVE}, 422, "unprocessable"),
        ({"plans": [plan], "budget": plan}, 422, "unprocessable"),
        ({"plans": []}, 422, "unprocessable"),
        ({"plans": [plan], "product": ARCHIVE, "colour": "red"}, 422, "unprocessable"),
    ]
    for body, status, slug in cases:
        answer = client.post("/v1/orders", json=body)
        assert (answer.status_code, answer.json()["type"]) == (status, f"/problems/{slug}"), body
    assert client.get("/v1/orders").json()["orders"] == []


def test_bad_quotes_and_moves_enter_nothing(client: TestClient) -> None:
    order = drafted(client, ready_plan())
    quote = f"/v1/orders/{order['id']}/quote"
    for bad in (
        {"total": "5", "currency": "USD"},
        {"total": "-5", "currency": "EUR"},
        {"total": 6.4e209, "currency": "EUR"},
        {"total": "9" * 13, "currency": "EUR"},
        {"total": "5.001", "currency": "EUR"},
        {"total": "5", "currency": "XYZ"},
        {"total": 5.0, "currency": "XXX"},
        {"total": "5", "currency": "EUR", "valid_until": "2020-01-01"},
        {"currency": "EUR"},
    ):
        assert client.post(quote, json=bad).status_code == 422, bad
    for to in ("draft", "quoted", "lost", None):
        assert moved(client, order["id"], to).status_code == 422
    assert moved(client, order["id"], "received").status_code == 409
    assert client.get(f"/v1/orders/{order['id']}").json()["state"] == "draft"
    assert entries() == []


def test_prices_that_ran_out_are_not_placed(client: TestClient) -> None:
    order = drafted(client, ready_plan())
    with session_scope() as session:
        session.execute(text("UPDATE orders SET terms = jsonb_set(terms, '{valid_to}', '\"2026-01-01\"')"))
    answer = moved(client, order["id"], "placed")
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/price-list-expired"
    assert entries() == []
    # the vendor's own offer holds, until it does not
    client.post(f"/v1/orders/{order['id']}/quote", json={"total": "1.80", "currency": "EUR"})
    with session_scope() as session:
        session.execute(text("UPDATE orders SET quote = jsonb_set(quote, '{valid_until}', '\"2026-01-01\"')"))
    assert moved(client, order["id"], "placed").status_code == 409
    assert entries() == []


def test_shares_add_up_exactly() -> None:
    weights = [Decimal(1) / Decimal(3), Decimal("0.1"), Decimal(0), Decimal("7e-9")] * 50
    found = shares(Decimal("10.01"), weights)
    assert sum(found) == Decimal("10.01")
    assert all(share >= 0 for share in found)
    assert {share for share, weight in zip(found, weights, strict=True) if weight == 0} == {0}
    with pytest.raises(ValueError):
        shares(Decimal(1), [Decimal(0)])
    with pytest.raises(ValueError):
        shares(Decimal(1), [Decimal(2), Decimal(-1)])
