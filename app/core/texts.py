"""Values as they are written where no JSON encoder writes them."""

from datetime import UTC, datetime
from typing import Final

RUN: Final = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins so is a formula to spreadsheets."""


def unrun(text: str) -> str:
    """A stranger's text as a cell of a CSV that no spreadsheet runs."""
    return "'" + text if text.startswith(RUN) else text


def utc(time: datetime) -> str:
    """A time that has a zone as JSON answers have it: UTC, with `Z`."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
