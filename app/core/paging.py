"""Pages by keyset: an opaque token of the last row's time and id, right while new rows arrive."""

import base64
import binascii
import json
import uuid
from datetime import datetime

from app.core.errors import Unprocessable

Place = tuple[datetime, uuid.UUID]


def token_of(at: datetime, row_id: uuid.UUID) -> str:
    """The token of the page after the row with this time and id."""
    raw = json.dumps([at.isoformat(), str(row_id)]).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def read_token(token: str) -> Place:
    """Time and id of the last row of the page before; raises Unprocessable for a token of nobody's."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        moment, row_id = json.loads(raw)
        at = datetime.fromisoformat(moment)
        if at.tzinfo is None:
            raise ValueError("no time zone")
        return at, uuid.UUID(row_id)
    except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError):
        raise unknown_token() from None


def token_of_number(number: int) -> str:
    """The token of the page after a number, for lists that are in the order of one."""
    return base64.urlsafe_b64encode(f"at {number}".encode()).decode().rstrip("=")


def read_number(token: str) -> int:
    """The number of ``token_of_number``; raises Unprocessable for a token of nobody's."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        word, _, number = raw.decode("ascii").partition(" ")
        if word != "at" or not number.isdecimal() or len(number) > 15:
            raise ValueError(token)
        return int(number)
    except (ValueError, binascii.Error):
        raise unknown_token() from None


def unknown_token() -> Unprocessable:
    """The 422 for a token that no page gave."""
    detail = "token is none that a page of this list gave."
    return Unprocessable(detail, errors=[{"loc": ["query", "token"], "detail": detail}])
