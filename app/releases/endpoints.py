"""``/v1/releases``: any working key may read them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path

from app.core.auth import current_principal
from app.core.errors import NotFound, ServiceUnavailable
from app.core.problems import problem_responses
from app.releases import service
from app.releases.schemas import ReleaseList, ReleaseOut

router = APIRouter(prefix="/v1/releases", tags=["releases"], dependencies=[Depends(current_principal)])


@router.get("", summary="List releases")
def list_releases() -> ReleaseList:
    """Every installed release with its card: classes, scale, and what was measured of it."""
    default = _default_name()
    cards = service.list_cards()
    return ReleaseList(releases=[ReleaseOut.of(card, default=card.name == default) for card in cards])


@router.get("/{name}", summary="One release", responses=problem_responses(NotFound))
def get_release(name: Annotated[str, Path(max_length=100, examples=["ucmerced"])]) -> ReleaseOut:
    """The card of one release. 404 when there is none of that name."""
    card = service.get_card(name)
    return ReleaseOut.of(card, default=card.name == _default_name())


def _default_name() -> str | None:
    try:
        return service.choose_card(None).name
    except (NotFound, ServiceUnavailable):
        return None
