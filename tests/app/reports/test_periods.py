"""Groups of a period add up to the whole, whatever was bought and taken back when: held to a model."""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.core.db import session_scope
from tests.app.ledger.test_ledger import receive
from tests.app.reports.past import backdate, rewriting
from tests.app.reports.test_purchases import order, report
from tests.plans import ready_plan

BY_THE_PATCH, MINIMUM = "example-archive/by-the-patch", "example-archive/small-minimum"
CLASSIC, DOLLARS = "example-archive/classic", "example-tasking/convex-refused"
BEGINNING = datetime(2026, 1, 30, tzinfo=UTC)
END = datetime(2026, 5, 1, tzinfo=UTC)
NEVER = datetime(2030, 1, 1, tzinfo=UTC)
RATES = {
    date(2026, 1, 1): Decimal("0.9"),
    date(2026, 2, 15): Decimal("1.3"),
    date(2026, 3, 1): Decimal("0.7"),
}

COUNTS = ("tiles", "tiles_bought", "patches")

moments = st.integers(0, 12).map(lambda step: BEGINNING + timedelta(days=5 * step))

Tile = tuple[str, uuid.UUID, int]


@dataclass(frozen=True)
class Purchase:
    """What one order or one acquisition bought of a tile, and what full HR is by it."""

    tile: Tile
    order: uuid.UUID | None
    patches: int
    full_patches: int
    full_cost: Decimal
    full_nominal: Decimal
    starts: datetime
    ends: datetime = NEVER


@dataclass
class Past:
    """Orders, some cancelled, and what was received, some of it taken back: an example chooses the dates."""

    kept: list[uuid.UUID]
    cancelled: list[uuid.UUID]
    received: list[uuid.UUID]
    taken_back: list[uuid.UUID]


@pytest.fixture
def past(client: TestClient) -> Past:
    price: dict[str, Any] = {"price": "1000", "currency": "EUR"}
    near = ready_plan(2, 1, chosen=lambda tile: (0, 1, 5) if tile else (), **price)
    far = ready_plan(west=402_000.0, **price)
    # before an order buys them, and takes back what was entered
    receive(near, 0, 3)
    receive(near, 0, 3, 15)
    receive(near, 1, 5)
    receive(far, 0, 3)
    kept = [order(client, near, BY_THE_PATCH, "placed"), order(client, far, CLASSIC, "placed")]
    kept += [order(client, far, DOLLARS, "placed")]
    cancelled = [
        order(client, plan, product, "placed", "cancelled")
        for plan, product in [(near, MINIMUM), (far, MINIMUM), (near, CLASSIC), (far, BY_THE_PATCH)]
    ]
    with session_scope() as session:
        received = session.execute(
            text(
                "SELECT e.id, r.id IS NOT NULL AS taken_back FROM ledger e LEFT JOIN ledger r"
                " ON r.corrects = e.id AND r.kind = 'reversal' WHERE e.kind = 'acquisition' ORDER BY e.id"
            )
        ).all()
    assert {entry.taken_back for entry in received} == {True, False}
    return Past(
        [uuid.UUID(made["id"]) for made in kept],
        [uuid.UUID(made["id"]) for made in cancelled],
        [entry.id for entry in received if not entry.taken_back],
        [entry.id for entry in received if entry.taken_back],
    )


Spans = dict[uuid.UUID, tuple[datetime, datetime]]


def rewrite(orders: Spans, received: Spans) -> None:
    """Date every order's moves and entries, and the acquisitions' entries, as an example has them."""
    with rewriting() as session:
        for order_id, (starts, ends) in orders.items():
            backdate(session, order_id, placed=starts, cancelled=ends)
        for entry, (starts, ends) in received.items():
            values = {"starts": starts, "ends": ends, "id": entry}
            session.execute(text("UPDATE ledger SET at = :starts WHERE id = :id"), values)
            session.execute(text("UPDATE ledger SET at = :ends WHERE corrects = :id"), values)


