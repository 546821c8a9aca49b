"""The pieces of SQL that both halves of the savings report are put together from."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import shapely
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.rasters import RasterInfo
from app.rasters.ground import lonlat
from app.reports.question import PERIODS, Question

TILES_A_FETCH: Final = 5000

# of each plan the newest classification that is ready; of each tile the likeliest class in it
CLASSES: Final = """
    newest AS (
        SELECT DISTINCT ON (c.plan_id) c.plan_id, c.id, c.classes
        FROM classifications c JOIN plans p ON p.id = c.plan_id
        WHERE p.org_id = :org AND c.status = 'ready'
        ORDER BY c.plan_id, c.revision DESC, c.id DESC
    ),
    classed AS (
        SELECT n.plan_id, k.tile, n.classes[(
            SELECT u.i FROM unnest(k.fused) WITH ORDINALITY u(p, i) ORDER BY u.p DESC, u.i LIMIT 1
        )] AS class
        FROM newest n JOIN classified_tiles k ON k.classification_id = n.id
        WHERE k.fused IS NOT NULL
    )"""

# the newest label of a tile counts; one without a class takes those before it back
LABELS: Final = """
    labelled AS (
        SELECT DISTINCT ON (l.plan_id, l.tile) l.plan_id, l.tile, l.class_name
        FROM labels l JOIN plans p ON p.id = l.plan_id
        WHERE p.org_id = :org
        ORDER BY l.plan_id, l.tile, l.number DESC
    )"""


def key_of(name: str, number: int, at: str) -> str:
    """The expression of one grouping; ``p`` is the plan, ``f`` the row it is taken from."""
    if name in PERIODS:
        return f"to_char({at} AT TIME ZONE 'UTC', '{PERIODS[name]}')"
    if name == "release":
        return "p.release"
    if name in ("product", "class", "aoi"):
        return f"f.{name}"
    return f"(p.tags ->> :tag{number})"


def parameters(question: Question) -> dict[str, Any]:
    """The bound values that ``key_of`` and ``conditions`` refer to."""
    values: dict[str, Any] = {"org": question.org_id}
    for number, name in enumerate(question.group_by):
        if name.startswith("tag:"):
            values[f"tag{number}"] = name[4:]
    for number, (key, wanted) in enumerate(question.tags):
        values[f"key{number}"], values[f"value{number}"] = key, wanted
    if question.since is not None:
        values["since"] = question.since
    if question.until is not None:
        values["until"] = question.until
    for name in ("products", "releases", "classes"):
        if getattr(question, name):
            values[name] = list(getattr(question, name))
    return values


def conditions(question: Question, at: str) -> list[str]:
    """What rows must meet; ``p`` is the plan, ``f`` the row with product, class and aoi."""
    found = ["p.org_id = :org"]
    if question.since is not None:
        found.append(f"{at} >= :since")
    if question.until is not None:
        found.append(f"{at} < :until")
    if question.releases:
        found.append("p.release = ANY(:releases)")
    if question.products:
        # a product without its version means all of them
        found.append("(f.product = ANY(:products) OR split_part(f.product, '@', 1) = ANY(:products))")
    if question.classes:
        found.append("f.class = ANY(:classes)")
    found += [f"p.tags ->> :key{number} = :value{number}" for number in range(len(question.tags))]
    return found


def locate(session: Session, question: Question) -> None:
    """Fill the temporary table ``in_aoi`` with the tiles whose middles lie in the question's areas.

    There is nothing in the database that knows where a tile lies on the globe, so tiles pass through here,
    some thousands at a time.
    """
    session.execute(text("DROP TABLE IF EXISTS in_aoi"))
    session.execute(text("CREATE TEMPORARY TABLE in_aoi (plan_id uuid, tile int, aoi text) ON COMMIT DROP"))
    shapely.prepare([aoi.geometry for aoi in question.aois])
    into = text("INSERT INTO in_aoi VALUES (:plan_id, :tile, :aoi)")
    for plan_id, tiles, lon, lat in _middles(session, question):
        for aoi in question.aois:
            inside = shapely.intersects_xy(aoi.geometry, lon, lat)
            rows = [{"plan_id": plan_id, "tile": int(tile), "aoi": aoi.name} for tile in tiles[inside]]
            if rows:
                session.execute(into, rows)
    session.execute(text("CREATE INDEX ON in_aoi (plan_id, tile)"))
    session.execute(text("ANALYZE in_aoi"))


def _middles(session: Session, question: Question) -> Iterator[tuple[Any, Any, Any, Any]]:
    plans = session.execute(
        text("SELECT id, raster FROM plans WHERE org_id = :org AND status = 'ready'"),
        {"org": question.org_id},
        execution_options={"yield_per": 200},
    )
    query = text(
        "SELECT tile, (clipped[1] + clipped[3]) / 2 AS x, (clipped[2] + clipped[4]) / 2 AS y"
        " FROM tiles WHERE plan_id = :plan ORDER BY tile"
    )
    for plan_id, raster in plans:
        wkt = RasterInfo.from_json(raster).crs_wkt
        rows = session.execute(query, {"plan": plan_id}, execution_options={"yield_per": TILES_A_FETCH})
        for part in rows.partitions():
            tiles, x, y = (np.array(column) for column in zip(*part, strict=True))
            lon, lat = lonlat(wkt, x, y)
            yield plan_id, tiles, lon, lat
