"""Figures of a card and of a comparison: curves, calibration, paired tests, the held-out images."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from math import comb
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import curves, evaluate, statistics
from models.calibration import calibration
from models.card import Card
from models.comparison import compare, verdict
from models.data.decode import load_square
from models.data.degrade import low_resolution
from models.data.heldout import Learned, held_out, inherited_seed, learned_from
from models.data.source import Source
from models.data.sources import open_source
from models.evaluate import Outcome
from models.page import model_page
from models.paired import bootstrap, holm, mcnemar
from models.provenance import commit
from models.release import Release, save, tiny_release
from models.system import System
from tests.models.scenes import CLASSES, tiny_recipe, write_scenes


def outcome(fused: list[bool], s: list[int], label: list[int] | None = None) -> Outcome:
    n = len(fused)
    right = np.array(fused)
    return Outcome(
        right, right, right, np.array(s), np.array(label or [0] * n), np.full(n, 0.5, np.float32),
        np.zeros((n, 0), bool),
    )  # fmt: skip


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_binomial(b: int, c: int) -> None:
    n = b + c
    exact = min(1.0, 2 * sum(comb(n, k) for k in range(min(b, c) + 1)) / 2**n)
    assert mcnemar(b, c) == pytest.approx(exact, rel=1e-9)
    assert mcnemar(b, c) == mcnemar(c, b)


def test_mcnemar_of_many_images_neither_overflows_nor_vanishes() -> None:
    assert mcnemar(100_000, 100_000) == 1.0
    assert 0 < mcnemar(5200, 4800) < 1e-4


def test_the_bootstrap_finds_a_shift_and_no_shift() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, 400)
    shifted = bootstrap(noise + 0.5)
    assert shifted["p"] < 0.001
    assert shifted["ci95"][0] < shifted["value"] < shifted["ci95"][1]
    assert bootstrap(noise - noise.mean())["p"] > 0.5
    # as far as five equal pairs can tell, like the accuracies that stand beside it
    assert bootstrap(np.zeros(5)) == {**statistics.difference(np.zeros(5)), "p": 1.0}


def test_two_that_never_differed_may_yet() -> None:
    """Of 30 images: the rule of three says 10 %."""
    found = statistics.difference(np.zeros(30))
    assert found == {"value": 0.0, "ci95": [-0.11351, 0.11351]}
    assert statistics.difference(np.array([1, 0, 0, -1])) == statistics.mean(np.array([1, 0, 0, -1]))
    right = outcome([True] * 30, [2] * 30)
    assert right.figures()["fused_minus_hr"] == found
    assert compare(right, right, ["a"])["accuracy"]["ci95"] == found["ci95"]


@pytest.mark.parametrize("n", [1, 30, 700])
def test_intervals_are_those_of_resamples_drawn_one_by_one(n: int) -> None:
    """To the last digit: published pages are made of them."""
    for values in (np.arange(n) % 3 - 1, np.arange(n) % 17, np.arange(n) % 7 / 3):
        rng = np.random.default_rng(0)
        means = [values[rng.integers(0, n, n)].mean() for _ in range(10_000)]
        low, high = np.quantile(means, [0.025, 0.975])
        assert statistics.mean(values) == statistics.figure(values.mean(), low, high)


def test_intervals_of_as_many_images_as_imagenet_has_take_no_memory() -> None:
    rng = np.random.default_rng(2)
    differences = (rng.random(60_000) < 0.05).astype(int) - (rng.random(60_000) < 0.06)
    tracemalloc.start()
    found, again = statistics.mean(differences), bootstrap(differences)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20e6
    assert (found["value"], found["ci95"]) == (again["value"], again["ci95"])
    off = 1.96 * differences.std() / 60_000**0.5
    assert found["ci95"] == pytest.approx([found["value"] - off, found["value"] + off], abs=off / 20)
    assert again["p"] < 0.001
    assert bootstrap(differences - np.roll(differences, 1))["p"] > 0.5


def test_under_no_difference_few_are_called_different() -> None:
    rng = np.random.default_rng(1)
    found = [bootstrap(rng.normal(0, 1, 60), seed=k)["p"] < 0.05 for k in range(60)]
    assert sum(found) <= 9


def test_holm_looks_at_all_together() -> None:
    assert holm({"a": 0.02, "b": 0.04}) == {"a", "b"}
    assert holm({"a": 0.03, "b": 0.04}) == set()
    assert holm({"a": 0.01, "b": 0.04, "c": 0.6}) == {"a"}


def test_calibration_counts_as_guo_et_al_do() -> None:
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55, np.nan], np.float32)
    right = np.array([True, True, True, False, True, False, True])
    found = calibration(confidence, right, bins=10)
    assert found["n"] == 6
    assert found["ece"] == pytest.approx(4 / 6 * 0.2 + 2 / 6 * 0.05, abs=1e-5)
    assert [(b["n"], b["accuracy"]) for b in found["bins"]] == [(2, 0.5), (4, 0.75)]
    assert calibration(np.array([np.nan]), np.array([False]))["ece"] is None
    edges = calibration(np.array([0.0, 1.0]), np.array([False, True]))
    assert edges["ece"] == 0


def test_likeliest_takes_k_and_the_first_of_equals() -> None:
    s = torch.tensor([[0.1, 0.9, 0.9, 0.2]])
    assert curves.likeliest(s, 1).tolist() == [[0, 1, 0, 0]]
    assert curves.likeliest(s, 3).tolist() == [[0, 1, 1, 1]]
    assert curves.likeliest(s, 0).sum() == 0
    assert curves.points(16) == (0, 1, 2, 4, 8, 16)
    assert curves.points(4) == (0, 1, 2, 4)


@pytest.mark.parametrize("streams", ["hr", "hr+lr"])
def test_the_curve_ends_in_what_none_and_all_patches_give(tmp_path: Path, streams: str) -> None:
    tiny_release(tmp_path / "r", list(CLASSES), streams=streams)
    release = Release.load(tmp_path / "r")
    source = open_source(write_scenes(tmp_path / "scenes", per_class=6))
    images, labels = load_square(source, px=32), torch.from_numpy(source.labels)
    found = evaluate.outcomes(release, images, labels, [2], curve=True)[2]
    lr = low_resolution(images.float(), 2, 16).numpy()
    for column, bought in ((0, False), (-1, True)):
        answer = release.classify(lr, images.numpy(), np.full((18, 16), bought))
        right = np.nan_to_num(answer.fused).argmax(axis=1) == source.labels
        assert np.array_equal(found.curve[:, column], right & np.isfinite(answer.fused[:, 0]))
    figures = found.figures(source.classes)
    assert [point["s"] for point in figures["curve"]] == [0, 1, 2, 4, 8, 16]
    assert sum(f["n"] for f in figures["per_class"].values()) == figures["n"] == 18
    mean = sum(f["accuracy"]["value"] * f["n"] for f in figures["per_class"].values()) / 18
    assert mean == pytest.approx(figures["fused"]["value"], abs=1e-4)
    assert "curve" not in evaluate.outcomes(release, images, labels, [2])[2].figures()


def test_some_images_are_measured_without_a_copy_of_them_all(tmp_path: Path) -> None:
    """A map of ImageNet's held-out images would become 7.5 GB."""
    tiny_release(tmp_path / "r", list(CLASSES), seed=2)
    release = Release.load(tmp_path / "r")
    source = open_source(write_scenes(tmp_path / "scenes", per_class=15))
    images, labels = load_square(source, px=32), torch.from_numpy(source.labels)
    every = evaluate.outcomes(release, images, labels, [2], curve=True)[2]
    only = np.array([44, 3, 7, *range(8, 43)])
    some = evaluate.outcomes(release, images, labels, [2], curve=True, only=only)[2]
    for name in Outcome.arrays():
        assert np.allclose(getattr(some, name), getattr(every, name)[only], equal_nan=True), name


