"""The rows this process holds: taken together, kept alive by one thread, dropped when another took them."""

import os
import socket
import threading
import uuid
from typing import TypeVar

import structlog
from sqlalchemy import ColumnElement
from sqlalchemy.exc import SQLAlchemyError

from app.core import tracing
from app.core.db import session_scope
from app.core.settings import get_settings
from app.core.work import WorkRow, claim, give_back, heartbeat, put_off, within_share

log = structlog.get_logger(__name__)

Row = TypeVar("Row", bound=WorkRow)


def owner_name() -> str:
    """Who holds a lease, for people who read the table: host and process."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Leases:
    """Claims rows and sends their heartbeats from a thread of its own, whatever the desks are busy with."""

    def __init__(self) -> None:
        self._held: dict[type[WorkRow], dict[uuid.UUID, int]] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beat_forever, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin the heartbeats."""
        self._thread.start()

    def stop(self) -> None:
        """End the heartbeats; leases still held then run out by themselves."""
        self._stopping.set()
        self._thread.join(timeout=5)

    def take(
        self,
        model: type[Row],
        limit: int,
        only: ColumnElement[bool] | None = None,
        share: int | None = None,
    ) -> list[Row]:
        """Claim up to ``limit`` open rows, of ``only`` some kind; their heartbeats begin with this call.

        With a ``share`` no organisation has more than so many of them and of those that are held already.
        """
        with self._lock:
            mine = list(self._held.get(model, ()))
        with session_scope() as session:
            if share is not None:
                room, others = within_share(session, model, mine, share)
                limit, only = min(limit, room), others if only is None else others & only
            rows = claim(session, model, owner_name(), limit, get_settings().lease_s, only)
        with self._lock:
            held = self._held.setdefault(model, {})
            held.update({row.id: row.fence for row in rows})
        for row in rows:
            tracing.taken(model.__tablename__, row.id, row.attempts, row.traceparent)
        return rows

    def holds(self, row: WorkRow) -> bool:
        """Whether the row was still ours at the last heartbeat."""
        with self._lock:
            return self._held.get(type(row), {}).get(row.id) == row.fence

    def let_go(self, row: WorkRow) -> None:
        """Send no more heartbeats for the row: it is closed, or its lease shall run out."""
        with self._lock:
            held = self._held.get(type(row), {})
            if held.get(row.id) == row.fence:
                del held[row.id]
                tracing.over(row.id)

    def hand_back(self, row: WorkRow) -> None:
        """Queue the row again at once, as if it had never been taken: this worker was told to stop."""
        self.let_go(row)
        with session_scope() as session:
            give_back(session, type(row), row.id, row.fence, counted=False)

    def put_off(self, row: WorkRow) -> None:
        """Leave the row to its lease, uncounted for a while: what it needs is away."""
        self.let_go(row)
        with session_scope() as session:
            put_off(session, type(row), row.id, row.fence)

    def beat(self) -> None:
        """Extend all leases now; a row that another worker holds by now is dropped."""
        with self._lock:
            held = {model: dict(rows) for model, rows in self._held.items() if rows}
        for model, rows in held.items():
            with session_scope() as session:
                alive = heartbeat(session, model, rows, get_settings().lease_s)
            with self._lock:
                current = self._held[model]
                for row_id, fence in rows.items():
                    # closed by us since we looked, or taken anew with a higher fence: not lost
                    if row_id not in alive and current.get(row_id) == fence:
                        del current[row_id]
                        tracing.over(row_id)
                        log.warning("lease_lost", table=model.__tablename__, id=str(row_id))

    def _beat_forever(self) -> None:
        while not self._stopping.wait(get_settings().heartbeat_s):
            try:
                self.beat()
            except SQLAlchemyError as error:
                log.warning("heartbeat_failed", error=str(error))
