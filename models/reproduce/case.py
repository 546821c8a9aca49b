"""Ours beside HR-CNN at one ds of a table: at its own price of a missed answer, and at the others."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from models.reproduce.ours import COSTS, LIMITS
from models.reproduce.pooled import difference, mean_s
from models.reproduce.rows import limited
from models.reproduce.store import Record, Store
from models.reproduce.write import OVER_VIEWS, best_difference, best_of, marked, of

WHOLE = "ours-whole"
KEPT = "kept"
_CEILING = -0.005


class Case(NamedTuple):
    """Ours and HR-CNN of the parts that have both, and the same network at every other price of a missed
    answer that was measured for all of them, the dearest first; in `keeping`, by the mean S that it keeps, at
    the price that was looked for.
    """

    store: Store
    ds: int
    place: str
    ours: list[Record]
    hr: list[Record]
    prices: dict[str, list[Record]]
    keeping: dict[float, list[Record]]

    @property
    def cheaper(self) -> dict[str, list[Record]]:
        """The prices at which it buys less than at its own, the dearest first."""
        most = mean_s(self.ours)["value"]
        return {cost: found for cost, found in self.prices.items() if mean_s(found)["value"] < most}

    def of(self, row: str) -> list[Record]:
        """Another row of ours' network; none where one of both was made again since settings changed."""
        alike = marked(self.store, row, self.ds) == marked(self.store, self.ours[0].row, self.ds)
        return of(self.store, row, "", self.ds, self.ours) if alike else []

    def less(self, row: str, found: list[Record]) -> dict[str, Any] | None:
        """Ours, as it was `found` at some price, less another row."""
        return difference(found, self.hr if row == "hr-cnn" else self.of(row))

    def told(self, cost: str, found: list[Record]) -> str:
        """Ours less HR-CNN, and at which S; at its own price also less HR-CNN over the same views."""
        less = self.less("hr-cnn", found)
        assert less is not None
        if not cost:
            return at_s(found, less) + same_views(self.store, self.ds, found)
        at = f"for {cost} patches a missed answer"
        if cost == KEPT:
            at = f"at the price that keeps it{self._elsewhere(found)}"
        return f"{at} {points(less)} at S = {mean_s(found)['value']:.2f}"

    def _elsewhere(self, found: list[Record]) -> str:
        """Rows of one network that were made on another processor are of another training of its recipe."""
        here = {r.part: r.told.get("processor") for r in self.ours}
        alike = all(r.told.get("processor") == here[r.part] for r in found)
        return "" if alike else " (trained again elsewhere)"

    def within(self, limit: float) -> tuple[str, list[Record]] | None:
        """Where ours' own price buys more than `limit`: the one that was looked for to keep it (KEPT), or the
        dearest of those that were measured. Both are chosen by S alone.
        """
        if mean_s(self.ours)["value"] <= limit:
            return None
        if limit in self.keeping:
            return KEPT, self.keeping[limit]
        return next((at for at in self.cheaper.items() if mean_s(at[1])["value"] <= limit), None)

    def at_ceiling(self) -> tuple[str, list[Record]] | None:
        """The price, its own first and then the cheapest, at which even the lower bound is within half a
        point of HR-CNN. Other prices than its own are so chosen with accuracies in sight.
        """
        for cost, found in [("", self.ours), *reversed(self.prices.items())]:
            less = self.less("hr-cnn", found)
            if less is not None and less["ci95"][0] > _CEILING:
                return cost, found
        return None


def case_of(store: Store, data: str, ds: int) -> Case | None:
    """None where no part has both ours and HR-CNN."""
    row, every = _ours(store, ds)
    ours, hr = with_hr(store, ds, every)
    if difference(ours, hr) is None:
        return None
    parts = {record.part for record in ours}

    def alike(name: str, stage: str) -> list[Record]:
        return [r for r in of(store, name, stage, ds, ours) if r.part in parts]

    prices = {f"{cost:g}": alike(row, f"cost {cost:g}") for cost in sorted(COSTS, reverse=True)}
    whole = {cost: found for cost, found in prices.items() if len(found) == len(ours)}
    name = "ours-limited-whole" if row == WHOLE else "ours-limited"
    limits = {} if marked(store, name, ds) else {limit: alike(name, limited(limit)) for limit in LIMITS}
    keeping = {float(limit): found for limit, found in limits.items() if len(found) == len(ours)}
    place = f"{data}, ds {ds}{marked(store, row, ds)}"
    return Case(store, ds, place, ours, hr, whole, keeping)


def with_hr(store: Store, ds: int, every: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """A row and HR-CNN, of the parts that have both: trained as long, or the plain one where that is right
    more often.
    """
    hr = best_of([of(store, row, "", ds, every) for row in ("hr-cnn-longer", "hr-cnn")], every)
    parts = {record.part for record in hr}
    return [record for record in every if record.part in parts], hr


def _ours(store: Store, ds: int) -> tuple[str, list[Record]]:
    """Ours, with HR-CNN's answer for whole images where that row was made for as many parts."""
    plain = of(store, "ours", "", ds)
    whole = of(store, WHOLE, "", ds, plain)
    return (WHOLE, whole) if whole and len(whole) == len(plain) else ("ours", plain)


def same_views(store: Store, ds: int, ours: list[Record]) -> str:
    less = best_difference(store, ours, OVER_VIEWS, ds)
    return "" if less is None else f"; less HR-CNN over the same views {points(less)}"


def at_s(found: Sequence[Record], less: dict[str, Any]) -> str:
    lengths = ", ".join(sorted({r.profile for r in found}))
    return f"{points(less)} at S = {mean_s(found)['value']:.2f} ({len(found)} part(s), {lengths})"


def points(figure: dict[str, Any]) -> str:
    low, high = figure["ci95"]
    return f"{100 * figure['value']:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
