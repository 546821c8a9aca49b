"""Recipes: files (TOML) that say how a policy and its classifier are trained. Unknown fields are refused."""

import dataclasses
import hashlib
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from models.architecture import CLASSIFIERS, CURVE, FACTORS, POLICIES, RINGS, WIDTH, Architecture

STAGES = ("hr", "lr", "pt", "ft1", "ft2")
Augment = Literal["none", "flip", "crop-flip", "dihedral"]
POLICYS_OWN = ("order", "looks", "width")
"""Fields of networks that have no say in what its classifiers learn."""
BUILT_IN = Path(__file__).parent / "recipes"


class RecipeError(ValueError):
    """A recipe that cannot be read or asks for what does not exist; says which field."""


@dataclass(frozen=True)
class Images:
    """Sizes and degradation. `ds` is drawn per image; `fill` is what stands for unbought patches.

    `thin` k > 1 pairs each view with every k-th `ds` only, so that fewer features must be kept on disk.
    `fit`: how an image of another shape becomes hr_px square, `squash` or a central `crop` (ImageNet's
    256 -> 224). `tile_m` and `hr_gsd_m` (metres) place the training images on the ground for the service.
    """

    hr_px: int
    lr_px: int
    ds: tuple[int, ...] = (4,)
    lr_input_px: int = 0
    grid: int = 4
    fill: Literal["zeros", "lr"] = "zeros"
    augment: Augment = "none"
    thin: int = 1
    fit: Literal["squash", "crop"] = "squash"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    hr_gsd_m: float = 0.3


@dataclass(frozen=True)
class Networks:
    """Names of the networks; `imagenet` starts those that can from published weights. `lr_views`,
    `hr_views`, `order`, `looks`, `width`, `whole`: see Architecture.
    """

    policy: str
    hr: str
    lr: str = ""
    imagenet: bool = False
    lr_views: int = 1
    hr_views: int = 1
    order: Literal["rings", "distance"] = "rings"
    looks: int = 1
    width: int = WIDTH
    whole: bool = False

    def told(self) -> dict[str, Any]:
        """All that has a say in what they come to. In rings, with one look, of the first width and with one
        set of weights it is what it was before there were others.
        """
        fields = dataclasses.asdict(self)
        if self.order == RINGS:
            del fields["order"]
        if self.looks == 1:
            del fields["looks"]
        if self.width == WIDTH:
            del fields["width"]
        if not self.whole:
            del fields["whole"]
        return fields


@dataclass(frozen=True)
class Training:
    """What all stages share.

    `crossfit` k > 1: rewards come from k shadow classifiers, each trained without the images it judges. A
    classifier is right about nearly every image it was trained on, patches or not, and such rewards teach the
    policy to buy nothing. `missed_cost`: see Architecture.
    """

    optimiser: Literal["adam", "adamw"] = "adam"
    weight_decay: float = 0.0
    crossfit: int = 0
    fusion: Literal["eq7", "by_s", "log_pool"] = "eq7"
    missed_cost: float = 1.0