def test_a_comparison_says_who_was_right_where() -> None:
    first = outcome([True] * 30 + [False] * 10, [2] * 40, [0] * 20 + [1] * 20)
    second = outcome([True] * 40, [4] * 40, [0] * 20 + [1] * 20)
    found = compare(first, second, ["field", "forest"])
    assert found["accuracy"]["value"] == -0.25
    assert (found["accuracy"]["only_release"], found["accuracy"]["only_other"]) == (0, 10)
    assert found["accuracy"]["p"] == pytest.approx(2 / 2**10, abs=1e-6)
    assert found["share"]["value"] == -0.125
    assert [c["release"]["accuracy"] for c in found["per_class"]] == [1.0, 0.5]
    assert verdict({"4": found}) == {"level": 0.05, "less_accurate": [4], "more_expensive": []}
    back = compare(second, first, ["field", "forest"])
    assert verdict({"4": back})["more_expensive"] == [4]
    with pytest.raises(ValueError, match="not asked the same"):
        compare(first, outcome([True], [1]), ["field"])


def test_the_same_release_is_never_worse_than_itself() -> None:
    one = outcome([True, False, True], [1, 2, 3])
    found = verdict({"4": compare(one, one, ["field"])})
    assert found["less_accurate"] == found["more_expensive"] == []


