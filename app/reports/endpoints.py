"""``/v1/reports/savings``: what was not spent."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Response
from sqlalchemy.orm import Session

from app.core.auth import Principal, require
from app.core.db import SessionDep
from app.core.errors import AreaRefused, NoExchangeRate, NotAcceptable, Unprocessable
from app.core.problems import problem_responses
from app.plans.accept import JSON, best_of
from app.reports import formats, page, purchases, service, sql
from app.reports.question import (
    Question,
    check_texts,
    read_aois,
    read_groupings,
    read_moment,
    read_rates,
    read_tags,
    refused,
)
from app.reports.schemas import EXAMPLE, SavingsOut

router = APIRouter(prefix="/v1/reports", tags=["reports"])

Texts = list[str] | None
EXAMPLES: dict[str, Any] = {
    JSON: {"example": EXAMPLE},
    formats.CSV: {"example": formats.CSV_EXAMPLE},
    formats.PARQUET: {"example": "PAR1..."},
    formats.HTML: {"example": "<!doctype html>..."},
}


@router.get(
    "/savings",
    summary="What was saved",
    response_model=SavingsOut,
    responses={
        200: {"description": "The report.", "content": EXAMPLES},
        **problem_responses(Unprocessable, AreaRefused, NoExchangeRate, NotAcceptable),
    },
)
def get_savings(
    session: SessionDep,
    principal: Annotated[Principal, Depends(require("report"))],
    from_: Annotated[
        str | None,
        Query(alias="from", description="From this date (or time) on, UTC.", examples=["2026-11-01"]),
    ] = None,
    to: Annotated[
        str | None, Query(description="Before this date (or time), UTC.", examples=["2026-12-01"])
    ] = None,
    group_by: Annotated[
        Texts,
        Query(
            description="`day`, `week` or `month`; `release`; `product`; `class`; `aoi`; `tag:KEY`. "
            "Repeat it or use commas.",
            examples=[["month", "tag:team"]],
        ),
    ] = None,
    tag: Annotated[Texts, Query(description="Only plans with this tag.", examples=[["team=north"]])] = None,
    product: Annotated[
        Texts,
        Query(
            description="Only this product, of one version of its list or of all; `ad-hoc`.",
            examples=[["example-archive/classic"]],
        ),
    ] = None,
    release: Annotated[
        Texts, Query(description="Only plans of this release.", examples=[["ucmerced"]])
    ] = None,
    class_: Annotated[
        Texts,
        Query(alias="class", description="Only tiles classified as this.", examples=[["forest"]]),
    ] = None,
    aoi: Annotated[
        Texts,
        Query(
            description="Only tiles whose middle lies here: `west,south,east,north`, with `NAME:` before it "
            "if you like, or GeoJSON.",
            examples=[["north:8.1,50.1,8.2,50.2"]],
        ),
    ] = None,
    currency: Annotated[
        str | None, Query(description="Convert everything to this one, by `rate`.", examples=["EUR"])
    ] = None,
    rate: Annotated[
        Texts,
        Query(
            description="`DATE:CURRENCY=RATE`: from that day on one unit is so many of `currency`.",
            examples=[["2026-11-01:USD=0.92"]],
        ),
    ] = None,
    accept: Annotated[
        str | None, Header(description="JSON, CSV, Parquet or an HTML page.", examples=[formats.CSV])
    ] = None,
) -> Response:
    """Two halves: `groups`, the nominal figures of ready plans, and `purchases`, what the ledger says.

    `groups` dates a plan by when it was posted, and adds plans' totals. `purchases` dates every entry by when
    it was made, and sets what was spent against full HR by the same vendor's rules; a tile and its full HR
    count once, in the period of its first purchase, so that periods add up to the whole. Areas, prices and
    entries are unrounded; a group's sums are rounded once, half to even, to the currency's minor unit.
    """
    wanted = best_of(accept, formats.OFFERED)
    check_texts(group_by=group_by, tag=tag, product=product, release=release, **{"class": class_})
    target, rates = read_rates(currency, rate or [])
    question = Question(
        org_id=principal.org_id,
        since=read_moment("from", from_),
        until=read_moment("to", to),
        group_by=read_groupings(group_by or []),
        tags=read_tags(tag or []),
        products=tuple(product or ()),
        releases=tuple(release or ()),
        classes=tuple(class_ or ()),
        aois=read_aois(aoi or []),
        currency=target,
        rates=rates,
    )
    service.check_order(question)
    if "aoi" in question.group_by and not question.aois:
        raise refused("group_by", "group_by=aoi needs areas: aoi=NAME:west,south,east,north or GeoJSON.")
    if question.aois:
        sql.locate(session, question)
    report = answer(session, question)
    if wanted == formats.HTML:
        body: str | bytes = page.render(session, question, report)
    else:
        body = formats.write(report, wanted)
    return Response(body, media_type=wanted, headers={"Vary": "Accept"})


def answer(session: Session, question: Question) -> SavingsOut:
    """The report, from its two halves."""
    return SavingsOut(
        from_=question.since,
        to=question.until,
        group_by=list(question.group_by),
        currency=question.currency,
        groups=service.savings(session, question),
        purchases=purchases.purchases(session, question),
    )