@dataclass(frozen=True)
class Stage:
    """One step of training. Fields of no use to a stage keep their default.

    hr, lr: `mask_share` of the images have random patches dropped, of these the share `ordered` all but the
    first in the order in which the policy `answer-curve` buys; `mixup` is the Beta parameter (0: none).
    pt, ft1, ft2: `sigma` of the reward, `alpha` of Eq. 11 goes from its first to its last value linearly,
    `samples` actions are drawn per image, `baseline` of the advantage, `reward` of the class (0 or 1, the
    paper) or of the right class's probability; `reuse` steps are made on a batch's rewards, weighted by the
    likelihood ratio and clipped (Schulman et al. 2017, Eq. 7), as rewards are dear and steps are not;
    `policy_lr` is the policy's own rate where it is not `lr`; beside it `lr` = 0 keeps the HR stream as it
    is. `estimator`: REINFORCE (Eq. 9), or for the policy `answer-curve` the chance of a right answer with
    each of `samples` prefixes of one fixed order of the patches (decision 53); then `replay` n > 0 makes the
    further steps of `reuse` on batches from the last n images that judges were asked about (Lin 1992).
    Without `shifts` it learns from pictures where they are, not from the shifted ones of `crop-flip`.
    """

    epochs: int = 0
    batch: int = 128
    lr: float = 1e-4
    schedule: Literal["constant", "cosine"] = "constant"
    mask_share: float = 0.0
    ordered: float = 0.0
    mixup: float = 0.0
    smoothing: float = 0.0
    sigma: float = 0.5
    alpha: tuple[float, float] = (0.7, 0.95)
    samples: int = 1
    baseline: Literal["self-critical", "leave-one-out"] = "self-critical"
    reward: Literal["class", "probability"] = "class"
    reuse: int = 1
    estimator: Literal["reinforce", "curve"] = "reinforce"
    policy_lr: float = 0.0
    replay: int = 0
    shifts: bool = True

    def told(self) -> dict[str, Any]:
        """All that has a say in what it leads to. What came later is named only where it is used."""
        fields = dataclasses.asdict(self)
        for later, unused in (("replay", 0), ("ordered", 0.0), ("shifts", True)):
            if fields[later] == unused:
                del fields[later]
        return fields


@dataclass(frozen=True)
class Recipe:
    """A whole recipe; `stages` has an entry for each of hr, lr, pt, ft1, ft2 (0 epochs: left out).

    `classes` names the nearest fMoW class of a class, for the card.
    """

    name: str
    images: Images
    networks: Networks
    training: Training = field(default_factory=Training)
    stages: dict[str, Stage] = field(default_factory=dict)
    classes: dict[str, str] = field(default_factory=dict)
    description: str = ""
    licence: str = ""

    def architecture(self, classes: int) -> Architecture:
        i, n = self.images, self.networks
        return Architecture(
            classes,
            i.lr_px,
            i.hr_px,
            n.policy,
            n.hr,
            n.lr,
            i.lr_input_px,
            i.grid,
            i.fill,
            tuple(i.mean),
            tuple(i.std),
            self.training.missed_cost,
            n.lr_views,
            n.hr_views,
            n.order,
            n.looks,
            n.width,
            n.whole,
        )

    def digest(self, upto: str = STAGES[-1]) -> str:
        """sha256 over all that has a say in the result of stage `upto` and those before it."""
        raw = dataclasses.asdict(self)
        for told in ("name", "description", "licence", "classes"):
            del raw[told]
        del raw["training"]["missed_cost"]  # it says how the trained policy is read
        raw["networks"] = self.networks.told()
        if self.networks.hr_views == 1 or upto in ("hr", "lr"):
            del raw["networks"]["hr_views"]  # classifiers learn from one view at a time
        if upto in ("hr", "lr"):
            for name in POLICYS_OWN:  # they learn from masks of any patches
                if name != "order" or not self.stages["hr"].ordered:
                    raw["networks"].pop(name, None)
        if self.training.fusion == "log_pool" and upto in ("hr", "lr"):
            raw["training"]["fusion"] = "by_s"  # it is fitted after them: those of either rule are the same
        raw["stages"] = {k: self.stages[k].told() for k in STAGES[: STAGES.index(upto) + 1]}
        return hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest()

    def shortened(self, epochs: int) -> "Recipe":
        """The same recipe with at most `epochs` epochs a stage: for trials."""
        stages = {k: dataclasses.replace(s, epochs=min(s.epochs, epochs)) for k, s in self.stages.items()}
        return dataclasses.replace(self, stages=stages)


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe by the name of one that comes with the package, or by its file. Raises RecipeError."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = BUILT_IN / f"{name_or_path}.toml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in BUILT_IN.glob("*.toml")))
        raise RecipeError(
            f"no recipe {str(name_or_path)!r}; those that come with the package: {names}; or name a file"
        )
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: {error}") from error
    return parse_recipe({"name": path.stem, **raw})


