"""Work in slices of a given time: what is done is kept, and the same command goes on."""

import time


class SliceOver(Exception):
    """The next epoch would not end within the slice."""


class Slice:
    """`seconds` of work from now on; None for as long as it takes."""

    def __init__(self, seconds: float | None = None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def room_for(self, seconds: float) -> None:
        """Raises SliceOver where work of about `seconds` would end after the slice."""
        if self._end is not None and time.monotonic() + seconds > self._end:
            raise SliceOver
