"""The queue says "look", and whoever sends is never stopped by a broker that is away."""

import time

import redis

from app.core import queue
from patchplan.embedded import Services
from patchplan.supervise import environment
from tests.conftest import free_port


def test_a_message_reaches_the_broker(services: Services) -> None:
    with redis.Redis.from_url(services.broker_url) as broker:
        broker.flushall()
        queue.send("plans")
        assert broker.llen(queue.QUEUE) == 1
        (message,) = broker.lrange(queue.QUEUE, 0, -1)
        assert queue.TASK.encode() in message
        broker.flushall()


def test_a_broker_that_is_away_is_not_an_error(services: Services) -> None:
    with environment({"PATCHPLAN_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"}):
        began = time.monotonic()
        queue.send("plans")
        assert time.monotonic() - began < 10


def test_sending_works_again_when_the_broker_is_back(services: Services) -> None:
    with redis.Redis.from_url(services.broker_url) as broker:
        broker.flushall()
        queue.send("plans")
        broker.client_kill_filter(_type="normal", skipme=True)
        queue.send("plans")
        queue.send("plans")
        assert broker.llen(queue.QUEUE) >= 2
        broker.flushall()