def together(spans: Sequence[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """When any of the spans is."""
    found: list[tuple[datetime, datetime]] = []
    for starts, ends in sorted(spans):
        if found and starts <= found[-1][1]:
            found[-1] = (found[-1][0], max(ends, found[-1][1]))
        elif starts < ends:
            found.append((starts, ends))
    return found


def purchases(orders: Spans, received: Spans) -> list[Purchase]:
    """Everything that was bought, from the rows."""
    with session_scope() as session:
        ordered = session.execute(
            text("SELECT t.*, o.currency FROM order_tiles t JOIN orders o ON o.id = t.order_id")
        ).all()
        entered = session.execute(text("SELECT * FROM ledger WHERE kind = 'acquisition'")).all()
        tiles = session.execute(
            text("SELECT * FROM tiles WHERE plan_id = ANY(:plans)"),
            {"plans": [row.plan_id for row in entered]},
        ).all()
    found = [
        Purchase(
            (row.currency, row.plan_id, row.tile), row.order_id, row.patches, row.full_patches,
            row.full_total, row.full_nominal, *orders[row.order_id],
        )
        for row in ordered
    ]  # fmt: skip
    for tile in tiles:
        of_plan = [row for row in entered if row.plan_id == tile.plan_id]
        own = [(row.patches, *received[row.id]) for row in of_plan if row.tile == tile.tile]
        cost = sum(tile.prices, Decimal(0))
        # a tile of which none came counts while its plan has been bought for
        left_out = [(0, *span) for span in together([received[row.id] for row in of_plan])]
        for patches, *span in [*own, *left_out]:
            found.append(Purchase(("EUR", tile.plan_id, tile.tile), None, patches, 16, cost, cost, *span))
    return found


def rate_on(currency: str, at: datetime) -> Decimal:
    if currency == "EUR":
        return Decimal(1)
    return RATES[max(day for day in RATES if day <= at.date())]


def standing(bought: Sequence[Purchase], before: datetime, converted: bool) -> dict[str, dict[str, Any]]:
    """By currency, what all tiles count for just before a moment."""
    live: dict[Tile, list[Purchase]] = defaultdict(list)
    for one in bought:
        if one.starts < before and not one.ends < before:
            currency, *place = one.tile
            live["EUR" if converted else currency, *place].append(one)  # type: ignore[index]
    found: dict[str, dict[str, Any]] = defaultdict(lambda: defaultdict(Decimal))
    for (currency, _, _), of_tile in live.items():
        mask = 0
        for one in of_tile:
            mask |= one.patches
        rates = [rate_on(one.tile[0], one.starts) if converted else Decimal(1) for one in of_tile]
        group = found[currency]
        group["tiles"] += 1
        group["tiles_bought"] += mask > 0
        group["patches"] += mask.bit_count()
        group[f"s{mask.bit_count()}"] += 1
        group["full_patches"] += max(one.full_patches for one in of_tile)
        pairs = list(zip(of_tile, rates, strict=True))
        group["full_cost"] += min(one.full_cost * rate for one, rate in pairs)
        group["full_nominal"] += min(one.full_nominal * rate for one, rate in pairs)
    return found


def check(group: Any, bought: Sequence[Purchase], since: datetime, until: datetime, converted: bool) -> None:
    """A group counts what stands at its end more than at its beginning."""
    currency = group["currency"]
    first, last = (standing(bought, at, converted)[currency] for at in (since, until))

    def more(name: str) -> Decimal:
        return Decimal(last[name] - first[name])

    cent = Decimal("0.01")
    assert [group[name] for name in COUNTS] == [more(name) for name in COUNTS]
    assert group["s_histogram"] == [more(f"s{n}") for n in range(17)]
    full = group["full_hr"]
    assert full["patches"] == more("full_patches")
    assert Decimal(full["cost"]) == more("full_cost").quantize(cent, ROUND_HALF_EVEN)
    assert Decimal(full["nominal_cost"]) == more("full_nominal").quantize(cent, ROUND_HALF_EVEN)
    assert group["s_mean"] is None or 0 <= group["s_mean"] <= 16


def bounds(by: str, value: str) -> tuple[datetime, datetime]:
    """When a group's period begins and ends."""
    if by == "month":
        first = datetime.fromisoformat(f"{value}-01").replace(tzinfo=UTC)
        return first, (first + timedelta(days=31)).replace(day=1)
    first = datetime.fromisoformat(value).replace(tzinfo=UTC)
    return first, first + timedelta(days=1 if by == "day" else 7)


@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_periods_add_up_to_the_whole(client: TestClient, past: Past, data: st.DataObject) -> None:
    def span(stays: bool) -> tuple[datetime, datetime]:
        ends = NEVER if stays else data.draw(st.one_of(moments, st.just(NEVER)))
        return min(data.draw(moments), ends), ends

    orders = {one: span(one in past.kept) for one in [*past.kept, *past.cancelled]}
    received = {one: span(one in past.received) for one in [*past.received, *past.taken_back]}
    rewrite(orders, received)
    bought = purchases(orders, received)
    since = data.draw(st.one_of(st.none(), moments))
    question: dict[str, Any] = {"to": END.date().isoformat()}
    question |= {} if since is None else {"from": since.date().isoformat()}
    converted = data.draw(st.booleans())
    if converted:
        rates = [f"{day}:USD={rate}" for day, rate in RATES.items()]
        question |= {"currency": "EUR", "rate": rates}
    beginning = since or BEGINNING
    whole = {group["currency"]: group for group in report(client, **question)["purchases"]}
    for group in whole.values():
        check(group, bought, beginning, END, converted)
    for by in ("day", "week", "month"):
        groups = report(client, group_by=by, **question)["purchases"]
        for group in groups:
            first, last = bounds(by, group["group"][by])
            check(group, bought, max(first, beginning), min(last, END), converted)
        for currency, all_of_it in whole.items():
            own = [group for group in groups if group["currency"] == currency]
            for name in COUNTS:
                assert sum(group[name] for group in own) == all_of_it[name]
            for figure in ("nominal_saving", "real_saving"):
                total = sum(Decimal(group[figure]["cost"]) for group in own)
                # every group is rounded once
                assert abs(total - Decimal(all_of_it[figure]["cost"])) <= Decimal("0.01") * (len(own) + 1)
    # a product's groups are the report of that product
    by_product = defaultdict(list)
    for group in report(client, group_by="product,month", **question)["purchases"]:
        by_product[group["group"].pop("product")].append(group)
    for product, groups in by_product.items():
        assert report(client, group_by="month", product=product, **question)["purchases"] == groups


def test_what_a_tile_counted_before_needs_a_rate_too(client: TestClient) -> None:
    plan = ready_plan()
    dollars, euros = (order(client, plan, product, "placed") for product in (DOLLARS, BY_THE_PATCH))
    with rewriting() as session:
        backdate(session, dollars["id"], placed="2026-02-15Z")
        backdate(session, euros["id"], placed="2026-03-15Z")
    question = {"currency": "EUR", "from": "2026-03-01", "rate": "2026-03-01:USD=0.9"}
    refused = client.get("/v1/reports/savings", params=question)
    assert refused.json()["errors"] == [{"loc": ["query", "rate"], "detail": "USD on 2026-02-15"}]
    # once it is known, and by then of a tile that nothing happens to any more
    assert report(client, **question | {"rate": "2026-02-01:USD=0.9"})["purchases"]
    assert report(client, **question | {"from": "2026-04-01"})["purchases"] == []


def test_a_second_purchase_adds_what_is_new(client: TestClient) -> None:
    plan = ready_plan(3, 2)
    first, second = (order(client, plan, BY_THE_PATCH, "placed") for _ in range(2))
    with rewriting() as session:
        backdate(session, first["id"], placed="2026-03-15Z")
        backdate(session, second["id"], placed="2026-04-15Z")
    march, april = report(client, group_by="month")["purchases"]
    [whole] = report(client)["purchases"]
    [later] = report(client, **{"from": "2026-04-01"})["purchases"]
    assert march["full_hr"] == whole["full_hr"]
    assert (april["tiles"], april["patches"], april["full_hr"]["cost"], april["s_mean"]) == (
        0,
        0,
        "0.00",
        None,
    )
    assert Decimal(april["real_saving"]["cost"]) == -Decimal(second["price"])
    assert later["real_saving"] == april["real_saving"]
    spared = [Decimal(month["real_saving"]["cost"]) for month in (march, april)]
    assert sum(spared) == Decimal(whole["real_saving"]["cost"])
