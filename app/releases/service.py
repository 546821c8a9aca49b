"""Which releases there are, read from the cards in the releases folder. Nothing is loaded here but cards."""

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from app.core.errors import NotFound, ServiceUnavailable, Unprocessable
from app.core.settings import get_settings
from models.card import Card, CardError, load_card

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)

_cards: dict[Path, tuple[tuple[int, int], Card]] = {}


def is_name(name: str) -> bool:
    """Whether a release can be called so."""
    return bool(_NAME.fullmatch(name)) and ".." not in name


def release_folder(name: str) -> Path:
    """The folder of a release; raises NotFound for a name no release can have (paths, controls)."""
    if not is_name(name):
        raise NotFound(f"There is no release called {name[:100]!r}.")
    return get_settings().releases_dir / name


def get_card(name: str) -> Card:
    """The card of the release ``name``; raises NotFound."""
    folder = release_folder(name)
    try:
        return _read(folder)
    except (FileNotFoundError, CardError):
        raise NotFound(f"There is no release called {name!r}.") from None


def is_installed(name: str) -> bool:
    """Whether there is an installed release called so."""
    try:
        get_card(name)
    except NotFound:
        return False
    return True


def list_cards() -> list[Card]:
    """The cards of all releases, by name. A folder whose card cannot be read is left out."""
    found = []
    for path in sorted(get_settings().releases_dir.glob("*/card.json")):
        with suppress(FileNotFoundError, CardError):
            found.append(_read(path.parent))
    return found


def choose_card(name: str | None) -> Card:
    """The card a request means: the one it names, else the configured default, else the first by name.

    Raises Unprocessable when the name is unknown, ServiceUnavailable when no release is installed or the
    configured default is not.
    """
    if name is not None:
        try:
            return get_card(name)
        except NotFound as error:
            raise Unprocessable(error.detail, field="release") from None
    default = get_settings().default_release
    if default is not None:
        try:
            return get_card(default)
        except NotFound:
            raise ServiceUnavailable(f"The default release {default!r} is not installed.") from None
    cards = list_cards()
    if not cards:
        raise ServiceUnavailable("No release is installed: train one, or name its folder's parent.")
    return cards[0]


def _read(folder: Path) -> Card:
    path = folder / "card.json"
    found = path.stat()
    # not the time of its writing: copies and archives keep that, and two releases may have the same
    stamp = (found.st_ino, found.st_ctime_ns)
    known = _cards.get(path)
    if known is not None and known[0] == stamp:
        return known[1]
    # a release is called what its folder is called, so that it can be copied under another name
    card = replace(load_card(folder), name=folder.name)
    _cards[path] = (stamp, card)
    return card
