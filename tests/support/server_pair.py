"""The same random commands to two servers, compared byte by byte; what differs is cut down to the shortest sequence.

Where the wire may differ, `LENIENT` of the family's grammar says how far and why; everything else must be equal to the
byte, error texts included.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from itertools import groupby
from typing import Any

from comparing import typed
from contents import Contents, contents, differences
from grammars import JUNK, KEYS, Command, Grammar
from servers import Raw, encode, parse
from shrinking import shortest

BATCH_COMMANDS = 25
CURSORS = {b"SCAN": 1, b"HSCAN": 2, b"SSCAN": 2, b"ZSCAN": 2}  # where the cursor stands
# Compared with the help of further requests.
ALONE = {*CURSORS, b"DBSIZE", b"SORT", b"SORT_RO"}


class Difference(Exception):
    """The two servers differ; `ran` is how many commands it took."""

    def __init__(self, ran: int, ours: object, theirs: object) -> None:
        super().__init__(ran, ours, theirs)
        self.ran, self.ours, self.theirs = ran, ours, theirs


class Pair:
    """A connection to each of the two servers, which are asked the same."""

    def __init__(self, godis: Raw, redis: Raw) -> None:
        self.godis, self.redis = godis, redis

    def alike(self, argv: Command, ours: bytes, theirs: bytes, rules: Grammar) -> bool:
        """Return True if two replies are equal, or differ as is allowed."""
        return alike(argv, ours, theirs, rules)

    def run(self, commands: list[Command], protocol: int, rules: Grammar) -> None:
        """Ask both the same commands from an empty keyspace on. Raises Difference at the first that differs."""
        for raw in (self.godis, self.redis):
            raw.send(encode("FLUSHALL") + encode("RESET") + encode("HELLO", protocol))
            for _ in range(3):
                raw.read_reply()
        with closing(self._replies(commands, rules)) as replies:
            for index, argv, ours, theirs in replies:
                if not self.alike(argv, ours, theirs, rules):
                    raise Difference(index + 1, ours, theirs)
                if argv[0].upper() in rules.settles and ours[:1] != b"-":
                    self._settle(argv, ours, theirs, rules)
        if found := differences(self.contents(self.godis), self.contents(self.redis)):
            place, ours, theirs = found[0]
            raise Difference(len(commands), (place, ours), (place, theirs))

    def contents(self, raw: Raw) -> Contents:
        """Return what a server holds, as far as the two must be alike."""
        return contents(raw)

    def _replies(
        self, commands: list[Command], rules: Grammar
    ) -> Generator[tuple[int, Command, bytes, bytes], None, None]:
        """Ask both; yield the number of each command, the command, and the two replies."""
        special = ALONE | rules.settles.keys()
        numbers = iter(range(len(commands)))
        for is_alone, group in groupby(commands, lambda argv: argv[0].upper() in special):
            run = list(group)
            if is_alone:
                for argv in run:
                    yield next(numbers), argv, ask(self.godis, argv, rules), ask(self.redis, argv, rules)
                continue
            for start in range(0, len(run), BATCH_COMMANDS):
                batch = run[start : start + BATCH_COMMANDS]
                wire = b"".join(encode(*argv) for argv in batch)
                self.godis.send(wire)
                self.redis.send(wire)
                replies = [(self.godis.read_reply(), self.redis.read_reply()) for _ in batch]
                for argv, (ours, theirs) in zip(batch, replies, strict=True):
                    yield next(numbers), argv, ours, theirs

    def _settle(self, argv: Command, ours: bytes, theirs: bytes, rules: Grammar) -> None:
        rules.settles[argv[0].upper()](lambda *words: parse(self.godis.ask(*words)), argv, parse(ours), parse(theirs))

    def find(self, commands: list[Command], protocol: int, rules: Grammar) -> tuple[list[Command], Difference] | None:
        """Compare, and cut what differs down to the shortest sequence that still does."""

        def differ(shorter: list[Command]) -> Difference | None:
            try:
                self.run(shorter, protocol, rules)
            except Difference as difference:
                return difference
            return None

        return shortest(commands, differ, lambda found: found.ran)


def ask(raw: Raw, argv: Command, rules: Grammar) -> bytes:
    """Ask one command; collect a SCAN whole, and let expired keys go before they are counted."""
    name = argv[0].upper()
    keys = rules.slots["key"]
    if name == b"DBSIZE" and isinstance(keys, list):
        raw.ask(b"EXISTS", *keys, *KEYS, *JUNK)  # Redis counts an expired key until somebody meets it
    if name in (b"SORT", b"SORT_RO"):  # Redis 7.0 takes any earlier error of strtod for its own: this resets errno
        raw.ask(b"ZADD", b"never-set", b"XX", b"0", b"member")
    wire = raw.ask(*argv)
    if name not in CURSORS or wire.startswith(b"-"):
        return wire
    place = CURSORS[name]
    if argv[place] != b"0":
        return encode()  # what a cursor means is each server's own affair
    found: set[Any] = set()
    while True:
        cursor, items = parse(wire)
        if name == b"ZSCAN":
            items[1::2] = [float(score) + 0.0 for score in items[1::2]]  # 0 in place of -0
        is_pairs = name in (b"HSCAN", b"ZSCAN") and b"NOVALUES" not in map(bytes.upper, argv)
        found.update(zip(items[::2], items[1::2], strict=True) if is_pairs else items)
        if cursor == b"0":
            return encode(*(repr(item) for item in sorted(found)))
        wire = raw.ask(*argv[:place], cursor, *argv[place + 1 :])


def alike(argv: Command, ours: bytes, theirs: bytes, rules: Grammar) -> bool:
    """Return True if two replies are equal, or differ as `LENIENT` allows it."""
    if ours.startswith(b"-"):
        for word in argv:  # C ends a text at a NUL
            text = word.replace(b"\r", b" ").replace(b"\n", b" ")
            ours = ours.replace(text, text.split(b"\0")[0])
    if ours == theirs:
        return True
    if ours[:1] != theirs[:1] or ours[:1] == b"-":
        return False
    compare = rules.leniency(argv)
    return compare(parse(ours), parse(theirs)) if compare else bool(typed(ours) == typed(theirs))


def report(family: str, seed: int, protocol: int, found: tuple[list[Command], Difference]) -> str:
    """Write what `Pair.find` has found."""
    listing = "\n".join(" ".join(map(repr, argv)) for argv in found[0])
    difference = f"Godis: {found[1].ours!r}\nRedis: {found[1].theirs!r}"
    return f"{family}, seed {seed}, RESP{protocol}\n{listing}\n{difference}"
