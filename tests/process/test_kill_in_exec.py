"""`kill -9` amid EXEC and scripts, at random moments: after the restart all of one is there, or nothing of it.

A client sends one transaction after the other. Each sets all that it touches, keys and collections of all types in
three databases, to its own number. So what is there after a restart must be of one number: that of the last transaction
that was acknowledged, or of the one behind it. GODIS_SOAK=n makes n rounds.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from contents import ask_all
from servers import GodisProcess, encode, wait_until

ROUNDS = int(os.environ.get("GODIS_SOAK", "0")) or 8
SEED = os.environ.get("GODIS_SEED", "")
DATABASES = (0, 3, 15)
SIZES = {"at once": (4, 2), "in slices": (40, 10), "of long commands": (1000, 2500)}  # keys and elements, a database
POLICIES = ["everysec", "always"]


# It calls the requests, each behind the number of its words. Between two of them it takes long enough to pause, where
# the threshold is 0.
SCRIPT = """
local place = 1
while place <= #ARGV do
    local count = tonumber(ARGV[place])
    redis.call(unpack(ARGV, place + 1, place + count))
    place = place + 1 + count
    for step = 1, 10000 do end
end
return 'done'
"""


class Payer:
    """A client whose transactions are of one size, and what is known of them."""

    def __init__(self, name: str) -> None:
        self.keys, self.elements = SIZES[name]
        self.prefix = name.replace(" ", "-")
        self.sent = self.acknowledged = 0

    def transaction(self, number: int) -> list[tuple[str | int, ...]]:
        """Return the requests of a transaction."""
        p, members = self.prefix, range(self.elements)
        requests: list[tuple[str | int, ...]] = [("MULTI",)]
        for db in DATABASES:
            requests += [
                ("SELECT", db),
                ("DEL", f"{p}:list", f"{p}:set", f"{p}:stream"),
                ("RPUSH", f"{p}:list", *[number] * self.elements),
                ("HSET", f"{p}:hash", *(word for member in members for word in (member, number))),
                ("SADD", f"{p}:set", number),
                ("ZADD", f"{p}:zset", *(word for member in members for word in (number, member))),
                ("XADD", f"{p}:stream", f"{number}-1", "f", number),
                ("INCR", f"{p}:count"),
                *(("SET", f"{p}:{key}", number) for key in range(self.keys)),
            ]
        return [*requests, ("EXEC",)]

    def has_run(self, reply: bytes) -> bool:
        """Return True if the last reply is that of a transaction which has run."""
        return reply.startswith(b"*")

    def pay(self, godis: GodisProcess) -> None:
        """Send transactions until the server is gone."""
        with contextlib.suppress(OSError), godis.raw() as raw:
            while True:
                requests = self.transaction(self.sent + 1)
                wire = b"".join(encode(*request) for request in requests)
                self.sent += 1
                raw.send(wire)
                for _ in requests:
                    reply = raw.read_reply()
                assert self.has_run(reply), reply[:100]
                self.acknowledged = self.sent

    def look(self, godis: GodisProcess) -> set[Any]:
        """Return the numbers that are found."""
        p, found = self.prefix, set()
        with godis.raw() as raw:
            for db in DATABASES:
                _, elements, fields, members, scores, entries, count, values = ask_all(
                    raw,
                    [
                        ("SELECT", db),
                        ("LRANGE", f"{p}:list", 0, -1),
                        ("HVALS", f"{p}:hash"),
                        ("SMEMBERS", f"{p}:set"),
                        ("ZRANGE", f"{p}:zset", 0, -1, "WITHSCORES"),
                        ("XRANGE", f"{p}:stream", "-", "+"),
                        ("GET", f"{p}:count"),
                        ("MGET", *(f"{p}:{key}" for key in range(self.keys))),
                    ],
                )
                found |= {*elements, *fields, *members, *scores[1::2], *(fields[1] for _, fields in entries), count}
                found |= set(values)
                assert len(elements) in (0, self.elements), "a part of a list is there"
        return found


class ScriptPayer(Payer):
    """A client whose transactions are scripts."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.prefix = f"script-{self.prefix}"

    def transaction(self, number: int) -> list[tuple[str | int, ...]]:
        """Return the request that runs a script."""
        called = super().transaction(number)[1:-1]
        return [("EVAL", SCRIPT, 0, *(word for request in called for word in (len(request), *request)))]

    def has_run(self, reply: bytes) -> bool:
        """Return True if a script has run to its end."""
        return reply == b"$4\r\ndone\r\n"


@pytest.mark.timeout(60 + 20 * ROUNDS)
def test_a_kill_amid_exec_or_a_script_leaves_all_of_it_or_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = Random(f"exec{SEED}")
    payers = [*map(Payer, SIZES), *map(ScriptPayer, SIZES)]
    amid = 0
    with GodisProcess(tmp_path, "--default-ttl", "0") as godis:
        for number in range(ROUNDS):
            payer = payers[number % len(payers)]
            before = payer.acknowledged
            with godis.raw() as raw:
                raw.ask("CONFIG", "SET", "appendfsync", random.choice(POLICIES))
                raw.ask("CONFIG", "SET", "busy-reply-threshold", random.choice([0, 5000]))
                client = threading.Thread(target=payer.pay, args=(godis,))
                began = time.monotonic()
                client.start()
                wait_until(lambda: payer.acknowledged > before, 30, "a transaction is acknowledged")  # noqa: B023
                if number % 4 == 3:
                    raw.ask("BGREWRITEAOF")
                time.sleep(random.uniform(0, min(1, 2 * (time.monotonic() - began))))
                godis.kill9()
            client.join()
            amid += payer.sent > payer.acknowledged
            godis.start()
            for each in payers:
                found = each.look(godis)
                assert len(found) == 1, f"round {number}: parts of transactions are there: {found}"
                there = int(found.pop() or 0)
                assert each.acknowledged <= there <= each.sent, f"round {number} of {tmp_path}"
                each.sent = each.acknowledged = there
        assert "Traceback" not in godis.stderr()
    assert amid > 0
    if "GODIS_SOAK" in os.environ:
        with capsys.disabled():
            print(f"\n{ROUNDS} kills amid transactions, {sum(each.acknowledged for each in payers)} of these are there")
