"""The grammars of random commands: a module a family of commands, found by its name in this folder.

From its grammar each family is compared with redis-server (tests/against_redis), and proven to log what it did
(tests/commands/test_effects.py), to be counted and evicted, rewritten, exported and replayed
(tests/keyspace/test_all_types.py), to come out alike on every instance of a pool (tests/pool/test_pool_replica.py),
and to be fuzzed (tests/project/test_fuzz.py). A module has these names:

    GRAMMAR   a template a line, such as `LPUSH key value+`. Lower-case words are slots: `slot?` is 0 or 1 of it,
              `slot*` 0 to 2, `slot+` 1 to 3. A line is chosen as often as it stands there. A line that begins with
              `!` is known to redis-server 8.2 and not to 7.0, one with `!v` to Valkey 9.1 alone, one with `!!` to no
              server that the tests have: all but the comparisons with the others run it.
    SLOTS     slot -> the words to choose from, or a function of a `Random` that returns a word, or a list of words.
              A slot named `…_option` is split at spaces, and may contain slots. `SHARED` below has the common ones;
              a slot of the same name replaces it.
    LENIENT   command, or `COMMAND SUBCOMMAND` -> (comparison, reason), where the wire may differ from redis-server's:
              see comparing.py. Maps and sets of RESP3 may always differ in their order.

and, where it needs them,

    OFTEN     templates that half of the commands come from, and that are never spoilt: they fill the keys, and ask
              so that there is an answer. Without them most commands meet missing keys and wrong types
    SETTLES   command -> a function that makes our server's value equal to redis-server's again after a reply that
              chance chose (`comparing.settle_pop` for SPOP)
    REPEATS   commands that may log something though nothing changed, as SET does with the value that is there
    NEVER_SPOILT   commands in whose requests no word is changed

Of most other commands the family's grammar is the source, of one in seven `_generic.py`. `make_many("member", 150)` is
a slot of many words, for values that outgrow the compact forms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Union

from comparing import Compare, Settle

Command = list[bytes]
Slot = Union["list[bytes]", Callable[[Random], "bytes | list[bytes]"]]

OWN_SHARE = 0.85
OFTEN_SHARE = 0.5
RARE_SHARE = 1 / 6  # of what is not the family's own
SPOILT_SHARE = 0.12
MARKS = ("!", "!v", "!!")
FAMILIES = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


def words(text: str) -> list[bytes]:
    """Split at bars."""
    return text.encode("latin-1").split(b"|")


def from_now(least: int) -> Callable[[Random], bytes]:
    """Make a slot for a time from now, now and then a bad one.

    It is long, lest a key expire between two replies, and never the same twice, lest GT and LT meet two deadlines
    that are equal on the one server and a millisecond apart on the other.
    """
    bad = words("0|-1|abc||9223372036854775807|9223372036854775808|9223372036854776|1.5")

    def slot(random: Random) -> bytes:
        return random.choice(bad) if random.random() < 0.3 else b"%d" % random.randrange(least, 1000 * least)

    return slot


def make_many(prefix: str, most: int, least: int = 2, pair: str = "") -> Callable[[Random], list[bytes]]:
    """Make a slot of many words `prefix0 …`; with `pair`, each followed by a word of that prefix."""

    def slot(random: Random) -> list[bytes]:
        numbers = random.sample(range(2 * most), random.randint(least, most))
        if not pair:
            return [f"{prefix}{number}".encode() for number in numbers]
        return [word for number in numbers for word in (f"{prefix}{number}".encode(), f"{pair}{number % 7}".encode())]

    return slot


KEYS = words("a|a|a|b|b|c|k:1|k:2||a b|\x00\xff\r\n|h[e]l*lo|'q\"")
JUNK = [*words("|abc|-1|0|99999999999999999999|new\r\nline|1.5|\xff\x00|1 2"), b"x" * 200]
SHARED: dict[str, Slot] = {
    "key": KEYS,
    "nokey": words("never-set"),
    "value": [
        *words("|hello|10|-5|3.5|1e3| 7|007|+5|-0|nan|1e308|0x10|NX|ohmytext|mynewtext|\x00\r\n\xff\xfe"),
        *words("9223372036854775807|-9223372036854775808|111111111111111111111"),
        *(b"x" * length for length in (44, 45, 2000)),
    ],
    "number": words(
        "0|1|-1|2|10|1000|-1000|12345|4611686018427387904|9223372036854775806|9223372036854775807|"
        "9223372036854775808|-9223372036854775807|-9223372036854775808"
    ),
    "float": words(
        "0|-0|1|200|0.1|-0.1|1.50|-3.75|3.0e3|5.0e3|1e17|1e-5|1e308|.5|5.|+2|0x1p3|inf|-inf|nan|1e5000|abc|| 1|1 |1e"
    ),
    "offset": words("0|1|2|3|-1|-2|-3|100|-100|9223372036854775807|-9223372036854775808|9223372036854775808|abc|1.0"),
    "seconds": from_now(10**5),
    "ms": from_now(10**8),
    "at_seconds": words(
        "4000000000|4000000001|4100000000|1|1600000000|0|-1|abc|"
        "9223372036854775807|9223372036854775|9223372036854776|-9223372036854776"
    ),
    "at_ms": words(
        "4000000000000|4000000000001|4100000000500|1|1600000000000|0|-1|abc|"
        "9223372036854775807|9223372036854775808|-9223372036854775808"
    ),
    "db": words("0|0|0|1|1|2|15|16|-1|abc|99999999999"),
    "expire_option": words("NX|XX|GT|LT|nx|junk"),
    "scan_option": words("MATCH pattern|COUNT count|TYPE type|count|MATCH|junk"),
    "copy_option": words("DB db|REPLACE|replace|DB|junk"),
    "cursor": words("0|0|0|0|abc|18446744073709551616||1.5"),
    "count": words("1|10|1000|0|-1|abc"),
    "type": words("string|STRING|list|hash|set|zset|stream|nosuch"),
    "pattern": words("*|?|k:*|[a-c]|[^a]|[ab|a*|*\\**|h\\[e\\]l*||**|?*?|\\"),
    "object": words("ENCODING|REFCOUNT|IDLETIME|FREQ|encoding"),
    "flush": words("ASYNC|SYNC|sync|junk"),
    "junk": JUNK,
    "nosuch": [*words("nosuch|NoSuch|no\r\nsuch|\xff"), b"x" * 150],
}


class Grammar:
    """The grammar of a family, with what it shares with the others."""

    def __init__(self, family: str) -> None:
        own, generic = import_module(f"grammars.{family}"), import_module("grammars._generic")
        self.family = family
        self.slots: dict[str, Slot] = {**SHARED, **own.SLOTS}
        self.lenient: dict[bytes, tuple[Compare, str]] = {**generic.LENIENT, **own.LENIENT}
        self.settles: dict[bytes, Settle] = getattr(own, "SETTLES", {})
        self.repeats: set[bytes] = generic.REPEATS | set(getattr(own, "REPEATS", ()))
        self.never_spoilt: set[bytes] = set(getattr(own, "NEVER_SPOILT", ()))
        lines = [line.split() for line in own.GRAMMAR.strip().splitlines() if line.strip()]
        self.known_to_redis = [line for line in lines if line[0] not in MARKS]
        self.newer = {mark: [line[1:] for line in lines if line[0] == mark] for mark in MARKS}
        self.templates = [line[1:] if line[0] in MARKS else line for line in lines]
        self.often = [line.split() for line in getattr(own, "OFTEN", "").strip().splitlines()]
        others = [line for other, line in generic.OTHER_TYPES if other != family]
        self.generic = [line.split() for line in generic.GRAMMAR.strip().splitlines()]
        self.rare = [line.split() for line in [*generic.RARE.strip().splitlines(), *others]]

    def command(self, random: Random, for_redis: bool = False) -> Command:
        """Make up one command, now and then a wrong one; `for_redis`: that redis-server 7.0 knows."""
        return self._command(random, self.known_to_redis if for_redis else self.templates)

    def newer_command(self, random: Random, mark: str) -> Command:
        """Make up one command, in most cases one of those with this mark."""
        return self._command(random, self.newer[mark])

    def _command(self, random: Random, own: list[list[str]]) -> Command:
        if self.often and random.random() < OFTEN_SHARE:
            return [word for slot in random.choice(self.often) for word in self.fill(slot, random)]
        lines = own if random.random() < OWN_SHARE else self.rare if random.random() < RARE_SHARE else self.generic
        argv = [word for slot in random.choice(lines) for word in self.fill(slot, random)]
        if random.random() < SPOILT_SHARE and argv[0] not in self.never_spoilt:
            self._spoil(argv, random)
        if random.random() < 0.1:
            argv[0] = random.choice([argv[0].lower(), argv[0].title()])
        return argv

    def fill(self, slot: str, random: Random) -> Iterator[bytes]:
        """Fill one place of a template: a literal, a slot, `slot?` (0 or 1), `slot*` (0 to 2) or `slot+` (1 to 3)."""
        name = slot.rstrip("?*+")
        pool = self.slots.get(name)
        if pool is None:
            yield slot.encode("latin-1")
            return
        least, most = {"?": (0, 1), "*": (0, 2), "+": (1, 3)}.get(slot[len(name) :], (1, 1))
        for _ in range(random.randint(least, most)):
            word = pool(random) if callable(pool) else random.choice(pool)
            if isinstance(word, list):
                yield from word
            elif name.endswith("_option"):  # several words, slots among them
                for part in word.split():
                    yield from self.fill(part.decode("latin-1"), random)
            else:
                yield word

    def _spoil(self, argv: Command, random: Random) -> None:
        place = random.randrange(len(argv))
        junk = next(self.fill("junk", random))
        how = random.choice(["lose", "add", "replace"])
        if how == "add":
            argv.append(junk)
        elif place and how == "lose":
            del argv[place]
        elif place:
            argv[place] = junk

    def leniency(self, argv: Command) -> Compare | None:
        """Return how the reply to a command is compared; None: to the byte."""
        name = argv[0].upper()
        found = self.lenient.get(name) or self.lenient.get(b" ".join([name, *argv[1:2]]).upper())
        return found[0] if found else None


@cache
def grammar(family: str) -> Grammar:
    """Return the grammar of a family, or of ALL."""
    return Mixed() if family == ALL else Grammar(family)


ALL = "all"  # not a module: the commands of every family on the same keys
TAKE_AWAY = {b"RESET", b"FLUSHDB", b"SWAPDB"}  # too much, too often
MOST_BYTES = 40_000  # of a string: LCS and HyperLogLogs do not take long ones


class Mixed(Grammar):
    """The commands of all families, but for the payloads of RESTORE."""

    def __init__(self) -> None:
        super().__init__("strings")
        self.parts = [grammar(family) for family in FAMILIES if family != "dump"]
        for part in self.parts:
            self.lenient |= part.lenient
            self.settles |= part.settles
            self.repeats |= part.repeats

    def command(self, random: Random, for_redis: bool = False) -> Command:
        """Make up one command of any family."""
        while True:
            argv = random.choice(self.parts).command(random, for_redis)
            name = argv[0].upper()
            is_long = sum(map(len, argv)) > MOST_BYTES or (name == b"SETRANGE" and len(b" ".join(argv[2:3])) > 4)
            if name not in TAKE_AWAY | {b"LCS"} and not is_long:
                return argv
