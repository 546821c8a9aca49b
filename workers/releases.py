"""Releases loaded in this process: each once, the one used longest ago makes room."""

import threading
import uuid
from typing import Final

import structlog

from app.core.errors import NotFound, ReleaseReplaced, ServiceUnavailable
from app.core.settings import get_settings
from app.releases.service import get_card, release_folder
from models.card import Card, CardError
from models.precision import best_device, stay_exact
from models.release import Release
from workers.cache import ReleaseCache

log = structlog.get_logger(__name__)

Key = tuple[str, str]


class Releases:
    """Loads by id or name, and checks that the weights are those the row was made for.

    Several desks may ask at once: each release is loaded by one of them, and no other waits for it.
    """

    def __init__(self) -> None:
        self._loaded: dict[Key, Release] = {}
        self._loading: dict[Key, threading.Lock] = {}
        self._lock = threading.Lock()
        self._cache = ReleaseCache()
        self.device: Final = str(best_device())
        stay_exact()

    def get(self, name: str, weights_sha256: str, release_id: uuid.UUID | None = None) -> Release:
        """The organisation's release ``release_id``, else the installed one called ``name``.

        Raises ServiceUnavailable when it is not installed here, ReleaseLost when the store no longer has it,
        ReleaseReplaced when another has its name.
        """
        key = (str(release_id or name), weights_sha256)
        with self._lock:
            known = self._used(key)
            if known is not None:
                return known
            alone = self._loading.setdefault(key, threading.Lock())
        with alone:
            with self._lock:
                known = self._used(key)
            if known is not None:
                return known
            release = self._load(name, weights_sha256, release_id)
            with self._lock:
                self._keep(key, release)
            return release

    def loaded(self) -> int:
        """How many are in memory."""
        with self._lock:
            return len(self._loaded)

    def _used(self, key: Key) -> Release | None:
        found = self._loaded.pop(key, None)
        if found is not None:
            self._loaded[key] = found
        return found

    def _keep(self, key: Key, release: Release) -> None:
        self._loaded[key] = release
        self._loading.pop(key, None)
        while len(self._loaded) > get_settings().releases_in_memory:
            self._loaded.pop(next(iter(self._loaded)))

    def _load(self, name: str, weights_sha256: str, release_id: uuid.UUID | None) -> Release:
        log.info("release_loads", release=str(release_id or name), device=self.device)
        if release_id is not None:
            return self._cache.load(release_id, self.device)
        return self._load_folder(name, weights_sha256)

    def _load_folder(self, name: str, weights_sha256: str) -> Release:
        try:
            card = get_card(name)
        except NotFound:
            raise ServiceUnavailable(f"The release {name} is not installed where the worker runs.") from None
        _must_be(card, weights_sha256)
        try:
            release = Release.load(release_folder(name), device=self.device)
        except CardError as error:
            raise ServiceUnavailable(
                f"The release {name} is damaged where the worker runs: {error}"
            ) from error
        # it may have been replaced after its card was looked at
        _must_be(release.card, weights_sha256)
        return release


def _must_be(card: Card, weights_sha256: str) -> None:
    if card.weights_sha256 != weights_sha256:
        raise ReleaseReplaced(
            f"The release {card.name} was replaced after this was asked for; ask again.", release=card.name
        )
