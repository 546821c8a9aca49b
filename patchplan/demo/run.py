"""``patchplan demo``: a service of its own, the scenes one after the other, everything stopped at the end."""

import argparse
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from app.core.errors import ProblemError
from app.core.money import parse_currency, parse_price
from app.releases.service import choose_card
from models.card import Card
from patchplan.demo import fetch
from patchplan.demo.client import Client
from patchplan.demo.drawn import draw_scene
from patchplan.demo.errors import DemoError
from patchplan.demo.job import FILES, PATCHES, Wishes, do_scene
from patchplan.demo.scene import Scene, choose_scene
from patchplan.demo.screen import Screen
from patchplan.errors import FrontDoorError
from patchplan.supervise import environment, forget_settings, serving, stopped_by_signals

KEPT: Final = (
    "PATCHPLAN_RELEASES_DIR",
    "PATCHPLAN_DEFAULT_RELEASE",
    "PATCHPLAN_LOG_LEVEL",
    "PATCHPLAN_GUARD",
    "PATCHPLAN_ORDER_SEARCH_S",
)
"""Variables that hold for the demo too. The others would point it at a service that is in use."""

STOPPED: Final = 130
LOGS: Final = "service-logs"


def main(arguments: list[str]) -> int:
    """Run the demo; returns the exit status: 0, or 130 when it was told to stop. Raises FrontDoorError."""
    options = _parser().parse_args(arguments)
    return until_stopped("demo", lambda screen: _demo(options, screen))


def until_stopped(name: str, work: Callable[[Screen], None]) -> int:
    """Do what a person watches, and tell Ctrl-C, refusals and failing files apart; 0, or 130 when stopped.

    Raises DemoError.
    """
    screen, status = Screen(), STOPPED
    with stopped_by_signals():
        try:
            work(screen)
        except ProblemError as error:
            raise DemoError(error.detail) from error
        except OSError as error:
            raise DemoError(f"The {name} cannot go on: {error}") from error
        status = 0
    if status:
        screen.say("\nStopped, and with it all that was started.")
    return status


def _parser() -> argparse.ArgumentParser:
    standard = Wishes()
    parser = argparse.ArgumentParser(prog="patchplan demo", description="The main job over HTTP, end to end.")
    parser.add_argument("--hr", type=Path, metavar="FILE", help="any HR GeoTIFF; LR is made from it")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="where the files go (%(default)s)")
    parser.add_argument(
        "--tiles", type=_count, default=standard.tiles, metavar="N",
        help="use the middle of the image, N tiles at most (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--lr-gsd", type=_metres, metavar="M",
        help="make LR of about so many metres a pixel; default: what the release was trained with",
    )  # fmt: skip
    parser.add_argument(
        "--bands", type=bands, metavar="R,G,B", help="band numbers, e.g. 3,2,1; default: what the file says"
    )
    parser.add_argument(
        "--threshold", help="buy patches whose probability is above this; default: the release's"
    )
    parser.add_argument("--max-patches", metavar="S", help="buy at most S patches a tile")
    parser.add_argument(
        "--price-per-km2", type=_price, default=standard.price_per_km2, metavar="PRICE",
        help="what HR costs; the default, %(default)s, is made up",
    )  # fmt: skip
    parser.add_argument(
        "--currency", type=_currency, default=standard.currency, help="of the price (%(default)s)"
    )
    parser.add_argument("--keep-patches", action="store_true", help="leave the patches in OUT/patches too")
    parser.add_argument("--drawn", action="store_true", help="the drawn scene alone; nothing is downloaded")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 10_000:
        raise argparse.ArgumentTypeError("must be 1 to 10000")
    return number


