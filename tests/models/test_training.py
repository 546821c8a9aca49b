"""All stages on drawn scenes: they resume to the same result, and the command writes a release."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models import evaluate, train
from models.card import load_card
from models.data.decode import load_square
from models.data.degrade import low_resolution
from models.data.heldout import held_out
from models.data.sources import open_source
from models.precision import has_fast_bf16
from models.recipe import Recipe
from models.release import Release, tiny_release
from models.stages.inputs import Inputs
from models.stages.place import Watch, phases
from models.stages.trainer import Trainer
from models.system import System
from tests.models.scenes import CLASSES, tiny_recipe, write_scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "scenes")


def trainer(
    recipe: Recipe, scenes: Path, checkpoint: Path | None = None, stop_after: int | None = None
) -> Trainer:
    source = open_source(scenes)
    torch.manual_seed(3)
    system = System(recipe.architecture(len(source.classes)))
    labels = torch.from_numpy(source.labels)
    inputs = Inputs(system, load_square(source, px=recipe.images.hr_px), labels, recipe.images)
    told: list[dict[str, object]] = []

    def report(event: dict[str, object]) -> None:
        told.append(event)
        if stop_after is not None and len(told) > stop_after:
            raise KeyboardInterrupt

    everything = np.arange(len(labels))
    return Trainer(recipe, system, inputs, everything, everything, 5, checkpoint, report)


def weights(system: System) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in system.state_dict().items()}


@pytest.mark.parametrize("training", [{}, {"crossfit": 2, "fusion": "by_s"}, {"fusion": "log_pool"}])
def test_resumed_from_any_checkpoint_it_ends_the_same(
    scenes: Path, tmp_path: Path, training: dict[str, object]
) -> None:
    recipe = tiny_recipe(training=training)
    undisturbed = trainer(recipe, scenes)
    undisturbed.run()
    epochs = sum(recipe.stages[p.stage].epochs for p in undisturbed.phases)
    for stop in range(1, epochs, 3):
        checkpoint = tmp_path / f"{stop}.checkpoint"
        with pytest.raises(KeyboardInterrupt):
            trainer(recipe, scenes, checkpoint, stop_after=stop).run()
        again = trainer(recipe, scenes, checkpoint)
        again.run()
        assert again.system.fusion == undisturbed.system.fusion
        for name, tensor in weights(undisturbed.system).items():
            assert torch.equal(tensor, again.system.state_dict()[name]), (stop, name)


REHEARSED = {
    "epochs": 2,
    "batch": 16,
    "lr": 1e-2,
    "estimator": "curve",
    "samples": 3,
    "reuse": 4,
    "replay": 40,
}
OF_ANSWERS: dict[str, object] = {
    "networks": {"policy": "answer-curve", "hr": "tiny", "lr": "tiny"},
    "stages": {
        "hr": {"epochs": 1, "batch": 16, "lr": 1e-2},
        "pt": REHEARSED,
        "ft2": {**REHEARSED, "lr": 0.0, "policy_lr": 1e-2},
    },
}


@pytest.mark.parametrize("changes", [{}, OF_ANSWERS], ids=["paper", "replay"])
def test_stopped_within_an_epoch_it_ends_the_same(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    """A long epoch has checkpoints of its own; here after every step, and each step is the last once."""
    recipe = tiny_recipe(training={"fusion": "by_s"}, **changes)
    told: list[dict[str, object]] = []
    undisturbed = trainer(recipe, scenes)
    undisturbed.report = told.append
    undisturbed.run()
    monkeypatch.setattr("models.stages.trainer.SAVE_EVERY_S", 0.0)

    class Pulled(Watch):
        """The plug is pulled so many steps after the start."""

        def __init__(self, after: int) -> None:
            self.left = after

        def step(self, *_: object) -> None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    heard: list[dict[str, object]] = []
    for _ in range(1000):
        again = trainer(recipe, scenes, tmp_path / "checkpoint")
        again.report, again.watch = heard.append, Pulled(after=2)
        with contextlib.suppress(KeyboardInterrupt):
            again.run()
            break
    assert of_epochs(heard) == of_epochs(told)
    for name, tensor in weights(undisturbed.system).items():
        assert torch.equal(tensor, again.system.state_dict()[name]), name


def of_epochs(events: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{k: v for k, v in event.items() if k != "seconds"} for event in events if "epoch" in event]


def test_a_checkpoint_of_another_training_is_refused(scenes: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        trainer(tiny_recipe(), scenes, checkpoint, stop_after=1).run()
    images = {"hr_px": 32, "lr_px": 8, "ds": [4], "fill": "zeros"}
    with pytest.raises(ValueError, match="another recipe"):
        trainer(tiny_recipe(images=images), scenes, checkpoint).run()


def test_a_checkpoint_of_other_images_or_of_a_longer_recipe_is_refused(scenes: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    trainer(tiny_recipe(), scenes, checkpoint).run()
    others = write_scenes(tmp_path / "others", seed=1)
    with pytest.raises(ValueError, match="another recipe, seed, data set or parent"):
        trainer(tiny_recipe(), others, checkpoint).run()
    quick = {"epochs": 2, "batch": 16, "lr": 1e-2}
    shorter = {"hr": {**quick, "mask_share": 0.5}, "lr": quick, "pt": quick}
    with pytest.raises(ValueError, match="another recipe, seed, data set or parent"):
        trainer(tiny_recipe(stages=shorter), scenes, checkpoint).run()


def test_what_diverges_is_an_error_and_no_checkpoint(scenes: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe()
    wild = replace(recipe.stages["hr"], lr=1e30)
    with pytest.raises(ValueError, match=r"stage hr diverged in epoch \d: .*smaller lr"):
        trainer(replace(recipe, stages={**recipe.stages, "hr": wild}), scenes, tmp_path / "checkpoint").run()
    if (tmp_path / "checkpoint").exists():
        state = torch.load(tmp_path / "checkpoint", weights_only=True)
        assert all(torch.isfinite(value).all() for value in state["members"][0]["hr"].values())


def test_stages_train_what_they_should_and_nothing_else(scenes: Path) -> None:
    """pt: the policy alone. ft1: policy and HR. ft2: policy and HR, LR fixed (section 4.2)."""
    run = trainer(tiny_recipe(), scenes)
    moved: dict[str, set[str]] = {}
    before = weights(run.system)

    def watch(event: dict[str, object]) -> None:
        nonlocal before
        now = weights(run.system)
        parts = {name.split(".")[0] for name in now if not torch.equal(now[name], before[name])}
        moved.setdefault(str(event["phase"]), set()).update(parts)
        before = now

    run.report = watch
    run.run()
    assert moved == {
        "hr": {"hr"},
        "lr": {"lr"},
        "pt": {"policy"},
        "ft1": {"policy", "hr"},
        "ft2": {"policy", "hr"},
    }


def test_shadows_judge_only_what_they_have_not_learned(scenes: Path) -> None:
    run = trainer(tiny_recipe(training={"crossfit": 3}), scenes)
    members = run.members
    assert len(members.trained) == 4
    for image in range(len(run.inputs.labels)):
        assert image not in members.judges.members[members.judges.of[image]].learns
    assert [p.name for p in phases(run.recipe, members.trained)][:5] == [
        "hr",
        "hr (shadow 1)",
        "hr (shadow 2)",
        "hr (shadow 3)",
        "lr",
    ]


def test_the_command_trains_a_release_that_the_other_measures(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "quick.toml"
    recipe.write_text(
        """
        images = { hr_px = 32, lr_px = 16, ds = [2], fill = "lr", augment = "none" }
        networks = { policy = "tiny", hr = "tiny", lr = "tiny" }
        [stages]
        hr = { epochs = 12, batch = 16, lr = 1e-2, mask_share = 0.3 }
        lr = { epochs = 3, batch = 16, lr = 1e-3 }
        pt = { epochs = 2, batch = 16, lr = 1e-3 }
        ft1 = { epochs = 1, batch = 16, lr = 1e-3, sigma = 5.0 }
        ft2 = { epochs = 1, batch = 16, lr = 1e-3, sigma = 5.0 }
        """
    )
    out = tmp_path / "quick"
    words = ["--recipe", str(recipe), "--data", str(scenes), "--out", str(out), "--seed", "1"]
    assert train.main([*words, "--release-version", "2024-b"]) == 0
    assert load_card(out).version == "2024-b"
    assert "--release-version 2024-b" in load_card(out).training["command"]
    assert sorted(p.name for p in out.iterdir()) == ["MODEL.md", "card.json", "weights.safetensors"]
    assert not (tmp_path / "quick.work").exists()
    card = load_card(out)
    assert [c.name for c in card.classes] == list(CLASSES)
    assert card.streams == "hr+lr"
    assert str(tmp_path) not in card.to_json()
    unseen = write_scenes(tmp_path / "unseen", per_class=20, seed=9)
    capsys.readouterr()
    assert evaluate.main([str(out), "--data", str(unseen), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["n"] == 60
    assert report["hr"]["value"] > 0.8
    assert report["fused"]["ci95"][0] <= report["fused"]["value"] <= report["fused"]["ci95"][1]
    assert {"lr", "s_mean", "s0_share", "s_sd"} <= set(report)
    assert report["seen"] == "unknown"
    assert evaluate.main([str(out), "--data", str(scenes), "--json"]) == 0
    told, learned = capsys.readouterr(), len(held_out(open_source(scenes), 1)[0])
    assert f"quick learned from {learned} of these 72 images: figures on them flatter" in told.err
    assert (json.loads(told.out)["seen"], json.loads(told.out)["seen_images"]) == ("yes", learned)
    assert evaluate.main([str(out), "--data", str(unseen), "--ds", "2"]) == 0
    assert "HR-CNN" in capsys.readouterr().out


def test_folds_say_what_their_parent_has_learned_from(scenes: Path, tmp_path: Path) -> None:
    """Each fold is unseen by its own training, but not by the weights that it started from."""
    recipe = tmp_path / "short.toml"
    recipe.write_text(
        """
        images = { hr_px = 32, lr_px = 16, ds = [2], fill = "lr", augment = "none" }
        networks = { policy = "tiny", hr = "tiny", lr = "tiny" }
        [stages]
        hr = { epochs = 1, batch = 16, lr = 1e-2 }
        lr = { epochs = 1, batch = 16, lr = 1e-3 }
        pt = { epochs = 1, batch = 16, lr = 1e-3 }
        """
    )
    parent, child, events = tmp_path / "parent", tmp_path / "child", tmp_path / "events"
    words = ["--recipe", str(recipe), "--data", str(scenes), "--seed", "1", "--out"]
    assert train.main([*words, str(parent)]) == 0
    more = ["--stages", "pt", "--parent", str(parent), "--folds", "2", "--events", str(events)]
    assert train.main([*words, str(child), *more]) == 0
    learns, held, _ = held_out(open_source(scenes), 1)
    every = len(learns) + len(held)
    told = load_card(child).training["seen_by_parent"]
    assert told == {"images": len(learns), "sure": True, "of": every}
    said = f"The parent learned from {len(learns)} of the {every} held-out images"
    assert said in (child / "MODEL.md").read_text()
    notices = [
        event for event in map(json.loads, events.read_text().splitlines()) if event["kind"] == "notice"
    ]
    assert said in notices[0]["text"]


SHORT = """
    images = { hr_px = 32, lr_px = 16, ds = [2], fill = "lr", augment = "none" }
    networks = { policy = "tiny", hr = "tiny", lr = "tiny" }
    [stages]
    hr = { epochs = 1, batch = 16, lr = 1e-2 }
    lr = { epochs = 1, batch = 16, lr = 1e-3 }
    pt = { epochs = 1, batch = 16, lr = 1e-3 }
    ft2 = { epochs = 1, batch = 16, lr = 1e-3 }
    """


def test_what_figures_do_not_show_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A picture that cannot be read, one of both splits, a class of `test` alone, a biased judge."""
    (tmp_path / "short.toml").write_text(SHORT + "\n[training]\ncrossfit = 2")
    scenes, events = tmp_path / "scenes", tmp_path / "events"
    write_scenes(scenes / "train", per_class=8)
    write_scenes(scenes / "test", per_class=4, seed=1)
    for picture in (scenes / "train" / "quarter").iterdir():
        picture.unlink()
    (scenes / "train" / "along" / "along00.png").write_bytes(b"broken")
    copied = (scenes / "train" / "across" / "across00.png").read_bytes()
    (scenes / "test" / "across" / "copy.png").write_bytes(copied)
    words = ["--recipe", str(tmp_path / "short.toml"), "--data", str(scenes), "--events", str(events)]
    assert train.main([*words, "--out", str(tmp_path / "parent")]) == 0
    missing = "1 unreadable: train/along/along00.png"
    copies = "1 of the 13 held-out pictures are copies of pictures that are learned from"
    strange = "4 of the 13 held-out pictures are of classes that nothing is learned of"
    told, training = capsys.readouterr().err, load_card(tmp_path / "parent").training
    assert missing in told
    assert f"{strange}, so no answer to them can be right: quarter\n" in told
    assert missing in training["left_out"]
    assert training["caveats"].startswith(f"{copies}; {strange}")
    assert f"train: {copies}\n" in told
    assert "recipe_changes" not in training
    assert strange in (tmp_path / "parent" / "MODEL.md").read_text()
    events.unlink()
    child = ["--out", str(tmp_path / "child"), "--stages", "pt,ft2", "--parent", str(tmp_path / "parent")]
    assert train.main([*words, *child]) == 0
    (change,) = load_card(tmp_path / "child").training["recipe_changes"]
    assert change.startswith("crossfit: ")
    lines = map(json.loads, events.read_text().splitlines())
    heard = [event["text"] for event in lines if event["kind"] == "notice"]
    assert change in heard
    assert any(missing in text for text in heard)


