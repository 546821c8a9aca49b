"""Champions are loaded when they are named, so that no plan waits for its release to be fetched.

Which release makes a plan is decided when the plan is posted and kept in its row; this only warms up.
"""

from datetime import datetime

import structlog
from sqlalchemy import select

from app.core.db import session_scope
from app.core.errors import ProblemError
from app.core.settings import get_settings
from app.releases.finding import CHAMPION, Found, find_key
from app.releases.service import choose_card
from app.releases.tables import Alias
from workers.looking import Looking
from workers.releases import Releases

log = structlog.get_logger(__name__)


class PickUp(Looking):
    """Loads the service's default release, then each champion as it is named."""

    kind = Alias.__tablename__

    def __init__(self, releases: Releases) -> None:
        super().__init__("pick-up")
        self._releases = releases
        self._seen: datetime | None = None

    def run(self) -> None:
        """Load the default release, then look as all do."""
        self._warm_up()
        super().run()

    def work(self) -> None:
        """Load the champions named since the last look: the newest ones, as many as memory holds."""
        for one in self._moved():
            if self._stopping.is_set():
                return
            self._load(one)

    def _moved(self) -> list[Found]:
        query = select(Alias).where(Alias.name == CHAMPION, Alias.release.is_not(None))
        if self._seen is not None:
            query = query.where(Alias.moved_at > self._seen)
        query = query.order_by(Alias.moved_at.desc()).limit(get_settings().releases_in_memory)
        found = []
        with session_scope() as session:
            aliases = session.scalars(query).all()
            for alias in aliases:
                try:
                    found.append(find_key(session, alias.org_id, str(alias.release)))
                except ProblemError as error:
                    log.warning("champion_missing", release=alias.release, error=error.detail)
        if aliases:
            self._seen = aliases[0].moved_at
        return found[::-1]

    def _warm_up(self) -> None:
        try:
            self._load(Found.of_card(choose_card(None)))
        except (ProblemError, OSError) as error:
            log.warning("no_release_yet", error=str(error))

    def _load(self, one: Found) -> None:
        try:
            self._releases.get(one.card.name, one.card.weights_sha256, one.id)
        except Exception as error:  # noqa: BLE001 - whoever needs it will be told why it cannot be loaded
            log.warning("champion_not_loaded", release=one.key, error=repr(error))
