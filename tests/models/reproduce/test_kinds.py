"""Which kind of pictures a data set has, and photographs through a table."""

import itertools
import json
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models import evaluate, train
from models.architecture import ANSWERING, DISTANCE
from models.card import load_card
from models.data.fmow import CLASSES
from models.data.source import Source
from models.data.sources import open_source
from models.recipe import STAGES, Recipe
from models.reproduce.command import main
from models.reproduce.kinds import kind_of
from models.reproduce.profiles import KINDS, NAMES, load_profile
from models.reproduce.rows import ROWS
from models.reproduce.run import outdated, row_key
from models.reproduce.store import Store
from models.reproduce.study import Study, digest_of, open_study
from models.reproduce.tables import FIGURE_5, cells
from models.stages.inputs import Inputs
from models.system import System
from models.views import view_of
from tests.models.baselines.made_up import Drawn
from tests.models.data.fmow_tree import write_frame
from tests.models.scenes import write_scenes

SYNSETS = ("n01440764", "n02102040", "n03000684")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of 96 px in folders of some names, and in ImageNet's."""
    folder = tmp_path_factory.mktemp("kinds")
    for name in ("folders", "synsets"):
        write_scenes(folder / name, per_class=4, px=96)
    for old, synset in zip(sorted((folder / "synsets").iterdir()), SYNSETS, strict=True):
        old.rename(old.with_name(synset))
    return folder


def opened(place: Path, name: str, kind: str | None = None, profile: str = "smoke") -> Study:
    return open_study(place / name, profile, place / "work" / f"{name}-{profile}", kind=kind)


def ask(place: Path, table: str, name: str, *words: str) -> int:
    told = ["--profile", "smoke", "--work", str(place / "work"), "--out", str(place / "results")]
    return main([table, "--data", str(place / name), *told, *words])


@pytest.mark.parametrize(
    ("classes", "large"),
    [(SYNSETS, "photo"), (("across", "along"), "aerial"), ((*SYNSETS, "others"), "aerial")],
)
def test_the_layout_tells_photographs_the_size_small_pictures(classes: tuple[str, ...], large: str) -> None:
    names = [f"{name}/0.png" for name in classes]
    pictures = Drawn(np.zeros((len(classes), 1, 1, 3), np.uint8))
    source = Source("drawn", classes, range(len(classes)), names, pictures)
    assert [kind_of(source, px) for px in (32, 64, 65, 500)] == ["cifar", "cifar", large, large]