def _metres(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError("must be metres, above 0")
    return number


def bands(text: str) -> str:
    """An option's three band numbers as the API takes them, refused before anything is started."""
    text = text.replace(" ", "")
    if not re.fullmatch(r"[1-9][0-9]{0,4}(,[1-9][0-9]{0,4}){2}", text):
        raise argparse.ArgumentTypeError("must be three band numbers, such as 3,2,1")
    return text


def _price(text: str) -> str:
    return _taken(parse_price, text)


def _currency(text: str) -> str:
    return _taken(parse_currency, text)


def _taken(read: Callable[[str], object], text: str) -> str:
    try:
        read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _demo(options: argparse.Namespace, screen: Screen) -> None:
    out: Path = options.out
    if options.hr is not None and not options.hr.is_file():
        raise DemoError(f"There is no file {options.hr}.")
    out.mkdir(parents=True, exist_ok=True)
    _clear(out)
    wishes = Wishes(
        options.tiles, options.price_per_km2, options.currency, options.bands, options.threshold,
        options.max_patches, options.keep_patches, options.lr_gsd,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix=".demo-", dir=out.parent, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        scenes = _scenes(options, folder, out, screen)
        with alone(folder / "service"):
            card = choose_card(None)
            screen.say(f"Release {card.name} {card.version}: {len(card.classes)} classes, {card.streams}")
            # before anything is started: a file that is no good is said at once
            chosen = [(title, _look(hr, card, wishes, screen), to) for title, hr, to in scenes]
            with logs_kept(folder / "service" / "logs", out / LOGS), running_client(screen) as client:
                for title, scene, to in chosen:
                    do_scene(title, scene, client, to, wishes, screen)
    screen.say("\nEverything that was started has been stopped.\n")
    for title, _, to in scenes:
        screen.say(f"{title}\n  {to}/: {', '.join(FILES)}")


Scenes = list[tuple[str, Path, Path]]


def _scenes(options: argparse.Namespace, folder: Path, out: Path, screen: Screen) -> Scenes:
    """What to look at, as title, file and where to write."""
    if options.hr is not None:
        return [(options.hr.name, options.hr, out)]
    drawn = folder / "drawn.tif"
    draw_scene(drawn)
    title = "A drawn town (a drawing, not an image: what is said of it proves nothing)"
    if options.drawn:
        return [(title, drawn, out)]
    with screen.step("fetching a real image (20 MB, once)"):
        real = fetch.forest()
    if real is None:
        screen.say("  No real image can be had here: the drawn scene has to do.")
        return [(title, drawn, out)]
    screen.say(f"  {fetch.CREDIT}")
    return [("A forest in Florida", real, out), (title, drawn, out / "drawn")]


def _look(hr: Path, card: Card, wishes: Wishes, screen: Screen) -> Scene:
    with screen.step(f"reading {hr.name}"):
        return choose_scene(hr, card, wishes.tiles, wishes.lr_gsd_m)


@contextmanager
def alone(data_dir: Path) -> Iterator[None]:
    """A service of the demo's own, whatever service the environment names."""
    hidden = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name.startswith("PATCHPLAN_") and name not in KEPT
    }
    try:
        with environment({"PATCHPLAN_DATA_DIR": str(data_dir), "PATCHPLAN_HOST": "127.0.0.1"}):
            yield
    finally:
        os.environ.update(hidden)
        forget_settings()


@contextmanager
def logs_kept(logs: Path, to: Path) -> Iterator[None]:
    """Where the demo fails, leave what its service said."""
    try:
        yield
    except FrontDoorError as error:
        if logs.is_dir():
            shutil.copytree(logs, to, dirs_exist_ok=True)
            raise DemoError(f"{error}\nThe service's logs are in {to}.") from error
        raise


@contextmanager
def running_client(screen: Screen) -> Iterator[Client]:
    """A client of a service that runs for the block."""
    screen.say("Starting a service of its own:")
    with serving(say=lambda line: screen.say(f"  {line}"), port=0) as service:
        screen.say(f"  ready at {service.url}")
        client = Client(service.url, service.key, idle=lambda: service.revive(screen.say))
        try:
            yield client
        finally:
            client.close()


def _clear(out: Path) -> None:
    """Remove what an earlier demo left, and nothing else."""
    for folder in (out, out / "drawn"):
        for path in [*(folder / name for name in FILES), *(folder / PATCHES).glob("tile*-patch*.tif")]:
            path.unlink(missing_ok=True)
    shutil.rmtree(out / LOGS, ignore_errors=True)
