"""Ready plans without a network: rows as a worker would have written them, of places that are real."""

import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import func

from app.core import auth, db
from app.core.money import measured, price_of
from app.core.work import WorkStatus, uuid7
from app.plans.answer import TileAnswer, totals
from app.plans.tables import Plan, TileRow
from app.rasters import cut_tiles, inspect, plan_areas_km2
from tests.imagery import TILE_M, lr_geotiff

Chooser = Callable[[int], Sequence[int]]


def ready_plan(
    tiles_x: int = 1,
    tiles_y: int = 1,
    *,
    chosen: Chooser | Sequence[int] = (5, 6, 9, 10),
    price: str | None = None,
    currency: str | None = None,
    tags: Mapping[str, str] | None = None,
    release: str = "tiny",
    org: str = "acme",
    gain: Mapping[str, Any] | None = None,
    **more: Any,
) -> uuid.UUID:
    """A ready plan of tiles of 80 m; ``chosen`` are each tile's patches, or a function of its index."""
    choose = chosen if callable(chosen) else lambda _tile: chosen
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lr.tif"
        path.write_bytes(lr_geotiff(tiles_x, tiles_y, **more))
        info = inspect(path)
    tiles = cut_tiles(info, None if (tiles_x, tiles_y) == (1, 1) else TILE_M * 1.0003)
    per_km2 = None if price is None else Decimal(price)
    rows, answers = [], []
    for tile, raw in zip(tiles, plan_areas_km2(tiles, info.crs_wkt), strict=True):
        areas = tuple(measured(Decimal(area)) for area in raw)
        bought = tuple(patch in choose(tile.index) and areas[patch] > 0 for patch in range(16))
        prices = None if per_km2 is None else tuple(price_of(area, per_km2) for area in areas)
        answers.append(TileAnswer((0.5,) * 16, bought, areas, prices))
        rows.append(
            TileRow(
                tile=tile.index, row=tile.row, col=tile.col, bounds=list(tile.bounds),
                clipped=list(tile.clipped), north_up=True, east_right=True, valid_fraction=1.0,
                probabilities=[0.5] * 16, chosen=list(bought), areas_km2=list(areas),
                prices=None if prices is None else list(prices), gain=gain,
            )
        )  # fmt: skip
    with db.session_scope() as session:
        organisation = auth.get_or_create_organisation(session, org)
        plan = Plan(
            id=uuid7(), org_id=organisation.id, release=release, release_version="1",
            weights_sha256="0" * 64, streams="hr+lr", fusion="eq7", hr_px=32,
            band_names=["red", "green", "blue"], threshold=0.5, price_per_km2=per_km2, currency=currency,
            tags=dict(tags or {}), lr_sha256="0" * 64, lr_bytes=1, raster=info.to_json(), bands=[1, 2, 3],
            warnings=[], tile_count=len(tiles), hr_scalings={}, status=WorkStatus.READY,
            started_at=func.now(), finished_at=func.now(), **totals(answers, currency),
        )  # fmt: skip
        session.add(plan)
        session.flush()
        for row in rows:
            row.plan_id = plan.id
        session.add_all(rows)
        return plan.id
