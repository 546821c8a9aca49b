"""The ledger over HTTP and under it: each purchase once, corrections as entries, nobody else's."""

import csv
import hashlib
import io
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Select, select, text
from sqlalchemy.orm import Session

from app.core import auth, money
from app.core.db import get_engine, session_scope
from app.core.work import uuid7
from app.ledger import export, received, service
from app.ledger.tables import LedgerEntry
from app.plans.service import get_plan
from app.plans.tables import Plan
from app.pricing.service import find_product
from patchplan.embedded import Services
from tests.conftest import KeyMaker
from tests.plans import ready_plan

PRODUCT = "example-archive/by-the-patch"
CLASSIC = "example-archive/classic"


def placed(client: TestClient, plan: uuid.UUID) -> Any:
    order = client.post("/v1/orders", json={"plans": [str(plan)], "product": PRODUCT}).json()
    return client.post(f"/v1/orders/{order['id']}/moves", json={"to": "placed"}).json()


def receive(plan_id: uuid.UUID, tile: int, *patches: int) -> uuid.UUID:
    """An acquisition of some patches, as `app.acquisitions` writes it, entered in the ledger."""
    acquisition = uuid7()
    with session_scope() as session:
        plan = session.get_one(Plan, plan_id)
        session.execute(
            text(
                "UPDATE received_patches SET superseded_in = 9"
                " WHERE plan_id = :plan AND tile = :tile AND patch = ANY(:patches) AND superseded_in IS NULL"
            ),
            {"plan": plan_id, "tile": tile, "patches": list(patches)},
        )
        session.execute(
            text(
                "INSERT INTO acquisitions (id, plan_id, revision, digest, file_sha256, file_bytes, raster,"
                " bands, refused) VALUES (:id, :plan, 1, '', '', 1, '{}', '{1}', '[]')"
            ),
            {"id": acquisition, "plan": plan_id},
        )
        for slot, patch in enumerate(patches):
            session.execute(
                text(
                    "INSERT INTO received_patches (acquisition_id, tile, patch, plan_id, slot, chosen,"
                    " valid_fraction, gsd_m, area_km2, price, received_in)"
                    " SELECT :id, tile, :patch, plan_id, :slot, true, 1, 1, areas_km2[:patch + 1],"
                    " prices[:patch + 1], 1 FROM tiles WHERE plan_id = :plan AND tile = :tile"
                ),
                {"id": acquisition, "patch": patch, "slot": slot, "plan": plan_id, "tile": tile},
            )
        received.acquired(session, get_plan(session, plan.org_id, plan_id), [acquisition])
    return acquisition


def entries(client: TestClient, **params: Any) -> list[Any]:
    found: list[Any] = client.get("/v1/ledger", params=params).json()["entries"]
    return found


def test_what_is_received_for_a_priced_plan_is_entered_once(client: TestClient) -> None:
    plan = ready_plan(2, 1, price="1000", currency="EUR")
    acquisition = receive(plan, 0, 5, 6)
    [entry] = entries(client)
    assert (entry["kind"], entry["product"], entry["patches"]) == ("acquisition", "ad-hoc", [5, 6])
    assert float(entry["amount"]) == pytest.approx(1000 * entry["area_km2"], rel=1e-12)
    # the same again, other pixels for a patch, and one more patch
    with session_scope() as session:
        row = session.get_one(Plan, plan)
        received.acquired(session, row, [acquisition])
    receive(plan, 0, 6, 7)
    receive(plan, 1, 0)
    masks = sorted((one["tile"], tuple(one["patches"])) for one in entries(client))
    assert masks == [(0, (5, 6)), (0, (7,)), (1, (0,))]
    [group] = client.get("/v1/reports/savings").json()["purchases"]
    assert (group["tiles"], group["patches"], group["full_hr"]["patches"]) == (2, 4, 32)
    assert group["spent"] == group["nominal_cost"]


def test_tiles_of_which_nothing_came_count_in_full_hr(client: TestClient) -> None:
    plan = ready_plan(3, 1, price="1000", currency="EUR")
    receive(plan, 1, 0)
    [group] = client.get("/v1/reports/savings").json()["purchases"]
    assert (group["tiles"], group["tiles_bought"], group["full_hr"]["patches"]) == (3, 1, 48)
    [nominal] = client.get("/v1/reports/savings").json()["groups"]
    assert group["full_hr"]["cost"] == nominal["every"]["cost"]