def test_fmow_is_aerial_however_small_its_first_box(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in range(2):
        name = f"{CLASSES[label]}_0"
        write_frame(tmp_path / "train" / CLASSES[label] / name / f"{name}_0", label, rng, side=12)
    source = open_source(tmp_path)
    px = max(source.read(0).shape[:2])
    assert px <= 64
    assert kind_of(source, px) == "aerial"


def test_several_pictures_of_one_place_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three frames each of two places in `val`, as a place of fMoW has; in `train` one each."""
    rng = np.random.default_rng(0)
    for split, places, frames in (("train", 4, 1), ("val", 2, 3)):
        for place, frame in itertools.product(range(places), range(frames)):
            label = place % 2
            name = f"{CLASSES[label]}_{place}{split}"
            write_frame(tmp_path / "fmow" / split / CLASSES[label] / name / f"{name}_{frame}", label, rng)
    said = "the 6 held-out pictures show 2 places; intervals take them for independent of each other"
    assert (
        ask(tmp_path, "table1", "fmow", "--parts", "1", "--rows", "hr-cnn", "--ds", "4", "--kind", "cifar")
        == 0
    )
    assert said.capitalize() in (tmp_path / "results" / "table1-fmow-cifar.md").read_text()
    (tmp_path / "tiny.toml").write_text(TINY)
    words = ["--recipe", str(tmp_path / "tiny.toml"), "--data", str(tmp_path / "fmow")]
    capsys.readouterr()
    assert train.main([*words, "--out", str(tmp_path / "r")]) == 0
    assert f"train: {said}" in capsys.readouterr().err
    assert said in load_card(tmp_path / "r").training["caveats"]
    for split, expected in (("val", True), ("train", False)):
        assert evaluate.main([str(tmp_path / "r"), "--data", str(tmp_path / "fmow"), "--split", split]) == 0
        assert (f"evaluate: {said}" in capsys.readouterr().err) == expected


TINY = """
    images = { hr_px = 32, lr_px = 8, ds = [4] }
    networks = { policy = "tiny", hr = "tiny" }
    stages = { hr = { epochs = 1, batch = 4 } }
    """


def test_a_kind_that_is_asked_for_stands_in_place_of_the_data_sets_own(place: Path) -> None:
    found = {kind: opened(place, "folders", kind) for kind in (None, *KINDS)}
    assert [study.profile.kind for study in found.values()] == ["aerial", "cifar", "aerial", "photo"]
    assert [study.name for study in found.values()] == [
        "folders",
        "folders-cifar",
        "folders",
        "folders-photo",
    ]
    assert [study.images.shape[-1] for study in found.values()] == [256, 32, 256, 224]
    by_layout = opened(place, "synsets")
    assert (by_layout.profile.kind, by_layout.name) == ("photo", "synsets")
    with pytest.raises(SystemExit):
        ask(place, "table1", "folders", "--kind", "portrait")


def test_rows_of_one_kind_do_not_pass_for_anothers(place: Path) -> None:
    aerial, photo = opened(place, "folders"), opened(place, "folders", "photo")
    part = photo.protocol.parts[0]
    for row in (name for name in ROWS if name != "bagnet"):
        assert row_key(aerial, row, 4, part) != row_key(photo, row, 4, part)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_every_length(kind: str, name: str) -> None:
    profile = load_profile(kind, name)
    assert (profile.kind, profile.name) == (kind, name)
    assert all(row in ROWS for table in ("table1", "fig5", "fig7") for row, _ in cells(table, profile))
    assert set(profile.ds) <= set(profile.paper.images.ds)
    needed = {unit for row, _ in cells("table1", profile) for unit in ROWS[row].units}
    assert needed <= set(profile.epochs)


def test_photographs_have_section_5_3() -> None:
    profile = load_profile("photo", "paper")
    stages = [profile.paper.stages[name] for name in ("pt", "ft1", "ft2")]
    assert [stage.epochs for stage in stages] == [95, 51, 10]
    assert [stage.sigma for stage in stages] == [0.1, 10, 10]
    assert {stage.alpha for stage in stages} == {(0.7, 0.95)}
    assert {stage.lr for stage in stages} == {1e-4}
    assert profile.ours.networks.order == DISTANCE
    assert profile.ds == FIGURE_5["photo"] == (4, 8, 16, 32)
    for recipe in (profile.paper, profile.ours):
        assert (recipe.images.hr_px, recipe.images.lr_px, recipe.images.fit) == (224, 56, "crop")


def test_shorter_schedules_change_rates_and_nothing_else() -> None:
    """Section 5.3's rates are the profile `paper`'s; what a stage aims at is the same in every length."""
    papers, short = (load_profile("cifar", name).paper.stages for name in ("paper", "cpu"))
    assert (papers["pt"].lr, papers["pt"].batch, papers["ft1"].lr, papers["ft2"].lr) == (
        1e-4,
        1024,
        1e-4,
        1e-4,
    )
    rates = {"epochs": 0, "lr": 0.0, "batch": 0, "schedule": ""}
    for name in STAGES:
        assert asdict(papers[name]) | rates == asdict(short[name]) | rates
        assert short[name].lr >= papers[name].lr
    assert load_profile("cifar", "gpu").paper.stages["pt"].lr == papers["pt"].lr < short["pt"].lr


def test_photographs_are_mirrored_and_nothing_else() -> None:
    ours = load_profile("photo", "cpu").ours
    assert set(ANSWERING[ours.networks.hr_views]) == set(ANSWERING[ours.networks.lr_views]) == {0, 1}
    recipe = tiny(ours)
    images = torch.randint(0, 255, (3, 3, 32, 32), dtype=torch.uint8)
    inputs = Inputs(System(recipe.architecture(3)), images, torch.arange(3), recipe.images)
    assert {view for view, _ in inputs.variants} == {0, 1}
    # each ds in both, so that an answer over both views is to be had at every one
    assert len(inputs.variants) == 2 * len(recipe.images.ds)
    upright = inputs.hr_features(images.float())
    for view, factor in inputs.variants:
        asked = np.arange(3), np.full(3, view), np.full(3, factor)
        seen = inputs.batch(*asked, answers=True).seen(torch.ones(3, 16), 4)
        assert len(seen) == 2
        assert torch.equal(seen[0], view_of(upright, view))
        assert torch.equal(seen[1], view_of(upright, 1 - view))


def tiny(recipe: Recipe) -> Recipe:
    """The recipe at a size of no cost: stems that give the pixels themselves."""
    images = replace(recipe.images, hr_px=32, lr_px=8, lr_input_px=0)
    return replace(recipe, images=images, networks=replace(recipe.networks, hr="tiny", lr="tiny"))


def test_photographs_go_through_a_table(place: Path) -> None:
    words = ("--parts", "1", "--rows", "hr-cnn", "--ds", "4")
    assert ask(place, "table1", "folders", "--kind", "photo", *words) == 0
    assert not (place / "results" / "table1-folders.json").exists()
    file, page = (place / "results" / f"table1-folders-photo.{ending}" for ending in ("json", "md"))
    told = json.loads(file.read_text())
    assert "--kind photo" in told["head"]["command"]
    assert "--kind photo" in page.read_text()
    assert told["head"]["outdated"] == []
    store = Store(file, told["head"])
    same, keys = opened(place, "folders", "photo"), dict[tuple[str, str, int, int], str]()
    assert outdated(same, store, keys) == []
    assert keys == {("smoke", "hr-cnn", 4, 0): row_key(same, "hr-cnn", 4, same.protocol.parts[0])}
    assert outdated(opened(place, "folders"), store) == [("hr-cnn", 4, "smoke")]
    # not made again at every writing
    assert outdated(opened(place, "folders"), store, keys) == []


def test_features_of_one_recipe_are_not_served_to_one_that_sees_otherwise(place: Path) -> None:
    """Learned from at one size and measured at another, nobody would have known."""
    study = opened(place, "folders")
    ours = study.profile.ours
    smaller = replace(ours, images=replace(ours.images, lr_input_px=ours.images.lr_input_px // 2))
    indices, views = np.arange(2), np.zeros(2, dtype=np.int64)
    for recipe, kept in ((study.profile.paper, True), (ours, True), (smaller, False)):
        inputs = study.inputs(recipe)
        assert (inputs.cache is not None) == kept
        learned = inputs.batch(indices, views, np.full(2, 4)).lr
        _, measured = next(study.unseen(recipe, indices, 4))
        assert learned is not None
        assert measured.lr is not None
        assert learned.shape == measured.lr.shape


def test_a_slice_begins_when_a_large_data_set_has_been_read(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is read once: ImageNet's 140 GB take longer than a slice of nine minutes."""
    read: list[int] = []
    whole = Source.digest

    def slowly(source: Source) -> str:
        read.append(len(source))
        time.sleep(0.5)
        return whole(source)

    monkeypatch.setattr(Source, "digest", slowly)
    monkeypatch.setattr("models.reproduce.study.IN_MEMORY", 0)
    work = place / "work" / "slow"
    studies = [open_study(place / "folders", "smoke", work, seconds=0.4) for _ in range(2)]
    studies[-1].slice.room_for(0.0)
    assert len(read) == 1
    assert {study.digest for study in studies} == {whole(studies[0].source)}
    source = studies[0].source
    source.labels = source.labels[::-1].copy()  # as of fMoW's boxes whose JSON was mended
    assert digest_of(source, 1, work / "cache") == whole(source) != studies[0].digest


def test_hours_are_those_of_the_kind(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def hours(study: Study, *_: object) -> dict[str, float]:
        asked.append(study.profile.kind)
        return {}

    monkeypatch.setattr("models.reproduce.estimate.hours", hours)
    for words in ((), ("--kind", "photo"), ("--kind", "cifar")):
        assert ask(place, "table1", "folders", "--estimate", *words) == 0
    assert asked == ["aerial", "photo", "cifar"]
    assert ask(place, "table3", "folders", "--kind", "photo") == 2
    assert "BagNets" in capsys.readouterr().err
