"""How long each part of a table is trained: `smoke` for tests, `cpu`, `gpu`, and the paper's own schedule."""

import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from models.recipe import STAGES, Recipe, Stage, parse_recipe
from models.reproduce.learner import Plan

Name = Literal["smoke", "cpu", "gpu", "paper"]
NAMES: tuple[str, ...] = get_args(Name)
Kind = Literal["cifar", "aerial", "photo"]
KINDS: tuple[str, ...] = get_args(Kind)
FOLDER = Path(__file__).parent / "profiles"
SMALL_PX = 64
"""Pictures up to this size have CIFAR's networks and schedules; of larger ones there are two kinds."""

_UNTOLD = {"mask_share": 0.85, "mixup": 0.2, "smoothing": 0.1}
"""The masking that hashes do not name. To change it would let what was trained by it pass for another."""


@dataclass(frozen=True)
class Profile:
    """The schedules of one kind of pictures at one length.

    `paper` and `ours` are the recipes of the rows; `ds` the ratios that are measured; `limit` the number of
    images learned from and held out, 0 for all; `masking` how the HR stream of ours learns with masks: most
    images lose a random number of patches, so that it can use however few were bought.
    """

    name: str
    kind: str
    ds: tuple[int, ...]
    paper: Recipe
    ours: Recipe
    limit: int
    units: dict[str, Plan]
    epochs: dict[str, int]
    paper_epochs: dict[str, int]
    masking: Stage

    def normalised(self, mean: tuple[float, ...], std: tuple[float, ...]) -> "Profile":
        """The same with other figures of normalisation: those that published weights were trained with."""

        def other(recipe: Recipe) -> Recipe:
            return replace(recipe, images=replace(recipe.images, mean=mean, std=std))

        return replace(self, paper=other(self.paper), ours=other(self.ours))

    def masking_told(self) -> dict[str, Any]:
        """What hashes name of `masking`."""
        usual = {**asdict(Stage()), **_UNTOLD}
        return {name: value for name, value in asdict(self.masking).items() if value != usual[name]}

    def plan(self, unit: str) -> Plan:
        """How a part that no recipe has is trained. Raises KeyError for one without epochs."""
        return replace(self.units.get(unit, Plan(0)), epochs=self.epochs[unit])


def load_profile(kind: str, name: str) -> Profile:
    """The profile `name` of the pictures `kind`, one of KINDS."""
    raw = tomllib.loads((FOLDER / f"{kind}.toml").read_text(encoding="utf-8"))
    epochs = {key: int(value) for key, value in raw["epochs"][name].items()}
    ours = {"hr": 0, "lr": 0, "ft2": epochs["ours"]}
    paper = _merged(raw["paper"], raw.get("shorter", {}).get(name, {}))
    return Profile(
        name=name,
        kind=kind,
        ds=tuple(raw["ds"]),
        paper=_recipe(f"{kind}-paper", paper, {stage: epochs[stage] for stage in STAGES}),
        ours=_recipe(f"{kind}-ours", raw["ours"], ours),
        limit=int(raw["limit"].get(name, 0)),
        units={key: Plan(0, **plan) for key, plan in raw["units"].items()},
        epochs=epochs,
        paper_epochs={key: int(value) for key, value in raw["epochs"]["paper"].items()},
        masking=Stage(**raw["masking"]),
    )


def _merged(recipe: dict[str, Any], stages: dict[str, Any]) -> dict[str, Any]:
    """The recipe with these settings of its stages in place of its own."""
    own = recipe.get("stages", {})
    return {
        **recipe,
        "stages": own | {stage: {**own.get(stage, {}), **told} for stage, told in stages.items()},
    }


def _recipe(name: str, raw: dict[str, Any], epochs: dict[str, int]) -> Recipe:
    stages = {key: {**raw.get("stages", {}).get(key, {}), "epochs": n} for key, n in epochs.items()}
    return parse_recipe({"name": name, **raw, "stages": stages})
