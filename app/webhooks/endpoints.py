"""``/v1/webhooks``: who is told of each move of an order."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from app.core.auth import Principal, require
from app.core.db import SessionDep
from app.core.errors import Conflict, NotFound, Unprocessable, WebhookUrlRefused
from app.core.problems import problem_responses
from app.webhooks import service
from app.webhooks.schemas import DeliveryOut, DeliveryPage, WebhookForm, WebhookMade, WebhookOut, WebhookPage

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])

Admin = Annotated[Principal, Depends(require("admin"))]
Limit = Annotated[int, Query(ge=1, le=200)]
Token = Annotated[
    str | None, Query(max_length=200, description="`next` of the page before.", examples=["WyIyMDI2Il0"])
]


@router.post(
    "",
    summary="Register a webhook",
    status_code=201,
    responses=problem_responses(Conflict, Unprocessable, WebhookUrlRefused),
)
def create_webhook(session: SessionDep, principal: Admin, form: WebhookForm) -> WebhookMade:
    """From now on every move of an order is POSTed to `url`, signed with the answer's `secret`.

    Messages follow Standard Webhooks: `webhook-id` (the same at every try), `webhook-timestamp` and
    `webhook-signature`. Anything but a 2xx within ten seconds is tried again, later and later.
    """
    row = service.register(session, principal.org_id, form)
    return WebhookMade.model_validate(row, from_attributes=True)


@router.get("", summary="List webhooks", responses=problem_responses(Unprocessable))
def list_webhooks(
    session: SessionDep, principal: Admin, limit: Limit = 50, token: Token = None
) -> WebhookPage:
    """Your organisation's webhooks, newest first, without their secrets."""
    rows, following = service.list_webhooks(session, principal.org_id, limit, token)
    return WebhookPage(
        webhooks=[WebhookOut.model_validate(row, from_attributes=True) for row in rows], next=following
    )


@router.delete(
    "/{webhook_id}", summary="Remove a webhook", status_code=204, responses=problem_responses(NotFound)
)
def remove_webhook(session: SessionDep, principal: Admin, webhook_id: uuid.UUID) -> None:
    """It is told nothing more; messages that still wait for it are given up."""
    service.remove(session, principal.org_id, webhook_id)


@router.get(
    "/{webhook_id}/deliveries",
    summary="What a webhook was told",
    responses=problem_responses(NotFound, Unprocessable),
)
def list_deliveries(
    session: SessionDep, principal: Admin, webhook_id: uuid.UUID, limit: Limit = 50, token: Token = None
) -> DeliveryPage:
    """Its messages, newest first: whether each was heard, how often it was tried, what went wrong."""
    row = service.get(session, principal.org_id, webhook_id)
    rows, following = service.list_deliveries(session, row.id, limit, token)
    return DeliveryPage(
        deliveries=[DeliveryOut.model_validate(each, from_attributes=True) for each in rows], next=following
    )
