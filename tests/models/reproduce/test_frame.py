"""Records, pooling, choices and protocols, apart from any paper's row."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from models import statistics
from models.data.degrade import low_resolution, to_px
from models.data.source import UnreadableImageError
from models.data.sources import open_source
from models.reproduce import choosing, headline, paper
from models.reproduce.answers import Answers, Kept
from models.reproduce.pooled import accuracy, by_image, difference, mean_s
from models.reproduce.profiles import load_profile
from models.reproduce.protocol import fewer, protocol
from models.reproduce.rows import ROWS
from models.reproduce.store import Store, read_table
from models.reproduce.study import images_at, name_of, open_study, usual_px
from models.reproduce.write import of, page
from models.stages.draws import Draws
from tests.models.reproduce.records import record
from tests.models.scenes import write_scenes


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_what_is_kept_comes_back_as_it_was(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = np.sort(rng.choice(100_000, n, replace=False))
    kept = Kept(images, rng.random(n) < 0.5, rng.random((n, 16)) < 0.3)
    back = Kept.from_json(kept.to_json())
    assert np.array_equal(back.images, kept.images)
    assert np.array_equal(back.right, kept.right)
    assert np.array_equal(back.actions, kept.actions)
    assert np.array_equal(back.s, kept.actions.sum(axis=1))


def test_right_is_the_likeliest_class() -> None:
    told = Answers(torch.tensor([[0.2, 0.8], [0.9, 0.1]]), torch.ones(2, 16))
    assert told.kept(np.array([1, 1]), np.array([3, 5])).right.tolist() == [True, False]


@given(st.floats(0, 16))
def test_survival_decays_from_the_centre_and_sums_to_s(s: float) -> None:
    chances = choosing.survival(s)
    assert float(chances.sum()) == pytest.approx(s, abs=1e-3)
    assert float(chances.min()) >= 0
    assert float(chances.max()) <= 1
    centre, edge, corner = (float(chances[p]) for p in (5, 1, 0))
    assert centre >= edge >= corner


def test_the_fixed_orders_name_every_patch_once() -> None:
    assert sorted(choosing.FIXED_H) == sorted(choosing.FIXED_V) == list(range(16))
    assert choosing.first(choosing.FIXED_H, 3, 2).nonzero()[:, 1].tolist() == [5, 6, 9, 5, 6, 9]


@given(st.integers(0, 16), st.integers(0, 2**31))
def test_choices_take_exactly_s(s: int, seed: int) -> None:
    draws = Draws(seed, 0, 0, 0, np.arange(5))
    assert choosing.uniform(s, draws, 5).sum(dim=1).tolist() == [s] * 5
    scores = torch.rand(5, 16, generator=torch.Generator().manual_seed(seed))
    taken = choosing.top(scores, s)
    assert taken.sum(dim=1).tolist() == [s] * 5
    if 0 < s < 16:
        assert (
            scores.masked_fill(taken == 0, 2).amin(dim=1) >= scores.masked_fill(taken > 0, -1).amax(dim=1)
        ).all()


def test_stochastic_takes_s_on_average() -> None:
    draws = Draws(0, 0, 0, 0, np.arange(4000))
    assert float(choosing.stochastic(6, draws, 4000).sum(dim=1).mean()) == pytest.approx(6, abs=0.15)


def test_an_image_held_out_twice_counts_once() -> None:
    records = [record(0, [1, 2], [1, 0], 2), record(1, [2, 3], [1, 1], 4)]
    assert by_image([r.kept for r in records], lambda k: k.right).tolist() == [1, 0.5, 1]
    assert accuracy(records)["value"] == pytest.approx(2.5 / 3, abs=1e-5)
    assert mean_s(records)["value"] == pytest.approx((2 + 3 + 4) / 3, abs=1e-5)


def test_all_right_is_not_surely_all_right() -> None:
    low, high = accuracy([record(0, list(range(50)), [1] * 50)])["ci95"]
    assert 0.9 < low < 0.95
    assert high == 1


def test_rows_of_other_lengths_are_not_compared(tmp_path: Path) -> None:
    store = Store(tmp_path / "table1-d.json", {"data": "d"})
    ours = [record(0, [1, 2], [1, 1], length="gpu")]
    store.add([*ours, record(0, [1, 2], [1, 0], row="hr-cnn"), record(0, [1, 2], [1, 0])])
    assert of(store, "ours", "", 4) == ours
    assert of(store, "hr-cnn", "", 4, ours) == []
    assert len(of(store, "hr-cnn", "", 4)) == 1
    assert headline.write(tmp_path).read_text().count("d, ds 4") == 0


def test_a_whole_image_is_answered_by_the_other() -> None:
    found, whole = record(0, [1, 2, 3], [1, 0, 0]).kept, record(0, [1, 2, 3], [0, 1, 1], 16).kept
    assert found.whole_by(whole).right.tolist() == [True, False, False]
    found.actions[1] = True
    joined = found.whole_by(whole)
    assert joined.right.tolist() == [True, True, False]
    assert joined.s.tolist() == [4, 16, 4]
    with pytest.raises(ValueError, match="same images"):
        found.whole_by(record(0, [1, 2, 9], [1, 1, 1]).kept)


def test_differences_are_paired_and_of_common_parts_only() -> None:
    ours = [record(0, [1, 2, 3], [1, 1, 0]), record(1, [4], [1])]
    hr = [record(0, [1, 2, 3], [1, 0, 0], row="hr-cnn")]
    less = difference(ours, hr)
    assert less is not None
    assert less["value"] == pytest.approx(1 / 3, abs=1e-5)
    assert difference(ours, [record(7, [1], [1])]) is None
    # itself it never differs from; another row that has not differed yet may
    assert difference(ours, ours) == {"value": 0.0, "ci95": [0.0, 0.0]}
    alike = [replace(r, row="alike") for r in ours]
    assert difference(ours, alike) == statistics.difference(np.zeros(4))
    with pytest.raises(ValueError, match="same images"):
        difference(ours, [record(0, [1, 2, 9], [1, 1, 1])])


def test_stages_that_came_later_are_stages_of_their_row() -> None:
    for row in ROWS.values():
        assert set(row.added) < set(row.stages)
        assert row.stages[0] == row.finished[0]


def test_a_store_finds_what_other_tables_made_and_keeps_both_lengths(tmp_path: Path) -> None:
    one = Store(tmp_path / "table1-d.json", {"data": "d"})
    one.add([record(0, [1, 2], [1, 0], stage="cost 60"), record(0, [1, 2], [1, 0])])
    two = Store(tmp_path / "fig7-d.json", {"data": "d"})
    assert [r.stage for r in two.find("ours", 4, 0, "key", ("",))] == ["", "cost 60"]
    assert two.find("ours", 4, 0, "other settings", ("",)) == []
    assert two.find("ours", 4, 0, "key", ("", "cost 10")) == []
    before = (tmp_path / "table1-d.json").read_bytes()
    one.add([record(0, [1, 2], [1, 0])])
    assert (tmp_path / "table1-d.json").read_bytes() == before


def test_a_name_with_brackets_has_neighbours_too(tmp_path: Path) -> None:
    Store(tmp_path / "table1-a[1].json", {"data": "a[1]"}).add([record(0, [1, 2], [1, 0])])
    assert Store(tmp_path / "fig7-a[1].json", {"data": "a[1]"}).find("ours", 4, 0, "key", ("",))


def test_a_folder_is_called_by_its_whole_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("scenes-v1.0", "scenes-v1.1"):
        (tmp_path / name).mkdir()
        assert name_of(tmp_path / name) == name
    (tmp_path / "scenes.tar").touch()
    assert name_of(tmp_path / "scenes.tar") == "scenes"
    (tmp_path / "eurosat").symlink_to(tmp_path / "scenes-v1.0")
    assert name_of(tmp_path / "eurosat") == "eurosat"
    monkeypatch.chdir(tmp_path / "scenes-v1.0")
    assert name_of(Path()) == "scenes-v1.0"


def test_records_of_other_pictures_of_the_same_name_are_not_mixed_in(tmp_path: Path) -> None:
    file = tmp_path / "table1-d.json"
    Store(file, {"data": "d", "data_sha256": "a"}).add([record(0, [1, 2], [1, 0])])
    again = Store(file, {"data": "d", "data_sha256": "a"})
    assert len(again.records) == 1
    other = Store(file, {"data": "d", "data_sha256": "b"})
    assert other.records == []
    beside = Store(tmp_path / "fig7-d.json", {"data": "d", "data_sha256": "b"})
    assert beside.find("ours", 4, 0, "key", ("",)) == []
    other.add([record(0, [7, 8, 9], [1, 0, 1], row="hr-cnn")])
    kept = Store(file, {"data": "d", "data_sha256": "b"}).records
    assert [(r.row, len(r.kept.images)) for r in kept] == [("hr-cnn", 3)]
    assert Store(file, {"data": "d", "data_sha256": "b"}, rows=("ours",)).records == []


def test_fewer_images_have_pages_of_their_own(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", per_class=90)
    names = {
        length: open_study(tmp_path / "scenes", length, tmp_path / length).name for length in ("smoke", "cpu")
    }
    limit = load_profile("cifar", "smoke").limit
    assert 2 * limit < 270
    assert names == {"smoke": f"scenes-{limit}", "cpu": "scenes"}


def test_two_that_write_one_file_lose_nothing(tmp_path: Path) -> None:
    first, second = (Store(tmp_path / "table1-d.json", {"data": "d"}) for _ in range(2))
    first.add([record(0, [1, 2], [1, 0])])
    second.add([record(1, [3, 4], [1, 1])])
    first.add([record(0, [1, 2], [1, 1], row="hr-cnn")])
    there = Store(tmp_path / "table1-d.json", {"data": "d"}).records
    assert {(r.row, r.part) for r in there} == {("ours", 0), ("ours", 1), ("hr-cnn", 0)}
    assert {(r.row, r.part) for r in first.records} == {("ours", 0), ("ours", 1), ("hr-cnn", 0)}


def test_what_is_outdated_is_judged_at_every_writing(tmp_path: Path) -> None:
    """A run that is killed, or has another beside it, leaves no mark at what was just made again."""
    store = Store(tmp_path / "table1-d.json", {"data": "d"})
    store.judge = lambda: sorted({(r.row, r.ds, r.profile) for r in store.records if r.key == "old"})
    old = [replace(record(0, [1], [1], row=row), key="old") for row in ("ours", "hr-cnn")]
    store.add(old)
    assert read_table(store.file)[0]["outdated"] == [["hr-cnn", 4, "cpu"], ["ours", 4, "cpu"]]
    store.add([record(0, [1], [1], row="ours")])
    assert read_table(store.file)[0]["outdated"] == [["hr-cnn", 4, "cpu"]]


def test_who_writes_at_the_same_time_waits(tmp_path: Path) -> None:
    """Each with a handle of its own, as processes have."""

    def fill(part: int) -> None:
        store = Store(tmp_path / "table1-d.json", {"data": "d"})
        for image in range(15):
            store.add([record(part, [image], [1], row=f"row {image}")])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fill, range(4)))
    there = Store(tmp_path / "table1-d.json", {"data": "d"}).records
    assert len({(r.row, r.part) for r in there}) == 60


def test_the_papers_figures_stand_beside_the_ds_that_they_are_of(tmp_path: Path) -> None:
    told = {
        "seed": 0,
        "processor": "a processor",
        "threads": 1,
        "precision": "fp32",
        "epochs": {"hr": 1},
        "of_the_papers": {"hr": 0.1},
    }
    head = {"data": "fmow", "command": "reproduce", "protocol": "", "images": 2, "classes": 62, "parts": 1}
    one = replace(record(0, [1, 2], [1, 0], row="lr-cnn"), told=told)
    store = Store(tmp_path / "table1-fmow.json", head)
    store.add([one, replace(one, ds=8)])
    first, second = page(store, "table1").split("## ds ")[1:]
    assert "61.4 at 0" in first
    assert "paper, %, at S" in first
    assert second.startswith("8")
    assert "61.4" not in second
    assert "paper, %" not in second


def test_an_lr_image_finer_than_the_recipes_keeps_its_pixels() -> None:
    images = load_profile("cifar", "smoke").paper.images
    hr = torch.rand(4, 3, 32, 32) * 255
    apart = {}
    for ds in (2, 4, 8):
        here = images_at(images, ds)
        lr = low_resolution(hr, ds, here.lr_px)
        apart[ds] = float((to_px(lr, 32) - hr).abs().mean())
    assert images_at(images, 2).lr_px == 16
    assert images_at(images, 4) == images
    assert apart[2] < apart[4] < apart[8]


def test_one_odd_picture_does_not_say_what_the_data_set_is(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "scenes", per_class=4)
    pictures = sorted(folder.rglob("*.png"))
    for file in pictures:
        Image.new("RGB", (100, 90)).save(file)
    pictures[0].write_bytes(b"no picture")
    Image.new("RGB", (20, 20)).save(pictures[1])
    source = open_source(folder, check="none")
    assert usual_px(source) == 100
    for file in pictures:
        file.write_bytes(b"no picture")
    with pytest.raises(UnreadableImageError):
        usual_px(open_source(folder, check="none"))


@pytest.mark.parametrize(
    ("name", "classes", "which"),
    [
        ("cifar10", 10, "cifar10"),
        ("cifar-10-batches-py", 10, "cifar10"),
        ("cifar-100-python", 100, "cifar100"),
        ("CIFAR10-4000", 10, "cifar10"),
        ("fmow-rgb", 62, "fmow"),
        ("ILSVRC2012", 1000, "imagenet"),
        ("imagenette", 10, ""),
        ("ucmerced", 21, ""),
        ("cifar10", 2, ""),
        ("imagenet-mini", 4, ""),
    ],
)
def test_the_papers_data_sets_are_known_by_their_names_and_classes(
    name: str, classes: int, which: str
) -> None:
    head = {"data": name, "classes": classes}
    assert paper.data_set(head) == which
    assert bool(paper.printed(head)) == bool(which)


def test_folds_hold_out_every_image_once(tmp_path: Path) -> None:
    source = open_source(write_scenes(tmp_path / "scenes", per_class=10))
    found = protocol(source)
    assert found.folds
    assert sorted(itertools.chain(*(p.tests.tolist() for p in found.parts))) == list(range(30))
    for number, part in enumerate(found.parts):
        assert part.seed == number
        assert not set(part.learns) & set(part.tests)
        assert len(part.learns) + len(part.tests) == 30


def test_fewer_images_keep_all_classes(tmp_path: Path) -> None:
    source = open_source(write_scenes(tmp_path / "scenes", per_class=10))
    some = fewer(source, 6)
    assert np.bincount(some.labels).tolist() == [4, 4, 4]
    assert fewer(source, 0) is source
