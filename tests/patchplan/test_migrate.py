"""The revisions: they build what the tables say, they can be undone, and they keep what is there."""

import uuid
from decimal import Decimal
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select, text

import app.core.tables  # noqa: F401 - registers every table
from app.budgets.service import offers_of
from app.budgets.stock import Stock
from app.core.db import Base, get_engine, session_scope
from app.plans.geojson import tile_features
from app.plans.reading import tile_out
from app.plans.service import raster_info
from app.plans.tables import Plan, TileRow
from patchplan.embedded import Services
from patchplan.migrate import downgrade, migrate
from tests.plans import ready_plan


def test_revisions_and_tables_agree(database: Services) -> None:
    with get_engine().connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_all_revisions_can_be_undone_and_done_again(database: Services) -> None:
    downgrade("base")
    assert set(inspect(get_engine()).get_table_names()) <= {"alembic_version"}
    migrate()
    migrate()
    assert {"organisations", "api_keys"} <= set(inspect(get_engine()).get_table_names())


def received(plan: uuid.UUID, revision: int, *patches: int, price: str | None) -> uuid.UUID:
    """An acquisition of patches of tile 0 of 0.0004 km² each, written as the API of 0002 did."""
    acquisition = uuid.uuid4()
    with session_scope() as session:

        def write(statement: str, **values: Any) -> None:
            session.execute(text(statement), {"id": acquisition, "plan": plan, "now": revision, **values})

        write(
            "INSERT INTO acquisitions (id, plan_id, revision, digest, file_sha256, file_bytes, raster, bands,"
            " refused, received_at) VALUES (:id, :plan, :now, :digest, '', 1, '{}', '{1}', '[]',"
            " timestamptz '2026-03-01Z' + :now * interval 'P1D')",
            digest=str(acquisition),
        )
        for patch in patches:
            write(
                "UPDATE received_patches SET superseded_in = :now"
                " WHERE plan_id = :plan AND patch = :patch AND superseded_in IS NULL",
                patch=patch,
            )
            write(
                "INSERT INTO received_patches (acquisition_id, tile, patch, plan_id, slot, chosen,"
                " valid_fraction, gsd_m, area_km2, price, received_in)"
                " VALUES (:id, 0, :patch, :plan, 0, true, 1, 0.3, 0.0004, :price, :now)",
                patch=patch,
                price=None if price is None else Decimal(price),
            )
    return acquisition


def test_what_was_received_before_there_was_a_ledger_is_entered(database: Services) -> None:
    priced, bare = ready_plan(price="1000", currency="EUR"), ready_plan()
    # it has a price too, but its patches are bought by an order
    listed = ready_plan(price="1000", currency="EUR")
    downgrade("0002")
    tables = set(inspect(get_engine()).get_table_names())
    assert "received_patches" in tables
    assert not tables & {"ledger", "orders", "price_lists"}
    first = received(priced, 1, 0, 1, price="0.4")
    second = received(priced, 2, 1, 2, price="0.4")
    received(priced, 3, 2, price="0.4")
    received(bare, 1, 5, price=None)
    migrate("0004")
    with session_scope() as session:
        session.execute(text("UPDATE plans SET product = '{}' WHERE id = :id"), {"id": listed})
    received(listed, 1, 7, price="0.4")
    migrate()
    with session_scope() as session:
        entries = session.execute(text("SELECT * FROM ledger ORDER BY at")).all()
        org_id = session.scalars(text("SELECT DISTINCT org_id FROM plans")).one()
    # a patch that replaced another was paid for once, and a plan without a price has nothing to enter
    assert [(row.acquisition_id, row.patches, row.amount) for row in entries] == [
        (first, 0b011, Decimal("0.8")),
        (second, 0b100, Decimal("0.4")),
    ]
    for row in entries:
        assert (row.org_id, row.plan_id, row.tile, row.kind) == (org_id, priced, 0, "acquisition")
        assert (row.currency, row.product, row.release) == ("EUR", "ad-hoc", "tiny")
    assert [row.area_km2 for row in entries] == [Decimal("0.0008"), Decimal("0.0004")]
    assert [row.at.day for row in entries] == [2, 3]