def test_held_out_images_are_the_same_every_time(tmp_path: Path) -> None:
    scenes = open_source(write_scenes(tmp_path / "scenes", per_class=10))
    learns, test, said = held_out(scenes, 3)
    assert len(test) == 6
    assert set(learns) | set(test) == set(range(30))
    assert np.array_equal(held_out(scenes, 3)[1], test)
    assert not np.array_equal(held_out(scenes, 4)[1], test)
    assert said == "a stratified fifth held out, seed 3"
    for part, count in (("train", 8), ("test", 2)):
        write_scenes(tmp_path / "split" / part, per_class=count, seed=count)
    _, test, said = held_out(open_source(tmp_path / "split"))
    assert (len(test), said) == (6, "the published split: test held out")


def test_a_model_page_of_any_card(tmp_path: Path) -> None:
    card = tiny_release(tmp_path / "r", ["field", "for|est"])
    page = model_page(card)
    assert page.startswith("# r 0\n")
    assert "## Figures" not in page
    root = Path(__file__).resolve().parents[2]
    shipped = Card.from_json((root / "releases" / "ucmerced" / "card.json").read_text())
    page = model_page(shipped)
    figures = shipped.figures["by_ds"]["4"]
    low, high = (f"{bound * 100:.2f}" for bound in figures["hr"]["ci95"])
    assert f"| 4 | {figures['n']} | {figures['hr']['value'] * 100:.2f} ({low} to {high}) |" in page
    assert "data_sha256" in page
    assert "`patchplan train --recipe ucmerced" in page


def test_the_commit_is_read_from_the_checkout(tmp_path: Path) -> None:
    assert commit(tmp_path) is None
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert commit(tmp_path) is None
    (git / "packed-refs").write_text("# pack-refs\nabc refs/heads/main\n")
    assert commit(tmp_path) == "abc"
    (git / "refs" / "heads" / "main").write_text("def\n")
    assert commit(tmp_path) == "def"
    (git / "HEAD").write_text("123\n")
    assert commit(tmp_path) == "123"


def stand_in(tmp_path: Path, **changes: object) -> tuple[Source, dict[str, object]]:
    """Class folders, and what the card of a release trained on them says."""
    scenes = open_source(write_scenes(tmp_path / "scenes"))
    return scenes, {"data_sha256": scenes.digest(), "held_out": "one split", "split_seed": 3, **changes}


def test_a_child_holds_out_what_its_parent_did(tmp_path: Path) -> None:
    scenes, parent = stand_in(tmp_path)
    assert inherited_seed(parent, scenes.digest(), 8) == 3
    assert inherited_seed(parent, "another's", 8) == 8
    assert inherited_seed(parent | {"held_out": "folds"}, scenes.digest(), 8) == 8
    older = {key: value for key, value in parent.items() if key != "split_seed"} | {"seed": 5}
    assert inherited_seed(older, scenes.digest(), 8) == 5


