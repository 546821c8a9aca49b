"""``Idempotency-Key``: two requests with one key are one request.

A key is reserved once the body is known and before anything is made of it; the plan and the key's link to it
are written in one transaction. A reservation runs out, so a process that dies in between blocks its key for
``RESERVED_S`` at most; who takes over gets a new token, and the old holder's commit then finds itself fenced
out. Keys are an organisation's own: two organisations may use the same one.
"""

import re
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.errors import IdempotencyInFlight, IdempotencyMismatch, Unprocessable
from app.plans.tables import IdempotencyKey
from app.rasters.info import Limits
from app.rasters.sandbox import longest_s

KEEPING_S: Final = 180.0
"""For what follows the check: the raster into the object store, which retries for so long, and the rows."""

RESERVED_S: Final = longest_s(Limits()) + KEEPING_S
"""No check of a raster lasts as long, so that nobody else may take over while one is under way."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


@dataclass(frozen=True)
class Reservation:
    """The right to make the one plan of a key, until it runs out or another takes over."""

    org_id: uuid.UUID
    key: str
    token: uuid.UUID


def check_key(key: str) -> str:
    """The key as it may be kept; raises Unprocessable for one that is empty, long or not printable ASCII."""
    if not _KEY.fullmatch(key):
        detail = "Idempotency-Key must be 1 to 255 printable ASCII characters without spaces."
        raise Unprocessable(detail, errors=[{"loc": ["header", "idempotency-key"], "detail": detail}])
    return key


def reserve(session: Session, org_id: uuid.UUID, key: str, fingerprint: str) -> Reservation | uuid.UUID:
    """Reserve the key, or find the plan it already made (its id).

    Raises IdempotencyMismatch when the key was used with another body, IdempotencyInFlight while another
    request with the same body is being checked. The caller commits.
    """
    token = uuid.uuid4()
    until = func.clock_timestamp() + timedelta(seconds=RESERVED_S)
    mine = insert(IdempotencyKey).values(
        org_id=org_id, key=key, fingerprint=fingerprint, token=token, reserved_until=until
    )
    # A reservation that ran out is free for any body: nothing was ever made with it.
    taken = session.execute(
        mine.on_conflict_do_update(
            index_elements=[IdempotencyKey.org_id, IdempotencyKey.key],
            set_={"fingerprint": fingerprint, "token": token, "reserved_until": until},
            where=IdempotencyKey.reserved_until < func.clock_timestamp(),
        ).returning(IdempotencyKey.token)
    ).first()
    if taken is not None:
        return Reservation(org_id, key, token)
    known = session.execute(
        select(IdempotencyKey.fingerprint, IdempotencyKey.plan_id).where(
            IdempotencyKey.org_id == org_id, IdempotencyKey.key == key
        )
    ).first()
    if known is None:
        # the holder failed and let go between the two statements
        raise IdempotencyInFlight("A request with this Idempotency-Key has just been refused; send it again.")
    if known.fingerprint != fingerprint:
        raise IdempotencyMismatch("This Idempotency-Key was used before with another body.")
    if known.plan_id is None:
        raise IdempotencyInFlight("A request with this Idempotency-Key is still being worked on.")
    plan_id: uuid.UUID = known.plan_id
    return plan_id


def settle(session: Session, reservation: Reservation, plan_id: uuid.UUID) -> None:
    """Tie the key to its plan, in the transaction that writes the plan.

    Raises IdempotencyInFlight when the reservation ran out and another request holds the key now.
    """
    done = session.execute(
        update(IdempotencyKey)
        .where(*_mine(reservation))
        .values(plan_id=plan_id, reserved_until=None)
        .returning(IdempotencyKey.key)
    ).first()
    if done is None:
        raise IdempotencyInFlight(
            "This request took so long that another with its Idempotency-Key took over."
        )


def let_go(session: Session, reservation: Reservation) -> None:
    """Free the key of a request that was refused, so that a corrected one may use it."""
    session.execute(delete(IdempotencyKey).where(*_mine(reservation)))


def _mine(reservation: Reservation) -> tuple[ColumnElement[bool], ...]:
    return (
        IdempotencyKey.org_id == reservation.org_id,
        IdempotencyKey.key == reservation.key,
        IdempotencyKey.token == reservation.token,
        IdempotencyKey.plan_id.is_(None),
    )
