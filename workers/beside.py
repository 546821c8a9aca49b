"""What a shadow release does, it does after the answer was given and in idle time only.

Nothing on the way of a plan or a classification knows of it: what is ready is found by looking, and whoever
asks how the two differ reads it from the rows that are written here.
"""

from typing import Any, ClassVar, Final

from sqlalchemy import TextClause, select, text

from app.core.db import session_scope
from app.core.errors import NotFound, ServiceUnavailable
from app.releases.finding import Found, choose, find_key
from app.releases.tables import Alias
from workers.desk import Desk

SHADOW: Final = "shadow"
PAUSE_S: Final = 0.1

BUSY: Final = text(
    "SELECT EXISTS (SELECT FROM plans WHERE status IN ('queued', 'running'))"
    " OR EXISTS (SELECT FROM classifications WHERE status IN ('queued', 'running'))"
)


class BesideDesk(Desk):
    """Finds what there is to shadow, and works on it while nobody waits for a plan or a class."""

    enlisting: ClassVar[TextClause]
    """Queues a row for each answer of the champion that the shadow has not seen yet.

    Its parameters: org, since (when the alias was moved), the champion and the hash of its weights, release
    and card of the shadow.
    """

    def can_stand_in(self, _shadow: Found, _champion: Found) -> bool:
        """Whether the shadow can be asked what the champion was asked."""
        return True

    def work(self) -> None:
        """Enlist what is new, then work on it unless a client is waiting for something."""
        self._enlist()
        if not _busy():
            super().work()

    def _enlist(self) -> None:
        query = select(Alias).where(Alias.name == SHADOW, Alias.release.is_not(None))
        with session_scope() as session:
            shadows = session.scalars(query).all()
        for alias in shadows:
            with session_scope() as session:
                try:
                    shadow = find_key(session, alias.org_id, str(alias.release))
                    champion = choose(session, alias.org_id, None)
                except (NotFound, ServiceUnavailable):
                    continue
                if not self.can_stand_in(shadow, champion):
                    continue
                values = {
                    "org": alias.org_id,
                    "since": alias.moved_at,
                    "champion": champion.key,
                    "champion_sha256": champion.card.weights_sha256,
                    "release": shadow.key,
                    "card": shadow.card_sha256,
                }
                session.execute(self.enlisting, values)

    def _forward_once(self, table: list[Any]) -> None:
        while _busy() and not self._stopping.wait(PAUSE_S):
            pass
        super()._forward_once(table)


def _busy() -> bool:
    with session_scope() as session:
        return bool(session.scalar(BUSY))
