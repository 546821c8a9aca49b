"""One scene from LR to saving: what a client does, and the files it leaves."""

import json
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from app.maps import Layer, render_preview
from app.rasters import RasterInfo, Scaling, Tile, cut_tiles, inspect
from patchplan.demo.client import Client, Json, next_patches
from patchplan.demo.cut import cut_patches
from patchplan.demo.errors import DemoError
from patchplan.demo.geotiff import colour_bands
from patchplan.demo.scene import Scene, make_lr
from patchplan.demo.screen import Screen

PATCHES: Final = "patches"
FILES: Final = ("lr.tif", "plan.geojson", "plan.png", "classification.json", "savings.json")
TAG: Final = "scene"
OUTSIDE: Final = "outside_training_scale"


@dataclass(frozen=True)
class Wishes:
    """What a person may ask of the demo."""

    tiles: int = 24
    price_per_km2: str = "25.00"
    currency: str = "EUR"
    bands: str | None = None
    threshold: str | None = None
    max_patches: str | None = None
    keep_patches: bool = False
    lr_gsd_m: float | None = None


def do_scene(name: str, scene: Scene, client: Client, out: Path, wishes: Wishes, screen: Screen) -> None:
    """Plan, buy, classify and count one HR image, and leave ``FILES`` in ``out``; raises DemoError."""
    screen.heading(name)
    out.mkdir(parents=True, exist_ok=True)
    with screen.step(f"making {out / 'lr.tif'}"):
        make_lr(scene, out / "lr.tif")
    info = inspect(out / "lr.tif")
    screen.say(f"  {_scale(scene, info)}")
    for note in scene.notes:
        screen.say(f"  Note: {note}")
    with screen.step("POST /v1/plans: which patches are worth buying?"):
        plan = client.plan(out / "lr.tif", _fields(scene, wishes, name))
        (out / "plan.geojson").write_text(client.geojson(plan))
    # the notes have said it already, with numbers
    _warn(plan, {OUTSIDE} if any("was trained on" in note for note in scene.notes) else (), screen)
    chosen = {tile["tile"]: tile["chosen"] for tile in plan["tiles"] if tile["chosen"]}
    if not chosen:
        screen.say("  The plan chose no patch: LR alone has to do.")
    with _folder(out if wishes.keep_patches else None) as patches:
        received = _buy(scene, info, plan, chosen, client, patches, _bands(scene, wishes), screen)
        classification = _classified(plan, client, screen)
        if more := next_patches(classification):
            count = sum(map(len, more.values()))
            screen.say(f"  Seen what came, {count} more patches in {len(more)} tiles are worth buying.")
            received += _buy(scene, info, plan, more, client, patches, _bands(scene, wishes), screen)
            classification = _classified(plan, client, screen)
    _write(out / "classification.json", classification)
    with screen.step("GET /v1/reports/savings: what was not spent?"):
        savings = client.savings(f"tag:{TAG}")
        _write(out / "savings.json", savings)
    with screen.step(f"drawing {out / 'plan.png'}"):
        (out / "plan.png").write_bytes(draw(scene, out / "lr.tif", info, plan))
    screen.table(plan, classification, received)
    screen.say(_summary(savings, name, wishes))


def _classified(plan: Json, client: Client, screen: Screen) -> Json:
    with screen.step("POST .../classifications: what is there?"):
        return client.classify(plan)


def _scale(scene: Scene, lr: RasterInfo) -> str:
    across, down = scene.factors
    hr, (_, _, width, height) = scene.info, scene.window
    side = "one tile" if scene.tile_m is None else f"tiles of {scene.tile_m:.4g} m"
    return (
        f"HR {width} x {height} pixels of {hr.gsd_m:.2g} m, {hr.count} bands of {hr.dtype}; "
        f"LR {lr.width} x {lr.height} of {lr.gsd_m:.2g} m, each the mean of {across} x {down}; {side}"
    )


def _fields(scene: Scene, wishes: Wishes, name: str) -> dict[str, str]:
    fields = {
        "price_per_km2": wishes.price_per_km2,
        "currency": wishes.currency,
        "tags": json.dumps({TAG: _tag(name)}),
        **_bands(scene, wishes),
    }
    if scene.tile_m is not None:
        fields["tile_size_m"] = repr(scene.tile_m)
    optional = {"threshold": wishes.threshold, "max_patches": wishes.max_patches}
    return fields | {key: value for key, value in optional.items() if value is not None}