def test_what_an_order_bought_is_not_paid_again(client: TestClient) -> None:
    plan = ready_plan(price="1000", currency="EUR")
    order = placed(client, plan)
    receive(plan, 0, 5, 6, 0)
    [entry] = [one for one in entries(client) if one["kind"] == "acquisition"]
    # 0 was not ordered
    assert entry["patches"] == [0]
    assert {one["order_id"] for one in entries(client, order=order["id"])} == {order["id"]}


def test_a_plan_without_a_price_enters_nothing(client: TestClient) -> None:
    receive(ready_plan(), 0, 1)
    assert entries(client) == []


def test_a_plan_with_a_product_buys_by_its_order_alone(client: TestClient) -> None:
    """What it costs is a whole order by the vendor's rules, not so many patches at the first tier's price."""
    plan_id = ready_plan(2, 1, price="14", currency="EUR")
    with session_scope() as session:
        plan = session.get_one(Plan, plan_id)
        plan.product = find_product(session, plan.org_id, CLASSIC, datetime.now(UTC).date()).to_json()
    receive(plan_id, 0, 5, 6)
    assert entries(client) == []
    for by in ("product", "product,class"):
        report = client.get("/v1/reports/savings", params={"group_by": by}).json()
        assert report["purchases"] == []
        [group] = report["groups"]
        assert (group["group"]["product"], group["bought"]["patches"]) == (f"{CLASSIC}@1", 2)
    order = client.post("/v1/orders", json={"plans": [str(plan_id)]}).json()
    client.post(f"/v1/orders/{order['id']}/moves", json={"to": "placed"})
    [bought] = client.get("/v1/reports/savings", params={"product": CLASSIC}).json()["purchases"]
    assert (bought["spent"], bought["full_hr"]["cost"]) == (order["price"], order["full_hr"]["total"])


