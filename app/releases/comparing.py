"""Asking for comparisons of two releases and reading them. The work is done by ``workers.comparing``."""

import uuid

from sqlalchemy import ColumnElement, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.core.errors import ClassesDiffer, Conflict, NotFound, NothingHeldOut, Unprocessable
from app.core.work import WorkStatus, uuid7
from app.datasets.tables import Dataset
from app.releases.finding import Found
from app.releases.tables import NOT_FAILED, Comparison


def ask(
    session: Session, org_id: uuid.UUID, release: Found, other: Found, dataset_id: uuid.UUID | None
) -> Comparison:
    """The comparison of two releases on a data set's held-out images, queued unless it was made before.

    Without ``dataset_id`` it is the one the first was trained on, else the second. A comparison that failed
    is tried again. Raises NotFound, Conflict while the data set is being read, NothingHeldOut, ClassesDiffer,
    Unprocessable for a release that would be compared with itself.
    """
    if release.key == other.key:
        detail = "The two are the same release."
        raise Unprocessable(detail, errors=[{"loc": ["path", "other"], "detail": detail}])
    dataset = _dataset(session, org_id, _dataset_of(release, other, dataset_id), hold=True)
    for one in (release, other):
        must_know(one, dataset.classes, f"the data set {dataset.name}")
    known = last(session, org_id, release, other, dataset.id)
    if known is not None and known.status != WorkStatus.FAILED:
        return known
    # two clients may ask at once: the index lets one row in, and both read it
    session.execute(
        insert(Comparison)
        .values(
            id=uuid7(),
            status=WorkStatus.QUEUED,
            org_id=org_id,
            release=release.key,
            card_sha256=release.card_sha256,
            other=other.key,
            other_card_sha256=other.card_sha256,
            dataset_id=dataset.id,
        )
        .on_conflict_do_nothing(
            index_elements=[
                "org_id", "release", "card_sha256", "other", "other_card_sha256", "dataset_id",
            ],
            index_where=NOT_FAILED,
        )
    )  # fmt: skip
    found = last(session, org_id, release, other, dataset.id)
    assert found is not None
    return found


def last(
    session: Session, org_id: uuid.UUID, release: Found, other: Found, dataset_id: uuid.UUID
) -> Comparison | None:
    """The newest comparison of the two on a data set; None where none was asked for."""
    return session.scalar(
        select(Comparison)
        .where(
            Comparison.org_id == org_id,
            Comparison.release == release.key,
            Comparison.card_sha256 == release.card_sha256,
            Comparison.other == other.key,
            Comparison.other_card_sha256 == other.card_sha256,
            Comparison.dataset_id == dataset_id,
        )
        .order_by(Comparison.created_at.desc(), Comparison.id.desc())
        .limit(1)
    )


def read(
    session: Session, org_id: uuid.UUID, release: Found, other: Found, dataset_id: uuid.UUID | None
) -> Comparison:
    """The comparison that was asked for; raises NotFound, and what finding its data set raises."""
    dataset = _dataset(session, org_id, _dataset_of(release, other, dataset_id))
    found = last(session, org_id, release, other, dataset.id)
    if found is None:
        raise NotFound("These two were not compared on this data set yet: POST here to have it done.")
    return found


def get(session: Session, comparison_id: uuid.UUID) -> Comparison:
    """The row that was asked for; raises NotFound once its data set was deleted, which takes it along."""
    row = session.get(Comparison, comparison_id)
    if row is None:
        raise NotFound("The data set was deleted, and the comparison on it.")
    return row


def must_know(release: Found, classes: list[str], whose: str) -> None:
    """Raises ClassesDiffer where the release lacks one of ``classes``."""
    known = {entry.name for entry in release.card.classes}
    lacks = [name for name in classes if name not in known]
    if lacks:
        detail = f"The release {release.card.name} lacks classes of {whose}: {', '.join(lacks[:10])}."
        raise ClassesDiffer(detail, lacks=lacks, adds=sorted(known - set(classes)))


def _dataset_of(release: Found, other: Found, dataset_id: uuid.UUID | None) -> uuid.UUID:
    candidates = (dataset_id, *(one.row.dataset_id for one in (release, other) if one.row is not None))
    found = next((each for each in candidates if each is not None), None)
    if found is None:
        detail = "Neither release was trained on a data set that is kept here; name one as `dataset`."
        raise NothingHeldOut(detail, errors=[{"loc": ["query", "dataset"], "detail": detail}])
    return found


def _dataset(session: Session, org_id: uuid.UUID, dataset_id: uuid.UUID, *, hold: bool = False) -> Dataset:
    """The row that holds the data set's content; with ``hold`` nobody deletes it in this transaction."""

    def found(which: ColumnElement[bool]) -> Dataset | None:
        query = select(Dataset).where(which, Dataset.org_id == org_id)
        return session.scalar(query.with_for_update(read=True, key_share=True) if hold else query)

    row = found(Dataset.id == dataset_id)
    if row is not None and row.same_as is not None:
        row = found(Dataset.id == row.same_as)
    if row is None:
        raise NotFound(f"There is no dataset {dataset_id}.")
    if row.status != WorkStatus.READY:
        raise Conflict(f"The dataset is {row.status}, not ready.", dataset_status=row.status)
    return row