def test_what_a_release_learned_from_is_its_parents_too(tmp_path: Path) -> None:
    scenes, own = stand_in(tmp_path)
    _, held, _ = held_out(scenes, 3)
    learns, _, _ = held_out(scenes, 4)
    assert learned_from(scenes, own, held) == Learned(0, sure=True)
    assert learned_from(scenes, own | {"held_out": "folds"}, held) == Learned(len(held), sure=True)
    assert learned_from(scenes, own | {"data_sha256": "another's"}, held) == Learned(0, sure=False)
    elsewhere = own | {"split_seed": 4}
    some = len(np.intersect1d(held, learns))
    assert 0 < some < len(held)
    assert learned_from(scenes, elsewhere, held) == Learned(some, sure=True)
    child = own | {"parent": elsewhere}
    assert learned_from(scenes, child, held) == Learned(some, sure=True)
    # a parent whose card says nothing of its data
    assert learned_from(scenes, child | {"parent": elsewhere | {"parent": {"name": "x"}}}, held) == Learned(
        some, sure=False
    )
    assert [Learned(n, sure).said for n, sure in ((1, False), (0, True), (0, False))] == [
        "yes",
        "no",
        "unknown",
    ]


@pytest.mark.parametrize("policy", ["tiny", "answer-curve"])
def test_it_is_measured_as_the_service_answers(
    tmp_path: Path, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S, right and confidence are those of a plan and a purchase, tile by tile; nothing is asked twice."""
    images = {"hr_px": 32, "lr_px": 8, "ds": [2], "fill": "lr", "augment": "dihedral"}
    networks = {"policy": policy, "hr": "tiny", "lr": "tiny", "lr_views": 4, "hr_views": 4}
    recipe = tiny_recipe(images=images, networks=networks, stages={}, training={"missed_cost": 40.0})
    torch.manual_seed(7)
    blank = tiny_release(tmp_path / "blank", list(CLASSES))
    save(tmp_path / "r", replace(blank, lr_px=8), System(recipe.architecture(len(CLASSES))))
    release = Release.load(tmp_path / "r")
    source = open_source(write_scenes(tmp_path / "scenes", per_class=12))
    scenes, labels = load_square(source, px=32), torch.from_numpy(source.labels)
    lr = low_resolution(scenes.float(), 2, 8).numpy()
    s = release.plan(lr)
    middle = float(np.median(s))  # an untrained policy sets all tiles on one side of 0.5
    asked, answer_of = [0], System.hr_answer

    def counted(
        system: System, views: Sequence[torch.Tensor], actions: torch.Tensor | None = None
    ) -> torch.Tensor:
        asked[0] += len(views[0])
        return answer_of(system, views, actions)

    with monkeypatch.context() as patch:
        patch.setattr(System, "hr_answer", counted)
        found = evaluate.outcomes(release, scenes, labels, [2], middle, curve=True)[2]
    bought = s > middle
    likely = [curves.likeliest(torch.from_numpy(s), k).bool().numpy() for k in curves.points(16)]
    different = [len({mask[row].tobytes() for mask in (bought, *likely)}) for row in range(len(s))]
    assert asked[0] == len(s) + sum(different)  # whole images, and each choice once
    for column, mask in enumerate(likely):
        said = release.classify(lr, scenes.numpy(), mask).fused.argmax(axis=1)
        assert found.curve[:, column].tolist() == (said == source.labels).tolist()
    answer = release.classify(lr, scenes.numpy(), bought)
    assert found.s.tolist() == bought.sum(axis=1).tolist()
    assert len(set(found.s.tolist())) > 1
    assert found.fused.tolist() == (answer.fused.argmax(axis=1) == source.labels).tolist()
    assert np.allclose(found.confidence, answer.fused.max(axis=1), atol=1e-5)
