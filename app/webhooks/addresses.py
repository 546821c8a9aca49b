"""Which addresses a webhook may go to: public ones, and the networks that the settings name.

A name is looked up once, when the connection is made: every address it has must be allowed, and the
connection goes to one of those that were checked. A name that changes in between leads nowhere else.
"""

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import SplitResult, urlsplit

from app.core.errors import WebhookUrlRefused
from app.core.settings import get_settings

Address = IPv4Address | IPv6Address

# IPv6 that a gateway turns into any IPv4 address, private ones too (RFC 6052, 3056, 4380)
_CARRIERS: Final[tuple[IPv4Network | IPv6Network, ...]] = tuple(
    IPv6Network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
)
# not public, whatever this version of Python says: site-local (RFC 3879), for documentation (RFC 9637), for
# protocols (RFC 6890; Oracle's metadata lie there), and what Azure's machines reach their host by
_NOT_PUBLIC: Final[tuple[IPv4Network | IPv6Network, ...]] = (
    *(IPv6Network("fec0::/10"), IPv6Network("3fff::/20")),
    *(IPv4Network("192.0.0.0/24"), IPv4Network("168.63.129.16/32")),
)
MAX_URL: Final = 2000
MAX_NAME: Final = 253
MAX_LABEL: Final = 63


class AddressRefused(Exception):
    """A name leads to an address that webhooks may not go to."""


def check_url(url: str) -> str:
    """The URL as it is kept; raises WebhookUrlRefused for one that could never be sent to.

    Plain http is for the networks that the settings name; everybody else gets https.
    """
    parts = _split(url)
    host = parts.hostname
    if parts.scheme not in ("https", "http") or not host:
        raise _refused("A webhook's url begins with https:// and names a host.")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise _refused("A webhook's url has no user, password or fragment.")
    literal = _literal(host)
    if literal is None and not _is_name(host):
        raise _refused(
            f"A host is parts of 1 to {MAX_LABEL} characters with dots between, {MAX_NAME} at most."
        )
    if literal is not None and not is_allowed(literal):
        raise _refused(f"{literal} is not an address that webhooks may go to (PATCHPLAN_WEBHOOK_NETWORKS).")
    if literal is None and (host == "localhost" or host.endswith((".localhost", ".local", ".internal"))):
        _check_name(host)
    if parts.scheme == "http" and not (get_settings().webhook_networks or "").strip():
        raise _refused("A webhook's url begins with https://.")
    return url


def _is_name(host: str) -> bool:
    """Whether the DNS could know a host of this name (RFC 1035, 2.3.4); a dot at the end is its root."""
    name = host.removesuffix(".")
    return len(name) <= MAX_NAME and all(1 <= len(label) <= MAX_LABEL for label in name.split("."))


def _check_name(host: str) -> None:
    try:
        resolve(host, 443)
    except (AddressRefused, OSError) as error:
        raise _refused(str(error)) from None


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _refused("This is no URL.") from None
    if len(url) > MAX_URL or port == 0 or not url.isprintable() or " " in url or not url.isascii():
        raise _refused(f"A url is at most {MAX_URL} printable ASCII characters without spaces.")
    return parts


def resolve(host: str, port: int, *, named_only: bool = False) -> list[Address]:
    """The addresses of a name, every one of them allowed (``named_only``: by the settings, not as public).

    Raises AddressRefused if one is not or the name can be none, OSError where it has no address.
    """
    literal = _literal(host)
    if literal is not None:
        found: list[Address] = [literal]
    else:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except UnicodeError:
            # raised by IDNA before anybody is asked: parts that are empty or too long
            raise AddressRefused(f"{host[:100]} cannot be the name of a host.") from None
        found = list(dict.fromkeys(ip_address(str(answer[4][0]).split("%")[0]) for answer in answers))
    for address in found:
        if not (is_named(address) if named_only else is_allowed(address)):
            raise AddressRefused(f"{host} leads to {address}, where webhooks may not go.")
    return found


def is_allowed(address: Address) -> bool:
    """Whether the address is public, or in a network that the settings name."""
    if is_named(address):
        return True
    address = _unmapped(address)
    if any(address in network for network in (*_CARRIERS, *_NOT_PUBLIC)):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def is_named(address: Address) -> bool:
    """Whether the address is in a network that the settings name."""
    address = _unmapped(address)
    return any(address in network for network in _named() if network.version == address.version)


def _unmapped(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _named() -> list[IPv4Network | IPv6Network]:
    text = get_settings().webhook_networks or ""
    return [ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip()]


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host.split("%")[0])
    except ValueError:
        pass
    try:
        # 2130706433, 0x7f.1, 127.1: what the C library takes for an address too
        return ip_address(socket.inet_aton(host))
    except OSError:
        return None


def _refused(detail: str) -> WebhookUrlRefused:
    return WebhookUrlRefused(detail, errors=[{"loc": ["body", "url"], "detail": detail}])
