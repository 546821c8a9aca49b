"""``patchplan backtest``: every scene planned, one order for all and one more for what a second look says to
buy, and every class once more with all HR.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any, Final

from app.rasters import cut_tiles, inspect
from app.releases.service import choose_card
from models.card import Card
from patchplan.backtest.report import compare, with_answers
from patchplan.backtest.tried import Tried
from patchplan.demo.client import Client, Json, next_patches
from patchplan.demo.cut import cut_patches
from patchplan.demo.errors import DemoError
from patchplan.demo.geotiff import colour_bands
from patchplan.demo.run import LOGS, alone, bands, logs_kept, running_client, until_stopped
from patchplan.demo.scene import choose_scene, make_lr
from patchplan.demo.screen import Screen

ENDINGS: Final = (".tif", ".tiff")
FILES: Final = ("backtest.json", "backtest.html", "order.geojson")
RUN: Final = "backtest"
BOUGHT: Final = "bought"
ALL_HR: Final = "all-hr"
MOST_SCENES: Final = 200


def main(arguments: list[str]) -> int:
    """Run the backtest; returns the exit status: 0, or 130 when told to stop. Raises FrontDoorError."""
    options = _parser().parse_args(arguments)
    return until_stopped("backtest", lambda screen: _backtest(options, screen))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="patchplan backtest",
        description="What HR scenes you own would have cost, bought by plan, and which answers change.",
    )
    parser.add_argument(
        "--hr", type=Path, required=True, metavar="FOLDER", help="HR GeoTIFFs, or one of them"
    )
    parser.add_argument(
        "--product",
        required=True,
        metavar="P",
        help="price-list/key: of a shipped example or of --price-list",
    )
    parser.add_argument("--price-list", type=Path, metavar="FILE", help="a price list of your own, YAML")
    parser.add_argument("--release", metavar="R", help="the release that plans; default: the service's")
    parser.add_argument(
        "--out", type=Path, default=Path("out/backtest"), help="where the files go (%(default)s)"
    )
    parser.add_argument(
        "--tiles", type=int, default=400, metavar="N", help="of each scene, N tiles at most (%(default)s)"
    )
    parser.add_argument(
        "--bands", type=bands, metavar="R,G,B", help="band numbers, e.g. 3,2,1; default: what the file says"
    )
    parser.add_argument("--threshold", help="buy patches whose probability is above this")
    parser.add_argument("--max-patches", metavar="S", help="buy at most S patches a tile")
    parser.add_argument(
        "--one-order",
        action="store_true",
        help="buy what the plans choose and no more, where the release would look twice",
    )
    return parser


def _backtest(options: argparse.Namespace, screen: Screen) -> None:
    paths = _scenes(options.hr)
    if options.price_list is not None and not options.price_list.is_file():
        raise DemoError(f"There is no file {options.price_list}.")
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        (out / name).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix=".backtest-", dir=out, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with alone(folder / "service"):
            card = choose_card(options.release)
            tried = [_look(path, card, options, folder, screen) for path in paths]
            with logs_kept(folder / "service" / "logs", out / LOGS), running_client(screen) as client:
                if options.price_list is not None:
                    client.post_price_list(options.price_list.read_bytes())
                client.find_product(options.product)
                result, page, shapes = _try(tried, options, client, folder, screen)
    (out / "backtest.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    (out / "backtest.html").write_text(page)
    (out / "order.geojson").write_text(shapes)
    screen.say(_summary(result))
    screen.say(f"\n{out}/: {', '.join(FILES)}")


def _scenes(hr: Path) -> list[Path]:
    """The GeoTIFFs of a folder, or the one file."""
    if hr.is_file():
        return [hr]
    if not hr.is_dir():
        raise DemoError(f"There is no folder {hr}.")
    found = sorted(path for path in hr.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())
    if not found:
        raise DemoError(f"There is no GeoTIFF in {hr}.")
    if len(found) > MOST_SCENES:
        raise DemoError(f"{hr} holds {len(found)} scenes; a backtest takes {MOST_SCENES} at most.")
    return found


def _look(path: Path, card: Card, options: argparse.Namespace, folder: Path, screen: Screen) -> Tried:
    with screen.step(f"reading {path.name}"):
        scene = choose_scene(path, card, options.tiles)
        lr = folder / f"{path.stem}.lr.tif"
        make_lr(scene, lr)
    for note in scene.notes:
        screen.say(f"  Note: {note}")
    return Tried(scene, "".join(letter for letter in path.name if letter.isprintable())[:200], lr)


def _try(
    tried: list[Tried], options: argparse.Namespace, client: Client, folder: Path, screen: Screen
) -> tuple[Json, str, str]:
    for each in tried:
        screen.heading(each.name)
        with screen.step("POST /v1/plans: which patches are worth buying?"):
            each.plan = client.plan(each.lr, _fields(each, options, BOUGHT))
    screen.heading("One order for all")
    order = _ordered(options, client, screen, plans=[each.plan["id"] for each in tried])
    if order is None:
        screen.say("  No patch is worth ordering: LR alone has to do.")
    for each in tried:
        screen.heading(each.name)
        _buy(each, order, client, folder, screen)
    more = None if options.one_order else _second_look(tried, options, client, folder, screen)
    for each in tried:
        screen.heading(each.name)
        _buy_all(each, options, client, folder, screen)
    orders = [each for each in (order, more) if each is not None]
    by_scene = client.savings(f"tag:{RUN},tag:scene")
    # the ledger's own sum: a tile of two orders counts once in what full HR costs
    (whole,) = client.savings(f"tag:{RUN}")["purchases"] or [None]
    result = {
        "product": orders[0]["product"] if orders else options.product,
        "release": "{name}@{version}".format_map(tried[0].plan["release"]),
        "orders": [_order(each) for each in orders],
        **compare(tried),
        "purchases": whole,
        "savings": by_scene,
    }
    page = client.savings_page(group_by="tag:scene", tag=f"{RUN}={BOUGHT}")
    shapes = [feature for each in orders for feature in json.loads(client.order_geojson(each))["features"]]
    return result, with_answers(page, result), json.dumps({"type": "FeatureCollection", "features": shapes})


def _ordered(options: argparse.Namespace, client: Client, screen: Screen, **source: list[str]) -> Json | None:
    """One order, placed and received; None where nothing is worth it."""
    with screen.step(f"POST /v1/orders: {options.product}"):
        order = client.order(options.product, **source)
    if order is None:
        return None
    client.move(order, "placed")
    return client.move(order, "received")


def _second_look(
    tried: list[Tried], options: argparse.Namespace, client: Client, folder: Path, screen: Screen
) -> Json | None:
    """One more order, of what pays now that the first patches are seen; None where that is nothing.

    It is of all scenes, so that it knows the same full HR as the first.
    """
    if not any(next_patches(each.bought) for each in tried):
        return None
    screen.heading("Seen what came, one more order")
    order = _ordered(options, client, screen, classifications=[each.bought["id"] for each in tried])
    if order is None:
        screen.say("  No patch of it is worth ordering.")
        return None
    # a polygon may reach into a scene of which nothing more was wanted: what is paid for is sent
    reached = {tile["plan_id"] for tile in order["tiles"]}
    for each in (each for each in tried if each.plan["id"] in reached):
        screen.heading(each.name)
        _buy(each, order, client, folder, screen)
    return order


def _fields(each: Tried, options: argparse.Namespace, run: str) -> dict[str, str]:
    fields = {"tags": json.dumps({RUN: run, "scene": each.name})}
    if each.scene.tile_m is not None:
        fields["tile_size_m"] = repr(each.scene.tile_m)
    wishes: dict[str, Any] = {
        "release": options.release,
        "threshold": options.threshold,
        "max_patches": options.max_patches,
    }
    fields |= {name: str(value) for name, value in wishes.items() if value is not None}
    return fields | _bands(each, options)


def _bands(each: Tried, options: argparse.Namespace) -> dict[str, str]:
    if options.bands is not None:
        return {"bands": options.bands}
    return {"bands": "1,1,1"} if len(colour_bands(each.scene.info)) < 3 else {}


def _buy(each: Tried, order: Json | None, client: Client, folder: Path, screen: Screen) -> None:
    """Send what the order's polygons cover of this scene, chosen or not, and classify."""
    covered = {
        tile["tile"]: [patch for patch in tile["patches"] if patch not in each.taken.get(tile["tile"], [])]
        for tile in (order or {"tiles": []})["tiles"]
        if tile["plan_id"] == each.plan["id"]
    }
    _send(each, each.plan, covered, client, folder, screen)
    with screen.step("POST .../classifications: what is there?"):
        each.bought = client.classify(each.plan)