def test_more_pictures_than_are_compared_are_said(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("models.data.splits.COMPARE_UP_TO", 71)
    (tmp_path / "short.toml").write_text(SHORT)
    words = ["--recipe", str(tmp_path / "short.toml"), "--data", str(scenes), "--out", str(tmp_path / "r")]
    assert train.main(words) == 0
    said = "72 pictures are too many to be compared"
    assert f"train: {said}" in capsys.readouterr().err
    assert said in load_card(tmp_path / "r").training["caveats"]


def test_fp32_is_of_frozen_layers_too(scenes: Path, tmp_path: Path) -> None:
    """What bf16 computed has three zeros at the end of fp16's ten bits."""
    short = SHORT.replace('hr = "tiny"', 'hr = "efficientnet-lite0"').replace("= 32", "= 64")
    (tmp_path / "short.toml").write_text(short)
    words = ["--recipe", str(tmp_path / "short.toml"), "--data", str(scenes), "--stages", "hr"]
    for precision in ("auto", "fp32"):
        place = ["--out", str(tmp_path / precision), "--work", str(tmp_path / "work")]
        assert train.main([*words, *place, "--precision", precision]) == 0
        assert load_card(tmp_path / precision).training["precision"] == (
            "bf16" if precision == "auto" and has_fast_bf16(torch.device("cpu")) else "fp32"
        )
        (tmp_path / "work" / "release.checkpoint").unlink()
    kept = [np.load(file) for file in (tmp_path / "work" / "cache").glob("features-*/hr.npy")]
    fine = [bool((values[np.abs(values) > 1e-3].view(np.uint16) & 7).any()) for values in kept]
    assert sorted(fine) == [not has_fast_bf16(torch.device("cpu")), True]


def test_figures_of_another_seed_in_the_same_work_folder_are_not_taken(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "short.toml").write_text(SHORT)
    words = ["--recipe", str(tmp_path / "short.toml"), "--data", str(scenes), "--out"]
    work = ["--work", str(tmp_path / "work")]
    assert train.main([*words, str(tmp_path / "first"), *work, "--seed", "1"]) == 0
    (tmp_path / "work" / "release.checkpoint").unlink()
    assert train.main([*words, str(tmp_path / "again"), *work, "--seed", "2"]) == 0
    assert train.main([*words, str(tmp_path / "alone"), "--seed", "2"]) == 0
    first, again, alone = (load_card(tmp_path / name).figures for name in ("first", "again", "alone"))
    assert again == alone != first


def test_an_interrupted_child_does_not_go_on_from_another_parent(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From its own it does."""
    recipe = tmp_path / "short.toml"
    recipe.write_text(SHORT)
    words = ["--recipe", str(recipe), "--data", str(scenes)]
    for seed in ("1", "2"):
        assert train.main([*words, "--seed", seed, "--out", str(tmp_path / f"parent{seed}")]) == 0
    child = ["--out", str(tmp_path / "child"), "--work", str(tmp_path / "work")]
    policy = [*words, *child, "--stages", "pt,ft2", "--parent"]
    assert train.main([*policy, str(tmp_path / "parent1")]) == 0
    first = load_card(tmp_path / "child").weights_sha256
    checkpoint = (tmp_path / "work" / "release.checkpoint").read_bytes()
    capsys.readouterr()
    assert train.main([*policy, str(tmp_path / "parent2")]) == 2
    assert "another recipe, seed, data set or parent" in capsys.readouterr().err
    assert (tmp_path / "work" / "release.checkpoint").read_bytes() == checkpoint
    assert train.main([*policy, str(tmp_path / "parent1")]) == 0
    assert load_card(tmp_path / "child").weights_sha256 == first


def test_one_stream_is_wrong_where_it_buys_nothing(scenes: Path, tmp_path: Path) -> None:
    """It has no class there; otherwise what is counted is what the served `plan` and `classify` say."""
    tiny_release(tmp_path / "r", list(CLASSES), streams="hr", seed=2)
    release = Release.load(tmp_path / "r")
    source = open_source(scenes)
    images = load_square(source, px=32)
    lr = low_resolution(images.float(), 2, 16).numpy()
    s = release.plan(lr)
    middle = float(np.median(s.max(axis=1)))
    found = evaluate.outcomes(release, images, torch.from_numpy(source.labels), [2], middle)[2]
    mask = s > middle
    answer = release.classify(lr, images.numpy(), mask)
    known = ~np.isnan(answer.fused[:, 0])
    assert 0 < known.sum() < len(known)
    assert np.array_equal(found.s, mask.sum(axis=1))
    assert np.array_equal(found.fused, known & (np.nan_to_num(answer.fused).argmax(axis=1) == source.labels))
    assert np.array_equal(np.isnan(found.confidence), ~known)


def test_wrong_data_and_recipes_are_one_line(
    tmp_path: Path, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "r")]
    assert train.main(["--recipe", "nosuch", "--data", str(scenes), *out]) == 2
    assert "those that come with the package" in capsys.readouterr().err
    lonely = tmp_path / "lonely"
    (lonely / "only").mkdir(parents=True)
    (lonely / "only" / "a.png").write_bytes((scenes / "along" / "along00.png").read_bytes())
    assert train.main(["--recipe", "ucmerced", "--data", str(lonely), *out]) == 2
    assert "one class" in capsys.readouterr().err
    few = write_scenes(tmp_path / "few", per_class=2)
    (tmp_path / "short.toml").write_text(SHORT)
    assert train.main(["--recipe", str(tmp_path / "short.toml"), "--data", str(few), *out]) == 2
    assert "too small" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.work"))
    assert not (tmp_path / "r").exists()
    for wrong in (("--seed", "-1"), ("--folds", "1"), ("--epochs", "0"), ("--processes", "two")):
        with pytest.raises(SystemExit):
            train.main(["--recipe", "ucmerced", "--data", str(scenes), *out, *wrong])
        assert f"{wrong[1]} is not a number" in capsys.readouterr().err
