"""Recipes: what is unknown, of the wrong type or out of range is refused by name."""

from pathlib import Path
from typing import Any

import pytest

from models.recipe import BUILT_IN, RecipeError, load_recipe, parse_recipe
from tests.models.scenes import tiny_recipe

GOOD: dict[str, Any] = {
    "name": "trial",
    "images": {"hr_px": 32, "lr_px": 8},
    "networks": {"policy": "resnet8", "hr": "resnet32", "lr": "resnet32"},
}


@pytest.mark.parametrize("path", sorted(BUILT_IN.glob("*.toml")), ids=lambda p: p.stem)
def test_built_in_recipes_are_valid(path: Path) -> None:
    recipe = load_recipe(path.stem)
    assert recipe.name == path.stem
    assert any(stage.epochs for stage in recipe.stages.values())


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"imags": {}}, "imags"),
        ({"images": {"hr_px": 32, "lr_px": 8, "dss": [4]}}, "images.dss"),
        ({"images": {"hr_px": "32", "lr_px": 8}}, "images.hr_px"),
        ({"images": {"hr_px": 32, "lr_px": 8, "ds": [3]}}, "images.ds"),
        ({"images": {"hr_px": 32, "lr_px": 8, "fill": "mean"}}, "images.fill"),
        ({"images": {"hr_px": True, "lr_px": 8}}, "images.hr_px"),
        ({"images": {"lr_px": 8}}, "images"),
        ({"networks": {"policy": "vgg", "hr": "resnet32"}}, "networks.policy"),
        ({"training": {"crossfit": 1}}, "crossfit"),
        # every other ds of a view: its mirror image has none at the same
        (
            {
                "images": {"hr_px": 32, "lr_px": 8, "ds": [2, 4], "augment": "flip", "thin": 2},
                "networks": {"policy": "tiny", "hr": "tiny", "lr": "tiny", "lr_views": 2},
            },
            "lr_views",
        ),
        ({"training": {"fusion": "by_s"}, "networks": {"policy": "tiny", "hr": "tiny"}}, "LR stream"),
        ({"stages": {"ft3": {}}}, "ft3"),
        ({"stages": {"pt": {"sigma": -0.5}}}, "sigma"),
        ({"stages": {"pt": {"alpha": [0.7]}}}, "alpha"),
        ({"stages": {"pt": {"alpha": [0.2, 0.9]}}}, "alpha"),
        ({"stages": {"pt": {"baseline": "leave-one-out"}}}, "samples"),
        ({"stages": {"hr": {"epochs": -1}}}, "epochs"),
        ({"stages": {"hr": {"lr": 0.0}}}, "lr"),
        ({"stages": {"hr": {"ordered": 1.5}}}, "ordered"),
        ({"stages": {"hr": {"ordered": -0.5}}}, "ordered"),
        ({"classes": {"a": 1}}, "classes"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        parse_recipe({**GOOD, **change})


def test_a_digest_changes_with_what_it_stands_for() -> None:
    base = parse_recipe(GOOD)
    later = parse_recipe({**GOOD, "stages": {"ft2": {"sigma": 3.0}}})
    assert base.digest() == parse_recipe({**GOOD, "name": "other", "description": "x"}).digest()
    assert base.digest() != later.digest()
    assert base.digest("lr") == later.digest("lr")


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("images = [")
    with pytest.raises(RecipeError, match=r"r\.toml"):
        load_recipe(tmp_path / "r.toml")
    with pytest.raises(RecipeError, match="no recipe"):
        load_recipe(tmp_path / "absent.toml")


def test_classifiers_of_either_fitted_fusion_are_the_same() -> None:
    by_s, pool = (tiny_recipe(training={"fusion": rule}) for rule in ("by_s", "log_pool"))
    assert by_s.digest("lr") == pool.digest("lr")
    assert by_s.digest("pt") != pool.digest("pt")


def test_the_order_of_buying_has_a_say_in_the_classifier_only_where_it_learns_from_it() -> None:
    def digest(order: str, ordered: float) -> str:
        stages = {"hr": {"epochs": 1, "lr": 0.1, "mask_share": 1.0, "ordered": ordered}}
        networks = {"policy": "answer-curve", "hr": "tiny", "lr": "tiny", "order": order}
        images = {"hr_px": 32, "lr_px": 8, "fill": "lr"}
        return tiny_recipe(networks=networks, images=images, stages=stages).digest("lr")

    assert digest("rings", 0.0) == digest("distance", 0.0)
    assert len({digest(order, share) for order in ("rings", "distance") for share in (0.0, 0.5)}) == 3
