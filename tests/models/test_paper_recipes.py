"""The paper's own hyper-parameters, as recipes (sections 5.1 and 5.3)."""

from __future__ import annotations

import pytest

from models.recipe import Recipe, load_recipe
from models.system import System

PAPER = ("cifar10", "cifar100", "imagenet", "fmow", "fmow-resnet50")


def stage(recipe: Recipe, name: str) -> tuple[int, int, float, float, tuple[float, float]]:
    s = recipe.stages[name]
    return s.epochs, s.batch, s.lr, s.sigma, s.alpha


@pytest.mark.parametrize("name", PAPER)
def test_what_all_share(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.images.ds == (4,)
    assert recipe.images.fill == "zeros"
    assert recipe.images.grid == 4
    assert recipe.training.fusion == "eq7"
    assert recipe.training.optimiser == "adam"
    assert recipe.networks.hr == recipe.networks.lr
    assert recipe.images.hr_px == 4 * recipe.images.lr_px
    for part in ("pt", "ft1", "ft2"):
        s = recipe.stages[part]
        assert (s.samples, s.baseline, s.reward, s.schedule) == (1, "self-critical", "class", "constant")


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(name: str) -> None:
    recipe = load_recipe(name)
    assert (recipe.networks.policy, recipe.networks.hr) == ("resnet8", "resnet32")
    assert (recipe.images.hr_px, recipe.images.lr_px) == (32, 8)
    assert stage(recipe, "pt") == (3400, 1024, 1e-4, 0.5, (0.8, 0.8))
    assert stage(recipe, "ft1") == (1680, 256, 1e-4, 5, (0.8, 0.8))
    assert stage(recipe, "ft2") == (990, 256, 1e-4, 5, (0.8, 0.8))


def test_imagenet() -> None:
    recipe = load_recipe("imagenet")
    assert (recipe.networks.policy, recipe.networks.hr) == ("resnet10", "resnet50")
    assert (recipe.images.hr_px, recipe.images.lr_px, recipe.images.fit) == (224, 56, "crop")
    assert stage(recipe, "pt") == (95, 1024, 1e-4, 0.1, (0.7, 0.95))
    assert stage(recipe, "ft1") == (51, 128, 1e-4, 10, (0.7, 0.95))
    assert stage(recipe, "ft2") == (10, 128, 1e-4, 10, (0.7, 0.95))


@pytest.mark.parametrize(("name", "network"), [("fmow", "resnet34"), ("fmow-resnet50", "resnet50")])
def test_fmow(name: str, network: str) -> None:
    recipe = load_recipe(name)
    assert (recipe.networks.policy, recipe.networks.hr) == ("resnet10", network)
    assert (recipe.images.hr_px, recipe.images.lr_px) == (224, 56)
    assert stage(recipe, "pt") == (63, 1024, 1e-4, 0.5, (0.7, 0.95))
    assert stage(recipe, "ft1")[1:] == (128, 1e-4, 20, (0.7, 0.95))
    assert stage(recipe, "ft2")[1:] == (128, 1e-4, 20, (0.7, 0.95))


@pytest.mark.parametrize(("name", "classes"), [("cifar100", 100), ("fmow", 62)])
def test_their_networks_can_be_built(name: str, classes: int) -> None:
    system = System(load_recipe(name).architecture(classes))
    assert system.architecture.classes == classes
    assert system.architecture.lr
