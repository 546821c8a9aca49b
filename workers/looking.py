"""A thread that looks for work whenever its bell rings, and every few seconds without a ring."""

import threading
from abc import ABC, abstractmethod

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.core.settings import get_settings

log = structlog.get_logger(__name__)


class Looking(threading.Thread, ABC):
    """Calls `work` until told to stop; `kind` is the work table whose bell it is."""

    kind: str

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._bell = threading.Event()
        self._stopping = threading.Event()

    def ring(self) -> None:
        """There may be work: look now."""
        self._bell.set()

    def stop(self) -> None:
        """End after what is under way; the rest is done by whoever looks next."""
        self._stopping.set()
        self._bell.set()

    def run(self) -> None:
        """Look at every ring and every sweep until stopped."""
        while not self._stopping.is_set():
            self._bell.clear()
            try:
                self.work()
            except SQLAlchemyError as error:
                log.warning("desk_waits_for_database", kind=self.kind, error=str(error))
            except Exception:
                # a desk that ended would leave its work lying until the worker's next start
                log.exception("desk_broke", kind=self.kind)
            self._bell.wait(get_settings().sweep_s)

    @abstractmethod
    def work(self) -> object:
        """Do all there is to do now. What it raises is logged, and it is tried again at the next look."""
