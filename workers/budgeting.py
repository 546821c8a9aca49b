"""The desk for budgets: no network is asked, so one row is worked on after the other."""

from pathlib import Path
from typing import Any, ClassVar, Final

from sqlalchemy import delete, insert
from sqlalchemy.orm import Session

from app.budgets.areas import read_area
from app.budgets.choose import Allocation, allocate
from app.budgets.service import offers, polygons_json, result_of
from app.budgets.tables import Budget, BudgetTile
from app.core import tracing
from app.core.db import session_scope
from app.core.errors import Internal
from app.pricing.products import Product
from workers.desk import Desk, Piece
from workers.leases import Leases

ROWS_AN_INSERT: Final = 2000


class BudgetJob(Piece):
    """One queued budget."""

    model: ClassVar = Budget

    def __init__(self, row: Budget) -> None:
        self.row: Budget = row
        self._found: Allocation | None = None

    def work(self) -> None:
        """Choose. Raises ProblemError where the budget buys nothing."""
        row = self.row
        with session_scope() as session:
            tiles = offers(session, row)
        self._found = allocate(
            tiles,
            Product.from_json(row.product),
            row.budget,
            max_patches=row.request["max_patches"],
            must_buy=read_area(row.request["must_buy"], ("body", "must_buy")),
            never_buy=read_area(row.request["never_buy"], ("body", "never_buy")),
        )

    def values(self) -> dict[str, Any]:
        """The curve, the quote and the polygons."""
        found = self._answer()
        return {"answer": {"result": result_of(self.row.budget, found), "polygons": polygons_json(found)}}

    def write(self, session: Session) -> None:
        """Insert the tiles, some thousand at a time."""
        session.execute(delete(BudgetTile).where(BudgetTile.budget_id == self.row.id))
        rows = [
            {
                "budget_id": self.row.id,
                "position": position,
                "plan_id": tile.plan_id,
                "tile": tile.tile,
                "verdict": tile.verdict.value,
                "chosen": list(tile.chosen),
                "bought": list(tile.bought),
                "expected_before": tile.expected_before,
                "expected_after": tile.expected_after,
            }
            for position, tile in enumerate(self._answer().tiles)
        ]
        for start in range(0, len(rows), ROWS_AN_INSERT):
            session.execute(insert(BudgetTile), rows[start : start + ROWS_AN_INSERT])

    def close(self) -> None:
        """Nothing is held."""

    def _answer(self) -> Allocation:
        if self._found is None:
            raise Internal("The budget was not worked on.")
        return self._found


class BudgetDesk(Desk):
    """Works on one budget after the other."""

    def __init__(self, leases: Leases, scratch: Path) -> None:
        super().__init__(_no_network, Budget, leases, scratch)

    def work(self) -> None:
        """Take rows until there are none left (or the desk is stopped)."""
        while not self._stopping.is_set():
            self._bell.clear()
            rows = self._leases.take(Budget, 1)
            if not rows:
                return
            job = BudgetJob(rows[0])
            try:
                with tracing.during(job.row.id):
                    job.work()
                if self._leases.holds(job.row):
                    self._write(job)
            except Exception as error:  # noqa: BLE001 - one budget's trouble is that budget's alone
                self._trouble(job, error)


def _no_network(_row: Any) -> Any:
    raise Internal("Budgets ask no network.")
