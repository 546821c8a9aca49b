"""A million ledger entries: the sums are right to the last cent, and this process hardly grows."""

import csv
import uuid
from decimal import Decimal

import psutil
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.core.db import session_scope
from app.ledger import export
from tests.plans import ready_plan

ENTRIES = 1_000_000
A_PLAN = 10_000


def fill(plan: uuid.UUID) -> Decimal:
    """A million acquisitions' entries of 100 plans of 10,000 tiles; returns their sum, worked out here."""
    with session_scope() as session:
        session.execute(
            text(
                "INSERT INTO acquisitions (id, plan_id, revision, digest, file_sha256, file_bytes, raster,"
                " bands, refused) SELECT gen_random_uuid(), :plan, n, n::text, '', 1, '{}', '{1}', '[]'"
                " FROM generate_series(1, :count) n"
            ),
            {"plan": plan, "count": ENTRIES // A_PLAN},
        )
        session.execute(
            text(
                'INSERT INTO tiles (plan_id, tile, "row", col, bounds, clipped, north_up, east_right,'
                " valid_fraction, probabilities, chosen, areas_km2, prices)"
                ' SELECT plan_id, n, "row", col, bounds, clipped, north_up, east_right, valid_fraction,'
                " probabilities, chosen, areas_km2, prices FROM tiles, generate_series(1, :tiles - 1) n"
                " WHERE plan_id = :plan AND tile = 0"
            ),
            {"plan": plan, "tiles": A_PLAN},
        )
        session.execute(
            text(
                "INSERT INTO ledger (id, org_id, at, kind, acquisition_id, plan_id, tile, release,"
                " release_version, product, vendor, patches, area_km2, currency, amount)"
                " SELECT gen_random_uuid(), p.org_id, timestamptz '2026-01-01Z' + a.revision * interval 'P1D'"
                ", 'acquisition', a.id, p.id, n, 'tiny', '1', 'ad-hoc', '', 1 << ((n + a.revision) % 16),"
                " 0.0004, 'EUR', ((a.revision::bigint * 7919 + n * 104729) % 1000003) / 1000000.0"
                " FROM plans p JOIN acquisitions a ON a.plan_id = p.id, generate_series(0, :tiles - 1) n"
                " WHERE p.id = :plan"
            ),
            {"plan": plan, "tiles": A_PLAN},
        )
        session.execute(text("ANALYZE ledger"))
        session.execute(text("ANALYZE tiles"))
    millionths = sum(
        (revision * 7919 + tile * 104729) % 1000003
        for revision in range(1, ENTRIES // A_PLAN + 1)
        for tile in range(A_PLAN)
    )
    return Decimal(millionths) / 1_000_000


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_million_entries(client: TestClient) -> None:
    expected = fill(ready_plan(price="1000", currency="EUR"))
    client.get("/v1/reports/savings")
    before = psutil.Process().memory_info().rss
    [group] = client.get("/v1/reports/savings").json()["purchases"]
    assert Decimal(group["spent"]) == round(expected, 2)
    assert group["tiles"] == A_PLAN
    days = client.get("/v1/reports/savings", params={"group_by": "day"}).json()["purchases"]
    assert len(days) == ENTRIES // A_PLAN
    lines, exact = 0, Decimal(0)
    with session_scope() as session:
        org_id = session.scalars(text("SELECT org_id FROM plans")).one()
    pieces = export.stream_csv(org_id, None, None)
    amount = next(pieces).rstrip().split(",").index("amount")
    for piece in pieces:
        for row in csv.reader(piece.splitlines()):
            lines += 1
            exact += Decimal(row[amount])
    assert lines == ENTRIES
    assert exact == expected
    grown = psutil.Process().memory_info().rss - before
    assert grown < 100 * 1024 * 1024, grown
