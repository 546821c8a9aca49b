"""Releases as clients list them: the installed ones first, then the organisation's own, newest first."""

import uuid

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from app.core.errors import NotFound, ServiceUnavailable, Unprocessable
from app.core.paging import read_token, token_of
from app.releases import aliases
from app.releases.finding import Found, choose
from app.releases.schemas import ReleaseList, ReleaseOut
from app.releases.service import list_cards
from app.releases.tables import ReleaseRow


def page(session: Session, org_id: uuid.UUID, limit: int, token: str | None) -> ReleaseList:
    """A page of releases; the installed ones, few as they are, come on top of ``limit`` on the first."""
    query = select(ReleaseRow).where(ReleaseRow.org_id == org_id)
    installed: list[Found] = []
    if token is not None:
        query = query.where(tuple_(ReleaseRow.created_at, ReleaseRow.id) < tuple_(*read_token(token)))
    else:
        installed = [Found.of_card(card) for card in list_cards()]
    order = (ReleaseRow.created_at.desc(), ReleaseRow.id.desc())
    rows = session.scalars(query.order_by(*order).limit(limit + 1)).all()
    here = rows[:limit]
    named = aliases.names_of(session, org_id)
    default = default_key(session, org_id)
    found = [*installed, *(Found.of_row(row) for row in here)]
    return ReleaseList(
        releases=[
            ReleaseOut.of(one, default=one.key == default, aliases=named.get(one.key, ())) for one in found
        ],
        next=token_of(here[-1].created_at, here[-1].id) if len(rows) > limit else None,
    )


def out(session: Session, org_id: uuid.UUID, found: Found) -> ReleaseOut:
    """One release."""
    named = aliases.names_of(session, org_id).get(found.key, ())
    return ReleaseOut.of(found, default=found.key == default_key(session, org_id), aliases=named)


def default_key(session: Session, org_id: uuid.UUID) -> str | None:
    """The release that plans which name none are made with; None where there is none."""
    try:
        return choose(session, org_id, None).key
    except (NotFound, ServiceUnavailable, Unprocessable):
        return None