def parse_recipe(raw: dict[str, Any]) -> Recipe:
    """Check a recipe's fields, types and ranges. Raises RecipeError naming the first that is wrong."""
    raw = dict(raw)
    stages = raw.pop("stages", {})
    if not isinstance(stages, dict) or (unknown := set(stages) - set(STAGES)):
        raise RecipeError(
            f"stages: only {', '.join(STAGES)}"
            + (f", not {', '.join(sorted(unknown))}" if isinstance(stages, dict) else "")
        )
    classes = raw.pop("classes", {})
    if not isinstance(classes, dict) or not all(isinstance(v, str) for v in classes.values()):
        raise RecipeError("classes: a table of class name = nearest fMoW class")
    recipe = Recipe(
        classes=classes,
        images=_section("images", Images, raw.pop("images", None)),
        networks=_section("networks", Networks, raw.pop("networks", None)),
        training=_section("training", Training, raw.pop("training", {})),
        stages={name: _section(f"stages.{name}", Stage, stages.get(name, {})) for name in STAGES},
        **{k: str(raw.pop(k)) for k in ("name", "description", "licence") if k in raw},
    )
    if raw:
        raise RecipeError(f"unknown: {', '.join(sorted(raw))}")
    _check(recipe)
    return recipe


def _section(name: str, kind: type[Any], raw: object) -> Any:
    if not isinstance(raw, dict):
        raise RecipeError(f"[{name}] is missing")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    values = {}
    for key, value in raw.items():
        if key not in fields:
            raise RecipeError(f"{name}.{key} is unknown; known: {', '.join(fields)}")
        values[key] = _value(f"{name}.{key}", fields[key].type, value)
    try:
        return kind(**values)
    except TypeError as error:
        raise RecipeError(f"[{name}]: {error}") from error


def _value(name: str, kind: Any, value: object) -> object:
    allowed = get_args(kind)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind in (int, float, str, bool):
        fits = type(value) is kind
    elif allowed and isinstance(allowed[0], str):
        fits = value in allowed
    else:
        fits = isinstance(value, list) and all(
            isinstance(v, int | float) and not isinstance(v, bool) for v in value
        )
        if fits and len(allowed) == 2 and allowed[1] is not Ellipsis:
            fits = len(value) == 2  # type: ignore[arg-type]
        value = tuple(value) if fits else value  # type: ignore[arg-type]
    if not fits:
        raise RecipeError(
            f"{name} = {value!r} is not {' or '.join(map(repr, allowed)) if allowed else kind.__name__}"
        )
    return value


