"""Moving an alias; in front of ``champion`` stands the gate.

The gate asks for a comparison of candidate and champion on the candidate's own held-out images, waits for it
as long as the client likes to wait, and lets the candidate through unless it is significantly worse.
"""

import uuid
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core import queue
from app.core.auth import Principal
from app.core.db import session_scope
from app.core.errors import ClassesDiffer, GateUndecided, NotFound, PromotionRefused, Unprocessable
from app.core.work import WorkStatus
from app.releases import aliases, comparing
from app.releases.alias_schemas import AliasForm
from app.releases.finding import CHAMPION, Found, find, find_key
from app.releases.tables import Alias, Comparison

PICK_UP: Final = Alias.__tablename__
"""The message that tells workers that an alias has moved."""


@dataclass(frozen=True)
class Gate:
    """What a promotion waits for; ``version`` is the champion's that it was decided against."""

    candidate: Found
    champion: Found
    comparison_id: uuid.UUID
    version: int


@dataclass(frozen=True)
class Moved:
    """An alias after a call, and whether the call made it what it is."""

    name: str
    changed: bool
    created: bool


def begin(principal: Principal, name: str, form: AliasForm, expected: int | None) -> Gate | Moved:
    """Move the alias at once where nothing has to be measured, else say what has to be waited for.

    Raises what `aliases.move` and `comparing.ask` raise, ClassesDiffer for a candidate with other classes.
    """
    aliases.check_name(name)
    with session_scope() as session:
        candidate = _wanted(session, principal.org_id, form.release)
        before = session.get(Alias, (principal.org_id, name))
        champion = _standing(session, before)
        gated = name == CHAMPION and champion is not None and champion.key != candidate.key
        result: Gate | Moved
        if gated and not form.force:
            assert champion is not None
            assert before is not None
            aliases.must_be(before, expected)
            _same_classes(candidate, champion)
            row = comparing.ask(session, principal.org_id, candidate, champion, form.dataset)
            result = Gate(candidate, champion, row.id, before.version)
        else:
            if name == CHAMPION and not form.force and expected is None:
                # of two who find no champion, one is the first; the other has to pass the gate
                expected = 0 if before is None else before.version
            step = aliases.Move(candidate, principal.key_id, gated, form.reason, None)
            result = _move(session, principal, name, step, expected)
    queue.send(Comparison.__tablename__ if isinstance(result, Gate) else PICK_UP)
    return result


def is_finished(comparison_id: uuid.UUID) -> bool | None:
    """True once the comparison is ready, failed or gone, None before: the look of a waiting client."""
    with session_scope() as session:
        status = session.scalar(select(Comparison.status).where(Comparison.id == comparison_id))
    return True if status in (None, WorkStatus.READY, WorkStatus.FAILED) else None


def end(principal: Principal, name: str, form: AliasForm, gate: Gate) -> Moved:
    """Move the champion if the comparison speaks for it.

    Raises NotFound once the data set was deleted, GateUndecided while there is no result, PromotionRefused
    where the candidate is worse, PreconditionFailed where the champion was moved in the meantime.
    """
    with session_scope() as session:
        row = comparing.get(session, gate.comparison_id)
        link = f"/v1/releases/{gate.candidate.key}/compare/{gate.champion.key}?dataset={row.dataset_id}"
        if row.status == WorkStatus.FAILED:
            why = "" if row.error is None else f" {row.error['detail']}"
            raise GateUndecided(f"The comparison with the champion failed.{why}", comparison=link)
        if row.status != WorkStatus.READY or row.result is None:
            detail = "The candidate is being compared with the champion; send the same request again soon."
            raise GateUndecided(detail, comparison=link)
        said = decision(row, link)
        if said["less_accurate"] or said["more_expensive"]:
            raise PromotionRefused(_why(said), gate=said)
        step = aliases.Move(gate.candidate, principal.key_id, reason=form.reason, gate=said)
        moved = _move(session, principal, name, step, gate.version)
    queue.send(PICK_UP)
    return moved


def decision(row: Comparison, link: str) -> dict[str, Any]:
    """What the gate decided on, as it is kept in the alias's history."""
    assert row.result is not None
    return {
        **row.result["verdict"],
        "champion": row.other,
        "candidate": row.release,
        "dataset": str(row.dataset_id),
        "comparison": link,
        "held_out": row.result["held_out"],
        "seen": row.result["seen"],
        "accuracy": {ds: found["accuracy"] for ds, found in row.result["by_ds"].items()},
        "share": {ds: found["share"] for ds, found in row.result["by_ds"].items()},
    }


def _why(said: dict[str, Any]) -> str:
    parts = []
    for key, what in (("less_accurate", "less accurate"), ("more_expensive", "more expensive")):
        if said[key]:
            parts.append(f"{what} than the champion at ds {', '.join(str(ds) for ds in said[key])}")
    said_of = f"On its held-out images the candidate is significantly {' and '.join(parts)}."
    learned = said["seen"].get("other_images")
    if learned:
        said_of += f" The champion learned from {learned} of these {said['held_out']['n']} images."
    return said_of


def _wanted(session: Session, org_id: uuid.UUID, ref: str) -> Found:
    try:
        return find(session, org_id, ref)
    except NotFound as error:
        errors = [{"loc": ["body", "release"], "detail": error.detail}]
        raise Unprocessable(error.detail, errors=errors) from None


def _standing(session: Session, alias: Alias | None) -> Found | None:
    """What the alias stands for, or stood for before it was removed: removing one is no way past the gate.

    None also where that is no longer installed.
    """
    release = None if alias is None else alias.release or aliases.last_release(session, alias)
    if alias is None or release is None:
        return None
    try:
        return find_key(session, alias.org_id, release)
    except NotFound:
        return None


def _same_classes(candidate: Found, champion: Found) -> None:
    new = {entry.name for entry in candidate.card.classes}
    old = {entry.name for entry in champion.card.classes}
    if new != old:
        detail = (
            f"The candidate {candidate.card.name} has other classes than the champion {champion.card.name}. "
            "Others may rely on these: `force` with a `reason` promotes it all the same."
        )
        raise ClassesDiffer(detail, lacks=sorted(old - new), adds=sorted(new - old))


def _move(
    session: Session, principal: Principal, name: str, step: aliases.Move, expected: int | None
) -> Moved:
    alias, changed = aliases.move(session, principal.org_id, name, step, expected)
    return Moved(name, changed, changed and alias.version == 1)
