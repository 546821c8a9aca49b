"""Labels as others read them: the newest of each tile."""

import uuid
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from app.labels.tables import Label


def newest_labels() -> Select[Any]:
    """The label that counts of every labelled tile, also one that takes a label back (class_name null).

    Narrow it with ``where``; as a join use ``newest_labels().subquery()``.
    """
    return (
        select(Label)
        .distinct(Label.plan_id, Label.tile)
        .order_by(Label.plan_id, Label.tile, Label.number.desc())
    )


def labels_of_plan(session: Session, plan_id: uuid.UUID) -> dict[int, str]:
    """Tile -> class of the tiles of a plan that have a label now."""
    rows = session.scalars(newest_labels().where(Label.plan_id == plan_id))
    return {row.tile: row.class_name for row in rows if row.class_name is not None}
