"""What a training tells whoever started it: a file with one JSON object a line, or nothing at all."""

import json
import time
from pathlib import Path
from typing import Any

from models.stages.place import Phase, Watch

_EVERY_S = 0.5


class Events:
    """`say(kind, **fields)` appends a line; kinds are told apart by `kind`.

    doing       what is being done: preparing, features, measuring, saving; share of it, eta_s
    progress    stage, member, epoch, epochs, step, steps, share of all epochs, eta_s
    metric      an epoch's values; stage, member, epoch, step
    checkpoint  stage, member, epochs done, path of the file
    notice      something was done otherwise than the recipe says, or figures are not what they seem
    failed      problem and detail
    done        folder of the release
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._told = -_EVERY_S

    def say(self, kind: str, **fields: Any) -> None:
        """Append one event; raises OSError where there is no room."""
        if self._path is not None:
            line = (json.dumps({"kind": kind, **fields}) + "\n").encode()
            with self._path.open("ab", buffering=0) as file:
                file.write(line)

    def now_and_then(self, kind: str, **fields: Any) -> None:
        """`say`, but not more than twice a second."""
        now = time.monotonic()
        if now - self._told >= _EVERY_S:
            self._told = now
            self.say(kind, **fields)

    def doing(self, what: str) -> Any:
        """A progress callback (done, total) for a piece of work that is no stage."""
        self.say("doing", doing=what, share=0.0)
        started = time.monotonic()

        def show(done: int, total: int) -> None:
            left = (time.monotonic() - started) * (total - done) / done if done else None
            eta_s = None if left is None else round(left, 1)
            self.now_and_then("doing", doing=what, share=round(done / max(total, 1), 4), eta_s=eta_s)

        return show


class Watched(Watch):
    """A trainer's steps and epochs as events, with the time left."""

    def __init__(self, events: Events, checkpoint: Path, notices: list[str]) -> None:
        self.events, self.checkpoint, self.notices = events, checkpoint, notices
        self.epochs: list[int] = []
        self._weights: list[float] = []
        self._started, self._first = time.monotonic(), -1.0
        self._step = 0

    def begin(self, epochs: list[int], images: list[int]) -> None:
        """`epochs` of each phase, in order, and how many images each of its epochs has."""
        self.epochs = epochs
        total = sum(e * i for e, i in zip(epochs, images, strict=True))
        self._weights = [i / total for i in images]

    def step(self, phase: Phase, number: int, epoch: int, step: int, steps: int) -> None:
        before = sum(e * w for e, w in zip(self.epochs[:number], self._weights, strict=False))
        share = before + (epoch + step / steps) * self._weights[number]
        if self._first < 0:
            self._first, self._started = share, time.monotonic()
        passed = time.monotonic() - self._started
        left = passed * (1 - share) / (share - self._first) if share > self._first else None
        self._step = (epoch + 1) * steps
        self.events.now_and_then(
            "progress",
            doing="training",
            stage=phase.stage,
            member=phase.member,
            epoch=epoch,
            epochs=self.epochs[number],
            step=step,
            steps=steps,
            share=round(share, 4),
            eta_s=None if left is None else round(left, 1),
        )

    def epoch(self, phase: Phase, epoch: int, values: dict[str, float]) -> None:
        """An epoch came to these values; `patches`, the number bought, is called S."""
        said = {"s" if key == "patches" else key: round(float(value), 6) for key, value in values.items()}
        self.events.say(
            "metric", stage=phase.stage, member=phase.member, epoch=epoch, step=self._step, values=said
        )

    def saved(self, phase: Phase, epochs: int) -> None:
        self.events.say(
            "checkpoint", stage=phase.stage, member=phase.member, epochs=epochs, path=str(self.checkpoint)
        )

    def notice(self, text: str) -> None:
        self.notices.append(text)
        self.events.say("notice", text=text)
