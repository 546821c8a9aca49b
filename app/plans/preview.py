"""A plan's picture, drawn from what is kept of it."""

import tempfile
import uuid
from pathlib import Path
from typing import Final

from app.acquisitions.pixels import Pixels, ReceivedPixels, window
from app.acquisitions.reading import received_as_of
from app.core.db import session_scope
from app.core.settings import get_settings
from app.maps.preview import Layer, render_preview
from app.plans.reading import iter_tiles
from app.plans.service import fetch_lr, get_ready_plan, raster_info, tile_of
from app.plans.tables import Plan
from app.rasters import Scaling

# more could not be told apart in a picture, and would not fit in memory
MOST_RECEIVED: Final = 4096


def draw(org_id: uuid.UUID, plan_id: uuid.UUID) -> bytes:
    """PNG of a ready plan: LR under the grid, beside it the HR received so far.

    Raises NotFound, Conflict while the plan has no answer, PixelsLost.
    """
    with session_scope() as session:
        plan = get_ready_plan(session, org_id, plan_id)
    rows = list(iter_tiles(plan.id))
    info = raster_info(plan)
    spool = get_settings().spool_dir
    spool.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="upload-preview-", dir=spool) as folder:
        path = Path(folder) / "lr.tif"
        fetch_lr(plan, path)
        received = _received(plan, Path(folder))
        return render_preview(
            Layer(path, info, tuple(plan.bands), Scaling.from_json(plan.scaling or {})),
            [tile_of(row, info) for row in rows],
            [row.probabilities for row in rows],
            [row.chosen for row in rows],
            received=received,
        )


def _received(plan: Plan, folder: Path) -> dict[tuple[int, int], Pixels]:
    with session_scope() as session:
        patches = received_as_of(session, plan.id, plan.revision)[:MOST_RECEIVED]
    squares = ReceivedPixels(folder, plan.hr_px)
    return {
        (patch.tile, patch.patch): window(squares.of(patch), patch.patch, plan.hr_px).copy()
        for patch in patches
    }
