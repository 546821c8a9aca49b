"""Data without folds: published splits and halves, whose judge learns from four fifths; given weights."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from models.data.source import Source
from models.data.sources import open_source
from models.networks import build
from models.reproduce import classifiers, protocol
from models.reproduce.answers import Kept
from models.reproduce.bench import Bench
from models.reproduce.command import main
from models.reproduce.profiles import load_profile
from models.reproduce.protocol import Part, Protocol
from models.reproduce.study import IMAGENET, Study, open_study
from tests.models.baselines.made_up import Drawn, same, weights
from tests.models.reproduce.curves import bench_for_ours
from tests.models.scenes import write_scenes


def pictures(count: int, seed: int = 0) -> Source:
    """Tiny pictures of three classes, the first two of them alike."""
    drawn = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    drawn[3] = drawn[0]
    labels = np.arange(count) % 3
    return Source("drawn", ("a", "b", "c"), labels, [f"{i:05}" for i in range(count)], Drawn(drawn))


def test_up_to_2500_images_are_folded_and_more_are_halved() -> None:
    few, many = protocol.protocol(pictures(2_500)), protocol.protocol(pictures(2_501))
    assert few.folds
    assert len(few.parts) == 5
    assert not many.folds
    assert many.said == "stratified halves, 3 seeds"
    assert [part.seed for part in many.parts] == [part.number for part in many.parts] == [0, 1, 2]
    for part in many.parts:
        assert sorted([*part.learns.tolist(), *part.tests.tolist()]) == list(range(2_501))
        assert np.abs(np.bincount(part.learns % 3) - 2_501 / 6).max() <= 1
        assert (0 in part.learns) == (3 in part.learns)  # copies of one picture
    assert len({tuple(part.tests.tolist()) for part in many.parts}) == 3


def test_a_published_split_is_kept(tmp_path: Path) -> None:
    for split, each in (("train", 4), ("test", 3)):
        write_scenes(tmp_path / "scenes" / split, per_class=each)
    source = open_source(tmp_path / "scenes")
    assert source.splits is not None
    found = protocol.protocol(source)
    assert not found.folds
    assert found.said == "the published split (test held out), 3 seeds"
    assert [part.seed for part in found.parts] == [0, 1, 2]
    for part in found.parts:
        assert {source.splits[i] for i in part.learns} == {"train"}
        assert {source.splits[i] for i in part.tests} == {"test"}
        assert (len(part.learns), len(part.tests)) == (12, 9)


def test_fewer_images_of_a_split_are_of_all_its_classes() -> None:
    """However many of each class another split has."""
    labels = np.array([*(30 * [0] + 20 * [1] + 10 * [2]), *(5 * [0] + 5 * [1] + 5 * [2])])
    splits = 60 * ["train"] + 15 * ["val"]
    drawn = Drawn(np.zeros((75, 8, 8, 3), dtype=np.uint8))
    source = Source("drawn", ("a", "b", "c"), labels, [f"{i:05}" for i in range(75)], drawn, splits=splits)
    some = protocol.fewer(source, 6)
    assert some.splits is not None
    for split in ("train", "val"):
        there = [label for label, of in zip(some.labels, some.splits, strict=True) if of == split]
        assert np.bincount(there).tolist() == [2, 2, 2]


def test_fewer_images_than_classes_are_refused() -> None:
    """Each split would have classes of its own."""
    source = pictures(60)
    assert len(protocol.fewer(source, 3)) == 6
    with pytest.raises(ValueError, match="2 images are too few for the 3 classes"):
        protocol.fewer(source, 2)


def test_a_profiles_own_limit_takes_the_same_classes_of_every_split(tmp_path: Path) -> None:
    limit = load_profile("cifar", "smoke").limit
    for split, count in (("train", limit + 4), ("test", limit + 2)):
        for k in range(count):
            folder = tmp_path / "scenes" / split / f"{k:03}"
            folder.mkdir(parents=True)
            Image.new("RGB", (8, 8), (k, 0, 0)).save(folder / "0.png")
    study = open_study(tmp_path / "scenes", "smoke", tmp_path / "work")
    assert study.classes == limit
    part = study.protocol.parts[0]
    learned, held_out = (set(study.labels[images].tolist()) for images in (part.learns, part.tests))
    assert learned == held_out == set(range(limit))
    for name, label in zip(study.source.ids, study.labels.tolist(), strict=True):
        assert name.split("/")[1] == study.source.classes[label]
    with pytest.raises(ValueError, match=f"{limit} images are too few for the {limit + 4} classes"):
        open_study(tmp_path / "scenes", "smoke", tmp_path / "work", limit=limit)


def test_pictures_of_no_part_are_not_decoded(tmp_path: Path) -> None:
    for split, each in (("train", 4), ("val", 5), ("test", 3)):
        write_scenes(tmp_path / "scenes" / split, per_class=each)
    whole = open_source(tmp_path / "scenes")
    study = open_study(tmp_path / "scenes", "cpu", tmp_path / "work")
    assert set(study.source.splits or ()) == {"train", "test"}
    assert len(study.images) == 12 + 9
    part = study.protocol.parts[0]
    assert sorted([*part.learns.tolist(), *part.tests.tolist()]) == list(range(21))
    assert study.name == "scenes"
    without = whole.select(whole.in_split("train", "test"))
    assert study.digest == without.digest()
    assert protocol.used(without) is without


@pytest.mark.parametrize("kind", ["published", "halves"])
def test_a_table_without_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Ours on two parts: each has a judge of its own, and an LR classifier that goes with it."""
    scenes = tmp_path / "scenes"
    if kind == "published":
        for seed, split in enumerate(("train", "test")):
            write_scenes(scenes / split, per_class=8, seed=seed)
    else:
        write_scenes(scenes, per_class=16)
        monkeypatch.setattr(protocol, "_FEW", 20)
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "results")]
    words = ["table2", "--data", str(scenes), "--profile", "smoke", *places]
    assert main([*words, "--parts", "2", "--rows", "lr-cnn,ours"]) == 0
    told = json.loads((tmp_path / "results" / "table2-scenes.json").read_text())
    page = (tmp_path / "results" / "table2-scenes.md").read_text()
    said = {
        "published": "the published split (test held out), 3 seeds",
        "halves": "stratified halves, 3 seeds",
    }
    assert told["head"]["protocol"] == said[kind]
    assert said[kind] in page
    assert "Measured on 2 of 3 parts so far: 0, 1." in page
    assert {(r["row"], r["part"], r["told"]["seed"]) for r in told["records"]} == {
        (row, part, part) for row in ("lr-cnn", "ours") for part in (0, 1)
    }
    names = open_source(scenes).ids
    for record in told["records"]:
        held = Kept.from_json(record["answers"]).images
        assert len(held) == 24
        assert kind == "halves" or all("test" in names[i] for i in held)
    units = sorted(file.name.partition("-")[0] for file in (tmp_path / "work").glob("*/units/*.pt"))
    # of both parts one of their own and five judges
    assert units == ["base"] * 12 + ["masked"] * 12 + ["ours"] * 2


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return bench_for_ours(tmp_path_factory.mktemp("judged"))


