"""The ledger's half of the savings report, held to sums worked out here without SQL."""

import io
import json
import re
import uuid
from collections import defaultdict
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Any

import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.core.db import session_scope
from tests.app.ledger.test_ledger import receive
from tests.app.reports.past import backdate, rewriting
from tests.plans import ready_plan

ARCHIVE = "example-archive/small-minimum"
TASKING = "example-tasking/convex-refused"


def order(client: TestClient, plan: uuid.UUID, product: str, *moves: str, quote: str | None = None) -> Any:
    # whatever was ordered or received before: what a report says of two orders is looked at too
    body = {"plans": [str(plan)], "product": product, "again": True}
    made = client.post("/v1/orders", json=body)
    assert made.status_code == 201, made.text
    found = made.json()
    base = f"/v1/orders/{found['id']}"
    if quote is not None:
        offer = {"total": quote, "currency": found["currency"]}
        found = client.post(f"{base}/quote", json=offer).json()
    for to in moves:
        answer = client.post(f"{base}/moves", json={"to": to})
        assert answer.status_code == 200, answer.text
        found = answer.json()
    return found


def report(client: TestClient, **params: Any) -> Any:
    answer = client.get("/v1/reports/savings", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def rows(query: str) -> list[Any]:
    with session_scope() as session:
        return list(session.execute(text(query)).all())


@pytest.fixture
def bought(client: TestClient) -> dict[str, Any]:
    """Three plans, two products, two currencies; one order taken back, one corrected."""
    north = ready_plan(3, 2, tags={"team": "north"}, chosen=lambda tile: (0, 1, 5) if tile % 2 else ())
    south = ready_plan(2, 1, tags={"team": "south"}, west=500_000.0, release="other")
    made = {
        "kept": order(client, north, ARCHIVE, "placed", "received"),
        "dollars": order(client, south, TASKING, "placed", quote="177.77"),
        "back": order(client, south, ARCHIVE, "placed", "cancelled"),
    }
    [entry] = rows(
        f"SELECT id FROM ledger WHERE order_id = '{made['kept']['id']}' AND kind = 'purchase' LIMIT 1"
    )
    correction = client.post(
        f"/v1/ledger/{entry.id}/corrections", json={"amount": "-0.33", "reason": "discount"}
    )
    assert correction.status_code == 201, correction.text
    return made


def cents(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.01"), rounding=ROUND_HALF_EVEN)


def test_every_sum_comes_out_again_to_the_last_cent(client: TestClient, bought: dict[str, Any]) -> None:
    spent: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    masks: dict[tuple[str, str], dict[Any, int]] = defaultdict(dict)
    live = {str(row.id) for row in rows("SELECT id FROM orders WHERE state IN ('placed', 'received')")}
    with localcontext() as context:
        context.prec = 100
        for row in rows(
            "SELECT l.*, p.tags ->> 'team' AS team FROM ledger l JOIN plans p ON p.id = l.plan_id"
        ):
            spent[row.team, row.currency] += row.amount
        for row in rows(
            "SELECT t.*, o.currency, p.tags ->> 'team' AS team FROM order_tiles t"
            " JOIN orders o ON o.id = t.order_id JOIN plans p ON p.id = t.plan_id"
        ):
            if str(row.order_id) in live:
                masks[row.team, row.currency][row.plan_id, row.tile] = row.patches
    groups = report(client, group_by="tag:team")["purchases"]
    found = {(group["group"]["tag:team"], group["currency"]): group for group in groups}
    assert set(found) == set(spent)
    for key, group in found.items():
        assert Decimal(group["spent"]) == cents(spent[key])
        counts = [mask.bit_count() for mask in masks[key].values()]
        assert group["tiles"] == len(counts)
        assert group["tiles_bought"] == sum(count > 0 for count in counts)
        assert group["patches"] == sum(counts)
        assert group["s_histogram"] == [counts.count(s) for s in range(17)]
    kept, dollars = bought["kept"], bought["dollars"]
    north = found["north", "EUR"]
    assert Decimal(north["spent"]) == Decimal(kept["price"]) - Decimal("0.33")
    assert north["full_hr"]["cost"] == kept["full_hr"]["total"]
    assert north["full_hr"]["nominal_cost"] == kept["full_hr"]["nominal"]
    assert north["full_hr"]["patches"] == 6 * 16
    assert north["nominal_saving"]["cost"] == kept["saving"]["nominal"]
    assert Decimal(north["real_saving"]["cost"]) == Decimal(kept["saving"]["real"]) + Decimal("0.33")
    assert found["south", "USD"]["spent"] == "177.77"
    assert found["south", "USD"]["full_hr"]["cost"] == dollars["full_hr"]["total"]
    # taken back in the month it was placed: nothing is left of it
    taken = found["south", "EUR"]
    assert (taken["tiles"], taken["patches"], taken["spent"]) == (0, 0, "0.00")
    assert taken["full_hr"]["cost"] == "0.00"


def test_a_second_order_of_fewer_plans_makes_full_hr_no_dearer(client: TestClient) -> None:
    """Under a minimum order one plan alone would cost what both do; a tile of two orders counts the least."""
    near, far = (str(ready_plan(west=west)) for west in (400_000.0, 401_000.0))
    full = []
    for plans in ([near, far], [near]):
        body = {"plans": plans, "product": "example-archive/classic", "again": True}
        made = client.post("/v1/orders", json=body).json()
        assert client.post(f"/v1/orders/{made['id']}/moves", json={"to": "placed"}).status_code == 200
        full.append(Decimal(made["full_hr"]["total"]))
    assert full[0] < 2 * full[1]
    [group] = report(client)["purchases"]
    assert Decimal(group["full_hr"]["cost"]) == full[0]
    assert Decimal(group["spent"]) == sum(full)


def test_a_purchase_taken_back_a_month_later_counts_against_that_month(client: TestClient) -> None:
    made = order(client, ready_plan(2, 1), ARCHIVE, "placed", "cancelled")
    with rewriting() as session:
        backdate(session, made["id"], placed="2026-03-15Z", cancelled="2026-04-15Z")
    march, april = report(client, group_by="month")["purchases"]
    assert march["group"] == {"month": "2026-03"}
    assert march["spent"] == made["price"]
    assert Decimal(april["spent"]) == -Decimal(made["price"])
    assert (march["tiles"], april["tiles"]) == (2, -2)
    assert march["patches"] == -april["patches"] > 0
    [whole] = report(client)["purchases"]
    assert (whole["spent"], whole["tiles"], whole["full_hr"]["cost"]) == ("0.00", 0, "0.00")


FILTERS: list[tuple[dict[str, str], set[tuple[str, str]]]] = [
    ({"product": ARCHIVE}, {("EUR", "north"), ("EUR", "south")}),
    ({"product": f"{TASKING}@1"}, {("USD", "south")}),
    ({"release": "other"}, {("USD", "south"), ("EUR", "south")}),
    ({"tag": "team=north"}, {("EUR", "north")}),
    ({"aoi": "-82,29,-81.5,30"}, {("EUR", "north")}),
    ({"from": "2999-01-01"}, set()),
    ({"class": "nothing"}, set()),
]


def test_what_comes_later_leaves_an_earlier_month_as_it_was(client: TestClient) -> None:
    """Of a plan bought by its own price, a tile of which nothing came at first counts from then on."""
    plan = ready_plan(3, 1, price="1000", currency="EUR")
    receive(plan, 0, 3)
    with rewriting() as session:
        session.execute(text("UPDATE ledger SET at = '2026-01-10Z'"))
    january = report(client, to="2026-02-01")["purchases"]
    assert [(group["tiles"], group["tiles_bought"]) for group in january] == [(3, 1)]
    receive(plan, 1, 5)
    with rewriting() as session:
        session.execute(text("UPDATE ledger SET at = '2026-02-10Z' WHERE tile = 1"))
    assert report(client, to="2026-02-01")["purchases"] == january
    [february] = report(client, **{"from": "2026-02-01", "to": "2026-03-01"})["purchases"]
    assert (february["tiles"], february["tiles_bought"], february["patches"]) == (0, 1, 1)
    assert Decimal(february["full_hr"]["cost"]) == 0


def test_what_an_order_bought_of_what_was_received_counts_by_the_order(client: TestClient) -> None:
    """Of three tiles one is received before there is an order, in another currency; then it is cancelled."""
    plan = ready_plan(3, 1, price="1000", currency="EUR")
    receive(plan, 0, 5, 6)
    [before] = report(client)["purchases"]
    assert (before["tiles"], before["patches"]) == (3, 2)
    made = order(client, plan, TASKING, "placed")
    for by in ("currency", "product", "month", "product,month"):
        euros, dollars = sorted(report(client, group_by=by)["purchases"], key=lambda group: group["currency"])
        assert (euros["tiles"], euros["patches"], euros["spent"], euros["nominal_cost"]) == (
            0,
            0,
            "0.00",
            "0.00",
        )
        assert euros["full_hr"] == {"patches": 0, "area_km2": 0, "cost": "0.00", "nominal_cost": "0.00"}
        assert (dollars["spent"], dollars["full_hr"]["cost"]) == (made["price"], made["full_hr"]["total"])
    client.post(f"/v1/orders/{made['id']}/moves", json={"to": "cancelled"})
    euros, dollars = report(client)["purchases"]
    assert euros == before
    assert (dollars["tiles"], dollars["spent"], dollars["full_hr"]["cost"]) == (0, "0.00", "0.00")


def test_what_an_order_did_not_buy_still_counts_by_itself(client: TestClient) -> None:
    plan = ready_plan(2, 1, price="1000", currency="EUR")
    receive(plan, 0, 5, 0)
    receive(plan, 1, 5)
    [entry] = rows("SELECT id FROM ledger WHERE tile = 0")
    credit = {"amount": "-0.10", "reason": "credit note"}
    assert client.post(f"/v1/ledger/{entry.id}/corrections", json=credit).status_code == 201
    made = order(client, plan, "example-archive/by-the-patch", "placed")
    ad_hoc, ordered = report(client, group_by="product")["purchases"]
    [tile] = rows("SELECT prices FROM tiles WHERE tile = 0")
    alone = tile.prices[0]
    assert (ad_hoc["tiles"], ad_hoc["patches"], ordered["spent"]) == (2, 1, made["price"])
    # half of the credit note was of the patch that the order bought
    assert Decimal(ad_hoc["spent"]) == cents(alone - Decimal("0.05"))
    assert Decimal(ad_hoc["nominal_cost"]) == cents(alone)
    [whole] = report(client)["purchases"]
    assert (whole["tiles"], whole["patches"], whole["full_hr"]["patches"]) == (2, 9, 32)
    assert whole["full_hr"]["cost"] == made["full_hr"]["total"]


def test_filters(client: TestClient, bought: dict[str, Any]) -> None:
    for params, kept in FILTERS:
        groups = report(client, group_by="tag:team", **params)["purchases"]
        assert {(group["currency"], group["group"]["tag:team"]) for group in groups} == kept, params


def test_groups_by_area_split_a_plan_and_add_up(client: TestClient) -> None:
    plan = ready_plan(4, 1)
    made = order(client, plan, ARCHIVE, "placed")
    middles = sorted(row.lon for row in rows("SELECT lon FROM order_tiles"))
    half = (middles[1] + middles[2]) / 2
    areas = [f"west:-90,20,{half},40", f"east:{half},20,-70,40"]
    whole = report(client, group_by="aoi", aoi=areas)
    assert [group["group"]["aoi"] for group in whole["purchases"]] == ["east", "west"]
    assert [group["tiles"] for group in whole["purchases"]] == [2, 2]
    assert [group["tiles"] for group in whole["groups"]] == [2, 2]
    total = sum(Decimal(group["spent"]) for group in whole["purchases"])
    assert abs(total - Decimal(made["price"])) <= Decimal("0.01")
    square = {
        "type": "Polygon",
        "coordinates": [[[-180, -90], [180, -90], [180, 90], [-180, 90], [-180, -90]]],
    }
    # as wide as the world: refused like every area that may cross the 180th meridian
    assert client.get("/v1/reports/savings", params={"aoi": json.dumps(square)}).status_code == 422


def classify(plan: uuid.UUID, classes: list[str], fused: list[list[float]]) -> None:
    """A ready classification as a worker writes it."""
    classification = uuid.uuid4()
    with session_scope() as session:
        session.execute(
            text(
                "INSERT INTO classifications (id, plan_id, revision, top_k, release, release_version,"
                " weights_sha256, streams, fusion, classes, fmow, status, started_at, finished_at)"
                " VALUES (:id, :plan, 1, 3, 'tiny', '1', '', 'hr+lr', 'eq7', :classes, :fmow, 'ready', now(),"
                " now())"
            ),
            {"id": classification, "plan": plan, "classes": classes, "fmow": [None] * len(classes)},
        )
        for tile, values in enumerate(fused):
            session.execute(
                text(
                    "INSERT INTO classified_tiles (classification_id, tile, used, missing, fused, weight_hr,"
                    " weight_lr) VALUES (:id, :tile, '{}', '{}', :fused, 0.5, 0.5)"
                ),
                {"id": classification, "tile": tile, "fused": values},
            )


def label(plan: uuid.UUID, tile: int, name: str | None) -> None:
    with session_scope() as session:
        session.execute(
            text(
                "INSERT INTO labels (plan_id, tile, class_name, key_id, key_name)"
                " VALUES (:plan, :tile, :name, (SELECT id FROM api_keys LIMIT 1), 'test')"
            ),
            {"plan": plan, "tile": tile, "name": name},
        )


def test_accuracy_and_the_price_of_each_correct_class(client: TestClient) -> None:
    plan = ready_plan(4, 1)
    made = order(client, plan, ARCHIVE, "placed")
    classify(plan, ["field", "forest"], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    [group] = report(client)["purchases"]
    assert (group["labelled"], group["accuracy"], group["cost_per_correct"]) == (0, None, None)
    for tile, name in enumerate(["forest", "forest", "forest"]):
        label(plan, tile, name)
    # the newest label counts, and one may be taken back
    label(plan, 0, "field")
    label(plan, 2, None)
    [group] = report(client)["purchases"]
    assert (group["labelled"], group["correct"], group["accuracy"]) == (2, 2, 1.0)
    on_labelled = sum(row.amount for row in rows("SELECT amount FROM ledger WHERE tile IN (0, 1)"))
    assert Decimal(group["cost_per_correct"]) == cents(on_labelled / 2)
    by_class = report(client, group_by="class")
    assert {g["group"]["class"]: g["tiles"] for g in by_class["purchases"]} == {"field": 2, "forest": 2}
    assert {g["group"]["class"]: g["tiles"] for g in by_class["groups"]} == {"field": 2, "forest": 2}
    assert sum(Decimal(g["spent"]) for g in by_class["purchases"]) == pytest.approx(
        Decimal(made["price"]), abs=Decimal("0.01")
    )
    only = report(client, **{"class": "forest"})["purchases"]
    assert only[0]["tiles"] == 2


def test_currencies_are_added_only_by_dated_rates(client: TestClient, bought: dict[str, Any]) -> None:
    assert {group["currency"] for group in report(client)["purchases"]} == {"EUR", "USD"}
    missing = client.get("/v1/reports/savings", params={"currency": "EUR"})
    assert missing.status_code == 422
    assert missing.json()["type"] == "/problems/no-exchange-rate"
    late = client.get("/v1/reports/savings", params={"currency": "EUR", "rate": "2999-01-01:USD=0.9"})
    assert late.json()["type"] == "/problems/no-exchange-rate"
    itself = {"currency": "EUR", "rate": ["2020-01-01:USD=0.9", "2020-01-01:EUR=1"]}
    assert client.get("/v1/reports/savings", params=itself).status_code == 422
    rates = ["2020-01-01:USD=0.9", "2999-01-01:USD=7"]
    answer = report(client, currency="EUR", rate=rates)
    [group] = answer["purchases"]
    assert answer["currency"] == group["currency"] == "EUR"
    amounts = {
        row.currency: row.amount
        for row in rows("SELECT currency, sum(amount) AS amount FROM ledger GROUP BY 1")
    }
    assert Decimal(group["spent"]) == cents(amounts["EUR"] + amounts["USD"] * Decimal("0.9"))


def test_what_is_filtered_out_needs_no_rate(client: TestClient) -> None:
    """Purchases without a rate of theirs hold up the reports that they are in, and no others."""
    north, south = (
        ready_plan(2, 1, tags={"team": team}, west=west, release=release)
        for team, west, release in (("north", 400_000.0, "tiny"), ("south", 500_000.0, "other"))
    )
    order(client, north, ARCHIVE, "placed")
    order(client, south, TASKING, "placed", quote="177.77")
    for plan, fused in ((north, [0.9, 0.1]), (south, [0.1, 0.9])):
        classify(
            plan, ["field", "forest"], [fused] * len(rows(f"SELECT FROM tiles WHERE plan_id = '{plan}'"))
        )
    lons = sorted(row.lon for row in rows("SELECT lon FROM order_tiles"))
    middle = (lons[1] + lons[2]) / 2
    filters: list[tuple[dict[str, str], dict[str, str]]] = [
        ({"tag": "team=north"}, {"tag": "team=south"}),
        ({"product": ARCHIVE}, {"product": TASKING}),
        ({"release": "tiny"}, {"release": "other"}),
        ({"class": "field"}, {"class": "forest"}),
        ({"aoi": f"-90,20,{middle},40"}, {"aoi": f"{middle},20,-70,40"}),
    ]
    for euros, dollars in filters:
        for more in ({}, {"from": "2020-01-01"}, {"group_by": "class"}):
            plain = report(client, **euros, **more)
            converted = report(client, **euros, **more, currency="EUR")
            assert plain["purchases"][0]["tiles"] == 2, (euros, more)
            assert converted["purchases"] == plain["purchases"], (euros, more)
            refused = client.get("/v1/reports/savings", params={**dollars, **more, "currency": "EUR"})
            assert refused.status_code == 422, (dollars, more)
            assert refused.json()["type"] == "/problems/no-exchange-rate"
            own = report(client, **dollars, **more, currency="USD")["purchases"]
            assert [group["spent"] for group in own] == ["177.77"], (dollars, more, own)


def test_a_correction_leaves_full_hr_at_the_rate_of_the_purchase(client: TestClient) -> None:
    made = order(client, ready_plan(3, 2), ARCHIVE, "placed")
    with rewriting() as session:
        backdate(session, made["id"], placed="2026-03-05Z")
    [entry, *_] = client.get("/v1/ledger").json()["entries"]
    credit = {"amount": "-0.01", "reason": "credit note"}
    assert client.post(f"/v1/ledger/{entry['id']}/corrections", json=credit).status_code == 201
    [group] = report(client, currency="USD", rate=["2026-03-01:EUR=1", "2026-03-06:EUR=2"])["purchases"]
    assert group["full_hr"]["cost"] == made["full_hr"]["total"]
    assert group["full_hr"]["nominal_cost"] == made["full_hr"]["nominal"]
    assert Decimal(group["spent"]) == Decimal(made["price"]) - Decimal("0.02")


BOX = '{"type":"Polygon","coordinates":[[[-90,20],[-70,20],[-70,40],[-90,40],[-90,20]]]}'
BAD: list[dict[str, Any]] = [
    {"rate": "2026-01-01:USD=0.9"},
    {"currency": "EUR", "rate": "yesterday:USD=0.9"},
    {"currency": "EUR", "rate": "2026-01-01:USD=0"},
    {"currency": "EUR", "rate": "2026-01-01:USD=-1"},
    {"currency": "EUR", "rate": "2026-01-01:XXX=1"},
    {"currency": "eur"},
    {"currency": "XAU"},
    {"currency": "EUR", "rate": ["2026-01-01:USD=1", "2026-01-01:USD=2"]},
    {"tag": "team"},
    {"aoi": "1,2,3"},
    {"aoi": "3,2,1,4"},
    {"aoi": "{"},
    {"aoi": '{"type": "Point", "coordinates": [1, 2]}'},
    {"aoi": '{"type": "Polygon", "coordinates": [[[0,0],[1,1],[1,0],[0,1],[0,0]]]}'},
    {"aoi": '{"type": "Polygon", "coordinates": [[[170,0],[-170,0],[-170,1],[170,1],[170,0]]]}'},
    {"aoi": '{"type": "Polygon", "coordinates": [[[0,0],[1,99],[1,0],[0,0]]]}'},
    {"aoi": '{"type": "Polygon", "coordinates": "far"}'},
    {"aoi": '{"type": "Feature", "geometry": null}'},
    {"group_by": "aoi"},
    {"product": "a\0b"},
    {"aoi": "\0:-90,20,-70,40"},
    *(
        {"aoi": f'{{"type":"Feature","properties":{{"name":{name}}},"id":1,"geometry":{BOX}}}'}
        for name in (r'"a\u0000"', r'"\ud800"', r'"\n"', "[" * 900 + "]" * 900, "{}")
    ),
    {"aoi": f'{{"type":"Feature","id":{{}},"geometry":{BOX}}}'},
]


def test_bad_questions(client: TestClient) -> None:
    for params in BAD:
        answer = client.get("/v1/reports/savings", params=params)
        assert answer.status_code == 422, (params, answer.text)
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_the_formats_say_the_same(client: TestClient, bought: dict[str, Any]) -> None:
    params = {"group_by": "tag:team,month"}
    whole = report(client, **params)

    def get(kind: str) -> Any:
        answer = client.get("/v1/reports/savings", params=params, headers={"Accept": kind})
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].split(";")[0] == kind
        return answer

    table = pq.read_table(io.BytesIO(get("application/vnd.apache.parquet").content)).to_pylist()
    lines = get("text/csv").text.splitlines()
    names = lines[0].split(",")
    flat = [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]
    assert len(table) == len(flat) == len(whole["groups"]) + len(whole["purchases"])
    for group, row in zip(whole["groups"], table, strict=False):
        assert row["bought_chosen"] == group["bought"]["chosen"]
        assert row["saving_area_km2"] == group["saving"]["area_km2"]
        assert row["planned_saving_area_share"] == group["planned_saving"]["area_share"]
    bought_rows = [row for row in table if row["half"] == "purchases"]
    for group, row, line in zip(whole["purchases"], bought_rows, flat[len(whole["groups"]) :], strict=True):
        assert row["spent"] == Decimal(group["spent"]) == Decimal(line["spent"])
        assert row["by:tag:team"] == group["group"]["tag:team"] == line["by:tag:team"]
        assert row["full_hr_cost"] == Decimal(group["full_hr"]["cost"])
        assert [row[f"s{n}"] for n in range(17)] == group["s_histogram"]
    assert client.get("/v1/reports/savings", headers={"Accept": "image/png"}).status_code == 406


def test_an_empty_report_has_the_same_columns(client: TestClient, bought: dict[str, Any]) -> None:
    def columns(**more: str) -> tuple[list[str], Any]:
        params = {"group_by": "month", **more}
        text, table = (
            client.get("/v1/reports/savings", params=params, headers={"Accept": kind})
            for kind in ("text/csv", "application/vnd.apache.parquet")
        )
        return text.text.splitlines()[0].split(","), pq.read_schema(io.BytesIO(table.content))

    full, schema = columns()
    assert columns(**{"from": "2999-01-01"}) == (full, schema)
    assert full == schema.names
    assert len(set(full)) == len(full)


def test_the_page_needs_nothing_else(client: TestClient, bought: dict[str, Any]) -> None:
    answer = client.get(
        "/v1/reports/savings", params={"group_by": "tag:team"}, headers={"Accept": "text/html"}
    )
    page = answer.text
    assert answer.headers["Content-Type"].startswith("text/html")
    for plot in ("Saving over time, EUR", "Tiles by patches bought", "Map of the area bought"):
        assert f'aria-label="{plot}"' in page
    assert "177.77 USD" in page
    assert "has a label yet" in page
    assert not re.search(r"(?:src|href)=|https?://|<script|@import|url\((?!#)", page)
    assert "nan" not in page.lower().replace("nominal", "")


def test_an_empty_page_and_strangers_texts(client: TestClient) -> None:
    empty = client.get("/v1/reports/savings", headers={"Accept": "text/html"})
    assert "holds nothing" in empty.text
    ready_plan(tags={"team": "<b>=1+1"}, price="2", currency="EUR")
    params = {"group_by": "tag:team"}
    page = client.get("/v1/reports/savings", params=params, headers={"Accept": "text/html"}).text
    assert "<b>=1" not in page
    assert "&lt;b&gt;=1+1" in page
