"""How much of a request's body is read: little, unless the route that reads it asks for more.

FastAPI reads a JSON body as a whole, and before it looks at the API key: without a limit, anybody could have
this process hold whatever is sent.
"""

from typing import Final

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core.errors import PayloadTooLarge
from app.core.settings import get_settings

_LIMIT: Final = "most_body_bytes"


class BodyLimitMiddleware:
    """Ends the reading of a body that is over ``max_json_bytes``, or over what the route has allowed.

    Whoever reads gets PayloadTooLarge: at once if Content-Length says so, else at the byte that is too much.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state[_LIMIT] = get_settings().max_json_bytes
        declared = Headers(scope=scope).get("content-length", "")
        announced = int(declared) if declared.isdecimal() else 0
        read = 0

        async def receive_within_limit() -> Message:
            nonlocal read
            limit: int = state[_LIMIT]
            if announced > limit:
                raise _too_large(limit)
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                raise _too_large(limit)
            return message

        await self._app(scope, receive_within_limit, send)


def allow(request: Request, limit: int) -> None:
    """Let this request's body have ``limit`` bytes: more if it is not held in memory, less for a small form.

    To be called before the body is read.
    """
    setattr(request.state, _LIMIT, limit)


def _too_large(limit: int) -> PayloadTooLarge:
    """The 413 for a body of more than ``limit`` bytes."""
    return PayloadTooLarge(f"The request body is over {limit} bytes.", limit_bytes=limit)
