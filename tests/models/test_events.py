"""What a trainer tells of its progress."""

import json
from pathlib import Path

import pytest

from models.events import Events, Watched
from models.stages.place import Phase


def test_what_is_no_stage_has_an_end_in_sight_too(tmp_path: Path) -> None:
    show = Events(tmp_path / "events").doing("features")
    show(1, 4)
    begun, shown = (json.loads(line) for line in (tmp_path / "events").read_text().splitlines())
    assert (begun["doing"], begun["share"]) == ("features", 0.0)
    assert shown["share"] == 0.25
    assert shown["eta_s"] >= 0


def test_the_share_that_is_done_counts_images(tmp_path: Path) -> None:
    """A shadow learns from a part of the images, so its epochs are shorter."""
    file = tmp_path / "events"
    watch = Watched(Events(file), tmp_path / "checkpoint", [])
    watch.begin([2, 4], [100, 25])
    watch.step(Phase("hr", 0), 0, 1, 5, 10)
    watch.epoch(Phase("hr", 0), 1, {"patches": 1.5})
    watch.events = Events(file)
    watch.step(Phase("hr", 1), 1, 2, 10, 10)
    first, metric, second = (json.loads(line) for line in file.read_text().splitlines())
    assert first["share"] == pytest.approx(150 / 300)
    assert (first["epoch"], first["epochs"], first["step"], first["steps"]) == (1, 2, 5, 10)
    assert first["eta_s"] is None
    assert second["share"] == pytest.approx(275 / 300, abs=1e-4)
    assert second["eta_s"] is not None
    assert metric["values"] == {"s": 1.5}
