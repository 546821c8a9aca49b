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
        detail = "token is none that a page of this list gave."
        raise Unprocessable(detail, errors=[{"loc": ["query", "token"], "detail": detail}]) from None
