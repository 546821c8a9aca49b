"""fMoW's layout: boxes, context, splits and its oddities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data.fmow import CLASSES, Box, context_share, crop_window
from models.data.sources import DataError, open_source
from models.data.splits import keep_together
from tests.models.data.fmow_tree import class_colours, describe, write_fmow_tree
from tests.models.data.pictures import encode, write


def frame(folder: Path, name: str, boxes: Any, *, size: tuple[int, int] = (100, 200)) -> None:
    """A black picture of (height, width) with its left half white, and its JSON."""
    height, width = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2] = 255
    write(folder / f"{name}_rgb.jpg", encode(pixels, "PNG"))
    write(folder / f"{name}_rgb.json", json.dumps(describe(boxes, width, height, 0)).encode())


def box(*sides: float, category: str | None = "port", serial: int = 0) -> dict[str, Any]:
    named = {} if category is None else {"category": category}
    return {"ID": serial, "box": list(sides), **named}


def test_the_label_order_is_the_published_one() -> None:
    assert len(CLASSES) == 62
    assert list(CLASSES) == sorted(CLASSES)


@pytest.mark.parametrize(
    ("share", "added"),
    [
        (0.0, 2), (0.099, 2), (0.1, 1), (0.199, 1), (0.2, 0.5), (0.299, 0.5), (0.3, 0.3), (0.399, 0.3),
        (0.4, 0.2), (0.499, 0.2), (0.5, 0.15), (1.0, 0.15), (1.2, 0.15),
    ],
)  # fmt: skip
def test_context_by_share_of_the_image(share: float, added: float) -> None:
    assert context_share(share) == added


def test_each_side_has_its_own_context_and_is_clipped() -> None:
    # 80 of 200 px wide (0.4): 16 px added; 10 of 100 px high (0.1): 10 px added; half on each side.
    assert crop_window(Box("x", 50, 40, 80, 10), 200, 100) == (42, 35, 138, 55)
    assert crop_window(Box("x", 0, 0, 200, 100), 200, 100) == (0, 0, 200, 100)
    assert crop_window(Box("x", 185, 2, 15, 10), 200, 100) == (170, 0, 200, 17)


@given(st.integers(1, 400), st.integers(1, 400), st.data())
def test_windows_hold_their_box_and_stay_inside(width: int, height: int, data: st.DataObject) -> None:
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    across, down = data.draw(st.integers(1, width - left)), data.draw(st.integers(1, height - top))
    x0, y0, x1, y1 = crop_window(Box("x", left, top, across, down), width, height)
    assert 0 <= x0 <= left
    assert left + across <= x1 <= width
    assert 0 <= y0 <= top
    assert top + down <= y1 <= height


def test_a_drawn_tree_of_all_classes(tmp_path: Path) -> None:
    source = open_source(write_fmow_tree(tmp_path / "fmow", per_class=2, seed=5))
    assert source.classes == CLASSES
    assert len(source) == 62 * 3
    assert source.splits is not None
    assert source.skipped.counts == {"boxes without category": 2, "_msrgb pictures": 124}
    train = open_source(tmp_path / "fmow", split="train")
    assert np.bincount(train.labels).tolist() == [2] * 62
    for i in (0, 61, 123):
        ground, _ = class_colours(int(train.labels[i]))
        assert np.abs(np.median(train.read(i), axis=(0, 1)) - ground).max() < 30
    again = open_source(write_fmow_tree(tmp_path / "again", per_class=2, seed=5))
    assert again.digest() == source.digest()


def test_frames_of_one_place_belong_together(tmp_path: Path) -> None:
    source = open_source(write_fmow_tree(tmp_path, per_class=4, seed=1), split="train")
    groups = keep_together(source)
    assert len(np.unique(groups)) == 62 * 2
    together = {(source.ids[i].split("/")[2], int(g)) for i, g in enumerate(groups)}
    assert len(together) == 62 * 2


def test_boxes_that_are_not_used_are_counted(tmp_path: Path) -> None:
    place = tmp_path / "val/port/port_1"
    frame(place, "port_1_0", box(10, 10, 50, 50))
    frame(place, "port_1_1", [box(0, 0, 2, 50), box(0, 0, 50, 2), box(0, 0, 3, 3, serial=7)])
    frame(place, "port_1_2", [box(0, 0, 50, 50, category="false_detection"), box(0, 0, 9, 9, category=None)])
    frame(tmp_path / "test/0001", "0001_0", [box(0, 0, 9, 9, category=None)])
    write(place / "port_1_3_rgb.jpg", encode(np.zeros((4, 4, 3), np.uint8)))
    write(place / "._port_1_0_rgb.jpg", b"\0\5\x16\7")
    source = open_source(tmp_path)
    assert source.ids == ("val/port/port_1/port_1_0_rgb.jpg", "val/port/port_1/port_1_1_rgb.jpg#2")
    assert source.labels.tolist() == [CLASSES.index("port")] * 2
    assert source.skipped.counts == {
        "boxes of 2 px or less": 2,
        "boxes of false_detection": 1,
        "boxes without category": 2,
        "pictures without JSON": 1,
    }


def test_the_crop_is_taken_from_the_picture_itself(tmp_path: Path) -> None:
    # The picture's own size counts, here half of what its JSON says.
    frame(tmp_path / "train/port/port_0", "port_0_0", [box(50, 20, 100, 60)])
    described = tmp_path / "train/port/port_0/port_0_0_rgb.json"
    described.write_text(described.read_text().replace('"img_width": 200', '"img_width": 400'))
    cut = open_source(tmp_path).read(0)
    assert cut.shape == (60 + 2 * 4, 100 + 2 * 7, 3)
    assert (cut[:, :57] == 255).all()
    assert (cut[:, 57:] == 0).all()


def test_broken_json_and_boxes_outside_are_listed(tmp_path: Path) -> None:
    place = tmp_path / "train/zoo/zoo_0"
    frame(place, "zoo_0_0", box(10, 10, 50, 50, category="zoo"))
    for i, text in enumerate(
        ('{"bounding_boxes": [', "{}", '{"bounding_boxes": [{"box": [1, 2, 3], "category": "zoo"}]}')
    ):
        frame(place, f"zoo_0_{i + 1}", [])
        (place / f"zoo_0_{i + 1}_rgb.json").write_text(text)
    frame(place, "zoo_0_9", box(500, 10, 50, 50, category="zoo"))
    source = open_source(tmp_path, max_unreadable=4)
    assert len(source) == 1
    assert len(source.skipped.unreadable) == 4
    assert "lies outside" in source.skipped.unreadable[-1][1]
    with pytest.raises(DataError, match="more than 3"):
        open_source(tmp_path)


def test_an_unknown_category_is_an_error(tmp_path: Path) -> None:
    frame(tmp_path / "train/castle/castle_0", "castle_0_0", box(1, 1, 9, 9, category="castle"))
    with pytest.raises(DataError, match="'castle' is none of the 62"):
        open_source(tmp_path)


@pytest.mark.parametrize("root", ["", "groundtruth/"])
def test_the_ground_truth_of_test_is_joined_by_its_mapping(tmp_path: Path, root: str) -> None:
    frame(tmp_path / "test/0011978", "0011978_3", [box(10, 10, 40, 40, category=None)])
    frame(tmp_path / "test/0000002", "0000002_0", [box(10, 10, 40, 40, category=None)])
    labelled = [box(0, 0, 200, 100, category="zoo", serial=-1), box(10, 10, 50, 50, category="zoo", serial=1)]
    truth = json.dumps(describe(labelled, 200, 100, 0)).encode()
    write(tmp_path / root / "test_gt/zoo/zoo_7/zoo_7_3_rgb.json", truth)
    mapping = [{"input": "test_gt/zoo/zoo_7", "output": "test/0011978"}]
    write(tmp_path / root / "test_gt_mapping.json", json.dumps(mapping).encode())
    source = open_source(tmp_path)
    assert source.ids == ("test/0011978/0011978_3_rgb.jpg#1",)
    assert [source.classes[k] for k in source.labels] == ["zoo"]
    assert source.splits == ("test",)
    assert source.skipped.counts == {"boxes of the ID -1": 1, "boxes without category": 1}


def test_a_broken_mapping_is_an_error(tmp_path: Path) -> None:
    frame(tmp_path / "train/zoo/zoo_0", "zoo_0_0", [box(1, 1, 9, 9, category="zoo")])
    write(tmp_path / "test_gt_mapping.json", b'{"input": 1}')
    with pytest.raises(DataError, match="no list of input and output"):
        open_source(tmp_path)
