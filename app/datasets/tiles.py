"""Which labelled tiles make a dataset: settled when it is asked for, and kept with the request."""

import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.acquisitions.tables import ReceivedPatch
from app.core.errors import Conflict, MissingPictures, NotFound, OneClass
from app.core.work import WorkStatus
from app.datasets.schemas import FromTiles
from app.labels.reading import labels_of_plan
from app.plans.tables import Plan
from app.rasters.tiles import GRID


def choose_tiles(
    session: Session, org_id: uuid.UUID, form: FromTiles
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The labelled tiles all of whose patches were received, by plan; and how many there are, for people.

    Later labels, patches and corrections change nothing of the choice. Raises NotFound, Conflict,
    MissingPictures where no tile is complete, OneClass.
    """
    plans: dict[str, Any] = {}
    counts: Counter[str] = Counter()
    classes: set[str] = set()
    for plan in _plans(session, org_id, form):
        labels = labels_of_plan(session, plan.id)
        complete = _complete(session, plan, list(labels))
        counts["labelled"] += len(labels)
        counts["incomplete"] += len(labels) - len(complete)
        tiles = {str(tile): labels[tile] for tile in sorted(complete)}
        classes.update(tiles.values())
        if tiles:
            plans[str(plan.id)] = {"revision": plan.revision, "tiles": tiles}
    if not plans:
        raise MissingPictures(
            f"Of {counts['labelled']} labelled tiles none has all of its {GRID * GRID} HR patches.",
            labelled=counts["labelled"],
        )
    if len(classes) < 2:
        raise OneClass(f"All labelled tiles with HR are of the class {next(iter(classes))}.")
    source = {
        "plans": len(plans),
        "tiles": counts["labelled"] - counts["incomplete"],
        "labelled_without_hr": counts["incomplete"],
        **form.model_dump(mode="json", include={"tags"}, exclude_none=True),
    }
    return {"plans": plans}, source


def _plans(session: Session, org_id: uuid.UUID, form: FromTiles) -> Sequence[Plan]:
    query = select(Plan).where(Plan.org_id == org_id)
    if form.tags is not None:
        query = query.where(Plan.tags.contains(form.tags), Plan.status == WorkStatus.READY)
    else:
        query = query.where(Plan.id.in_(form.plans or []))
    # the lock orders this after every acquisition that was answered
    found = session.scalars(query.order_by(Plan.id).with_for_update()).all()
    missing = set(form.plans or []) - {plan.id for plan in found}
    if missing:
        raise NotFound(f"There is no plan {min(missing)}.")
    for plan in found:
        if plan.status != WorkStatus.READY:
            raise Conflict(f"The plan {plan.id} is {plan.status}, not ready.", plan_status=plan.status)
    if not found:
        raise NotFound("There is no plan with these tags.")
    return found


def _complete(session: Session, plan: Plan, tiles: Sequence[int]) -> set[int]:
    """The tiles that have all of their patches as of the plan's revision."""
    counted = session.execute(
        select(ReceivedPatch.tile)
        .where(
            ReceivedPatch.plan_id == plan.id,
            ReceivedPatch.tile.in_(tiles),
            ReceivedPatch.received_in <= plan.revision,
            or_(ReceivedPatch.superseded_in.is_(None), ReceivedPatch.superseded_in > plan.revision),
        )
        .group_by(ReceivedPatch.tile)
        .having(func.count() == GRID * GRID)
    )
    return {tile for (tile,) in counted}
