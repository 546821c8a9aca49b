"""Where datasets may be read from: what the operator has opened, and nothing else.

``PATCHPLAN_DATASET_FOLDERS`` and ``PATCHPLAN_DATASET_URLS`` are empty unless set. Paths are resolved before
they are compared, so neither ``..`` nor a link leads out.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from app.core.errors import SourceNotAllowed
from app.core.settings import get_settings

TABLES: Final = (".csv", ".geojson")

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII)


@dataclass(frozen=True)
class LocalPlace:
    """A folder or file on the server's disk (resolved), and the opened folder it lies in."""

    path: Path
    allowed: Path


@dataclass(frozen=True)
class RemotePlace:
    """An object, or the objects below a prefix, in an object store."""

    url: str


def place_of(uri: str) -> LocalPlace | RemotePlace:
    """The place an address means; raises SourceNotAllowed, in the same words whether it exists or not."""
    if uri.startswith("file://"):
        split = urlsplit(uri)
        if split.netloc not in ("", "localhost"):
            raise _refused(uri)
        return _local(unquote(split.path))
    return _remote(uri) if _URL.match(uri) else _local(uri)


def _local(path: str) -> LocalPlace:
    if not path.startswith("/") or "\0" in path:
        raise _refused(path)
    try:
        real = Path(path).resolve()
    except (OSError, RuntimeError, ValueError):
        raise _refused(path) from None
    for folder in _parts(get_settings().dataset_folders):
        allowed = Path(folder).resolve()
        if real.is_relative_to(allowed):
            return LocalPlace(real, allowed)
    raise _refused(path)


def _remote(url: str) -> RemotePlace:
    plain = unquote(url)
    steps = plain.split("/")
    if "%" in plain or "?" in url or "#" in url or ".." in steps or "." in steps:
        raise _refused(url)
    # obstore splits at it as at a slash, so that a step behind one would lead out
    if "\\" in plain:
        raise _refused(url)
    for prefix in _parts(get_settings().dataset_urls):
        if f"{plain.rstrip('/')}/".startswith(f"{prefix.rstrip('/')}/"):
            return RemotePlace(url)
    raise _refused(url)


def _parts(setting: str | None) -> list[str]:
    return [part.strip() for part in (setting or "").split(",") if part.strip()]


def _refused(uri: str) -> SourceNotAllowed:
    detail = "Datasets are not read from there; the server's operator opens folders and URLs for it."
    return SourceNotAllowed(detail, errors=[{"loc": ["body", "uri"], "detail": detail}], uri=uri[:200])
