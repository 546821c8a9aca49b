"""A progress line with the time left, on standard error: redrawn on a terminal, now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self


class Progress:
    """`with Progress("training") as p: p.show(3, 10, "loss 0.4")`."""

    def __init__(self, title: str, every_s: float = 15.0) -> None:
        self.title, self.every_s = title, every_s
        self.started = self.shown = time.monotonic()
        self.live = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live:
            print(file=sys.stderr)

    def show(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` equal pieces are finished."""
        now = time.monotonic()
        if not self.live and done < total and now - self.shown < self.every_s:
            return
        self.shown = now
        left = (now - self.started) / max(done, 1) * (total - done)
        filled = round(24 * done / max(total, 1))
        line = (
            f"{self.title} [{'#' * filled}{'.' * (24 - filled)}] {done}/{total}, {_clock(left)} left  {note}"
        )
        print(
            f"\r\033[K{line}" if self.live else line,
            end="" if self.live else "\n",
            file=sys.stderr,
            flush=True,
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