def test_corrections_are_entries(client: TestClient) -> None:
    order = placed(client, ready_plan())
    [entry] = entries(client)
    base = f"/v1/ledger/{entry['id']}/corrections"
    body = {"amount": "-0.01", "reason": "credit note"}
    key = {"Idempotency-Key": "c1"}
    first = client.post(base, json=body, headers=key)
    again = client.post(base, json=body, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    other = client.post(base, json=body | {"amount": "-1"}, headers=key)
    assert other.json()["type"] == "/problems/idempotency-mismatch"
    assert sum(Decimal(one["amount"]) for one in entries(client)) == Decimal(order["price"]) - Decimal("0.01")
    # a correction is not corrected; a purchase that was taken back neither
    assert client.post(f"/v1/ledger/{first.json()['id']}/corrections", json=body).status_code == 422
    client.post(f"/v1/orders/{order['id']}/moves", json={"to": "cancelled"})
    assert sum(Decimal(one["amount"]) for one in entries(client)) == 0
    assert client.post(base, json=body).status_code == 422


def correct(client: TestClient, entry: Any, amount: str) -> Any:
    return client.post(f"/v1/ledger/{entry['id']}/corrections", json={"amount": amount, "reason": "credit"})


def test_a_correction_gives_back_what_was_paid_at_most(client: TestClient) -> None:
    """An order's entries are shares of its price: one may take more back than its own."""
    order = placed(client, ready_plan(3, 2))
    one, other, *_ = entries(client)
    for amount in ("-0.000000000001", "0.001", "-0.015"):
        refused = correct(client, one, amount)
        assert refused.status_code == 422, amount
        [error] = refused.json()["errors"]
        assert error == {"loc": ["body", "amount"], "detail": "Nothing finer than 0.01 EUR is paid."}
    above = money.plain(-Decimal(order["price"]) - Decimal("0.01"))
    for amount in ("-999999999999", above):
        refused = correct(client, one, amount)
        assert refused.status_code == 422, amount
        assert f"order stands at {order['price']} EUR" in refused.json()["errors"][0]["detail"]
    assert correct(client, one, f"-{order['price']}").status_code == 201
    assert correct(client, other, "-0.01").status_code == 422
    assert correct(client, other, "0.02").status_code == 201
    assert correct(client, one, "-0.02").status_code == 201
    assert sum(Decimal(entry["amount"]) for entry in entries(client)) == 0


def test_what_was_received_is_corrected_together(client: TestClient) -> None:
    """Prices of patches are unrounded, so all of an acquisition is as much as a report says of it."""
    acquired = ready_plan(2, 1, price="1000", currency="JPY")
    receive(acquired, 0, *range(16))
    [entry] = entries(client)
    [group] = client.get("/v1/reports/savings").json()["purchases"]
    assert Decimal(entry["amount"]) != Decimal(group["spent"])
    assert correct(client, entry, "-0.5").status_code == 422
    assert correct(client, entry, f"-{int(group['spent']) + 1}").status_code == 422
    assert correct(client, entry, f"-{group['spent']}").status_code == 201
    assert correct(client, entry, "-1").status_code == 422
    # another acquisition's money is not its own
    receive(acquired, 1, *range(16))
    assert correct(client, entry, "-1").status_code == 422


def test_bad_corrections(client: TestClient) -> None:
    placed(client, ready_plan())
    [entry] = entries(client)
    for body in (
        {"amount": "0", "reason": "x"},
        {"amount": 1, "reason": "x"},
        {"amount": "1e3", "reason": "x"},
        {"amount": "NaN", "reason": "x"},
        {"amount": "1", "reason": ""},
        {"amount": "1", "reason": "a\nb"},
        {"amount": "1"},
    ):
        assert client.post(f"/v1/ledger/{entry['id']}/corrections", json=body).status_code == 422, body
    nobody = client.post(f"/v1/ledger/{uuid.uuid4()}/corrections", json={"amount": "1", "reason": "x"})
    assert nobody.status_code == 404
    assert len(entries(client)) == 1


def test_pages_and_csv_hold_the_same(client: TestClient, api_key: KeyMaker) -> None:
    plan = ready_plan(3, 1)
    placed(client, plan)
    first = client.get("/v1/ledger", params={"limit": 2}).json()
    rest = client.get("/v1/ledger", params={"limit": 2, "token": first["next"]}).json()
    assert rest["next"] is None
    paged = [one["id"] for one in first["entries"] + rest["entries"]]
    answer = client.get("/v1/ledger", headers={"Accept": "text/csv"})
    table = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["id"] for row in table] == paged[::-1]
    assert table[0]["patches"] == "5 6 9 10"
    assert client.get("/v1/ledger", params={"plan": str(uuid.uuid4())}).json()["entries"] == []
    buyer = {"Authorization": f"Bearer {api_key('acquire')}"}
    reader = {"Authorization": f"Bearer {api_key('report')}"}
    assert client.get("/v1/ledger", headers=buyer).status_code == 403
    correction = {"amount": "1", "reason": "x"}
    assert (
        client.post(f"/v1/ledger/{paged[0]}/corrections", json=correction, headers=reader).status_code == 403
    )
    stranger = {"Authorization": f"Bearer {api_key(org='other')}"}
    assert client.get("/v1/ledger", headers=stranger).json()["entries"] == []
    assert (
        client.post(f"/v1/ledger/{paged[0]}/corrections", json=correction, headers=stranger).status_code
        == 404
    )


def test_a_spreadsheet_runs_nothing_that_a_stranger_wrote(client: TestClient) -> None:
    sold = {"key": "k", "name": "n", "vendor": "=1+1", "currency": "EUR", "gsd_m": 0.3, "source": "s"}
    prices = {"name": "ours", "products": [sold | {"price_per_km2": "2000"}]}
    assert client.post("/v1/price-lists", json=prices).status_code == 201
    body = {"plans": [str(ready_plan())], "product": "ours/k"}
    order = client.post("/v1/orders", json=body).json()
    for to in ("placed", "cancelled"):
        client.post(f"/v1/orders/{order['id']}/moves", json={"to": to, "reason": "@SUM(A1)"})
    table = client.get("/v1/ledger", headers={"Accept": "text/csv"}).text
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [(row["vendor"], row["reason"]) for row in rows] == [("'=1+1", ""), ("'=1+1", "'@SUM(A1)")]
    assert [one["vendor"] for one in client.get("/v1/ledger").json()["entries"]] == ["=1+1", "=1+1"]


