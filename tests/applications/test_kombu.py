"""kombu: exchanges of each kind, acknowledgements, priorities and a consumer that goes away."""

from __future__ import annotations

import queue
from contextlib import suppress
from typing import Any

import pytest
from applications import package
from servers import PATIENCE_SECONDS, GodisProcess
from tables import for_each
from workers import url

kombu: Any = package("kombu")
WAIT = {"block": True, "timeout": PATIENCE_SECONDS}


def drain(connection: Any) -> None:
    """Take what comes until nothing comes."""
    with suppress(TimeoutError):
        while True:
            connection.drain_events(timeout=0.2)


@for_each(
    ("kind", "bound", "key", "reached"),
    [
        ("direct", ["a", "b"], "a", 1),
        ("fanout", ["", ""], "", 2),
        ("topic", ["news.*", "news.#", "other.#"], "news.today", 2),
    ],
)
def test_an_exchange_reaches_the_queues_that_are_bound_to_it(
    server_6h: GodisProcess, kind: str, bound: list[str], key: str, reached: int
) -> None:
    with kombu.Connection(url(server_6h)) as connection:
        exchange = kombu.Exchange(kind, type=kind)
        queues = [kombu.Queue(f"{kind}-{number}", exchange, routing_key=key) for number, key in enumerate(bound)]
        got: list[str] = []

        def take(body: dict[str, str], message: Any) -> None:
            got.append(body["word"])
            message.ack()

        for declared in queues:
            connection.Consumer(declared, channel=connection.channel(), callbacks=[take]).consume()
        drain(connection)  # by then they have subscribed to the fanout
        connection.Producer().publish({"word": kind}, exchange=exchange, routing_key=key)
        while len(got) < reached:
            connection.drain_events(timeout=PATIENCE_SECONDS)
        drain(connection)
        assert got == [kind] * reached


def test_messages_come_by_priority_and_come_back_when_they_are_rejected_or_left(server_6h: GodisProcess) -> None:
    with kombu.Connection(url(server_6h)) as connection:
        jobs = connection.SimpleQueue("jobs")
        for priority in (9, 0, 3):
            jobs.put(priority, priority=priority)
        assert jobs.qsize() == 3
        first, second = jobs.get(**WAIT), jobs.get(**WAIT)
        assert (first.payload, second.payload) == (0, 3)
        first.requeue()
        second.ack()
    with kombu.Connection(url(server_6h)) as connection, server_6h.client() as client:
        jobs = connection.SimpleQueue("jobs")
        left = jobs.get(**WAIT)
        assert left.payload == 0
        assert client.hlen("unacked") == 1
        connection.default_channel.close()
        jobs.close()
    with kombu.Connection(url(server_6h)) as connection, server_6h.client() as client:
        jobs = connection.SimpleQueue("jobs")
        for expected in (0, 9):
            message = jobs.get(**WAIT)
            assert message.payload == expected
            message.ack()
        with pytest.raises(queue.Empty):
            jobs.get_nowait()
        assert client.hlen("unacked") == client.zcard("unacked_index") == 0
