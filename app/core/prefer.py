"""``Prefer: wait=N`` (RFC 7240, section 4.3): how long a client likes to wait before a 202."""

import re
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header

from app.core.settings import get_settings

# A preference is a token, optionally "=" a token or quoted string, and parameters that wait does not have.
_WAIT = re.compile(r'\s*wait\s*=\s*"?\s*(\d{1,9})\s*"?\s*(?:;.*)?', re.ASCII | re.IGNORECASE | re.DOTALL)
_RESPOND_ASYNC = re.compile(r"\s*respond-async\s*(?:;.*)?", re.ASCII | re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Wait:
    """Seconds to wait for the answer, and what to say of it in ``Preference-Applied`` (None: nothing)."""

    seconds: float
    applied: str | None

    @property
    def headers(self) -> dict[str, str]:
        """The answer's header, if the client's wish was heeded."""
        return {} if self.applied is None else {"Preference-Applied": self.applied}


def parse_wait(prefer: list[str] | None, default_s: float, most_s: float) -> Wait:
    """The first ``wait`` of all Prefer headers, capped at ``most_s``; ``respond-async`` alone does not wait.

    A preference that cannot be read is ignored, as the RFC asks: it is a wish, never an error.
    """
    wishes = [wish for line in prefer or [] for wish in line.split(",")]
    for wish in wishes:
        match = _WAIT.fullmatch(wish)
        if match:
            seconds = min(int(match.group(1)), int(most_s))
            return Wait(float(seconds), f"wait={seconds}")
    if any(_RESPOND_ASYNC.fullmatch(wish) for wish in wishes):
        return Wait(0.0, "respond-async")
    return Wait(min(default_s, most_s), None)


def _wait(
    prefer: Annotated[
        list[str] | None,
        Header(
            description="`wait=N`: answer within N seconds, finished or not (RFC 7240). Default 5, most 60",
            examples=[["wait=10"]],
        ),
    ] = None,
) -> Wait:
    settings = get_settings()
    return parse_wait(prefer, settings.wait_default_s, settings.wait_max_s)


WaitDep = Annotated[Wait, Depends(_wait)]
