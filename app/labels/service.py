"""Recording labels and finding them again. Nothing is changed or deleted: a newer label counts more."""

import uuid
from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from app.core.auth import ApiKey, Principal
from app.core.errors import ProblemError, UnknownLabels, Unprocessable
from app.core.paging import MOST_INTEGER, read_number
from app.labels.names import clean_label, shown
from app.labels.reading import newest_labels
from app.labels.schemas import LabelForm
from app.labels.tables import Label
from app.plans.service import get_ready_plan
from app.plans.tables import Plan, TileRow
from app.releases.finding import find_key


def record(session: Session, principal: Principal, plan_id: uuid.UUID, form: LabelForm) -> Sequence[Label]:
    """Write one row a label, in the order of the tiles; all or none.

    Raises NotFound, Conflict while the plan is not ready, UnknownLabels, Unprocessable for tiles it lacks.
    """
    plan = get_ready_plan(session, principal.org_id, plan_id)
    tiles = [label.tile for label in form.labels]
    if len(set(tiles)) < len(tiles):
        raise _refused("A tile is labelled twice in one request.")
    classes = {label.class_: clean_label(label.class_) for label in form.labels if label.class_ is not None}
    there = set(
        session.scalars(select(TileRow.tile).where(TileRow.plan_id == plan.id, TileRow.tile.in_(tiles)))
    )
    if missing := sorted(set(tiles) - there):
        raise _refused(f"The plan has no tile {missing[0]}.")
    if not form.new_classes:
        _must_be_known(session, plan, set(classes.values()))
    key = session.get_one(ApiKey, principal.key_id)
    rows = [
        {
            "plan_id": plan.id,
            "tile": label.tile,
            "class_name": None if label.class_ is None else classes[label.class_],
            "key_id": key.id,
            "key_name": key.name,
            "by": form.by,
        }
        for label in form.labels
    ]
    written = session.scalars(insert(Label).returning(Label, sort_by_parameter_order=True), rows).all()
    return sorted(written, key=lambda row: row.tile)


def page(
    session: Session, plan: Plan, limit: int, token: str | None, *, history: bool
) -> tuple[list[Label], int | None]:
    """Labels that count, by tile, or every one, newest first; and the number the next page begins after."""
    if history:
        after = None if token is None else read_number(token)
        query = select(Label).where(Label.plan_id == plan.id).order_by(Label.number.desc())
        query = query if after is None else query.where(Label.number < after)
        found = list(session.scalars(query.limit(limit + 1)))
    else:
        after = None if token is None else read_number(token, MOST_INTEGER)
        # a label that was taken back fills no place of a page
        query = newest_labels().where(Label.plan_id == plan.id, Label.class_name.is_not(None))
        query = query if after is None else query.where(Label.tile > after)
        found = list(session.scalars(query.limit(limit + 1)))
    more = len(found) > limit
    last = found[limit - 1] if more else None
    return found[:limit], None if last is None else last.number if history else last.tile


def _must_be_known(session: Session, plan: Plan, classes: set[str]) -> None:
    known = set(
        session.scalars(
            select(func.distinct(Label.class_name))
            .join(Plan, Plan.id == Label.plan_id)
            .where(Plan.org_id == plan.org_id, Label.class_name.in_(classes))
        )
    )
    of_release = _classes_of_release(session, plan)
    if unknown := sorted(classes - known - of_release):
        raise UnknownLabels(
            f"{shown(unknown[0])} is neither a class of the plan's release nor in use; set new_classes if it "
            "is meant.",
            labels=[shown(name) for name in unknown[:20]],
            errors=[{"loc": ["body", "labels"], "detail": "unknown class"}],
            known=sorted(of_release)[:200],
        )


def _classes_of_release(session: Session, plan: Plan) -> set[str]:
    # of one that was replaced, those of what has its name by now; of one that is gone, what is in use alone
    with suppress(ProblemError):
        release = find_key(session, plan.org_id, str(plan.release_id or plan.release))
        return {entry.name for entry in release.card.classes}
    return set()


def _refused(detail: str) -> Unprocessable:
    return Unprocessable(detail, errors=[{"loc": ["body", "labels"], "detail": detail}])
