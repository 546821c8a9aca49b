"""A plan's picture, drawn from what is kept of it."""

import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from app.acquisitions.pixels import Pixels, ReceivedPixels, window
from app.acquisitions.reading import received_as_of
from app.acquisitions.tables import ReceivedPatch
from app.core.db import session_scope
from app.core.settings import get_settings
from app.maps.preview import Layer, render_preview
from app.plans.reading import iter_tiles
from app.plans.service import fetch_lr, get_ready_plan, raster_info, tile_of
from app.plans.tables import Plan, TileRow
from app.rasters import Scaling

# more could not be told apart in a picture, and would take minutes to read
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
        with session_scope() as session:
            patches = received_as_of(session, plan.id, plan.revision)[:MOST_RECEIVED]
        return render_preview(
            Layer(path, info, tuple(plan.bands), Scaling.from_json(plan.scaling or {})),
            [tile_of(row, info) for row in rows],
            [_with_ground(row) for row in rows],
            [row.chosen for row in rows],
            patches=plan.patch_count,
            received=_pixels(plan, patches, Path(folder)) if patches else None,
        )


def _with_ground(row: TileRow) -> list[float | None]:
    """A tile's probabilities by patch id; None of a patch that has no part inside the raster."""
    return [p if area else None for p, area in zip(row.probabilities, row.areas_km2, strict=True)]


def _pixels(
    plan: Plan, patches: Sequence[ReceivedPatch], folder: Path
) -> Iterator[tuple[tuple[int, int], Pixels]]:
    """One patch after the other: of a release of 1024 pixels all of them would take 800 MB."""
    squares = ReceivedPixels(folder, plan.hr_px)
    for patch in patches:
        yield (patch.tile, patch.patch), window(squares.of(patch), patch.patch, plan.hr_px)
