"""Random users may run the same random requests as in redis-server: ACL SETUSER and ACL DRYRUN reply alike."""

from __future__ import annotations

import os
from random import Random
from typing import Any

import pytest
from servers import GodisProcess, Raw, RedisProcess, encode, parse

from commands.introspection import all_rows, find
from users.rules import CATEGORIES

FIRST_SEED = int(os.environ.get("GODIS_SEED", "0"))
SEEDS = range(FIRST_SEED, FIRST_SEED + 2 + int(os.environ.get("GODIS_SOAK", "0")))
USERS = 150
REQUESTS_A_USER = 8
OTHER_ARITY = {"zrank", "zrevrank"}  # since WITHSCORE, in 7.2
KEYS = ["a", "ab", "b1", "c", "ac", "bc"]
COUNTED_FIRST = ["zunion", "zinter", "zdiff", "sintercard", "lmpop", "zmpop", "zintercard"]
COUNTED_SECOND = ["zunionstore", "zinterstore", "zdiffstore", "blmpop", "bzmpop"]
OTHER_RULES = """
    allcommands nocommands +@all -@all allkeys resetkeys reset allchannels resetchannels clearselectors on off nopass
    resetpass +select|0 +get|a +config|get +config|nosuch +nosuch +set| foo %X~a #12 <a >p
"""


def random_rule(random: Random, names: list[str]) -> str:
    kind = random.random()
    if kind < 0.35:
        return random.choice("+-") + random.choice(names)
    if kind < 0.5:
        return random.choice("+-") + "@" + random.choice(CATEGORIES).decode()
    if kind < 0.7:
        return random.choice(["~", "%R~", "%W~", "%RW~"]) + random.choice(["a*", "b?", "*", "ab", "[ab]c"])
    if kind < 0.8:
        return "&" + random.choice(["a*", "b", "*"])
    if kind < 0.9:
        rules = [random_rule(random, names) for _ in range(3)]
        return "(" + " ".join(rule for rule in rules if "(" not in rule) + ")"
    return random.choice(OTHER_RULES.split())


def random_request(random: Random, name: str) -> list[str]:
    """Return a request whose keys Redis can find. Where it cannot, Redis permits all, and the command is an error."""
    words = name.split("|")
    row = find(name.encode())
    assert row is not None
    further = random.randrange(4) if row.arity < 0 else 0
    arguments = [random.choice(KEYS) for _ in range(abs(row.arity) - len(words))]
    arguments += [random.choice([*KEYS, "GET", "STORE", "BY", "1", "2", "STREAMS", "SET"]) for _ in range(further)]
    if name in COUNTED_FIRST:
        arguments[0] = "1"
    if name in COUNTED_SECOND:
        arguments[1] = "1"
    if name == "pfmerge":
        arguments.append("a")
    return words + arguments


def ask(connection: Raw, *words: str) -> Any:
    connection.send(encode(*words))
    return parse(connection.read_reply())


@pytest.mark.parametrize("seed", SEEDS)
def test_users_are_permitted_what_redis_permits(
    shared_godis: GodisProcess, redis_server: RedisProcess, seed: int
) -> None:
    random = Random(seed)
    with shared_godis.raw() as ours, redis_server.raw() as theirs:
        known = ask(theirs, "COMMAND", "LIST")
        names = sorted({row.name.lower().decode() for row in all_rows() if row.name.lower() in known} - OTHER_ARITY)
        refused = 0
        for _ in range(USERS):
            user = f"u{random.randrange(5)}"
            rules = [random_rule(random, names) for _ in range(random.randint(1, 6))]
            set_user = ["ACL", "SETUSER", user, *rules]
            assert ask(ours, *set_user) == ask(theirs, *set_user), set_user
            for name in random.choices(names, k=REQUESTS_A_USER):
                dry_run = ["ACL", "DRYRUN", user, *random_request(random, name)]
                verdict = ask(ours, *dry_run)
                assert verdict == ask(theirs, *dry_run), (dry_run, ask(ours, "ACL", "LIST"))
                refused += b"no permissions" in verdict
        assert refused > USERS, "it has not permitted everything"
        for user in [f"u{number}" for number in range(5)]:
            for connection in (ours, theirs):
                ask(connection, "ACL", "DELUSER", user)
