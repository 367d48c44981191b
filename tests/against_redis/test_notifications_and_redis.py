"""Godis publishes the keyspace notifications that redis-server does: the same events in the same order.

The same random commands go to both, family by family. Behind each, a message marks its end, so that what a subscriber
on each side receives is compared command by command.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from random import Random
from typing import NamedTuple

import pytest
from grammars import ALL, Grammar, grammar
from random_commands import FAMILIES, Command, random_command
from servers import GodisProcess, RedisProcess, encode, parse
from shrinking import shortest

COMMANDS_A_RUN = 600
BATCH_COMMANDS = 40
CLASSES = "KEAmn"
FIRST_SEED = int(os.environ.get("GODIS_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + 1 + int(os.environ.get("GODIS_SOAK", "0")))
END = encode("PUBLISH", "end", "")
LEFT_OUT = {b"FLUSHALL", b"SORT", b"SORT_RO", b"RESET", b"HELLO", b"CLIENT"}  # RESET: of the protocol, too


class Difference(NamedTuple):
    """How many commands it took until the two differed, and what they published."""

    ran: int
    ours: list[tuple[bytes, bytes]]
    theirs: list[tuple[bytes, bytes]]


class Side:
    """A server that holds nothing, a client of it, and a subscriber."""

    def __init__(self, stack: ExitStack, server: GodisProcess | RedisProcess, protocol: int) -> None:
        self.client, self.subscriber = stack.enter_context(server.raw()), stack.enter_context(server.raw())
        self.client.ask("FLUSHALL")
        self.client.ask("CONFIG", "SET", "notify-keyspace-events", CLASSES)
        stack.callback(self.client.ask, "CONFIG", "SET", "notify-keyspace-events", "")
        self.subscriber.ask("HELLO", protocol)
        self.subscriber.send(encode("PSUBSCRIBE", "__key*__:*", "end"))
        for _ in range(2):
            self.subscriber.read_reply()

    def ask(self, batch: list[Command]) -> list[bytes]:
        """Run commands; return their replies."""
        self.client.send(b"".join(encode(*argv) + END for argv in batch))
        return [(self.client.read_reply(), self.client.read_reply())[0] for _ in batch]

    def events(self) -> list[tuple[bytes, bytes]]:
        """Return the messages of one command: channel and text."""
        found: list[tuple[bytes, bytes]] = []
        while True:
            kind, _, channel, text = parse(self.subscriber.read_reply().replace(b">", b"*", 1))
            assert kind == b"pmessage"
            if channel == b"end":
                return found
            if b"expired" not in (text, channel.partition(b":")[2]):  # each server does that in its own time
                found.append((channel, text))


def first_difference(
    ours: GodisProcess, theirs: RedisProcess, commands: list[Command], rules: Grammar, protocol: int
) -> Difference | None:
    """Run the same on both; return the first difference in what they publish."""
    with ExitStack() as stack:
        godis, redis = Side(stack, ours, protocol), Side(stack, theirs, protocol)
        ran = 0
        for batch in batches(commands, rules):
            replies = [side.ask(batch) for side in (godis, redis)]
            for argv, reply in zip(batch, replies[1], strict=True):
                ran += 1
                mine, others = godis.events(), redis.events()
                if argv[0].upper() == b"XREAD":  # Redis looks up a key twice that is not there
                    others = others[: len(others) // 2]
                if reply.startswith(b"-"):  # whether a wrong word is seen before the key is looked up is each one's own
                    mine, others = ([event for event in events if not is_miss(event)] for events in (mine, others))
                if mine != others:
                    return Difference(ran, mine, others)
            if (settle := rules.settles.get(batch[-1][0].upper())) and replies[0][-1][:1] != b"-":
                settle(
                    lambda *words: parse(godis.client.ask(*words)), batch[-1], *(parse(each[-1]) for each in replies)
                )
                godis.ask([[b"PING"]])
                godis.events()
    return None


def is_miss(event: tuple[bytes, bytes]) -> bool:
    return event[1] == b"keymiss" or event[0].endswith(b":keymiss")


def batches(commands: list[Command], rules: Grammar) -> Iterator[list[Command]]:
    """Yield the commands in batches; one that chance decides ends its batch."""
    batch: list[Command] = []
    for argv in commands:
        batch.append(argv)
        if len(batch) == BATCH_COMMANDS or argv[0].upper() in rules.settles:
            yield batch
            batch = []
    if batch:
        yield batch


@pytest.fixture(scope="module")
def plain_godis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GodisProcess]:
    with GodisProcess(tmp_path_factory.mktemp("godis"), "--default-ttl", "0") as process:
        yield process


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", [*FAMILIES, ALL])
def test_each_command_publishes_the_events_of_redis(
    plain_godis: GodisProcess, redis_server: RedisProcess, family: str, seed: int
) -> None:
    random, rules, protocol = Random(seed), grammar(family), 2 + seed % 2
    made = (random_command(random, family, for_redis=True) for _ in range(COMMANDS_A_RUN))
    commands = [argv for argv in made if argv[0].upper() not in LEFT_OUT]
    found = shortest(
        commands,
        lambda shorter: first_difference(plain_godis, redis_server, shorter, rules, protocol),
        lambda difference: difference.ran,
    )
    if found is not None:
        listing = "\n".join(" ".join(map(repr, argv)) for argv in found[0])
        events = f"Godis: {found[1].ours!r}\nRedis: {found[1].theirs!r}"
        pytest.fail(f"{family}, seed {seed}, RESP{protocol}\n{listing}\n{events}", pytrace=False)
