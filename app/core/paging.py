"""Pages by keyset: an opaque token of the last row's place, right while new rows arrive."""

import base64
import json
import uuid
from datetime import datetime
from typing import Final

from app.core.errors import Unprocessable

Place = tuple[datetime, uuid.UUID]

MOST_INTEGER: Final = 2**31 - 1
"""PostgreSQL's integer holds no more, and a larger number is an error to it."""


def token_of(at: datetime, row_id: uuid.UUID) -> str:
    """The token of the page after the row with this time and id."""
    return _packed(json.dumps([at.isoformat(), str(row_id)]))


def read_token(token: str) -> Place:
    """Time and id of the last row of the page before; raises Unprocessable for a token of nobody's."""
    try:
        moment, row_id = json.loads(_unpacked(token))
        at = datetime.fromisoformat(moment)
        if at.tzinfo is None:
            raise ValueError("no time zone")
        return at, uuid.UUID(row_id)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise unknown_token() from None


def token_of_number(number: int) -> str:
    """The token of the page after a number, for lists that are in the order of one."""
    return _packed(f"at {number}")


def read_number(token: str, most: int = 10**15 - 1) -> int:
    """The number of ``token_of_number``; raises Unprocessable for a token of nobody's or over ``most``."""
    word, _, number = _unpacked(token).partition(" ")
    # the length first: thousands of digits are an error to int
    if word != "at" or not number.isdecimal() or len(number) > len(str(most)) or int(number) > most:
        raise unknown_token()
    return int(number)


def token_of_name(name: str) -> str:
    """The token of the page after a name, for lists that are in the order of one."""
    return _packed(f"after {name}")


def read_name(token: str) -> str:
    """The name of ``token_of_name``; raises Unprocessable for a token of nobody's."""
    word, _, name = _unpacked(token).partition(" ")
    if word != "after" or not name.isprintable():
        raise unknown_token()
    return name


def unknown_token() -> Unprocessable:
    """The 422 for a token that no page gave."""
    detail = "token is none that a page of this list gave."
    return Unprocessable(detail, errors=[{"loc": ["query", "token"], "detail": detail}])


def _packed(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _unpacked(token: str) -> str:
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise unknown_token() from None
