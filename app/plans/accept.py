"""Which of the media types a route can give a client likes best (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence
from typing import Final

from app.core.errors import NotAcceptable

JSON: Final = "application/json"
GEOJSON: Final = "application/geo+json"


def best_of(accept: str | None, offered: Sequence[str]) -> str:
    """The offered type of the highest quality; of equals the first offered. Raises NotAcceptable for none."""
    if accept is None or not accept.strip():
        return offered[0]
    ranges = [_read(part) for part in accept.split(",") if part.strip()]
    best = max(offered, key=lambda kind: (_quality(kind, ranges), -list(offered).index(kind)))
    if _quality(best, ranges) <= 0:
        raise NotAcceptable(f"This can be given as {' or '.join(offered)}.")
    return best


def _read(part: str) -> tuple[str, float]:
    kind, *parameters = (piece.strip() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                quality = min(max(float(value), 0.0), 1.0)
            except ValueError:
                quality = 0.0
    return kind.lower(), quality


def _quality(kind: str, ranges: Sequence[tuple[str, float]]) -> float:
    """Of the ranges that match, the most specific one decides."""
    family = kind.split("/")[0] + "/*"
    for pattern in (kind, family, "*/*"):
        found = [quality for wanted, quality in ranges if wanted == pattern]
        if found:
            return max(found)
    return 0.0
