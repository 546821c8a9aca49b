"""Which release is meant: by id, by alias, or by the name of an installed one."""

import hashlib
import uuid
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.core.errors import NotFound, ReleaseReplaced, ServiceUnavailable, Unprocessable
from app.releases import service
from app.releases.tables import Alias, ReleaseRow
from models.card import Card

CHAMPION: Final = "champion"


@dataclass(frozen=True)
class Found:
    """A release: of an organisation (``row``), or installed as a folder and then everybody's (no row).

    ``key`` names it for good: its id as text, or the installed one's name.
    """

    key: str
    card: Card
    card_sha256: str
    row: ReleaseRow | None = None

    @property
    def id(self) -> uuid.UUID | None:
        """Its id; None for an installed one."""
        return None if self.row is None else self.row.id

    @classmethod
    def of_row(cls, row: ReleaseRow) -> "Found":
        """An organisation's."""
        return cls(str(row.id), Card.from_json(row.card), row.card_sha256, row)

    @classmethod
    def of_card(cls, card: Card) -> "Found":
        """An installed one."""
        return cls(card.name, card, text_sha256(card.to_json()))


def text_sha256(text: str) -> str:
    """SHA-256 of a card's text, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def find(session: Session, org_id: uuid.UUID, ref: str) -> Found:
    """The release that ``ref`` means: an id, an alias of the organisation, or an installed release's name.

    Raises NotFound, also for another organisation's.
    """
    if is_id(ref):
        row = session.scalar(
            select(ReleaseRow).where(ReleaseRow.id == uuid.UUID(ref), ReleaseRow.org_id == org_id)
        )
        if row is None:
            raise NotFound(f"There is no release {ref}.")
        return Found.of_row(row)
    alias = session.get(Alias, (org_id, ref)) if "\0" not in ref else None
    if alias is not None and alias.release is not None:
        try:
            return find_key(session, org_id, alias.release)
        except NotFound:
            raise NotFound(f"The alias {ref} stands for {alias.release}, which is not installed.") from None
    return Found.of_card(service.get_card(ref))


def find_key(session: Session, org_id: uuid.UUID, key: str) -> Found:
    """The release with the ``key`` of a `Found`; raises NotFound."""
    if is_id(key):
        return find(session, org_id, key)
    return Found.of_card(service.get_card(key))


def choose(session: Session, org_id: uuid.UUID, ref: str | None) -> Found:
    """The release a request means: the one it names, else the organisation's champion, else the service's.

    Raises Unprocessable when the name is unknown, ServiceUnavailable when there is nothing to choose.
    """
    if ref is not None:
        try:
            return find(session, org_id, ref)
        except NotFound as error:
            errors = [{"loc": ["body", "release"], "detail": error.detail}]
            raise Unprocessable(error.detail, field="release", errors=errors) from None
    champion = session.get(Alias, (org_id, CHAMPION))
    if champion is None or champion.release is None:
        return Found.of_card(service.choose_card(None))
    try:
        return find_key(session, org_id, champion.release)
    except NotFound:
        raise ServiceUnavailable(f"The champion {champion.release} is not installed.") from None


def made_with(session: Session, name: str, weights_sha256: str, release_id: uuid.UUID | None) -> Found:
    """The release that a plan was made with, wherever aliases point by now.

    Of an installed one: raises Unprocessable when it is gone, ReleaseReplaced when another has its name.
    """
    if release_id is None:
        card = service.choose_card(name)
        if card.weights_sha256 != weights_sha256:
            raise ReleaseReplaced(
                f"The release {name} that made this plan was replaced: another has its name by now. Name a "
                "release in the call, that one too, or make a new plan.",
                release=name,
            )
        return Found.of_card(card)
    return Found.of_row(session.scalars(select(ReleaseRow).where(ReleaseRow.id == release_id)).one())


def is_id(text: str) -> bool:
    """Whether this is an id in its canonical form, which no alias and no installed release is called by."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