def _check(recipe: Recipe) -> None:
    i, n, t = recipe.images, recipe.networks, recipe.training
    mirrored = i.augment == "crop-flip" or (i.augment in ("flip", "dihedral") and i.thin == 1)
    turned = i.augment == "dihedral" and i.thin <= 2
    rules = [
        (
            8 <= i.hr_px <= 1024 and 4 <= i.lr_px <= 512 and 1 <= i.grid <= 16,
            "images: hr_px 8..1024, lr_px 4..512, grid 1..16",
        ),
        (bool(i.ds) and set(i.ds) <= set(FACTORS), f"images.ds: one or more of {FACTORS}"),
        (1 <= i.thin <= len(i.ds), "images.thin: 1 to the number of ds"),
        (0 <= i.lr_input_px <= 1024, "images.lr_input_px: 0 (as hr_px) to 1024"),
        (i.hr_gsd_m > 0, "images.hr_gsd_m: metres above 0"),
        (
            len(i.mean) == len(i.std) == 3 and min(i.std) > 0,
            "images.mean, images.std: three numbers, std above 0",
        ),
        (n.policy in POLICIES, f"networks.policy: one of {', '.join(POLICIES)}"),
        (n.hr in CLASSIFIERS, f"networks.hr: one of {', '.join(CLASSIFIERS)}"),
        (n.lr in ("", *CLASSIFIERS), f"networks.lr: empty or one of {', '.join(CLASSIFIERS)}"),
        (
            n.policy != CURVE or (bool(n.lr) and i.fill == "lr"),
            f"networks.policy {CURVE} reads both streams' answers: it needs networks.lr and images.fill lr",
        ),
        (n.order == RINGS or n.policy == CURVE, f"networks.order is of the policy {CURVE}"),
        (
            n.looks == 1 or (n.looks == 2 and n.policy == CURVE),
            f"networks.looks: 1, or 2 of the policy {CURVE}",
        ),
        (
            n.width == WIDTH or (1 <= n.width <= 1024 and n.policy == CURVE),
            f"networks.width: {WIDTH}, or 1 to 1024 of the policy {CURVE}",
        ),
        (
            not n.whole or n.policy == CURVE,
            f"networks.whole is of the policy {CURVE}",
        ),
        *(
            (
                views == 1 or (views == 2 and mirrored) or (views == 4 and turned),
                f"networks.{name}: 1; 2 if images.augment mirrors; 4 if it is dihedral with thin 1 or 2",
            )
            for name, views in (("lr_views", n.lr_views), ("hr_views", n.hr_views))
        ),
        (t.crossfit == 0 or 2 <= t.crossfit <= 10, "training.crossfit: 0 or 2..10"),
        (0 < t.missed_cost <= 1e6, "training.missed_cost: above 0, to 1e6"),
        (t.weight_decay >= 0, "training.weight_decay: 0 or more"),
        (t.fusion == "eq7" or bool(n.lr), "training.fusion by_s and log_pool need an LR stream"),
        (
            bool(n.lr) or recipe.stages["lr"].epochs == recipe.stages["ft2"].epochs == 0,
            "stages lr and ft2 need networks.lr",
        ),
    ]
    for name, s in recipe.stages.items():
        rules += [
            (0 <= s.epochs <= 100_000, f"stages.{name}.epochs: 0..100000"),
            (1 <= s.batch <= 65536, f"stages.{name}.batch: 1..65536"),
            (
                0 <= s.lr <= 10 and 0 <= s.policy_lr <= 10 and s.lr + s.policy_lr > 0,
                f"stages.{name}.lr: 0..10",
            ),
            (
                min(s.mask_share, s.ordered, s.mixup, s.smoothing) >= 0
                and max(s.mask_share, s.ordered) <= 1
                and s.mixup <= 10
                and s.smoothing < 1,
                f"stages.{name}: mask_share, ordered, smoothing in [0, 1]",
            ),
            (s.sigma >= 0, f"stages.{name}.sigma: 0 or more (decision 0001)"),
            (all(0.5 <= a <= 1 for a in s.alpha), f"stages.{name}.alpha: in [0.5, 1]"),
            (1 <= s.samples <= 64 and 1 <= s.reuse <= 64, f"stages.{name}: samples and reuse in 1..64"),
            (
                s.replay == 0
                or (s.estimator == "curve" and s.reuse > 1 and s.batch <= s.replay <= 1_000_000),
                f"stages.{name}.replay: 0, or batch..1000000 beside the estimator curve and reuse above 1",
            ),
            (
                (s.baseline != "leave-one-out" and s.estimator == "reinforce") or s.samples > 1,
                f"stages.{name}: leave-one-out and curve need samples above 1",
            ),
            (
                not s.epochs or name in ("hr", "lr") or (s.estimator == "curve") == (n.policy == CURVE),
                f"stages.{name}.estimator: curve, and only it, trains the policy {CURVE}",
            ),
        ]
    for fits, message in rules:
        if not fits:
            raise RecipeError(message)