def _buy_all(each: Tried, options: argparse.Namespace, client: Client, folder: Path, screen: Screen) -> None:
    """The same LR image once more, with every patch there is."""
    with screen.step("POST /v1/plans: the same with all HR"):
        plan = client.plan(each.lr, _fields(each, options, ALL_HR))
    _send(each, plan, {tile["tile"]: list(range(16)) for tile in plan["tiles"]}, client, folder, screen)
    with screen.step("POST .../classifications: what is there with all HR?"):
        each.all_hr = client.classify(plan)


def _send(
    each: Tried, plan: Json, wanted: dict[int, list[int]], client: Client, folder: Path, screen: Screen
) -> None:
    tiles = {tile.index: tile for tile in cut_tiles(inspect(each.lr), each.scene.tile_m)}
    pairs = [(tiles[number], patch) for number, patches in wanted.items() for patch in patches]
    if not pairs:
        return
    bands = {"bands": plan["raster"]["bands"]}
    fields = {"bands": ",".join(str(band) for band in bands["bands"])}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        with screen.step(f"cutting out {len(pairs)} patches"):
            cuts = cut_patches(each.scene.path, each.scene.info, pairs, Path(name))
        if not cuts:
            screen.say("  None of them can be delivered.")
            return
        with screen.step(f"POST .../acquisitions: {len(cuts)} GeoTIFFs") as far:
            taken: dict[int, list[int]] = {}
            for acquisitions in client.send(plan, cuts, fields):
                for patch in (patch for one in acquisitions for patch in one["patches"]):
                    taken.setdefault(patch["tile"], []).append(patch["patch"])
                far(f"{sum(map(len, taken.values()))} taken")
    if plan is each.plan:
        for number, patches in taken.items():
            each.taken.setdefault(number, []).extend(patches)


def _order(order: Json) -> Json:
    names = ("product", "vendor", "currency", "estimate", "full_hr", "saving", "price", "optimal", "bound")
    return {name: order[name] for name in names} | {"polygons": len(order["lines"])}


def _summary(result: Json) -> str:
    answers, orders = result["answers"], result["orders"]
    said = (
        f"\n{answers['same']} of {answers['tiles']} answers are the same as with all HR"
        f" ({answers['agreement']:.1%}); {answers['changed']} changed."
    )
    if not orders:
        return f"{said}\nNothing would have been bought."
    whole = result["purchases"]
    real, nominal, money = whole["real_saving"], whole["nominal_saving"], whole["currency"]
    polygons = sum(order["polygons"] for order in orders)
    return (
        f"{said}\n{result['product']}: {whole['spent']} {money} in {polygons} polygon{'s' * (polygons != 1)}"
        f"{' of two orders' * (len(orders) == 2)} instead of {whole['full_hr']['cost']} {money} for all.\n"
        f"Real saving {real['cost']} {money} ({real['share'] or 0:.1%}); nominal, if patches were"
        f" sold alone, {nominal['cost']} {money} ({nominal['share'] or 0:.1%})."
    )
