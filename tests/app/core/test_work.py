"""Leases and fences: who may take a row, and who may write its answer."""

import threading
import uuid
from collections.abc import Iterator

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import func, text, update
from sqlalchemy.exc import IntegrityError

from app.core import work
from app.core.db import session_scope
from app.core.settings import get_settings
from app.core.work import TRANSITIONS, WorkStatus
from patchplan.embedded import Services
from tests.app.core.errand import Errand, add_errands, errand_table, read_errand
from workers import leases

LEASE_S = 600
PROBLEM = {"type": "/problems/conflict", "title": "Conflict", "status": 409, "detail": "no"}


@pytest.fixture(autouse=True)
def table(services: Services) -> Iterator[None]:
    with errand_table():
        yield


def claim(owner: str, limit: int = 10, lease_s: float = LEASE_S) -> list[Errand]:
    with session_scope() as session:
        return work.claim(session, Errand, owner, limit, lease_s)


def finish(errand_id: uuid.UUID, fence: int, answer: str) -> bool:
    with session_scope() as session:
        return work.finish(session, Errand, errand_id, fence, answer=answer)


def let_lease_run_out(errand_id: uuid.UUID) -> None:
    with session_scope() as session:
        session.execute(
            update(Errand)
            .where(Errand.id == errand_id, Errand.status == WorkStatus.RUNNING)
            .values(lease_expires_at=text("clock_timestamp() - interval '1 second'"))
        )


def test_no_organisation_has_more_than_its_share() -> None:
    many, few = add_errands(20, "many"), add_errands(3, "few")
    worker, other = leases.Leases(), leases.Leases()
    assert taken(worker, 8) == many[:6]
    assert taken(worker, 8) == few  # it holds six of the others
    assert taken(worker, 8) == []
    assert taken(other, 4) == many[6:10]  # another worker has a share of its own
    (late,) = add_errands(1, "late")
    assert taken(worker, 8) == [late]
    worker.let_go(read_errand(many[0]))
    assert taken(worker, 8) == [many[10]]


def test_two_workers_share_the_queue_of_one_organisation() -> None:
    ids = add_errands(20)
    with session_scope() as first, session_scope() as second:
        for session, expected in ((first, ids[:6]), (second, ids[6:12])):
            room, others = work.within_share(session, Errand, [], 6)
            found = work.claim(session, Errand, "w", room, LEASE_S, others)
            assert [row.id for row in found] == expected


def taken(worker: leases.Leases, limit: int) -> list[uuid.UUID]:
    return [row.id for row in worker.take(Errand, limit, share=6)]


def test_oldest_first_and_each_once() -> None:
    ids = add_errands(5)
    assert [row.id for row in claim("a", 3)] == ids[:3]
    assert [row.id for row in claim("b", 3)] == ids[3:]
    assert claim("c") == []


def test_a_claimed_row_says_who_holds_it() -> None:
    add_errands(1)
    (row,) = claim("host:1")
    assert (row.status, row.lease_owner, row.fence, row.attempts) == (WorkStatus.RUNNING, "host:1", 1, 1)
    assert row.started_at is not None
    assert row.lease_expires_at is not None


def test_an_open_claim_is_skipped_not_waited_for() -> None:
    ids = add_errands(4)
    with session_scope() as first:
        first.execute(text("SET LOCAL lock_timeout = '1s'"))
        held = work.claim(first, Errand, "a", 2, LEASE_S)
        with session_scope() as second:
            second.execute(text("SET LOCAL lock_timeout = '1s'"))
            others = work.claim(second, Errand, "b", 4, LEASE_S)
        assert [row.id for row in held] == ids[:2]
        assert [row.id for row in others] == ids[2:]


