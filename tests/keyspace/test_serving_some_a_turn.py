"""Thousands of clients that wait for one key are served some a turn, and nobody takes what they wait for."""

from __future__ import annotations

import pytest
from instances import Bench, Client

from commands.execution import execute
from keyspace.blocked_clients import SERVED_A_TURN, Waiter
from replies import HELD_BACK
from values import LIST

COUNT = 2 * SERVED_A_TURN + 10


def wait_for(client: Client, key: bytes, got: list[int], number: int) -> None:
    """Let a client wait for an element of a list, and note that it got one."""

    def serve(ready: bytes) -> bool:
        got.append(number)
        return execute(client.session, [b"LPOP", ready]) is not None

    client.bench.instance.blocked.add(Waiter(client.session.db, {key: None}, LIST.python_type, serve))


@pytest.mark.parametrize(
    ("asked", "waits"),
    [("LLEN k", True), ("RPUSH k x", True), ("DEL a k", True), ("RANDOMKEY", True), ("GET a", False), ("PING", False)],
)
def test_while_thousands_are_served_only_requests_for_their_key_wait(asked: str, waits: bool) -> None:
    bench = Bench(default_ttl="0")
    client, other, got = bench.connect(), bench.connect(), list[int]()
    blocked = bench.instance.blocked
    for number in range(COUNT):
        wait_for(client, b"k", got, number)
    assert client.ask("RPUSH", "k", *range(COUNT + 1)) == COUNT + 1
    assert (other.ask(*asked.split()) is HELD_BACK) == waits
    assert got == list(range(SERVED_A_TURN))
    while blocked.is_ready:
        before = len(got)
        blocked.begin_turn()
        blocked.serve()
        assert len(got) - before <= SERVED_A_TURN
    assert got == list(range(COUNT)), "each once, in the order in which they came"
    assert other.ask("LLEN", "k") == 1
    assert not bench.instance.closed_gates


def test_a_client_that_fails_when_it_is_tried_holds_up_no_other() -> None:
    bench = Bench(default_ttl="0")
    client, got = bench.connect(), list[int]()

    def fail(_ready: bytes) -> bool:
        raise MemoryError

    bench.instance.blocked.add(Waiter(client.session.db, {b"bad": None}, LIST.python_type, fail))
    wait_for(client, b"good", got, 1)
    client.ask("MULTI")
    for key in ("bad", "good"):
        client.ask("RPUSH", key, "x")
    client.ask("EXEC")
    with pytest.raises(MemoryError):
        bench.instance.blocked.serve()
    bench.instance.blocked.serve()
    assert got == [1]
    assert not bench.instance.blocked.is_ready
