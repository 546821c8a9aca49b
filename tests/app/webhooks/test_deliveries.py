"""Deliveries: every move is told once, signed, tried again, and taken by one worker with fairness."""

import json
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.core.db import session_scope
from app.core.settings import get_settings
from app.webhooks import service
from app.webhooks.schemas import Event
from app.webhooks.tables import WebhookDelivery, WebhookEndpoint
from tests.app.webhooks.listening import PRODUCT, Listener, deliveries, draft, registered
from tests.conftest import KeyMaker, checkout, free_port
from tests.plans import ready_plan
from workers.delivering import AN_ORGANISATION, AT_ONCE, DeliveryDesk


def examples(page: str) -> list[Any]:
    """What a page shows as JSON, of that which is not shortened."""
    blocks = re.findall(r"^```json\n(.*?)^```", (checkout() / page).read_text(), re.MULTILINE | re.DOTALL)
    return [json.loads(block) for block in blocks if "..." not in block]


def due_now() -> None:
    with session_scope() as session:
        session.execute(text("UPDATE webhook_deliveries SET next_try_at = now() WHERE state = 'waiting'"))


def test_each_move_is_told_once_and_signed(client: TestClient, listener: Listener, home: None) -> None:
    hook = registered(client, listener.url)
    order = draft(client)
    client.post(f"/v1/orders/{order}/quote", json={"total": "3.00", "currency": "EUR"})
    client.post(f"/v1/orders/{order}/moves", json={"to": "placed"})
    refused = client.post(f"/v1/orders/{order}/moves", json={"to": "placed"})
    assert refused.status_code == 409
    client.post(f"/v1/orders/{order}/moves", json={"to": "received"})
    desk = DeliveryDesk()
    assert desk.work() == 4
    assert desk.work() == 0
    told = [json.loads(body) for _, body in listener.heard]
    assert sorted(message["type"] for message in told) == [
        "order.drafted", "order.placed", "order.quoted", "order.received",
    ]  # fmt: skip
    assert {message["data"]["order_id"] for message in told} == {order}
    placed = next(message for message in told if message["type"] == "order.placed")
    assert (placed["data"]["from"], placed["data"]["to"]) == ("quoted", "placed")
    assert placed["data"]["quote"] == "3.00"
    assert re.fullmatch(r"[0-9T:.-]+Z", placed["timestamp"])
    [shown] = [one for one in examples("docs/orders.md") if one.get("type") == "order.placed"]
    assert list(shown) == list(placed)
    assert list(shown["data"]) == list(placed["data"])
    for headers, body in listener.heard:
        Webhook(hook["secret"]).verify(body, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook(hook["secret"]).verify(body.replace(b"EUR", b"USD"), headers)
    assert len({headers["webhook-id"] for headers, _ in listener.heard}) == 4
    assert {one["state"] for one in deliveries(client, hook)} == {"delivered"}


def test_only_the_events_that_were_asked_for(client: TestClient, listener: Listener, home: None) -> None:
    registered(client, listener.url, events=["order.cancelled"])
    order = draft(client)
    assert DeliveryDesk().work() == 0
    client.post(f"/v1/orders/{order}/moves", json={"to": "cancelled"})
    assert DeliveryDesk().work() == 1


def test_a_move_that_fails_tells_nobody(client: TestClient, home: None) -> None:
    registered(client, "http://127.0.0.1:9/")
    order = draft(client)
    assert client.post(f"/v1/orders/{order}/moves", json={"to": "received"}).status_code == 409
    with session_scope() as session:
        assert session.scalar(text("SELECT count(*) FROM webhook_deliveries")) == 1


def test_what_fails_is_tried_again_with_the_same_message(
    client: TestClient, listener: Listener, home: None
) -> None:
    hook = registered(client, listener.url)
    listener.answers = [(503, {}), (500, {})]
    draft(client)
    desk = DeliveryDesk()
    assert desk.work() == 1
    [waiting] = deliveries(client, hook)
    assert (waiting["state"], waiting["attempts"], waiting["status"]) == ("waiting", 1, 503)
    # not before its time
    assert desk.work() == 0
    due_now()
    desk.work()
    due_now()
    desk.work()
    [done] = deliveries(client, hook)
    assert (done["state"], done["attempts"], done["error"]) == ("delivered", 3, None)
    assert len({(headers["webhook-id"], body) for headers, body in listener.heard}) == 1


def test_it_is_given_up_in_the_end(client: TestClient, home: None) -> None:
    hook = registered(client, f"http://127.0.0.1:{free_port()}/")
    draft(client)
    for _ in range(5):
        DeliveryDesk().work()
        due_now()
    [one] = deliveries(client, hook)
    assert (one["state"], one["attempts"], one["status"]) == ("given_up", 3, None)
    assert "connection failed" in one["error"]


def test_waits_grow() -> None:
    waits = [service.wait_after(attempt) for attempt in range(1, 30)]
    assert 5 <= waits[0] <= 5.5
    assert all(later > 3 * earlier for earlier, later in pairwise(waits[:6]))
    assert max(waits) <= 1.1 * service.LONGEST_WAIT_S


def test_a_worker_that_died_on_it_loses_nothing(client: TestClient, listener: Listener, home: None) -> None:
    hook = registered(client, listener.url)
    draft(client)
    with session_scope() as session:
        [(row, _)] = service.take_due(session, 8, held={}, share=8)
    assert DeliveryDesk().work() == 0
    due_now()
    assert DeliveryDesk().work() == 1
    # the one that was thought dead comes back late and is not believed
    with session_scope() as session:
        assert not service.not_heard(session, row, "too late", None)
    assert deliveries(client, hook)[0]["state"] == "delivered"


@contextmanager
def delivering() -> Iterator[DeliveryDesk]:
    """A desk that sends what is due, in a thread of its own."""
    desk = DeliveryDesk()
    desk.start()
    try:
        yield desk
    finally:
        desk.stop()
        desk.join(20)
        assert not desk.is_alive()


def test_hosts_that_hang_hold_up_their_own_organisation_alone(
    client: TestClient,
    listener: Listener,
    silent: Listener,
    home: None,
    api_key: KeyMaker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATCHPLAN_WEBHOOK_TIMEOUT_S", "60")
    get_settings.cache_clear()
    other = {"Authorization": f"Bearer {api_key(org='other')}"}
    orders = [{"product": PRODUCT, "plans": [str(ready_plan(org="other"))]} for _ in range(2)]
    assert client.post("/v1/webhooks", json={"url": listener.url}, headers=other).status_code == 201
    # more messages than there are slots
    for _ in range(2):
        registered(client, silent.url)
    for _ in range(AT_ONCE // 2 + 1):
        draft(client)
    client.post("/v1/orders", json=orders[0], headers=other)
    with delivering() as desk:
        assert silent.came(AN_ORGANISATION, within_s=4)
        assert listener.came(1, within_s=2)
        # nor does what comes later wait for them
        client.post("/v1/orders", json=orders[1], headers=other)
        desk.ring()
        assert listener.came(2, within_s=2)
        assert len(silent.heard) == AN_ORGANISATION
        silent.hold.set()
        assert silent.came(2 * (AT_ONCE // 2 + 1), within_s=8)


def test_who_has_the_fewest_under_way_is_next(client: TestClient, home: None, api_key: KeyMaker) -> None:
    orgs = {}
    for org, messages in (("acme", 3), ("other", 3), ("third", 1)):
        key = {"Authorization": f"Bearer {api_key(org=org)}"}
        assert (
            client.post("/v1/webhooks", json={"url": "http://127.0.0.1:9/"}, headers=key).status_code == 201
        )
        for _ in range(messages):
            plans = [str(ready_plan(org=org))]
            client.post("/v1/orders", json={"plans": plans, "product": PRODUCT}, headers=key)
        with session_scope() as session:
            orgs[session.scalar(text("SELECT id FROM organisations WHERE name = :n"), {"n": org})] = org
    acme = next(org_id for org_id, org in orgs.items() if org == "acme")
    with session_scope() as session:
        taken = service.take_due(session, 3, held={acme: 1}, share=2)
        assert sorted(orgs[endpoint.org_id] for _, endpoint in taken) == ["acme", "other", "third"]
    with session_scope() as session:
        taken = service.take_due(session, 8, held={acme: 2}, share=2)
        assert [orgs[endpoint.org_id] for _, endpoint in taken] == ["other", "other"]


def backlog(hook: Any, count: int, due_in: str, state: str = "waiting") -> None:
    """So many deliveries for a webhook, all due ``due_in`` (an interval) from now."""
    with session_scope() as session:
        session.execute(
            text(
                "INSERT INTO webhook_deliveries (id, endpoint_id, event, subject_id, body, state,"
                " finished_at, next_try_at) SELECT gen_random_uuid(), :hook, 'order.placed',"
                " gen_random_uuid(), '{}', CAST(:state AS text),"
                " CASE WHEN :state <> 'waiting' THEN now() END, now() + CAST(:due_in AS interval)"
                " FROM generate_series(1, :count)"
            ),
            {"hook": hook["id"], "count": count, "due_in": due_in, "state": state},
        )


LOOKED_AT = text(
    "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'webhook_deliveries'"
)
"""How many deliveries the transaction has looked at."""


def test_what_is_taken_costs_the_same_however_much_waits(client: TestClient, home: None) -> None:
    due, same_org, later = (registered(client, f"http://127.0.0.1:9/{n}") for n in range(3))
    backlog(due, 3000, "-3 hours", "delivered")
    # all at one moment, as after the service was down
    backlog(due, 3000, "-1 hour")
    backlog(same_org, 3000, "-2 hours")
    backlog(later, 3000, "1 hour")
    for _ in range(3):
        # two workers at the same moment: the second passes over what the first has locked
        with session_scope() as one, session_scope() as other:
            for session in (one, other):
                taken = service.take_due(session, AT_ONCE, held={}, share=AN_ORGANISATION)
                # the longest due of the organisation's webhooks
                assert [str(endpoint.id) for _, endpoint in taken] == [same_org["id"]] * AN_ORGANISATION
                assert session.scalars(LOOKED_AT).one() < 200


def ids(taken: list[tuple[WebhookDelivery, WebhookEndpoint]]) -> set[uuid.UUID]:
    return {row.id for row, _ in taken}


def test_two_workers_at_the_same_moment_both_fill_their_slots(client: TestClient, home: None) -> None:
    hooks = [registered(client, f"http://127.0.0.1:9/{n}") for n in range(2)]
    for hook in hooks:
        backlog(hook, 5, "-1 hour")
    with session_scope() as one, session_scope() as other, session_scope() as third:
        first, second, rest = (
            service.take_due(session, AT_ONCE, held={}, share=AN_ORGANISATION)
            for session in (one, other, third)
        )
        # each its share of the organisation and no more, though there are slots; the third what is left
        assert (len(first), len(second), len(rest)) == (AN_ORGANISATION, AN_ORGANISATION, 2)
        assert len(ids(first) | ids(second) | ids(rest)) == 10


def test_what_was_passed_over_changes_no_share(client: TestClient, home: None, api_key: KeyMaker) -> None:
    other_key = {"Authorization": f"Bearer {api_key(org='other')}"}
    theirs = client.post("/v1/webhooks", json={"url": "http://127.0.0.1:9/"}, headers=other_key).json()
    ours = registered(client, "http://127.0.0.1:9/")
    backlog(ours, 12, "-2 hours")
    backlog(theirs, 3, "-1 hour")
    with session_scope() as one, session_scope() as other:
        first = service.take_due(one, 3, held={}, share=AN_ORGANISATION)
        assert sorted(Counter(str(hook.id) for _, hook in first).values()) == [1, 2]
        [org] = {hook.org_id for _, hook in first if str(hook.id) == ours["id"]}
        # one of ours is under way there already, and of the first four two are locked
        second = service.take_due(other, AT_ONCE, held={org: 1}, share=AN_ORGANISATION)
        assert Counter(str(hook.id) for _, hook in second) == {
            ours["id"]: AN_ORGANISATION - 1,
            theirs["id"]: 2,
        }
        assert not ids(first) & ids(second)


def test_what_another_worker_is_taking_is_passed_over(client: TestClient, home: None) -> None:
    backlog(registered(client, "http://127.0.0.1:9/"), 5, "-1 hour")
    with session_scope() as one, session_scope() as other:
        first = service.take_due(one, 2, held={}, share=4)
        second = service.take_due(other, 4, held={}, share=4)
        assert (len(first), len(second)) == (2, 3)
        assert not ids(first) & ids(second)


def test_410_ends_a_webhook(client: TestClient, listener: Listener, home: None) -> None:
    hook = registered(client, listener.url)
    listener.answers = [(410, {})]
    draft(client)
    DeliveryDesk().work()
    assert client.get("/v1/webhooks").json()["webhooks"] == []
    assert client.get(f"/v1/webhooks/{hook['id']}/deliveries").status_code == 404
    draft(client)
    assert DeliveryDesk().work() == 0


@pytest.mark.parametrize(("column", "value"), [("url", "https://a..b/x"), ("secret", "whsec_x")])
def test_a_webhook_that_cannot_be_sent_to_holds_up_no_other(
    client: TestClient, listener: Listener, home: None, column: str, value: str
) -> None:
    good, bad = (registered(client, listener.url, description=name) for name in ("good", "bad"))
    with session_scope() as session:
        # as an older version of the service let it in
        session.execute(
            text(f"UPDATE webhook_endpoints SET {column} = :value WHERE id = :id"),
            {"value": value, "id": bad["id"]},
        )
    draft(client)
    desk = DeliveryDesk()
    assert desk.work() == 2
    assert deliveries(client, good)[0]["state"] == "delivered"
    [waiting] = deliveries(client, bad)
    assert (waiting["state"], waiting["attempts"], waiting["status"]) == ("waiting", 1, None)
    assert waiting["error"]
    for _ in range(3):
        due_now()
        desk.work()
    assert deliveries(client, bad)[0]["state"] == "given_up"


def test_a_webhook_removed_while_a_move_is_made_is_told_nothing(
    client: TestClient, listener: Listener, home: None
) -> None:
    hook = registered(client, listener.url)
    with ThreadPoolExecutor(1) as pool, session_scope() as session:
        org_id = session.scalars(text("SELECT org_id FROM webhook_endpoints")).one()
        service.tell(session, org_id, Event.DRAFTED, uuid.uuid4(), {})
        removing = pool.submit(client.delete, f"/v1/webhooks/{hook['id']}")
        with pytest.raises(TimeoutError):
            removing.result(timeout=0.5)
        session.commit()
        assert removing.result().status_code == 204
    assert DeliveryDesk().work() == 0
    with session_scope() as session:
        assert session.scalars(text("SELECT state FROM webhook_deliveries")).all() == ["given_up"]
