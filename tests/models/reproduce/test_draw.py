"""Figure 7 as it is drawn of the records that are committed, and of a few made up."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from models.reproduce.draw import draw
from models.reproduce.store import Store, read_table
from tests.conftest import checkout
from tests.models.reproduce.records import record


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Draws figure 7 of a store; the figure is what stands in the PNG."""
    close = plt.close
    monkeypatch.setattr(plt, "close", lambda _figure: None)

    def of(store: Store) -> Any:
        draw("fig7", store, torch.empty(0), tmp_path / "fig7.png")
        return plt.gcf()

    yield of
    close("all")


def paths(axis: Any) -> Iterator[NDArray[np.float64]]:
    """All that is drawn in an axis as lines of points, in pixels: (n, 2) each."""
    for line in axis.lines:
        points = axis.transData.transform(line.get_xydata())
        joined = line.get_linestyle() != "None"
        yield from [points] if joined else (point[None] for point in points)
    for collection in axis.collections:
        yield from (axis.transData.transform(segment) for segment in collection.get_segments())
    for bar in axis.patches:
        yield bar.get_transform().transform(bar.get_path().vertices)


def between(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Many points along a line of points."""
    at = np.linspace(0, len(points) - 1, 200 * len(points))
    return np.stack([np.interp(at, np.arange(len(points)), points[:, k]) for k in (0, 1)], axis=1)


@pytest.mark.parametrize("data", ["ucmerced", "cifar10", "resisc12"])
def test_no_legend_lies_on_what_is_drawn(drawn: Any, data: str) -> None:
    file = checkout() / "docs" / "results" / f"fig7-{data}.json"
    figure = drawn(Store(file, read_table(file)[0]))
    for axis in figure.axes:
        box = axis.get_legend().get_window_extent()
        for points in map(between, paths(axis)):
            inside = (points > box.p0).all(axis=1) & (points < box.p1).all(axis=1)
            assert not inside.any(), axis.get_title()


def test_accuracies_are_points_of_ten_tiles_or_more(drawn: Any, tmp_path: Path) -> None:
    store = Store(tmp_path / "fig7-made.json", {"data": "made"})
    one = record(0, [99], [0], s=9)
    many = record(1, list(range(30)), [1] * 27 + [0] * 3, s=2)
    # the rows of both parts as one: thirty tiles with S = 2 and a single one with S = 9, which was wrong
    store.records = [one, many]
    left = drawn(store).axes[0]
    [points] = [line for line in left.lines if len(line.get_xdata()) and line.get_marker() == "o"]
    assert points.get_linestyle() == "None"
    assert [round(x) for x in points.get_xdata()] == [2]
    assert points.get_ydata() == pytest.approx([90])
    heights = {round(bar.get_x()): bar.get_height() for bar in left.patches}
    assert heights == pytest.approx({2: 3000 / 31, 9: 100 / 31})