def test_a_csv_that_is_not_read_on_holds_no_connection(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each order's entries have one time, so that pages end amid equal times."""
    monkeypatch.setattr(export, "ROWS_A_PAGE", 2)
    plans = [ready_plan(3, 1), ready_plan(3, 1)]
    orders = [placed(client, plan)["id"] for plan in plans]
    with session_scope() as session:
        org_id = session.scalars(select(LedgerEntry.org_id).limit(1)).one()
        known = session.scalars(select(LedgerEntry.id).order_by(LedgerEntry.at, LedgerEntry.id)).all()
    pieces = export.stream_csv(org_id, None, None)
    read = [next(pieces), next(pieces)]
    assert get_engine().pool.checkedout() == 0  # type: ignore[attr-defined]
    # what comes after the first look is not in it
    placed(client, ready_plan(3, 1))
    for piece in pieces:
        read.append(piece)
        assert get_engine().pool.checkedout() == 0  # type: ignore[attr-defined]
    table = list(csv.DictReader(io.StringIO("".join(read))))
    assert [row["id"] for row in table] == [str(known_id) for known_id in known]
    for order_id, plan in zip(orders, plans, strict=True):
        for filters in ((uuid.UUID(order_id), None), (None, plan)):
            rows = list(csv.DictReader(io.StringIO("".join(export.stream_csv(org_id, *filters)))))
            assert {row["order_id"] for row in rows} == {order_id}
            assert len(rows) == 3
    assert list(export.stream_csv(uuid7(), None, None)) == [",".join(export.COLUMNS) + "\n"]


FILL = """
INSERT INTO ledger (id, org_id, at, kind, order_id, acquisition_id, corrects, plan_id, tile, release,
    release_version, product, vendor, patches, area_km2, currency, amount)
SELECT md5('entry' || n)::uuid, :org, now() - n * interval '1 second', kind,
    CASE WHEN kind = 'purchase' THEN md5('order' || n / 400)::uuid END,
    CASE WHEN kind = 'acquisition' THEN md5('acquisition' || n / 400)::uuid END,
    CASE WHEN kind = 'correction' THEN md5('entry' || n - 1)::uuid END,
    md5('plan' || n / 400)::uuid, n, '', '', '', '', 0, 0, 'EUR', 1
FROM generate_series(1, :rows) n,
    LATERAL (SELECT (ARRAY['purchase', 'acquisition', 'correction', 'purchase'])[n % 4 + 1] AS kind) kinds
"""


def test_what_was_bought_together_is_found_by_index(database: Services) -> None:
    with session_scope() as session:
        org_id = auth.get_or_create_organisation(session, "acme").id
        # without the orders, plans and acquisitions that the rows name
        session.execute(text("SET LOCAL session_replication_role = replica"))
        session.execute(text(FILL), {"org": org_id, "rows": 20_000})
    with session_scope() as session:
        session.execute(text("ANALYZE ledger"))
        bought = session.get_one(LedgerEntry, uuid.UUID(hashlib.md5(b"entry4003").hexdigest()))
        came = session.get_one(LedgerEntry, uuid.UUID(hashlib.md5(b"entry4001").hexdigest()))
        for entry, indexes in (
            (bought, {"ix_ledger_order"}),
            (came, {"ix_ledger_acquisition", "ix_ledger_corrects"}),
        ):
            query = service._paid_together(entry)
            used = plan_of(session, query)
            assert "Seq Scan" not in used, used
            assert all(index in used for index in indexes), used
            assert session.scalars(query).one() == 200
        newest = select(LedgerEntry).where(
            LedgerEntry.org_id == org_id, LedgerEntry.order_id == bought.order_id
        )
        newest = newest.order_by(LedgerEntry.at.desc(), LedgerEntry.id.desc()).limit(100)
        used = plan_of(session, newest)
        assert "ix_ledger_order" in used, used


def plan_of(session: Session, query: Select[Any]) -> str:
    """How PostgreSQL runs it."""
    compiled = query.compile(session.get_bind(), compile_kwargs={"literal_binds": True})
    return "\n".join(session.scalars(text(f"EXPLAIN ANALYZE {compiled}")))
