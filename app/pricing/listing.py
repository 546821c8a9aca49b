"""Price lists as clients read them, and the pages of their lists."""

import uuid
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.orm import Session

from app.core.paging import MOST_INTEGER, read_name, read_number, token_of_name, token_of_number
from app.pricing.schemas import PriceListIn, PriceListOut, PriceListSummary
from app.pricing.service import examples
from app.pricing.tables import PriceListRow


def summary(row: PriceListRow) -> PriceListSummary:
    """A kept version without its products."""
    listed = PriceListIn.model_validate(row.document)
    return _summary(listed, row.version, row.id, row.created_at)


def whole(row: PriceListRow) -> PriceListOut:
    """A kept version with its products."""
    return _whole(PriceListIn.model_validate(row.document), summary(row))


def example_summary(name: str) -> PriceListSummary:
    """A shipped example without its products."""
    return _summary(examples()[name], 1, None, None)


def example(name: str) -> PriceListOut:
    """A shipped example with its products."""
    return _whole(examples()[name], example_summary(name))


def page(
    session: Session, org_id: uuid.UUID, limit: int, token: str | None
) -> tuple[list[PriceListRow], str | None]:
    """The newest version of each list whose name comes after the token's; raises Unprocessable."""
    query = (
        select(PriceListRow)
        .where(PriceListRow.org_id == org_id)
        .ext(distinct_on(PriceListRow.name))
        .order_by(PriceListRow.name, PriceListRow.version.desc())
        .limit(limit + 1)
    )
    if token is not None:
        query = query.where(PriceListRow.name > read_name(token))
    rows = list(session.scalars(query))
    return rows[:limit], (token_of_name(rows[limit - 1].name) if len(rows) > limit else None)


def versions(
    session: Session, org_id: uuid.UUID, name: str, limit: int, token: str | None
) -> tuple[list[PriceListRow], str | None]:
    """A list's versions below the token's, newest first; raises Unprocessable."""
    query = select(PriceListRow).where(PriceListRow.org_id == org_id, PriceListRow.name == name)
    if token is not None:
        query = query.where(PriceListRow.version < read_number(token, MOST_INTEGER))
    rows = list(session.scalars(query.order_by(PriceListRow.version.desc()).limit(limit + 1)))
    return rows[:limit], (token_of_number(rows[limit - 1].version) if len(rows) > limit else None)


def _summary(
    listed: PriceListIn, version: int, list_id: uuid.UUID | None, created_at: datetime | None
) -> PriceListSummary:
    base = f"/v1/price-lists/{listed.name}/versions"
    return PriceListSummary(
        id=list_id,
        name=listed.name,
        version=version,
        example=list_id is None,
        description=listed.description,
        keys=[product.key for product in listed.products],
        created_at=created_at,
        links={"self": f"{base}/{version}", "versions": base},
    )


def _whole(listed: PriceListIn, found: PriceListSummary) -> PriceListOut:
    refs = [f"{listed.name}/{product.key}@{found.version}" for product in listed.products]
    return PriceListOut(**found.model_dump(), products=listed.products, refs=refs)
