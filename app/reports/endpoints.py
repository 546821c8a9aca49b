"""``/v1/reports/savings``: what was not spent."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from app.core.auth import Principal, require
from app.core.db import SessionDep
from app.core.errors import Unprocessable
from app.core.problems import problem_responses
from app.reports import service
from app.reports.schemas import SavingsOut

router = APIRouter(prefix="/v1/reports", tags=["reports"])


@router.get("/savings", summary="What was saved", responses=problem_responses(Unprocessable))
def get_savings(
    session: SessionDep,
    principal: Annotated[Principal, Depends(require("report"))],
    from_: Annotated[
        str | None,
        Query(
            alias="from",
            description="Plans posted from this date (or time) on, UTC.",
            examples=["2026-11-01"],
        ),
    ] = None,
    to: Annotated[
        str | None,
        Query(description="Plans posted before this date (or time), UTC.", examples=["2026-12-01"]),
    ] = None,
    group_by: Annotated[
        list[str] | None,
        Query(
            description="`day`, `week` or `month`; `release`; `tag:KEY`. Repeat it or use commas.",
            examples=[["month", "tag:team"]],
        ),
    ] = None,
) -> SavingsOut:
    """Area and cost of what was bought (received) and planned, against every patch, per currency.

    Only ready plans count, by the time they were posted. Costs are sums of plans' totals, which alone are
    rounded: half to even, to the currency's minor unit.
    """
    since, until = service.read_moment("from", from_), service.read_moment("to", to)
    names = service.read_groupings(group_by or [])
    groups = service.savings(session, principal.org_id, since, until, names)
    return SavingsOut.model_validate({"from": since, "to": until, "group_by": names, "groups": groups})