def test_comparisons_whose_data_set_is_gone_do_not_stop_the_migration(database: Services) -> None:
    ready_plan()
    downgrade("0008")
    kept, lost = uuid.uuid4(), uuid.uuid4()
    with session_scope() as session:
        org = session.scalars(text("SELECT id FROM organisations")).one()
        session.execute(
            text(
                "INSERT INTO datasets (id, org_id, status, created_at, name, origin, request)"
                " VALUES (:id, :org, 'queued', now(), 'coast', 'upload', '{}')"
            ),
            {"id": kept, "org": org},
        )
        for dataset in (kept, lost):
            session.execute(
                text(
                    "INSERT INTO comparisons (id, org_id, status, release, card_sha256, other,"
                    " other_card_sha256, dataset_id) VALUES (:id, :org, 'queued', 'a', '', 'b', '', :dataset)"
                ),
                {"id": uuid.uuid4(), "org": org, "dataset": dataset},
            )
    migrate()
    with session_scope() as session:
        assert session.scalars(text("SELECT dataset_id FROM comparisons")).all() == [kept]
        session.execute(text("DELETE FROM datasets"))
        assert session.scalars(text("SELECT dataset_id FROM comparisons")).all() == []


def test_what_older_orders_merely_cover_stays_paid(database: Services) -> None:
    """Of an order drafted after patches 0 and 15 had come for 7, which covers them and 5: these two alone."""
    plan = ready_plan(price="1000", currency="EUR")
    downgrade("0012")
    received(plan, 1, 0, 15, price="0.4")
    covered, chosen = 1 << 0 | 1 << 5 | 1 << 7 | 1 << 15, 1 << 7
    orders = {False: uuid.uuid4(), True: uuid.uuid4()}
    zeros = ", ".join("0" for _ in range(11))
    with session_scope() as session:
        for of_budget, order in orders.items():
            values = {"id": order, "plan": plan, "budget": uuid.uuid4() if of_budget else None}
            session.execute(
                text(
                    "INSERT INTO orders (id, org_id, state, budget_id, product, vendor, terms, currency,"
                    " area_km2, charged_km2, net, fee, unused_minimum, rounding, vat, total, nominal,"
                    " full_area_km2, full_total, full_nominal, optimal, dropped)"
                    " SELECT :id, org_id, 'draft', :budget, 'a/b@1', 'V', '{}', 'EUR',"
                    f" {zeros}, 0, true, '[]' FROM plans WHERE id = :plan"
                ),
                values,
            )
            session.execute(
                text(
                    "INSERT INTO order_tiles (order_id, plan_id, tile, patches, chosen, area_km2, nominal,"
                    " full_patches, full_area_km2, full_total, full_nominal, lon, lat)"
                    " VALUES (:id, :plan, 0, :covered, :chosen, 0, 0, 16, 0, 0, 0, 0, 0)"
                ),
                {**values, "covered": covered, "chosen": chosen},
            )
    received(plan, 9_000, 5, price="0.4")
    migrate()
    with session_scope() as session:
        rows = session.execute(text("SELECT order_id, paid_before FROM order_tiles")).all()
    # a budget's order is not drafted without what came
    found = {row.order_id: row.paid_before for row in rows}
    assert found == {orders[False]: 1 << 0 | 1 << 15, orders[True]: 0}


def test_tiles_of_older_plans_without_valid_pixels_are_unseen(database: Services) -> None:
    """The second of two tiles, of which a patch lies beyond the raster; what was chosen of it stays."""
    plan_id = ready_plan(2, gain={"lr": 0.5, "hr": 0.9, "weights": [1 / 16] * 16})
    downgrade("0018")
    with session_scope() as session:
        session.execute(text("UPDATE tiles SET valid_fraction = 0, areas_km2[3] = 0 WHERE tile = 1"))
    migrate()
    with session_scope() as session:
        plan = session.get_one(Plan, plan_id)
        rows = session.scalars(select(TileRow).order_by(TileRow.tile)).all()
        seen, blind = map(tile_out, rows)
        features = [list(tile_features(row, raster_info(plan), None)) for row in rows]
        stock = Stock(offers_of(plan, rows, None))
    assert (seen.unseen, blind.unseen) == ([], [p for p in range(16) if p != 2])
    assert [{patch.probability for patch in tile.patches} for tile in (seen, blind)] == [{0.5}, {0.0}]
    assert [{f["properties"]["probability"] for f in of_tile} for of_tile in features] == [{0.5}, {0.0}]
    assert seen.gain is not None
    assert blind.gain is None
    assert seen.chosen == blind.chosen == [5, 6, 9, 10]
    assert stock.blind.tolist() == [False, True]
