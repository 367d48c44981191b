"""Commands that redis-server 7.0 does not know are answered as the servers answer that have them.

A grammar marks these commands: redis-server 8.2 knows some, Valkey 9.1 others. What 8.2 says otherwise than 7.0 of an
older command is not followed, so most commands of a run are of the marked kind.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from contents import Contents
from grammars import FAMILIES, Command, Grammar, Slot, from_now, words
from grammars.streams import same_stream
from server_pair import Pair, report
from servers import GodisProcess, NewerRedisProcess, Raw, ValkeyProcess, parse

COMMANDS_A_RUN = 500
FIRST_SEED = int(os.environ.get("GODIS_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + 2 + int(os.environ.get("GODIS_SOAK", "0")))
# No deadline passes between two replies, nothing is trimmed with `~`, and no cursor is empty, which 8.2 refuses.
SLOTS: dict[str, Slot] = {
    "short_seconds": from_now(10**5),
    "short_ms": from_now(10**8),
    "add_option": words("NOMKSTREAM|MAXLEN length|MAXLEN = length|MINID id|LIMIT bad_limit|maxlen 4|MAXLEN"),
    "trim_option": words("MAXLEN length|MAXLEN = length|MINID id|MINID = id"),
    "cursor": words("0|0|0|abc"),
    "hash_cursor": words("0|0|0|abc"),
}


class Newer(Grammar):
    """A family's grammar whose deadlines lie far away."""

    def __init__(self, family: str) -> None:
        super().__init__(family)
        self.slots |= SLOTS


class NewerPair(Pair):
    """Godis and redis-server 8.2, which changed two things of consumer groups since 7.0.

    A consumer exists once it asked, even if there was nothing for it, and the number of entries that a group has read
    is known, or limited, in more cases.
    """

    OTHER_REPLIES = (b"XINFO CONSUMERS", b"XGROUP CREATECONSUMER")
    OTHER_FIELDS = (b"consumers", b"entries-read", b"lag")

    def alike(self, argv: Command, ours: bytes, theirs: bytes, rules: Grammar) -> bool:
        if b" ".join(argv[:2]).upper() in self.OTHER_REPLIES and not ours.startswith(b"-"):
            return ours[:1] == theirs[:1]
        if argv[0].upper() == b"XINFO" and not ours.startswith(b"-"):
            return same_stream(self.common(parse(ours)), self.common(parse(theirs)))
        return super().alike(argv, ours, theirs, rules)

    def contents(self, raw: Raw) -> Contents:
        return {place: (kind, self.common(value), at) for place, (kind, value, at) in super().contents(raw).items()}

    def common(self, value: Any) -> Any:
        """Return a reply, or a description of a stream, without the fields that may differ."""
        if isinstance(value, dict):
            return {name: self.common(each) for name, each in value.items() if name not in self.OTHER_FIELDS}
        if not isinstance(value, list):
            return value
        if value and len(value) % 2 == 0 and all(type(name) is bytes for name in value[::2]):  # a map in RESP2
            value = list(zip(value[::2], value[1::2], strict=True))
        if value and all(type(each) is tuple and len(each) == 2 for each in value):
            return [(name, self.common(each)) for name, each in value if name not in self.OTHER_FIELDS]
        return list(map(self.common, value))


class ValkeyPair(Pair):
    """Godis and Valkey, whose texts of MSETEX are not those of Redis 8.4."""

    def alike(self, argv: Command, ours: bytes, theirs: bytes, rules: Grammar) -> bool:
        is_refused = ours.startswith(b"-ERR") and theirs.startswith(b"-ERR")
        return (argv[0].upper() == b"MSETEX" and is_refused) or super().alike(argv, ours, theirs, rules)


def with_mark(mark: str) -> list[str]:
    return [family for family in FAMILIES if Grammar(family).newer[mark]]


@pytest.fixture(scope="module")
def plain_godis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GodisProcess]:
    """A Godis without the one default that differs on purpose."""
    with GodisProcess(tmp_path_factory.mktemp("godis"), "--default-ttl", "0") as process:
        yield process


def compare(godis: GodisProcess, other: NewerRedisProcess | ValkeyProcess, family: str, seed: int, mark: str) -> None:
    """Run random commands in both protocols, and fail at the first reply that differs."""
    rules, random = Newer(family), Random(seed)
    commands = [rules.newer_command(random, mark) for _ in range(COMMANDS_A_RUN)]
    with godis.raw() as ours, other.raw() as theirs:
        pair = (ValkeyPair if isinstance(other, ValkeyProcess) else NewerPair)(ours, theirs)
        for protocol in (2, 3):
            if found := pair.find(commands, protocol, rules):
                pytest.fail(report(family, seed, protocol, found), pytrace=False)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", with_mark("!"))
def test_commands_since_7_2_are_answered_as_redis_8_2_answers_them(
    plain_godis: GodisProcess, newer_redis: NewerRedisProcess, family: str, seed: int
) -> None:
    compare(plain_godis, newer_redis, family, seed, "!")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("family", with_mark("!v"))
def test_commands_of_valkey_are_answered_as_it_answers_them(
    plain_godis: GodisProcess, valkey: ValkeyProcess, family: str, seed: int
) -> None:
    compare(plain_godis, valkey, family, seed, "!v")