def _bands(scene: Scene, wishes: Wishes) -> dict[str, str]:
    if wishes.bands is not None:
        return {"bands": wishes.bands}
    # a release sees three bands; one that is grey is shown in all three
    return {"bands": "1,1,1"} if len(colour_bands(scene.info)) < 3 else {}


def _tag(name: str) -> str:
    return "".join(letter for letter in name if letter.isprintable())[:256]


def _warn(plan: Json, told: Collection[str], screen: Screen) -> None:
    meaning = {
        "bands_assumed": "the file does not say which bands are red, green and blue; 1, 2, 3 are taken",
        "alpha_is_data": "the band that the file calls alpha holds a picture and is not taken for a mask",
        "values_saturate": "more than 2 % of the values are cut off at black or white: is the scale right?",
        "values_hardly_differ": "all values are nearly the same grey: is the scale right?",
        OUTSIDE: "outside the scale the release was trained at",
    }
    for warning in plan["warnings"]:
        if warning in told:
            continue
        screen.say(f"  Warning: {meaning.get(warning, warning.replace('_', ' '))}.")


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """Where the patches lie: in ``out`` for good, or nowhere once they are sent."""
    if out is not None:
        (out / PATCHES).mkdir(exist_ok=True)
        yield out / PATCHES
        return
    with tempfile.TemporaryDirectory(prefix="patchplan-demo-") as name:
        yield Path(name)


def _buy(
    scene: Scene,
    lr: RasterInfo,
    plan: Json,
    patches: Mapping[int, list[int]],
    client: Client,
    folder: Path,
    fields: dict[str, str],
    screen: Screen,
) -> Counter[int]:
    """Cut out and send these patches of each tile; returns how many of each tile were taken."""
    tiles = {tile.index: tile for tile in cut_tiles(lr, scene.tile_m)}
    wanted = [(tiles[tile], patch) for tile, some in patches.items() for patch in some]
    taken: Counter[int] = Counter()
    reasons: Counter[str] = Counter()
    if not wanted:
        return taken
    with screen.step(f"cutting out {len(wanted)} patches"):
        cuts = cut_patches(scene.path, scene.info, wanted, folder)
    with screen.step(f"POST .../acquisitions: {len(cuts)} GeoTIFFs") as far:
        for acquisitions in client.send(plan, cuts, fields):
            taken.update(patch["tile"] for one in acquisitions for patch in one["patches"])
            reasons.update(entry["reason"] for one in acquisitions for entry in one["refused"])
            far(f"{taken.total()} taken")
    if len(cuts) < len(wanted):
        reasons["no pixels to deliver"] = len(wanted) - len(cuts)
    missing = len(wanted) - taken.total()
    if missing:
        why = ", ".join(reason.replace("_", " ") for reason, _ in reasons.most_common())
        screen.say(f"  {missing} of {len(wanted)} patches were not taken: {why}.")
    return taken


def draw(scene: Scene, lr_path: Path, lr: RasterInfo, plan: Json) -> bytes:
    """The plan's picture: LR beside HR, shown by one scale of values."""
    bands = tuple(plan["raster"]["bands"])
    scaling = Scaling.from_json(plan["raster"]["scaling"])
    tiles: list[Tile] = cut_tiles(lr, scene.tile_m)
    patches = [tile["patches"] for tile in plan["tiles"]]
    return render_preview(
        Layer(lr_path, lr, bands, scaling),
        tiles,
        [[patch["probability"] for patch in of_tile] for of_tile in patches],
        [[patch["selected"] for patch in of_tile] for of_tile in patches],
        patches=plan["totals"]["patches"],
        hr=Layer(scene.path, scene.info, bands, scaling),
    )


def _summary(savings: Json, name: str, wishes: Wishes) -> str:
    groups = [group for group in savings["groups"] if group["group"][f"tag:{TAG}"] == _tag(name)]
    if len(groups) != 1:
        raise DemoError("The savings report does not hold the plan that was just made.")
    group = groups[0]
    every, bought, saving = group["every"], group["bought"], group["saving"]
    price = f"{wishes.price_per_km2} {wishes.currency} per km²"
    made_up = " (a made-up price)" if wishes.price_per_km2 == Wishes.price_per_km2 else ""
    return (
        f"Bought {bought['patches']} of {every['patches']} patches; {saving['area_share']:.1%} of the area "
        f"was not bought.\nAt {price}{made_up}: {bought['cost']} instead of {every['cost']}, "
        f"{saving['cost']} not spent.\nThat is the nominal saving: before a vendor's minimum area."
    )


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
