"""The picture of a plan takes no more memory for more pixels."""

import tracemalloc
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from affine import Affine
from fastapi.testclient import TestClient
from sqlalchemy import insert

from app.acquisitions.pixels import CHANNELS, side_of
from app.acquisitions.tables import Acquisition, ReceivedPatch, pixels_key
from app.core.db import session_scope
from app.core.store import get_store
from app.core.work import uuid7
from app.maps import Layer, render_preview
from app.plans.reading import iter_tiles
from app.plans.service import raster_info, tile_of
from app.plans.tables import Plan
from app.rasters import Scaling
from tests.imagery import NORTH, WEST, lr_geotiff
from tests.plans import ready_plan

AS_IS: Final = Scaling("as_is", (1.0,) * 3, (0.0,) * 3)
HR_PX: Final = 1024
WIDE, TALL = 8, 4
MOST_BYTES: Final = 120 * 2**20
"""Two panels take 80 MiB; the patches below are 96 MiB."""


def received(plan_id: uuid.UUID, folder: Path) -> None:
    """All patches of the plan came in one file of a release of ``HR_PX``, and are black."""
    with session_scope() as session:
        plan = session.get_one(Plan, plan_id)
        plan.hr_px, plan.revision = HR_PX, 1
        plan.scaling = AS_IS.to_json()
        acquisition = Acquisition(
            id=uuid7(), plan_id=plan_id, revision=1, digest="0" * 64, file_sha256="0" * 64, file_bytes=1,
            raster={}, bands=[1, 2, 3], refused=[],
        )  # fmt: skip
        session.add(acquisition)
        session.flush()
        places = [(tile, patch) for tile in range(WIDE * TALL) for patch in range(16)]
        session.execute(
            insert(ReceivedPatch),
            [
                {
                    "acquisition_id": acquisition.id, "plan_id": plan_id, "tile": tile, "patch": patch,
                    "slot": slot, "chosen": True, "valid_fraction": 1.0, "gsd_m": 0.1,
                    "area_km2": Decimal(1), "received_in": 1,
                }
                for slot, (tile, patch) in enumerate(places)
            ],
        )  # fmt: skip
        lr_key, hr_key = plan.lr_key, pixels_key(plan_id, acquisition.id)
    lr, hr = folder / "lr.tif", folder / "hr.u8"
    lr.write_bytes(lr_geotiff(WIDE, TALL))
    with hr.open("wb") as file:
        file.truncate(len(places) * CHANNELS * side_of(HR_PX) ** 2)
    get_store().put(lr_key, lr)
    get_store().put(hr_key, hr)


def test_patches_are_drawn_one_by_one(client: TestClient, tmp_path: Path) -> None:
    plan_id = ready_plan(WIDE, TALL)
    received(plan_id, tmp_path)
    tracemalloc.start()
    try:
        answer = client.get(f"/v1/plans/{plan_id}/preview.png")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.status_code == 200, answer.text
    assert peak < MOST_BYTES


def test_the_picture_counts_the_plans_patches_and_says_nothing_of_others(
    client: TestClient, tmp_path: Path
) -> None:
    # rotated by 30 degrees: the boxes of the outer tiles have patches that hold no ground
    rotated: dict[str, Any] = {"transform": Affine(5, 0, WEST, 0, -5, NORTH) @ Affine.rotation(30)}
    plan_id = ready_plan(3, 3, **rotated)
    path = tmp_path / "lr.tif"
    path.write_bytes(lr_geotiff(3, 3, **rotated))
    with session_scope() as session:
        plan = session.get_one(Plan, plan_id)
        plan.scaling = AS_IS.to_json()
        get_store().put(plan.lr_key, path)
        info, rows = raster_info(plan), list(iter_tiles(plan_id))
    tiles = [tile_of(row, info) for row in rows]
    chosen = [row.chosen for row in rows]
    said = [[p if a else None for p, a in zip(row.probabilities, row.areas_km2, strict=True)] for row in rows]
    layer = Layer(path, info, (1, 2, 3), AS_IS)
    patches = client.get(f"/v1/plans/{plan_id}").json()["totals"]["patches"]
    assert patches == sum(area > 0 for row in rows for area in row.areas_km2) < len(tiles) * 16
    drawn = client.get(f"/v1/plans/{plan_id}/preview.png").content
    assert drawn == render_preview(layer, tiles, said, chosen, patches=patches)
    assert drawn != render_preview(layer, tiles, said, chosen)
    everywhere = [row.probabilities for row in rows]
    assert drawn != render_preview(layer, tiles, everywhere, chosen, patches=patches)
