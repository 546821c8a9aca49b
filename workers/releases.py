"""Releases loaded in this process: each once, dropped when its folder holds another one."""

import threading
from typing import Final

import structlog
import torch

from app.core.errors import Conflict, NotFound, ServiceUnavailable
from app.releases.service import get_card, release_folder
from models.card import CardError
from models.release import Release

log = structlog.get_logger(__name__)

# A laptop holds few networks; the one used longest ago makes room.
LOADED_AT_ONCE: Final = 4


class Releases:
    """Loads by name and checks that the weights are those the row was made for."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, str], Release] = {}
        self._lock = threading.Lock()
        self.device = "cuda" if torch.cuda.is_available() else "cpu"

    def get(self, name: str, weights_sha256: str) -> Release:
        """The release ``name`` with just these weights.

        Raises ServiceUnavailable when this worker has no such release, Conflict when it was replaced since.
        """
        with self._lock:
            known = self._loaded.pop((name, weights_sha256), None)
            release = known if known is not None else self._load(name, weights_sha256)
            self._loaded[name, weights_sha256] = release
            while len(self._loaded) > LOADED_AT_ONCE:
                self._loaded.pop(next(iter(self._loaded)))
            return release

    def _load(self, name: str, weights_sha256: str) -> Release:
        try:
            card = get_card(name)
        except NotFound:
            raise ServiceUnavailable(f"The release {name} is not installed where the worker runs.") from None
        if card.weights_sha256 != weights_sha256:
            raise Conflict(f"The release {name} was replaced after this was asked for; ask again.")
        log.info("release_loads", release=name, device=self.device)
        try:
            return Release.load(release_folder(name), device=self.device)
        except CardError as error:
            raise ServiceUnavailable(
                f"The release {name} is damaged where the worker runs: {error}"
            ) from error
