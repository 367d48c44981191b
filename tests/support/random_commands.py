"""Random commands out of a grammar, for comparisons with redis-server and for the fuzzing of servers.

The grammar below is the list of commands; a word in lower case is a slot that `SLOTS` fills from a small pool, so
that commands meet on the same keys. One command in eight is spoilt (a word lost, one too many, junk for a word),
because errors are replies too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

Command = list[bytes]

GRAMMAR = """
PING
PING value
ECHO value
SELECT db
HELLO hello_option
HELLO
AUTH value
AUTH key value
RESET
COMMAND COUNT value
COMMAND INFO nosuch
COMMAND GETKEYS SET key value
COMMAND GETKEYS MSET key value key value
COMMAND GETKEYS GET
COMMAND GETKEYS PING
COMMAND GETKEYS nosuch key
COMMAND nosuch
CLIENT SETNAME name
CLIENT GETNAME
CLIENT NO-EVICT onoff
CLIENT REPLY junk
CLIENT KILL ID 99999999
CLIENT KILL ADDR 1.2.3.4:5
CLIENT KILL 1.2.3.4:5
CLIENT KILL word junk
CLIENT LIST TYPE junk
CLIENT LIST ID junk
CLIENT PAUSE junk
CLIENT UNPAUSE
CLIENT nosuch
SET key value
SET key value
SET key value
SET key value
SET key number
SET key number
SET key value set_option+
SET key value set_option+
SET key value set_option+
SETNX key value
SETEX key seconds value
PSETEX key ms value
GET key
GET key
GETSET key value
GETDEL key
GETEX key
GETEX key getex_option
GETEX key getex_option+
MGET key+
MSET key value key value
MSET key value key
MSETNX key value key value
APPEND key value
STRLEN key
GETRANGE key offset offset
SUBSTR key offset offset
SETRANGE key setoffset value
INCR key
DECR key
INCRBY key number
DECRBY key number
INCRBYFLOAT key float
INCRBYFLOAT key float
LCS key key lcs_option*
DEL key+
UNLINK key+
EXISTS key+
TOUCH key+
TYPE key
TTL key
PTTL key
EXPIRETIME key
PEXPIRETIME key
EXPIRE key seconds expire_option*
PEXPIRE key ms expire_option*
EXPIREAT key at_seconds expire_option*
EXPIREAT key at_seconds
PEXPIREAT key at_ms expire_option*
PEXPIREAT key at_ms
PERSIST key
KEYS pattern
SCAN cursor scan_option*
RANDOMKEY
RENAME key key
RENAMENX key key
COPY key key copy_option*
MOVE key db
OBJECT object key
OBJECT HELP junk
OBJECT nosuch key
DBSIZE
FLUSHDB flush?
SWAPDB db db
CONFIG SET nosuch value
CONFIG GET nosuch
CONFIG nosuch
LASTSAVE
TIME
DEBUG SLEEP 0
MEMORY USAGE nokey
MEMORY nosuch
nosuch name number
"""


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


KEYS = words("a|b|c|k:1|k:2||a b|\x00\xff\r\n|h[e]l*lo|'q\"")
JUNK = [*words("|abc|-1|0|99999999999999999999|new\r\nline|1.5|\xff\x00|1 2"), b"x" * 200]
# A slot is a list of words to choose from, or a function that makes one up.
SLOTS: dict[str, list[bytes] | Callable[[Random], bytes]] = {
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
    "setoffset": words("0|1|5|10|100|-1|536870912|4294967296|9223372036854775807|x"),
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
    "hello_option": words("3|2|4|1|abc|3 SETNAME abc|3 AUTH x|3 AUTH a b|3 AUTH default b|3 nosuch"),
    "name": words("n1|n2||with space|new\nline|umlaut\xc3"),
    "onoff": words("on|off|OFF|maybe"),
    "set_option": words("NX|XX|GET|KEEPTTL|nx|keepTTL|EX seconds|PX ms|EXAT at_seconds|PXAT at_ms|EX|px|PXAT|junk"),
    "getex_option": words("PERSIST|EX seconds|PX ms|EXAT at_seconds|PXAT at_ms|EX|NX|junk"),
    "expire_option": words("NX|XX|GT|LT|nx|junk"),
    "lcs_option": words("LEN|IDX|WITHMATCHLEN|MINMATCHLEN number|idx|MINMATCHLEN|junk"),
    "scan_option": words("MATCH pattern|COUNT count|TYPE type|count|MATCH|junk"),
    "copy_option": words("DB db|REPLACE|replace|DB|junk"),
    "cursor": words("0|0|0|0|abc|18446744073709551616||1.5"),
    "count": words("1|10|1000|0|-1|abc"),
    "type": words("string|STRING|list|nosuch"),
    "pattern": words("*|?|k:*|[a-c]|[^a]|[ab|a*|*\\**|h\\[e\\]l*||**|?*?|\\"),
    "object": words("ENCODING|REFCOUNT|IDLETIME|FREQ|encoding"),
    "flush": words("ASYNC|SYNC|sync|junk"),
    "word": words("ID|USER|TYPE|SKIPME|LADDR|MAXAGE"),
    "junk": JUNK,
    "nosuch": [*words("nosuch|NoSuch|no\r\nsuch|\xff"), b"x" * 150],
}
NEVER_SPOILT = {
    b"COMMAND",  # all of the table; it is compared below
    b"DEBUG",  # a long sleep
    b"HELLO",  # Redis keeps the name of a HELLO SETNAME that then fails
}
TEMPLATES = [line.split() for line in GRAMMAR.strip().splitlines()]


def random_command(random: Random) -> Command:
    """Make up one command out of the grammar, now and then a wrong one."""
    argv = [word for slot in random.choice(TEMPLATES) for word in fill(slot, random)]
    if random.random() < 0.12:
        spoil(argv, random)
    if random.random() < 0.1:
        argv[0] = random.choice([argv[0].lower(), argv[0].title()])
    return argv


def fill(slot: str, random: Random) -> Iterator[bytes]:
    """Fill one place of a template: a literal, a slot, `slot?` (0 or 1), `slot*` (0 to 2) or `slot+` (1 to 3)."""
    name = slot.rstrip("?*+")
    least, most = {"?": (0, 1), "*": (0, 2), "+": (1, 3)}.get(slot[len(name) :], (1, 1))
    for _ in range(random.randint(least, most)):
        pool = SLOTS.get(name)
        if pool is None:
            yield slot.encode()
            continue
        word = pool(random) if callable(pool) else random.choice(pool)
        if name.endswith("_option"):  # several words, slots among them
            for part in word.split():
                yield from fill(part.decode(), random)
        else:
            yield word


def spoil(argv: Command, random: Random) -> None:
    place = random.randrange(len(argv))
    if argv[0] in NEVER_SPOILT:
        return
    junk = next(fill("junk", random))
    how = random.choice(["lose", "add", "replace"])
    if how == "add":
        argv.append(junk)
    elif place and how == "lose":
        del argv[place]
    elif place:
        argv[place] = junk