def test_many_claim_at_once_and_no_row_twice() -> None:
    ids = add_errands(30)
    taken: list[uuid.UUID] = []
    start = threading.Barrier(4)

    def run(owner: str) -> None:
        start.wait()
        while rows := claim(owner, 3):
            taken.extend(row.id for row in rows)

    threads = [threading.Thread(target=run, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(ids)


def test_the_dead_are_succeeded_and_cannot_write() -> None:
    (errand_id,) = add_errands(1)
    (dead,) = claim("dead", lease_s=0)
    (successor,) = claim("successor")
    assert successor.id == dead.id == errand_id
    assert not finish(errand_id, dead.fence, "from the dead")
    with session_scope() as session:
        assert work.heartbeat(session, Errand, {errand_id: dead.fence}, LEASE_S) == set()
    assert finish(errand_id, successor.fence, "alive")
    assert read_errand(errand_id).answer == "alive"


def test_a_heartbeat_keeps_the_lease() -> None:
    (errand_id,) = add_errands(1)
    (row,) = claim("a", lease_s=0)
    with session_scope() as session:
        assert work.heartbeat(session, Errand, {errand_id: row.fence}, LEASE_S) == {errand_id}
    assert claim("b") == []


def test_work_that_never_ends_is_given_up() -> None:
    (errand_id,) = add_errands(1)
    for _ in range(get_settings().max_attempts):
        assert len(claim("crashes", lease_s=0)) == 1
    assert claim("crashes", lease_s=0) == []
    row = read_errand(errand_id)
    assert row.status == WorkStatus.FAILED
    assert row.error is not None
    assert row.error["type"] == "/problems/work-abandoned"


def test_work_given_back_uncounted_is_never_given_up() -> None:
    (errand_id,) = add_errands(1)
    for _ in range(get_settings().max_attempts + 2):
        (row,) = claim("told to stop")
        with session_scope() as session:
            assert work.give_back(session, Errand, errand_id, row.fence, counted=False)
    assert read_errand(errand_id).attempts == 0


def test_work_put_off_is_left_to_its_lease_and_not_given_up_for_a_day() -> None:
    (errand_id,) = add_errands(1)
    most = get_settings().max_attempts
    for _ in range(most + 2):
        (row,) = claim("no store")
        with session_scope() as session:
            assert work.put_off(session, Errand, errand_id, row.fence)
        left = read_errand(errand_id)
        assert (left.status, left.attempts, left.lease_expires_at) == ("running", 0, row.lease_expires_at)
        let_lease_run_out(errand_id)
    with session_scope() as session:
        session.execute(update(Errand).values(started_at=func.clock_timestamp() - work.PATIENCE))
    for attempt in range(1, most + 1):
        (row,) = claim("still no store")
        with session_scope() as session:
            assert work.put_off(session, Errand, errand_id, row.fence)
        assert read_errand(errand_id).attempts == attempt
        let_lease_run_out(errand_id)
    assert claim("still no store") == []
    assert read_errand(errand_id).status == WorkStatus.FAILED
    with session_scope() as session:
        assert not work.put_off(session, Errand, errand_id, row.fence)


@pytest.mark.parametrize("left", ["given back", "by a worker switched off"])
def test_work_that_lay_for_days_is_as_patient_as_new(left: str) -> None:
    (errand_id,) = add_errands(1)
    (row,) = claim("before the holidays")
    days_ago = func.clock_timestamp() - 3 * work.PATIENCE
    with session_scope() as session:
        if left == "given back":
            assert work.give_back(session, Errand, errand_id, row.fence, counted=False)
            session.execute(update(Errand).values(started_at=days_ago))
        else:
            session.execute(update(Errand).values(started_at=days_ago, lease_expires_at=days_ago))
    for _ in range(get_settings().max_attempts + 2):
        (row,) = claim("no store")
        with session_scope() as session:
            assert work.put_off(session, Errand, errand_id, row.fence)
        let_lease_run_out(errand_id)
    assert read_errand(errand_id).attempts <= 1


def test_attempts_that_count_keep_the_start_of_the_first() -> None:
    (errand_id,) = add_errands(1)
    (row,) = claim("first")
    with session_scope() as session:
        assert work.give_back(session, Errand, errand_id, row.fence, counted=True)
    (again,) = claim("second")
    assert again.started_at == row.started_at


def test_a_failure_keeps_its_problem() -> None:
    (errand_id,) = add_errands(1)
    (row,) = claim("a")
    with session_scope() as session:
        assert work.fail(session, Errand, errand_id, row.fence, PROBLEM)
    assert read_errand(errand_id).error == PROBLEM
    assert claim("b") == []


def test_an_answer_rolled_back_was_never_given() -> None:
    (errand_id,) = add_errands(1)
    (row,) = claim("a")

    def answer_and_break() -> None:
        with session_scope() as session:
            assert work.finish(session, Errand, errand_id, row.fence, answer="half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        answer_and_break()
    assert read_errand(errand_id).status == WorkStatus.RUNNING


@pytest.mark.parametrize(
    "values",
    [
        {"status": "running"},
        {"status": "ready"},
        {"status": "lost"},
        {"lease_owner": "nobody"},
        {"finished_at": text("now()")},
    ],
)
def test_the_database_refuses_rows_that_make_no_sense(values: dict[str, object]) -> None:
    (errand_id,) = add_errands(1)
    with pytest.raises(IntegrityError), session_scope() as session:
        session.execute(update(Errand).where(Errand.id == errand_id).values(**values))


def test_ids_are_ordered_by_time_and_are_version_7() -> None:
    ids = [work.uuid7() for _ in range(50)]
    assert {(one.version, one.variant) for one in ids} == {(7, uuid.RFC_4122)}
    stamps = [one.int >> 80 for one in ids]
    assert stamps == sorted(stamps)
    assert len(set(ids)) == len(ids)


class Leases(RuleBasedStateMachine):
    """Any interleaving of workers against a model of what each row must be."""

    claims = Bundle("claims")

    @initialize(count=st.integers(1, 4))
    def begin(self, count: int) -> None:
        with session_scope() as session:
            session.execute(text("TRUNCATE errands"))
        self.status = dict.fromkeys(add_errands(count), WorkStatus.QUEUED)
        self.fence = dict.fromkeys(self.status, 0)
        self.attempts = dict.fromkeys(self.status, 0)
        self.expired: set[uuid.UUID] = set()
        self.answers: dict[uuid.UUID, str] = {}
        self.before = dict(self.status)

    def _open(self) -> list[uuid.UUID]:
        return [
            errand_id
            for errand_id, status in self.status.items()
            if status == WorkStatus.QUEUED or (status == WorkStatus.RUNNING and errand_id in self.expired)
        ]

    @rule(target=claims, limit=st.integers(1, 3), owner=st.sampled_from(["a", "b"]))
    def claim(self, limit: int, owner: str) -> list[tuple[uuid.UUID, int]]:
        looked_at = self._open()[:limit]
        cap = get_settings().max_attempts
        expected = [errand_id for errand_id in looked_at if self.attempts[errand_id] < cap]
        for errand_id in looked_at:
            self.expired.discard(errand_id)
            if errand_id in expected:
                self.status[errand_id] = WorkStatus.RUNNING
                self.fence[errand_id] += 1
                self.attempts[errand_id] += 1
            else:
                self.status[errand_id] = WorkStatus.FAILED
        taken = [(row.id, row.fence) for row in claim(owner, limit)]
        assert taken == [(errand_id, self.fence[errand_id]) for errand_id in expected]
        return taken

    def _holds(self, errand_id: uuid.UUID, fence: int) -> bool:
        return self.status.get(errand_id) == WorkStatus.RUNNING and self.fence[errand_id] == fence

    @rule(held=claims, answer=st.sampled_from(["x", "y"]))
    def finish(self, held: list[tuple[uuid.UUID, int]], answer: str) -> None:
        for errand_id, fence in held:
            expected = self._holds(errand_id, fence)
            assert finish(errand_id, fence, answer) == expected
            if expected:
                self.status[errand_id] = WorkStatus.READY
                self.answers[errand_id] = answer

    @rule(held=claims)
    def fail(self, held: list[tuple[uuid.UUID, int]]) -> None:
        for errand_id, fence in held:
            expected = self._holds(errand_id, fence)
            with session_scope() as session:
                assert work.fail(session, Errand, errand_id, fence, PROBLEM) == expected
            if expected:
                self.status[errand_id] = WorkStatus.FAILED

    @rule(held=claims, counted=st.booleans())
    def give_back(self, held: list[tuple[uuid.UUID, int]], counted: bool) -> None:
        for errand_id, fence in held:
            expected = self._holds(errand_id, fence)
            with session_scope() as session:
                given = work.give_back(session, Errand, errand_id, fence, counted=counted)
            assert given == expected
            if expected:
                self.status[errand_id] = WorkStatus.QUEUED
                self.attempts[errand_id] -= 0 if counted else 1

    @rule(held=claims)
    def put_off(self, held: list[tuple[uuid.UUID, int]]) -> None:
        for errand_id, fence in held:
            expected = self._holds(errand_id, fence)
            with session_scope() as session:
                assert work.put_off(session, Errand, errand_id, fence) == expected
            self.attempts[errand_id] -= 1 if expected else 0

    @rule(held=claims)
    def heartbeat(self, held: list[tuple[uuid.UUID, int]]) -> None:
        expected = {errand_id for errand_id, fence in held if self._holds(errand_id, fence)}
        with session_scope() as session:
            assert work.heartbeat(session, Errand, dict(held), LEASE_S) == expected
        self.expired -= expected

    @rule(held=claims)
    def let_leases_run_out(self, held: list[tuple[uuid.UUID, int]]) -> None:
        for errand_id, _fence in held:
            if self.status.get(errand_id) == WorkStatus.RUNNING:
                let_lease_run_out(errand_id)
                self.expired.add(errand_id)

    @invariant()
    def the_rows_are_as_the_model_says(self) -> None:
        for errand_id, status in self.status.items():
            row = read_errand(errand_id)
            assert (row.status, row.fence, row.attempts) == (
                status,
                self.fence[errand_id],
                self.attempts[errand_id],
            )
            assert row.answer == self.answers.get(errand_id)

    @invariant()
    def every_change_is_in_the_transition_table(self) -> None:
        for errand_id, status in self.status.items():
            before = self.before[errand_id]
            # two steps of one rule (a claim that finds a row spent) are looked at as one
            assert status == before or status in TRANSITIONS[before]
        self.before = dict(self.status)


TestLeases = Leases.TestCase
TestLeases.settings = hypothesis_settings(
    hypothesis_settings.get_profile("test"), max_examples=25, stateful_step_count=25
)
