"""What a shadow release would have said: the champion's classifications, answered again.

The shadow gets the very patches that the champion's answer was made from, which the champion chose.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.classifications.tables import Classification, ClassifiedTile
from app.core.db import session_scope
from app.core.errors import Conflict
from app.releases.finding import Found, find_key
from app.releases.tables import ShadowClassification
from workers.beside import BesideDesk
from workers.classifying import TileResult, TilesJob
from workers.leases import Leases
from workers.releases import Releases

ENLIST: Final = text(
    """
    INSERT INTO shadow_classifications (id, org_id, classification_id, release, card_sha256, status)
    SELECT gen_random_uuid(), plans.org_id, live.id,
           CAST(:release AS varchar), CAST(:card AS varchar), 'queued'
    FROM classifications AS live JOIN plans ON plans.id = live.plan_id
    WHERE plans.org_id = :org AND live.status = 'ready'
      AND live.created_at >= :since AND live.created_at > now() - interval '1 day'
      AND coalesce(live.release_id::text, live.release) = :champion
      AND live.weights_sha256 = :champion_sha256
      AND NOT EXISTS (SELECT FROM shadow_classifications AS known WHERE known.classification_id = live.id
                      AND known.release = CAST(:release AS varchar)
                      AND known.card_sha256 = CAST(:card AS varchar))
    ORDER BY live.created_at LIMIT 100
    ON CONFLICT DO NOTHING
    """
)


class ShadowClassifyJob(TilesJob):
    """One live classification, answered again by the shadow."""

    model = ShadowClassification

    def __init__(self, row: ShadowClassification, releases: Releases) -> None:
        super().__init__(releases)
        self.row: ShadowClassification = row

    def open(self, scratch: Path) -> None:
        """Fetch the champion's answer, what it was made from, and the shadow."""
        with session_scope() as session:
            live = session.get_one(Classification, self.row.classification_id)
            query = select(ClassifiedTile).where(ClassifiedTile.classification_id == live.id)
            self._answered = session.scalars(query.order_by(ClassifiedTile.tile)).all()
            shadow = find_key(session, self.row.org_id, self.row.release)
        if shadow.card_sha256 != self.row.card_sha256:
            raise Conflict(f"The release {shadow.key} was replaced after this was asked for.")
        self._classes = live.classes
        self.release = self._releases.get(shadow.card.name, shadow.card.weights_sha256, shadow.id)
        self.fetch(live, scratch)

    def values(self) -> dict[str, Any]:
        """How often the two say the same."""
        theirs = [entry.name for entry in self.release.card.classes]
        tally = ClassTally(self._classes, theirs)
        for tile, result in zip(self._answered, self._results, strict=True):
            tally.add(tile, result)
        return {"result": tally.to_json()}

    def write(self, session: Session) -> None:
        """Nothing beside the row."""


class ClassTally:
    """How often two releases give a tile the same class: by all they have, by LR alone, with HR in it."""

    def __init__(self, classes: Sequence[str], shadow_classes: Sequence[str]) -> None:
        self._classes = (classes, shadow_classes)
        self.counts = dict.fromkeys(("tiles", "same", "lr_tiles", "lr_same", "hr_tiles", "hr_same"), 0)
        self.apart: Counter[tuple[str, str]] = Counter()

    def add(self, tile: ClassifiedTile, shadow: TileResult) -> None:
        """One tile: the champion's answer, and the shadow's. Counted where both have one."""
        fused = self._said(tile.fused, shadow.fused)
        self._count("", fused)
        self._count("lr_", self._said(tile.lr, shadow.lr))
        self._count("hr_", fused if tile.used else None)
        if fused is not None and fused[0] != fused[1]:
            self.apart[fused] += 1

    def to_json(self) -> dict[str, Any]:
        """As it is kept: counts, and who said what instead of what."""
        differences = [
            {"champion": ours, "shadow": theirs, "tiles": count}
            for (ours, theirs), count in sorted(self.apart.items())
        ]
        return {**self.counts, "differences": differences}

    def _said(self, ours: list[float] | None, theirs: list[float] | None) -> tuple[str, str] | None:
        if ours is None or theirs is None:
            return None
        first, second = (
            classes[max(range(len(found)), key=found.__getitem__)]
            for classes, found in zip(self._classes, (ours, theirs), strict=True)
        )
        return first, second

    def _count(self, kind: str, said: tuple[str, str] | None) -> None:
        if said is not None:
            self.counts[f"{kind}tiles"] += 1
            self.counts[f"{kind}same"] += said[0] == said[1]


class ShadowClassifyDesk(BesideDesk):
    """Has the shadow classify what the champion has classified."""

    enlisting = ENLIST

    def __init__(self, releases: Releases, leases: Leases, scratch: Path) -> None:
        super().__init__(lambda row: ShadowClassifyJob(row, releases), ShadowClassification, leases, scratch)

    def can_stand_in(self, shadow: Found, champion: Found) -> bool:
        """Whether it reads the same patches."""
        mine, theirs = shadow.card, champion.card
        return (mine.hr_px, mine.grid, mine.bands) == (theirs.hr_px, theirs.grid, theirs.bands)
