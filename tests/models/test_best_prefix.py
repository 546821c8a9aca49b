"""The regression on the best prefix, and training over folds whose classifiers judge each other's images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import train
from models.card import load_card
from models.stages.reinforce import centre_first, prefixes
from tests.models.scenes import tiny_recipe, write_scenes
from tests.models.test_training import trainer, weights

RECIPE = """
images = { hr_px = 32, lr_px = 8, ds = [2, 4], fill = "lr", augment = "flip" }
networks = { policy = "tiny", hr = "tiny", lr = "tiny" }
training = { fusion = "by_s", missed_cost = 9.0 }
[stages]
hr = { epochs = 4, batch = 16, lr = 1e-2, mask_share = 0.5 }
lr = { epochs = 2, batch = 16, lr = 1e-3 }
pt = { epochs = 1, batch = 16, lr = 1e-2, samples = 4, estimator = "best-prefix", reuse = 2 }
ft2 = { epochs = 1, batch = 16, lr = 0.0, policy_lr = 1e-2, samples = 4, estimator = "best-prefix" }
"""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "scenes", per_class=12)


@given(st.integers(1, 8))
def test_the_order_ranks_every_patch_once_from_the_centre(grid: int) -> None:
    ranks = centre_first(grid)
    assert sorted(ranks.tolist()) == list(range(grid**2))
    middle = (grid - 1) / 2
    ring = [max(abs(p // grid - middle), abs(p % grid - middle)) for p in range(grid**2)]
    by_rank = [ring[p] for p in ranks.argsort().tolist()]
    assert by_rank == sorted(by_rank)


@given(st.integers(2, 9), st.integers(1, 5), st.integers(0, 999))
def test_prefixes_hold_none_and_one_of_each_range(samples: int, count: int, seed: int) -> None:
    actions = prefixes(samples, count, 4, torch.Generator().manual_seed(seed))
    assert actions.shape == (samples, count, 16)
    sizes = actions.sum(dim=2)
    assert bool((sizes[0] == 0).all())
    assert bool((sizes[1:] >= 1).all())
    assert bool((sizes.diff(dim=0) >= 0).all())
    ranks = centre_first(4)
    for action in actions.flatten(0, 1):
        assert set(ranks[action > 0].tolist()) == set(range(int(action.sum())))


def test_the_policy_learns_how_many_patches_are_needed(scenes: Path) -> None:
    """Where no patch is ever needed, as LR alone is always right, the policy ends at buying none."""
    quick = {"epochs": 12, "batch": 12, "lr": 1e-2}
    none = {**quick, "samples": 4, "estimator": "best-prefix", "baseline": "leave-one-out", "reuse": 4}
    images = {"hr_px": 32, "lr_px": 16, "ds": [2], "fill": "lr"}
    run = trainer(tiny_recipe(images=images, stages={"hr": {**quick, "mask_share": 1.0}, "pt": none}), scenes)
    said: list[dict[str, object]] = []
    run.report = said.append
    run.run()
    assert said[-1]["accuracy"] == pytest.approx(1.0, abs=0.05)
    assert float(str(said[-1]["patches"])) < 1.0


def test_a_rate_of_zero_keeps_the_hr_stream(scenes: Path) -> None:
    quick = {"epochs": 1, "batch": 16, "lr": 1e-2}
    stages = {"hr": quick, "lr": quick, "ft2": {**quick, "lr": 0.0, "policy_lr": 1e-2}}
    run = trainer(tiny_recipe(stages=stages), scenes)
    run.run(("hr", "lr"))
    before = weights(run.system)
    again = trainer(run.recipe, scenes)
    again.run()
    moved = {n.split(".")[0] for n, t in weights(again.system).items() if not torch.equal(t, before[n])}
    assert moved == {"policy"}


def test_folds_judge_each_other_and_go_on_where_they_stopped(scenes: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "folded.toml"
    recipe.write_text(RECIPE)

    def command(name: str, *more: str) -> list[str]:
        out = tmp_path / name / "folded"
        return ["--recipe", str(recipe), "--data", str(scenes), "--out", str(out), "--folds", "3", *more]

    assert train.main(command("whole")) == 0
    card = load_card(tmp_path / "whole" / "folded")
    assert {ds: figures["n"] for ds, figures in card.figures["by_ds"].items()} == {"2": 36, "4": 36}
    assert card.architecture["missed_cost"] == 9.0
    assert card.fusion == "by_s"
    assert "3 stratified folds" in card.training["split"]
    work = tmp_path / "work"
    assert train.main(command("kept", "--work", str(work))) == 0
    (work / "release.checkpoint").unlink()
    for outcome in work.glob("fold-1-*.npz"):
        outcome.unlink()
    assert train.main(command("again", "--work", str(work))) == 0
    again = load_card(tmp_path / "again" / "folded")
    assert again.weights_sha256 == card.weights_sha256
    assert again.figures == card.figures
    assert np.all([p.name.startswith(("fold", "classifier", "release", "cache")) for p in work.iterdir()])
