"""Labels as others read them: the newest of each tile."""

import uuid
from typing import Any

from sqlalchemy import Select, exists, select
from sqlalchemy.orm import Session, aliased

from app.labels.tables import Label


def newest_labels() -> Select[Any]:
    """The label that counts of every labelled tile, also one that takes a label back (class_name null).

    By plan and tile. Narrow it with ``where``; as a join use ``newest_labels().subquery()``.
    """
    newer = aliased(Label)
    same_tile = (newer.plan_id == Label.plan_id) & (newer.tile == Label.tile)
    newest = select(Label).where(~exists().where(same_tile, newer.number > Label.number))
    return newest.order_by(Label.plan_id, Label.tile)


def labels_of_plan(session: Session, plan_id: uuid.UUID) -> dict[int, str]:
    """Tile -> class of the tiles of a plan that have a label now."""
    rows = session.scalars(newest_labels().where(Label.plan_id == plan_id))
    return {row.tile: row.class_name for row in rows if row.class_name is not None}
