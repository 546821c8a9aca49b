"""Sending one webhook: to an address that was checked, signed, without redirects, within a time."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import httpcore
from standardwebhooks.webhooks import Webhook

from app.webhooks.addresses import AddressRefused, resolve

MOST_BYTES: Final = 64 * 1024
"""Of an answer only the status counts; more than this is not read."""


class NotDelivered(Exception):
    """The message was not taken: why, and the status that was answered, if any."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


def send(url: str, secret: str, message_id: str, body: str, timeout_s: float) -> int:
    """POST a message as Standard Webhooks has it; returns the status (2xx), raises NotDelivered.

    A redirect is no delivery: where it leads was never allowed by whoever registered the webhook.
    """
    now = datetime.now(UTC)
    headers: dict[bytes | str, bytes | str] = {
        "content-type": "application/json",
        "user-agent": f"PatchPlan/{version('patchplan')}",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, now, body),
    }
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), timeout_s)
    backend = CheckedBackend(time.monotonic() + timeout_s, named_only=url.startswith("http:"))
    try:
        with (
            httpcore.ConnectionPool(network_backend=backend, retries=0) as pool,
            pool.stream(
                "POST", url, headers=headers, content=body.encode(), extensions={"timeout": timeouts}
            ) as answer,
        ):
            status: int = answer.status
    except AddressRefused as error:
        raise NotDelivered(str(error)) from None
    except (httpcore.TimeoutException, TimeoutError):
        raise NotDelivered(f"No answer within {timeout_s:g} s.") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError) as error:
        raise NotDelivered(f"The connection failed: {type(error).__name__} {error}"[:500]) from None
    if 200 <= status < 300:
        return status
    if 300 <= status < 400:
        raise NotDelivered("It answered with a redirect, and redirects are not followed.", status)
    raise NotDelivered(f"It answered {status}.", status)


class CheckedBackend(httpcore.NetworkBackend):
    """Connects to allowed addresses only, and gives all reading and writing one common deadline."""

    def __init__(self, deadline: float, *, named_only: bool) -> None:
        self._inner = httpcore.SyncBackend()
        self._deadline = deadline
        self._named_only = named_only

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - the interface's
    ) -> httpcore.NetworkStream:
        """A connection to one of the name's addresses, after all of them were checked."""
        failed: Exception | None = None
        for address in resolve(host, port, named_only=self._named_only):
            try:
                stream = self._inner.connect_tcp(
                    str(address), port, min(timeout or 60, _left(self._deadline)), local_address
                )
                return _Timed(stream, self._deadline)
            except httpcore.ConnectError as error:
                failed = error
        raise failed or httpcore.ConnectError(f"{host} has no address")

    def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.NetworkStream:
        """Never."""
        raise AddressRefused("Webhooks do not go to sockets of this machine.")


class _Timed(httpcore.NetworkStream):
    """A stream that ends at a deadline, however slowly the other side drips, and after ``MOST_BYTES``."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: float) -> None:
        self._inner, self._deadline, self._left = inner, deadline, MOST_BYTES

    # a timeout of one call is none of the whole: the deadline counts
    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        if self._left <= 0:
            raise httpcore.ReadError("the answer is too long")
        data = self._inner.read(min(max_bytes, self._left), _left(self._deadline))
        self._left -= len(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._inner.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: Any,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        inner = self._inner.start_tls(ssl_context, server_hostname, _left(self._deadline))
        return _Timed(inner, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the deadline has passed")
    return left
