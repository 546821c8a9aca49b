"""What a person sees of the demo: steps as they happen, then a table."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Json = dict[str, Any]


class Screen:
    """Lines of progress with the seconds they took; a turning sign meanwhile where a terminal shows it."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)

    @contextmanager
    def step(self, text: str) -> Iterator[Callable[[str], None]]:
        """Say what is being done, and when it is done, how long it took; yields what says how far it is."""
        started = time.monotonic()
        if not self._console.is_terminal:
            self._console.print(f"  {escape(text)} ...", soft_wrap=True)
        with self._console.status(escape(text)) as status:
            yield lambda far: status.update(escape(f"{text} ({far})"))
        if self._console.is_terminal:
            self._console.print(f"  {escape(text)} [dim]{time.monotonic() - started:.1f} s[/dim]")

    def say(self, text: str) -> None:
        """One line, or several."""
        self._console.print(escape(text), soft_wrap=True)

    def heading(self, text: str) -> None:
        """The name of a scene."""
        self._console.print(f"\n[bold]{escape(text)}[/bold]")

    def table(self, plan: Json, classification: Json, sent: Mapping[int, int]) -> None:
        """One row a tile; ``sent`` counts the patches received, by tile."""
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for title, side in (("tile", "right"), ("chosen", "right"), ("received", "right")):
            table.add_column(title, justify=side)  # type: ignore[arg-type]
        for title in ("what is there", "", "from LR alone", ""):
            table.add_column(title, justify="left" if title else "right")
        chosen = {tile["tile"]: len(tile["chosen"]) for tile in plan["tiles"]}
        for tile in classification["tiles"]:
            number = tile["tile"]
            counts = f"{chosen[number]} of 16", str(sent.get(number, 0))
            table.add_row(str(number), *counts, *_said(tile), *_said(tile["streams"]["lr"]))
        self._console.print(table)


def _said(answer: Json | None) -> tuple[str, str]:
    if answer is None or answer["class"] is None:
        return "-", ""
    return escape(answer["class"]), f"{answer['probability']:.0%}"