def published(study: Study, file: Path, seed: int = 5) -> Study:
    """With weights from elsewhere."""
    torch.save(other_weights(study, seed), file)
    return replace(study, given=file)


def other_weights(study: Study, seed: int) -> dict[str, torch.Tensor]:
    """An HR classifier's that was not trained here."""
    return weights(study.system(study.profile.paper, seed).hr.body)


def test_the_policy_learns_from_a_fifth_that_its_judge_does_not_know(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, part = bench.study, bench.part
    monkeypatch.setattr(classifiers, "ENOUGH", 1)
    found = classifiers.judged(study, part)
    (judge,) = found.by.members
    assert sorted([*found.learns.tolist(), *judge.learns.tolist()]) == sorted(part.learns.tolist())
    assert len(found.learns) == pytest.approx(len(part.learns) / 5, abs=2)
    assert (found.by.of[found.learns] == 0).all()
    groups = study.protocol.groups
    assert len(set(groups[part.learns])) < len(part.learns)
    assert not set(groups[found.learns]) & set(groups[judge.learns])
    assert set(study.labels[found.learns].tolist()) == {0, 1}
    other = classifiers.judged(study, replace(part, seed=1))
    assert other.learns.tolist() != found.learns.tolist()
    assert other.key != found.key


def test_few_images_are_all_learned_from_each_by_a_judge_that_does_not_know_it(bench: Bench) -> None:
    """And what belongs together is judged together."""
    study, part = bench.study, bench.part
    found = classifiers.judged(study, part)
    assert found.learns.tolist() == sorted(part.learns.tolist())
    assert len(found.by.members) == 5
    groups = study.protocol.groups
    for number, judge in enumerate(found.by.members):
        judged = found.learns[found.by.of[found.learns] == number]
        assert sorted([*judged.tolist(), *judge.learns.tolist()]) == sorted(part.learns.tolist())
        assert not set(groups[judged]) & set(groups[judge.learns])


@given(st.integers(1, 10**7))
def test_judges_are_as_few_as_show_the_policy_enough(images: int) -> None:
    judges = classifiers.judges_of(images)
    fifth = images / classifiers.FIFTHS
    assert judges == 5 or judges * fifth >= classifiers.ENOUGH
    assert judges == 1 or (judges - 1) * fifth < classifiers.ENOUGH


def test_each_fold_is_judged_by_the_others(bench: Bench) -> None:
    """And by the very classifiers that these have anyway."""
    count = len(bench.study.labels)
    thirds = [np.arange(count)[k::3] for k in range(3)]
    parts = tuple(Part(k, k, np.setdiff1d(np.arange(count), held), held) for k, held in enumerate(thirds))
    study = replace(bench.study, protocol=Protocol(parts, True, "thirds", np.arange(count)))
    found = classifiers.judged(study, parts[0])
    assert found.learns.tolist() == parts[0].learns.tolist()
    assert len(found.by.members) == 2
    for image in found.learns.tolist():
        assert image not in found.by.members[found.by.of[image]].learns
    for number, judge in enumerate(found.by.members, start=1):
        start = classifiers.base(study, parts[number].learns, number)
        key, body = classifiers.long_trained(study, parts[number].learns, number, masks=True)
        assert f"{start.key}+{key}" in found.key
        assert judge.lr is not None
        assert start.system.lr is not None
        assert same(weights(judge.lr), weights(start.system.lr.body))
        assert same(weights(judge.hr), weights(body))


def test_a_second_body_changes_nothing_of_the_first(bench: Bench) -> None:
    """Of masks it is not trained again for it; the order of buying has a say where it is learned."""
    profile = bench.study.profile

    def trained(
        *, whole: bool = False, order: Literal["rings", "distance"] = "rings", ordered: float = 0.0
    ) -> tuple[str, torch.nn.Module]:
        ours = replace(profile.ours, networks=replace(profile.ours.networks, whole=whole, order=order))
        changed = replace(profile, ours=ours, masking=replace(profile.masking, ordered=ordered))
        study = replace(bench.study, profile=changed)
        return classifiers.long_trained(study, bench.learns, bench.seed, masks=True)

    (one, body), (other, same_body) = trained(), trained(whole=True)
    assert one == other == trained(order="distance")[0]
    assert same(weights(body), weights(same_body))
    assert len({one, trained(ordered=0.5)[0], trained(order="distance", ordered=0.5)[0]}) == 3


def test_given_weights_are_not_trained_and_ours_goes_on_from_them(bench: Bench, tmp_path: Path) -> None:
    study = published(bench.study, tmp_path / "weights.th")
    wanted = other_weights(study, 5)
    start = classifiers.base(study, bench.learns, 0)
    assert same(weights(start.system.hr.body), wanted)
    own = bench.base.system
    assert start.system.lr is not None
    assert own.lr is not None
    assert start.key != bench.base.key
    assert not same(weights(own.hr.body), wanted)
    # no epoch of going on: as they were given
    assert study.profile.epochs["onward"] == 0
    assert same(weights(classifiers.long_trained(study, bench.learns, 0, masks=True)[1]), wanted)
    assert not same(weights(classifiers.long_trained(bench.study, bench.learns, 0, masks=True)[1]), wanted)
    assert classifiers.epochs_of(study, "hr") == classifiers.epochs_of(study, "masked") == 0


def test_judges_have_not_learned_from_given_weights(bench: Bench, tmp_path: Path) -> None:
    """These know the images that they would judge."""
    found = classifiers.judged(bench.study, bench.part)
    with_given = classifiers.judged(published(bench.study, tmp_path / "weights.th"), bench.part)
    assert with_given.key == found.key
    for one, other in zip(found.by.members, with_given.by.members, strict=True):
        assert same(weights(one.hr), weights(other.hr))
        assert one.lr is not None
        assert other.lr is not None
        assert same(weights(one.lr), weights(other.lr))


@pytest.mark.parametrize("folds", [False, True])
def test_a_judges_lr_stream_is_trained_alone(
    bench: Bench, folds: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where no row of a fold needs the HR classifier that would be trained with it."""
    study = replace(bench.study, protocol=replace(bench.study.protocol, folds=folds))
    seed = 20 + folds  # of no other test
    _, body = classifiers.lr_of(study, bench.learns, seed)
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == [*(["hr 1", "hr 2"] if folds else []), "lr 1", "lr 2"]
    before = study.system(study.profile.paper, seed).lr
    assert before is not None
    assert not same(weights(body), weights(before.body))


@pytest.mark.parametrize("form", ["plain", "of several GPUs", "of a checkpoint"])
def test_published_weights_come_in_several_forms(bench: Bench, tmp_path: Path, form: str) -> None:
    study = bench.study
    wanted = other_weights(study, 7)
    state: dict[str, object] = dict(wanted)
    if form != "plain":
        state = {f"module.{name}": value for name, value in wanted.items()}
    if form == "of a checkpoint":
        state = {"state_dict": state, "epoch": 200}
    torch.save(state, tmp_path / "weights.th")
    system = study.system(study.profile.paper, 0)
    before = weights(system.hr.body), weights(system.policy)
    classifiers.load_given(system, tmp_path / "weights.th")
    assert same(weights(system.hr.body), wanted)
    assert not same(weights(system.hr.body), before[0])
    assert same(weights(system.policy), before[1])


def test_weights_of_another_network_are_refused(bench: Bench, tmp_path: Path) -> None:
    state = other_weights(bench.study, 7)
    state.popitem()
    torch.save(state, tmp_path / "short.th")
    with pytest.raises(ValueError, match=r"short\.th does not fit the HR classifier"):
        classifiers.load_given(bench.study.system(bench.study.profile.paper, 0), tmp_path / "short.th")


def test_hr_cnn_of_given_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It answers as these do, by the normalisation that they were trained with."""
    scenes = write_scenes(tmp_path / "scenes", per_class=6)
    source = open_source(scenes)
    mean, deviation = (torch.tensor(figures).view(1, 3, 1, 1) for figures in IMAGENET)
    pixels = torch.from_numpy(np.stack([source.read(i) for i in range(18)])).permute(0, 3, 1, 2) / 255
    pixels = (pixels - mean) / deviation
    torch.manual_seed(3)
    network = build.classifier("resnet32", 3, patchwise=True, grid=4).body.eval()
    with torch.no_grad():
        # an untrained network says one class of all; without what it says on average, it tells them apart
        last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
        last.bias.sub_(network(pixels).mean(dim=0))
        said = network(pixels).argmax(dim=1).numpy()
    assert len(set(said.tolist())) > 1
    file = tmp_path / "weights.th"
    torch.save({f"module.{name}": value for name, value in network.state_dict().items()}, file)
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "results")]
    words = ["table2", "--data", str(scenes), "--profile", "smoke", "--rows", "hr-cnn", *places]
    capsys.readouterr()
    assert main([*words, "--hr-weights", str(file)]) == 0
    assert "lr 1:" not in capsys.readouterr().out  # no LR classifier is trained for it
    told = json.loads((tmp_path / "results" / "table2-scenes.json").read_text())
    assert told["head"]["command"].endswith("--hr-weights weights.th")
    assert [record["told"]["epochs"]["hr"] for record in told["records"]] == [0] * 5
    right = np.zeros(18, dtype=bool)
    for record in told["records"]:
        kept = Kept.from_json(record["answers"])
        right[kept.images] = kept.right
    assert right.tolist() == (said == source.labels).tolist()
    capsys.readouterr()
    torch.save({"linear.weight": torch.zeros(10, 64)}, tmp_path / "others.th")
    assert main([*words, "--hr-weights", str(tmp_path / "others.th")]) == 2
    assert "reproduce: others.th does not fit the HR classifier" in capsys.readouterr().err
