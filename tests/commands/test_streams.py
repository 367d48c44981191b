"""Commands of streams: replies and effects. The comparison with redis-server is in tests/against_redis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from instances import START_MS, Bench, Client, driven, work_of
from servers import PATIENCE_SECONDS, GodisProcess, encode, parse, wait_until
from tables import for_each

import errors
from commands import stream_arguments, stream_claims, stream_group_reads, stream_groups
from errors import CommandError
from replies import Entries, LongEntries, NullArray, PairMap
from values import rebuild
from values.entry import NO_DEADLINE, value_of

A, B, C = (b"1-0", (b"f", b"a")), (b"2-0", (b"f", b"b")), (b"3-0", (b"f", b"c"))
THREE = "XADD k 1 f a; XADD k 2 f b; XADD k 3 f c"
BOTH = (
    f"{THREE}; XGROUP CREATE k g 0; XREADGROUP GROUP g c COUNT 2 STREAMS k >"
    "; XGROUP CREATE k h 0; XREADGROUP GROUP h c COUNT 1 STREAMS k >"
)
READ = f"{THREE}; XGROUP CREATE k g 0; XREADGROUP GROUP g c COUNT 2 STREAMS k >"
NOW = str(START_MS)
GONE = f"{READ}; XDEL k 2-0"
CASES: list[tuple[str, str, Any, list[str]]] = [  # before, command, reply, effects
    # deletions that heed groups
    (BOTH, "XDELEX k IDS 3 1 9 1", [1, -1, -1], ["XDEL k 1-0"]),
    (BOTH, "XDELEX k KEEPREF IDS 1 1", [1], ["XDEL k 1-0"]),
    (BOTH, "XDELEX k DELREF IDS 2 1 2", [1, 1], ["XACK k g 1-0 2-0", "XACK k h 1-0", "XDEL k 1-0 2-0"]),
    (f"{BOTH}; XDEL k 1", "XDELEX k DELREF IDS 1 1", [-1], ["XACK k g 1-0", "XACK k h 1-0"]),
    (BOTH, "XDELEX k ACKED IDS 2 1 3", [2, 2], []),
    (f"{BOTH}; XACK k g 1 2; XACK k h 1", "XDELEX k IDS 2 1 2 acked", [1, 2], ["XDEL k 1-0"]),
    (f"{BOTH}; XDEL k 1", "XDELEX k ACKED IDS 2 1 9", [2, 2], []),
    ("", "XDELEX k IDS 2 1 x", [-1, -1], []),
    (BOTH, "XDELEX k IDS 1 x", errors.INVALID_STREAM_ID, []),
    (BOTH, "XDELEX k IDS 0 1", errors.NUMIDS_NOT_POSITIVE, []),
    (BOTH, "XDELEX k IDS 2 1", errors.NUMIDS_DIFFERS, []),
    (BOTH, "XDELEX k IDS 1 1 2", errors.SYNTAX, []),
    (BOTH, "XDELEX k DELREF ACKED IDS 1 1", errors.SYNTAX, []),
    (BOTH, "XDELEX k DELREF KEEPREF 1", errors.SYNTAX, []),
    ("SET k v", "XDELEX k FOO 1 1", errors.WRONG_TYPE, []),
    (BOTH, "XACKDEL k g IDS 3 1 3 1", [1, -1, -1], ["XACK k g 1-0", "XDEL k 1-0"]),
    (BOTH, "XACKDEL k g DELREF IDS 1 1", [1], ["XACK k g 1-0", "XACK k h 1-0", "XDEL k 1-0"]),
    (BOTH, "XACKDEL k g ACKED IDS 2 1 2", [2, 2], ["XACK k g 1-0 2-0"]),
    (f"{BOTH}; XACK k g 1", "XACKDEL k h ACKED IDS 1 1", [1], ["XACK k h 1-0", "XDEL k 1-0"]),
    (f"{BOTH}; XDEL k 1", "XACKDEL k g IDS 1 1", [1], ["XACK k g 1-0"]),
    (BOTH, "XACKDEL k none IDS 1 x", [-1], []),
    (BOTH, "XTRIM k MAXLEN 1 DELREF", 2, ["XACK k g 1-0 2-0", "XACK k h 1-0", "XTRIM k MAXLEN = 1"]),
    (BOTH, "XTRIM k DELREF MINID 2", 1, ["XACK k g 1-0", "XACK k h 1-0", "XTRIM k MAXLEN = 2"]),
    (BOTH, "XTRIM k ACKED MAXLEN 0", 0, []),
    (f"{BOTH}; XACK k g 1; XACK k h 1", "XTRIM k ACKED MAXLEN 0", 1, ["XTRIM k MAXLEN = 2"]),
    (f"{BOTH}; XREADGROUP GROUP h c STREAMS k >; XACK k g 2; XACK k h 2", "XTRIM k MAXLEN 0 ACKED", 1, ["XDEL k 2-0"]),
    (f"{THREE}", "XTRIM k MAXLEN ~ 0 LIMIT 2 ACKED", 2, ["XTRIM k MAXLEN = 1"]),
    (BOTH, "XTRIM k MAXLEN 1 KEEPREF", 2, ["XTRIM k MAXLEN = 1"]),
    (BOTH, "XTRIM k DELREF ACKED MAXLEN 1", errors.SYNTAX, []),
    (BOTH, "XADD k DELREF MAXLEN 2 4 f v", b"4-0",
     ["XADD k 4-0 f v", "XACK k g 1-0 2-0", "XACK k h 1-0", "XTRIM k MAXLEN = 2"]),
    (THREE, "XADD k ACKED MAXLEN 1 4-* f v", b"4-0", ["XADD k 4-0 f v", "XTRIM k MAXLEN = 1"]),
    ("", "XADD k NOMKSTREAM ACKED MAXLEN 1 4 f v", None, []),
    (THREE, "XADD k DELREF MAXLEN 1 3 f v", errors.STREAM_ID_TOO_SMALL, []),
    (THREE, "XADD k DELREF 4 f v", b"4-0", ["XADD k 4-0 f v"]),
    (THREE, "XADD k DELREF ACKED MAXLEN 1 4 f v", errors.INVALID_STREAM_ID, []),
    # XADD
    ("", "XADD k 5-1 f v", b"5-1", ["XADD k 5-1 f v"]),
    ("", "XADD k 5 f v", b"5-0", ["XADD k 5-0 f v"]),
    ("", "XADD k 5-* f v", b"5-0", ["XADD k 5-0 f v"]),
    ("", "XADD k 0-* f v", b"0-1", ["XADD k 0-1 f v"]),
    ("XADD k 5-3 f v", "XADD k 5-* f v", b"5-4", ["XADD k 5-4 f v"]),
    ("XADD k 5-3 f v", "XADD k 4-* f v", errors.STREAM_ID_TOO_SMALL, []),
    ("XADD k 5-3 f v", "XADD k 5-3 f v", errors.STREAM_ID_TOO_SMALL, []),
    ("", "XADD k 0-0 f v", errors.STREAM_ID_ZERO, []),
    ("", "XADD k * f v", b"%d-0" % START_MS, [f"XADD k {NOW}-0 f v"]),
    ("XADD k * f v", "XADD k * f v", b"%d-1" % START_MS, [f"XADD k {NOW}-1 f v"]),
    (f"XADD k {START_MS + 9}-7 f v", "XADD k * f v", b"%d-8" % (START_MS + 9), [f"XADD k {START_MS + 9}-8 f v"]),
    ("XADD k 18446744073709551615-18446744073709551615 f v", "XADD k * f v", errors.STREAM_EXHAUSTED, []),
    ("XADD k 18446744073709551615-18446744073709551614 f v", "XADD k 18446744073709551615-* f v",
     b"18446744073709551615-18446744073709551615", ["XADD k 18446744073709551615-18446744073709551615 f v"]),
    ("", "XADD k 1 f", errors.WRONG_ARITY % b"xadd", []),
    ("", "XADD k 1 f v g", errors.WRONG_ARITY % b"xadd", []),
    ("", "XADD k NOMKSTREAM 1 f v", None, []),
    (THREE, "XADD k NOMKSTREAM 4 f v", b"4-0", ["XADD k 4-0 f v"]),
    (THREE, "XADD k MAXLEN 2 4 f v", b"4-0", ["XADD k MAXLEN = 2 4-0 f v"]),
    (THREE, "XADD k MAXLEN ~ 2 4 f v", b"4-0", ["XADD k MAXLEN = 2 4-0 f v"]),
    (THREE, "XADD k MAXLEN ~ 1 LIMIT 2 4 f v", b"4-0", ["XADD k MAXLEN = 2 4-0 f v"]),
    (THREE, "XADD k MAXLEN 9 4 f v", b"4-0", ["XADD k 4-0 f v"]),
    (THREE, "XADD k MINID 3 4 f v", b"4-0", ["XADD k MAXLEN = 2 4-0 f v"]),
    (THREE, "XADD k MAXLEN 0 4 f v", b"4-0", ["XADD k MAXLEN = 0 4-0 f v"]),
    (THREE, "XADD k LIMIT 1 4 f v", errors.LIMIT_WITHOUT_STRATEGY, []),
    (THREE, "XADD k MAXLEN 1 LIMIT 1 4 f v", errors.LIMIT_WITHOUT_TILDE, []),
    (THREE, "XADD k MAXLEN 1 MINID 1 4 f v", errors.MAXLEN_AND_MINID, []),
    (THREE, "XADD k MAXLEN -1 4 f v", errors.MAXLEN_NEGATIVE, []),
    ("", "XADD k" + " NOMKSTREAM" * 200 + " 1 f v", errors.TOO_MANY_WORDS % (b"xadd", 128), []),
    ("SET k v", "XADD k 1 f v", errors.WRONG_TYPE, []),
    # a stream may be empty
    ("XADD k 1 f v; XDEL k 1", "EXISTS k", 1, []),
    ("XADD k 1 f v; XDEL k 1", "XADD k 1 f v", errors.STREAM_ID_TOO_SMALL, []),
    (THREE, "XLEN k", 3, []),
    ("", "XLEN k", 0, []),
    (THREE, "TYPE k", b"stream", []),
    (THREE, "OBJECT ENCODING k", b"stream", []),
    # XRANGE and XREVRANGE
    (THREE, "XRANGE k - +", [A, B, C], []),
    (THREE, "XRANGE k 2 +", [B, C], []),
    (THREE, "XRANGE k (1-0 (3-0", [B], []),
    (THREE, "XRANGE k - + COUNT 2", [A, B], []),
    (THREE, "XRANGE k 3 1", [], []),
    (THREE, "XREVRANGE k + - COUNT 2", [C, B], []),
    (THREE, "XREVRANGE k 2 1", [B, A], []),
    ("", "XRANGE k - +", [], []),
    (THREE, "XRANGE k x +", errors.INVALID_STREAM_ID, []),
    (THREE, "XRANGE k (18446744073709551615-18446744073709551615 +", errors.RANGE_START_INVALID, []),
    (THREE, "XRANGE k - (0-0", errors.RANGE_END_INVALID, []),
    (THREE, "XRANGE k - + LIMIT 2", errors.SYNTAX, []),
    # XDEL and XTRIM
    (THREE, "XDEL k 2 9 2", 1, ["XDEL k 2-0"]),
    (THREE, "XDEL k 9", 0, []),
    (THREE, "XDEL k 2 x", errors.INVALID_STREAM_ID, []),
    ("", "XDEL k x", 0, []),
    (THREE, "XTRIM k MAXLEN 1", 2, ["XTRIM k MAXLEN = 1"]),
    (THREE, "XTRIM k MINID ~ 3", 2, ["XTRIM k MAXLEN = 1"]),
    (THREE, "XTRIM k MAXLEN 3", 0, []),
    (THREE, "XTRIM k MAXLEN ~ 0 LIMIT 1", 1, ["XTRIM k MAXLEN = 2"]),
    (THREE, "XTRIM k LIMIT 0", errors.NO_STRATEGY, []),
    ("", "XTRIM k MAXLEN 0", 0, []),
    # XSETID
    (THREE, "XSETID k 9", b"OK", ["XSETID k 9"]),
    (THREE, "XSETID k 3-0", b"OK", []),
    (THREE, "XSETID k 2", errors.XSETID_BELOW_TOP, []),
    (THREE, "XSETID k 9 ENTRIESADDED 2 MAXDELETEDID 1", errors.XSETID_BELOW_LENGTH, []),
    (THREE, "XSETID k 9 MAXDELETEDID 10", errors.XSETID_BELOW_DELETED, []),
    ("", "XSETID k 9", errors.NO_SUCH_KEY, []),
    # XREAD
    (THREE, "XREAD STREAMS k 1", PairMap([(b"k", [B, C])]), []),
    (THREE, "XREAD COUNT 1 STREAMS k none 1 0", PairMap([(b"k", [B])]), []),
    (THREE, "XREAD STREAMS k k 2 2", PairMap([(b"k", [C]), (b"k", [C])]), []),
    (THREE, "XREAD STREAMS k $", NullArray, []),
    (THREE, "XREAD BLOCK -1 STREAMS k $", errors.NEGATIVE_TIMEOUT, []),
    (THREE, "XREAD STREAMS k >", errors.NEW_IN_XREAD, []),
    (THREE, "XREAD STREAMS k k 1", errors.UNBALANCED_STREAMS, []),
    (THREE, "XREAD NOACK STREAMS k 1", errors.ONLY_XREADGROUP % b"NOACK", []),
    ("SET s v", "XREAD STREAMS s 1", errors.WRONG_TYPE, []),
    ("", "XREAD STREAMS" + " k" * 2100, errors.TOO_MANY_WORDS % (b"xread", 2048), []),
    # XGROUP
    ("", "XGROUP CREATE k g $", errors.NO_STREAM_FOR_GROUP, []),
    ("", "XGROUP CREATE k g $ MKSTREAM", b"OK", ["XGROUP CREATE k g 0-0 MKSTREAM"]),
    (THREE, "XGROUP CREATE k g $ ENTRIESREAD 3", b"OK", ["XGROUP CREATE k g 3-0 ENTRIESREAD 3"]),
    (READ, "XGROUP CREATE k g 0", errors.GROUP_EXISTS, []),
    (READ, "XGROUP SETID k g 1", b"OK", ["XGROUP SETID k g 1-0"]),
    (READ, "XGROUP SETID k g 2 ENTRIESREAD 2", b"OK", []),
    (READ, "XGROUP SETID k g +", b"OK", ["XGROUP SETID k g 18446744073709551615-18446744073709551615"]),
    (READ, "XGROUP SETID k none 1", errors.NO_GROUP_OF_STREAM % (b"none", b"k"), []),
    (READ, "XGROUP DESTROY k g", 1, ["XGROUP DESTROY k g"]),
    (READ, "XGROUP DESTROY k none", 0, []),
    (READ, "XGROUP CREATECONSUMER k g d", 1, ["XGROUP CREATECONSUMER k g d"]),
    (READ, "XGROUP CREATECONSUMER k g c", 0, []),
    (READ, "XGROUP DELCONSUMER k g c", 2, ["XGROUP DELCONSUMER k g c"]),
    (READ, "XGROUP DELCONSUMER k g none", 0, []),
    (READ, "XGROUP SETID k g 1 MKSTREAM", errors.UNKNOWN_OR_WRONG_SUBCOMMAND % (b"SETID", b"XGROUP"), []),
    # XREADGROUP
    (f"{THREE}; XGROUP CREATE k g 0", "XREADGROUP GROUP g c COUNT 2 STREAMS k >", PairMap([(b"k", [A, B])]),
     [f"XCLAIM k g c 0 1-0 2-0 TIME {NOW} RETRYCOUNT 1 FORCE JUSTID", "XGROUP SETID k g 2-0 ENTRIESREAD 2"]),
    (READ, "XREADGROUP GROUP g d NOACK STREAMS k >", PairMap([(b"k", [C])]),
     ["XGROUP CREATECONSUMER k g d", "XGROUP SETID k g 3-0 ENTRIESREAD 3"]),
    (f"{READ}; XREADGROUP GROUP g c STREAMS k >", "XREADGROUP GROUP g d STREAMS k >", NullArray, []),
    (READ, "XREADGROUP GROUP g c STREAMS k 1", PairMap([(b"k", [B])]),
     [f"XCLAIM k g c 0 2-0 TIME {NOW} RETRYCOUNT 2 FORCE JUSTID"]),
    (READ, "XREADGROUP GROUP g new STREAMS k 0", PairMap([(b"k", [])]), ["XGROUP CREATECONSUMER k g new"]),
    (READ, "XREADGROUP GROUP g d CLAIM 0 COUNT 1 STREAMS k >", PairMap([(b"k", [(*A, 0, 1)])]),
     [f"XCLAIM k g d 0 1-0 TIME {NOW} RETRYCOUNT 2 FORCE JUSTID"]),
    (READ, "XREADGROUP GROUP g d CLAIM 0 NOACK STREAMS k >",
     PairMap([(b"k", [(*A, 0, 1), (*B, 0, 1), (*C, 0, 0)])]),
     [f"XCLAIM k g d 0 1-0 2-0 TIME {NOW} RETRYCOUNT 2 FORCE JUSTID", "XGROUP SETID k g 3-0 ENTRIESREAD 3"]),
    (f"{READ}; XCLAIM k g e 0 2 IDLE 500", "XREADGROUP GROUP g d CLAIM 500 STREAMS k >",
     PairMap([(b"k", [(*B, 500, 2), (*C, 0, 0)])]),
     [f"XCLAIM k g d 0 2-0 TIME {NOW} RETRYCOUNT 3 FORCE JUSTID",
      f"XCLAIM k g d 0 3-0 TIME {NOW} RETRYCOUNT 1 FORCE JUSTID", "XGROUP SETID k g 3-0 ENTRIESREAD 3"]),
    (f"{READ}; XCLAIM k g e 0 1 IDLE 500; XCLAIM k g e 0 2 IDLE 600",
     "XREADGROUP GROUP g c CLAIM 1 COUNT 2 STREAMS k >",
     PairMap([(b"k", [(*B, 600, 2), (*A, 500, 2)])]),
     [f"XCLAIM k g c 0 2-0 1-0 TIME {NOW} RETRYCOUNT 3 FORCE JUSTID"]),
    (f"{READ}; XDEL k 1", "XREADGROUP GROUP g d CLAIM 0 COUNT 1 STREAMS k >", PairMap([(b"k", [(*B, 0, 1)])]),
     [f"XCLAIM k g d 0 2-0 TIME {NOW} RETRYCOUNT 2 FORCE JUSTID"]),
    (f"{READ}; XREADGROUP GROUP g c STREAMS k >", "XREADGROUP GROUP g c CLAIM 9 STREAMS k >", NullArray, []),
    (READ, "XREADGROUP GROUP g c CLAIM 9 STREAMS k 1", PairMap([(b"k", [B])]),
     [f"XCLAIM k g c 0 2-0 TIME {NOW} RETRYCOUNT 2 FORCE JUSTID"]),
    (READ, "XREADGROUP GROUP g c CLAIM x STREAMS k >", errors.CLAIM_NOT_AN_INTEGER, []),
    (READ, "XREADGROUP CLAIM -1 GROUP g c STREAMS k >", errors.CLAIM_NEGATIVE, []),
    (READ, "XREAD CLAIM 1 STREAMS k 0", errors.ONLY_XREADGROUP % b"CLAIM", []),
    (READ, "XREADGROUP GROUP g c STREAMS k $", errors.DOLLAR_IN_XREADGROUP, []),
    (READ, "XREADGROUP GROUP none c STREAMS k >", errors.NO_GROUP_TO_READ % (b"k", b"none"), []),
    (READ, "XREADGROUP COUNT 1 NOACK STREAMS k k > >", errors.GROUP_MISSING, []),
    # XACK, XPENDING
    (READ, "XACK k g 1 9 1", 1, ["XACK k g 1-0"]),
    (READ, "XACK k none x", 0, []),
    (READ, "XACK k g x", errors.INVALID_STREAM_ID, []),
    (READ, "XPENDING k g", [2, b"1-0", b"2-0", [[b"c", b"2"]]], []),
    (READ, "XPENDING k g - + 9", [[b"1-0", b"c", 0, 1], [b"2-0", b"c", 0, 1]], []),
    (READ, "XPENDING k g (1-0 + 9 c", [[b"2-0", b"c", 0, 1]], []),
    (READ, "XPENDING k g IDLE 1 - + 9", [], []),
    (READ, "XPENDING k g - + 9 none", [], []),
    (READ, "XPENDING k none", errors.NO_GROUP % (b"k", b"none"), []),
    # XCLAIM, XAUTOCLAIM
    (READ, "XCLAIM k g d 0 1 3", [A], [f"XCLAIM k g d 0 1-0 TIME {NOW} RETRYCOUNT 2 FORCE JUSTID"]),
    (READ, "XCLAIM k g d 0 3 FORCE JUSTID", [b"3-0"], [f"XCLAIM k g d 0 3-0 TIME {NOW} RETRYCOUNT 1 FORCE JUSTID"]),
    (READ, "XCLAIM k g d 1 1", [], []),
    (READ, "XCLAIM k g d 0 9 LASTID 9", [], ["XGROUP SETID k g 9-0 ENTRIESREAD 2"]),
    (READ, "XCLAIM k g d 0 1 TIME 5 RETRYCOUNT 7", [A], ["XCLAIM k g d 0 1-0 TIME 5 RETRYCOUNT 7 FORCE JUSTID"]),
    (READ, f"XCLAIM k g d 0 1 TIME {START_MS + 9}", [A],
     [f"XCLAIM k g d 0 1-0 TIME {NOW} RETRYCOUNT 2 FORCE JUSTID"]),
    (READ, "XCLAIM k g d 0 1 1 2", [A, A, B],
     [f"XCLAIM k g d 0 1-0 TIME {NOW} RETRYCOUNT 3 FORCE JUSTID",
      f"XCLAIM k g d 0 2-0 TIME {NOW} RETRYCOUNT 2 FORCE JUSTID"]),
    (GONE, "XCLAIM k g d 0 2", [], ["XACK k g 2-0"]),
    (READ, "XCLAIM k g d x 1", b"ERR Invalid min-idle-time argument for XCLAIM", []),
    (READ, "XCLAIM k g d 0 1 IDLE x", b"ERR Invalid IDLE option argument for XCLAIM", []),
    (READ, "XCLAIM k g d 0 1 WHAT", b"ERR Unrecognized XCLAIM option 'WHAT'", []),
    (GONE, "XAUTOCLAIM k g d 0 0", [b"0-0", [A], [b"2-0"]],
     ["XACK k g 2-0", f"XCLAIM k g d 0 1-0 TIME {NOW} RETRYCOUNT 2 FORCE JUSTID"]),
    (READ, "XAUTOCLAIM k g d 0 - COUNT 1 JUSTID", [b"2-0", [b"1-0"], []],
     [f"XCLAIM k g d 0 1-0 TIME {NOW} RETRYCOUNT 1 FORCE JUSTID"]),
    (READ, "XAUTOCLAIM k g d 5 0", [b"0-0", [], []], []),
    (READ, "XAUTOCLAIM k g d 0 0 COUNT 0", errors.STREAM_COUNT_NOT_POSITIVE, []),
    (GONE, "XREADGROUP GROUP g c STREAMS k 1", None, []),
]  # fmt: skip


def ask(client: Client, line: str) -> Any:
    reply = client.ask(*line.split(" "))
    return reply.text if isinstance(reply, CommandError) else plain(reply)


def plain(reply: Any) -> Any:
    """Return a reply with its entries as a list."""
    if isinstance(reply, PairMap):
        return [(name, plain(value)) for name, value in reply]
    return reply.members() if isinstance(reply, Entries) else reply


def prepared(before: str) -> tuple[Bench, Client]:
    """Make an instance, and run requests that must succeed."""
    bench = Bench(default_ttl="0")
    client = bench.connect()
    for line in filter(None, before.split("; ")):
        assert not isinstance(client.ask(*line.split(" ")), CommandError), line
    return bench, client


@for_each(("before", "line", "reply", "effects"), CASES, ids=[f"{case[1][:60]}" for case in CASES])
def test_what_a_command_answers_and_logs(before: str, line: str, reply: Any, effects: list[str]) -> None:
    bench, client = prepared(before)
    known = len(bench.log.records)
    answered = ask(client, line)
    if reply is NullArray:
        assert isinstance(answered, NullArray)
    elif reply is not None or "NOMK" in line:
        assert answered == reply
    else:
        [(_, [[entry_id, nothing]])] = answered
        assert entry_id == b"2-0"
        assert isinstance(nothing, NullArray)
    assert [b" ".join(argv).decode() for argv in bench.log.records[known:]] == effects
    for db in bench.store.databases:
        db.check()
        for entry in db.entries.values():
            if type(value_of(entry)) is not bytes:
                value_of(entry).check()


@pytest.mark.parametrize(
    ("line", "resp2", "resp3"),
    [
        ("XREAD COUNT 1 STREAMS k 0", b"*1\r\n*2\r\n$1\r\nk\r\n", b"%1\r\n$1\r\nk\r\n"),
        ("XREADGROUP GROUP g c COUNT 1 STREAMS k >", b"*1\r\n*2\r\n$1\r\nk\r\n", b"%1\r\n$1\r\nk\r\n"),
    ],
)
def test_streams_are_read_as_a_map_in_resp3(line: str, resp2: bytes, resp3: bytes) -> None:
    entries = b"*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nf\r\n$1\r\na\r\n"
    for hello, head in (("2", resp2), ("3", resp3)):
        _, client = prepared(f"{THREE}; XGROUP CREATE k g 0")
        client.ask("HELLO", hello)
        assert client.wire(*line.split(" ")) == head + entries


def test_nothing_to_read_is_a_null_array_in_resp2() -> None:
    _, client = prepared(THREE)
    assert client.wire("XREAD", "STREAMS", "k", "$") == b"*-1\r\n"
    client.ask("HELLO", "3")
    assert client.wire("XREAD", "STREAMS", "k", "$") == b"_\r\n"


def test_info_of_a_stream_its_groups_and_consumers() -> None:
    bench, client = prepared(READ)
    bench.advance(2)
    stream = ask(client, "XINFO STREAM k")
    assert (stream[b"length"], stream[b"groups"], stream[b"first-entry"], stream[b"last-entry"]) == (3, 1, A, C)
    [group] = ask(client, "XINFO GROUPS k")
    assert group == {
        b"name": b"g",
        b"consumers": 1,
        b"pending": 2,
        b"last-delivered-id": b"2-0",
        b"entries-read": 2,
        b"lag": 1,
    }
    [consumer] = ask(client, "XINFO CONSUMERS k g")
    assert consumer == {b"name": b"c", b"pending": 2, b"idle": 2000, b"inactive": 2000}
    full = ask(client, "XINFO STREAM k FULL COUNT 1")
    assert plain(full[b"entries"]) == [A]
    assert full[b"groups"][0][b"pending"] == [[b"1-0", b"c", START_MS, 1]]
    assert full[b"groups"][0][b"consumers"][0][b"seen-time"] == START_MS
    assert ask(client, "XINFO STREAM none") == errors.NO_SUCH_KEY
    assert ask(client, "XINFO CONSUMERS k none") == errors.NO_GROUP_OF_STREAM % (b"none", b"k")


def test_claims_are_logged_so_that_replay_ignores_the_clock() -> None:
    """A log that is replayed while the clock is set back keeps the time of each delivery."""
    bench, client = prepared(READ)
    follower = Bench(default_ttl="0")
    follower.store.begin_replay(1000)
    for argv in bench.log.records:
        follower.engine.apply(0, argv)
    mine, theirs = (value_of(each.store.databases[0].entries[b"k"]) for each in (bench, follower))
    assert mine == theirs
    assert ask(client, "XPENDING k g") == [2, b"1-0", b"2-0", [[b"c", b"2"]]]


# ---- thousands of entries


@pytest.fixture
def _few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (stream_arguments, stream_claims, stream_group_reads, stream_groups):
        monkeypatch.setattr(module, "AT_ONCE_ENTRIES", 10)


def many(count: int = 300) -> tuple[Bench, Client]:
    bench, client = prepared("XGROUP CREATE k g 0 MKSTREAM")
    for number in range(1, count + 1):
        client.ask("XADD", "k", number, "f", number)
    return bench, client


def done(bench: Bench, client: Client, line: str) -> tuple[Any, int]:
    """Run a request in slices; return its reply and the number of slices."""
    [reply] = bench.engine.run(client.session, [line.encode().split(b" ")])
    return driven(work_of(reply))


@pytest.mark.usefixtures("_few_at_once")
@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("XRANGE k - +", 300),
        ("XREVRANGE k + -", 300),
        ("XRANGE k 100 + COUNT 150", 150),
        ("XRANGE k 30 + COUNT 99", 99),
    ],
)
def test_a_long_range_is_sent_in_parts(line: str, count: int) -> None:
    _, client = many()
    reply = client.ask(*line.split(" "))
    client.ask("XDEL", "k", *range(2, 300))  # it is a view of the moment of the request
    assert isinstance(reply, LongEntries)
    assert reply.size == count
    assert len(reply.chunks) > 1
    expected = [(b"%d-0" % number, (b"f", b"%d" % number)) for number in range(1, 301)]
    if "REV" in line:
        expected.reverse()
    start = 99 if " 100 " in line else 29 if " 30 " in line else 0
    assert reply.members() == expected[start : start + count]


@pytest.mark.usefixtures("_few_at_once")
@pytest.mark.parametrize("line", ["XRANGE k 7 9", "XRANGE k - + COUNT 9", "XREAD STREAMS k 295", "XREVRANGE k 5 -"])
def test_a_short_range_of_a_long_stream_is_read_at_once(line: str) -> None:
    _, client = many()
    assert isinstance(ask(client, line), list)


@pytest.mark.usefixtures("_few_at_once")
def test_a_group_that_has_read_nearly_all_reads_the_rest_at_once() -> None:
    bench, client = many()
    done(bench, client, "XREADGROUP GROUP g c NOACK STREAMS k >")
    client.ask("XADD", "k", "999", "f", "v")
    assert ask(client, "XREADGROUP GROUP g c STREAMS k >") == [(b"k", [(b"999-0", (b"f", b"v"))])]


@pytest.mark.usefixtures("_few_at_once")
def test_a_long_read_is_a_view_of_one_moment() -> None:
    bench, client = many()
    [reply] = bench.engine.run(client.session, [b"XREAD STREAMS k 0".split()])
    client.ask("XDEL", "k", *range(2, 300))
    client.ask("XADD", "k", "999", "f", "v")
    assert isinstance(reply, PairMap)
    [(key, entries)] = reply
    assert key == b"k"
    assert entries.members()[-1] == (b"300-0", (b"f", b"300"))
    assert entries.size == 300
    assert client.wire("XLEN", "k") == b":3\r\n"


@pytest.mark.usefixtures("_few_at_once")
def test_a_long_delivery_locks_its_key_and_is_logged_as_one() -> None:
    bench, client = many()
    known = len(bench.log.records)
    [reply] = bench.engine.run(client.session, [b"XREADGROUP GROUP g c STREAMS k >".split()])
    work, other = work_of(reply), bench.connect()
    next(work)
    assert bench.store.key_lock is not None
    assert bench.store.key_lock.holds_any([b"k"])
    assert len(bench.log.records) == known
    [(_, entries)], _ = driven(work)
    assert entries.size == 300
    assert {argv[0] for argv in bench.log.records[known:]} == {b"XCLAIM", b"XGROUP"}
    assert ask(other, "XPENDING k g")[0] == 300
    for line, effects in (
        ("XREADGROUP GROUP g c STREAMS k 0", {b"XCLAIM"}),
        ("XAUTOCLAIM k g d 0 0 COUNT 1000", {b"XCLAIM"}),
        ("XPENDING k g - + 1000", set()),
        ("XGROUP DELCONSUMER k g d", {b"XGROUP"}),
    ):
        known = len(bench.log.records)
        reply, slices = done(bench, client, line)
        assert slices > 1, line
        assert {argv[0] for argv in bench.log.records[known:]} == effects
    assert reply == 300
    assert ask(other, "XPENDING k g")[0] == 0
    follower = Bench(default_ttl="0")
    follower.store.begin_replay(START_MS)
    for argv in bench.log.records:
        follower.engine.apply(0, argv)
    assert follower.store.databases[0].get(b"k") == bench.store.databases[0].get(b"k")


@pytest.mark.parametrize("hello", [2, 3])
@pytest.mark.parametrize(
    "line",
    [
        "XREAD STREAMS k none k 0 0 4990",
        "XRANGE k - +",
        "XREADGROUP GROUP g c STREAMS k >",
        "XINFO STREAM k FULL COUNT 0",
    ],
)
def test_a_long_reply_has_the_bytes_of_a_short_one(tmp_path: Path, line: str, hello: int) -> None:
    """Five thousand entries are sent in parts; those of several requests together are the same."""
    with GodisProcess(tmp_path) as godis, godis.raw() as raw:
        raw.ask("HELLO", hello)
        raw.ask("XGROUP", "CREATE", "k", "g", "0", "MKSTREAM")
        raw.send(b"".join(encode("XADD", "k", number, "f", number) for number in range(1, 5001)))
        for _ in range(5000):
            raw.read_reply()
        found = parse(raw.ask(*line.split()))
        entries = [[b"%d-0" % number, [b"f", b"%d" % number]] for number in range(1, 5001)]
        pairs = [(b"k", entries), (b"k", entries[4990:])] if "none" in line else [(b"k", entries)]
        if line.startswith("XINFO"):
            found = dict(found if hello == 3 else zip(found[::2], found[1::2], strict=True))[b"entries"]
        if not line.startswith("XREAD"):
            assert found == entries
        else:
            assert [tuple(pair) for pair in found] == pairs
        assert raw.ask("PING") == b"+PONG\r\n"


@pytest.mark.usefixtures("_few_at_once")
@pytest.mark.parametrize(
    "line", ["XREADGROUP GROUP g c STREAMS k >", "XAUTOCLAIM k g d 0 0 COUNT 1000", "XGROUP DELCONSUMER k g c"]
)
def test_a_key_that_ends_amid_its_lock_leaves_a_log_that_can_be_replayed(line: str) -> None:
    """Its DEL is logged at once, and the effects behind it must not be on a group that does not exist."""
    bench, client = many()
    if "READ" not in line:
        done(bench, client, "XREADGROUP GROUP g c STREAMS k >")
    client.ask("PEXPIRE", "k", 1000)
    [reply] = bench.engine.run(client.session, [line.encode().split()])
    work = work_of(reply)
    next(work)
    next(work)
    bench.advance(2)
    bench.store.expire_cycle(lambda: False)
    driven(work)
    assert bench.store.databases[0].get(b"k") is None
    follower = Bench(default_ttl="0")
    follower.store.begin_replay(START_MS)
    for argv in bench.log.records:
        follower.engine.apply(0, argv)
    assert follower.store.databases[0].entries == {}


# ---- waiting


WAITS = [  # request that waits, what ends it, its reply
    ("XREAD BLOCK 0 STREAMS k $", "XADD k 9 f v", [[b"k", [[b"9-0", [b"f", b"v"]]]]]),
    ("XREAD BLOCK 0 STREAMS none k $ 3", "XADD k 9 f v", [[b"k", [[b"9-0", [b"f", b"v"]]]]]),
    ("XREAD BLOCK 0 STREAMS new 0", "XADD new 1 f v", [[b"new", [[b"1-0", [b"f", b"v"]]]]]),
    ("XREAD BLOCK 0 STREAMS new 0", "RENAME k new", [[b"new", [[b"%d-0" % n, [b"f", b"v"]] for n in (1, 2, 3)]]]),
    ("XREAD BLOCK 30 STREAMS k $", "PING", None),
    ("XREADGROUP GROUP g c BLOCK 0 STREAMS k >", "XADD k 9 f v", [[b"k", [[b"9-0", [b"f", b"v"]]]]]),
    ("XREADGROUP GROUP g c BLOCK 0 NOACK STREAMS k >", "XADD k 9 f v", [[b"k", [[b"9-0", [b"f", b"v"]]]]]),
    ("XREADGROUP GROUP g c BLOCK 30 STREAMS k >", "XADD other 9 f v", None),
]


@pytest.mark.parametrize(("waits", "ends", "reply"), WAITS)
def test_a_client_waits_for_an_entry(tmp_path: Path, waits: str, ends: str, reply: Any) -> None:
    with GodisProcess(tmp_path, "--default-ttl", "0") as godis, godis.raw() as client, godis.raw() as other:
        for number in (1, 2, 3):
            other.ask("XADD", "k", number, "f", "v")
        other.ask("XGROUP", "CREATE", "k", "g", "3")
        client.send(encode(*waits.split()))
        blocked = b"blocked_clients:1"
        if reply is not None:
            wait_until(lambda: blocked in other.ask("INFO"), PATIENCE_SECONDS, "the client waits")
            other.ask("XSETID", "k", "5")  # the key changes, and there is nothing to read
            assert blocked in other.ask("INFO")
        assert not other.ask(*ends.split()).startswith(b"-")
        assert parse(client.read_reply()) == reply
        pending = 1 if reply and "GROUP" in waits and "NOACK" not in waits else 0
        if reply and ends.startswith("XADD k"):
            assert parse(other.ask("XPENDING", "k", "g"))[0] == pending
            godis.kill9()
            godis.start()
            with godis.raw() as again:
                assert parse(again.ask("XPENDING", "k", "g"))[0] == pending


def test_a_client_that_claims_is_served_when_an_entry_has_been_pending_for_long(tmp_path: Path) -> None:
    with GodisProcess(tmp_path, "--default-ttl", "0") as godis, godis.raw() as client, godis.raw() as other:
        other.ask("XADD", "k", 1, "f", "v")
        other.ask("XGROUP", "CREATE", "k", "g", "0")
        other.ask("XREADGROUP", "GROUP", "g", "c", "STREAMS", "k", ">")
        client.send(encode("XREADGROUP", "GROUP", "g", "d", "BLOCK", 0, "CLAIM", 200, "STREAMS", "k", ">"))
        [[key, [[entry_id, fields, idle_ms, deliveries]]]] = parse(client.read_reply())
        assert (key, entry_id, fields, deliveries) == (b"k", b"1-0", [b"f", b"v"], 1)
        assert idle_ms >= 200
        assert parse(other.ask("XPENDING", "k", "g", "-", "+", 1))[0][1] == b"d"
        client.send(encode("XREADGROUP", "GROUP", "g", "c", "BLOCK", 300, "CLAIM", 10**6, "STREAMS", "k", ">"))
        assert client.read_reply() == b"*-1\r\n"
        client.send(encode("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "CLAIM", 10**6, "STREAMS", "k", ">"))
        wait_until(lambda: b"blocked_clients:1" in other.ask("INFO"), PATIENCE_SECONDS, "the client waits")
        other.ask("XADD", "k", 2, "f", "w")
        assert parse(client.read_reply()) == [[b"k", [[b"2-0", [b"f", b"w"], 0, 0]]]]


def test_a_group_that_is_deleted_ends_the_waiting(tmp_path: Path) -> None:
    with GodisProcess(tmp_path) as godis, godis.raw() as client, godis.raw() as other:
        other.ask("XGROUP", "CREATE", "k", "g", "$", "MKSTREAM")
        client.send(encode("XREADGROUP", "GROUP", "g", "c", "BLOCK", "0", "STREAMS", "k", ">"))
        wait_until(lambda: b"blocked_clients:1" in other.ask("INFO"), PATIENCE_SECONDS, "the client waits")
        other.ask("XGROUP", "DESTROY", "k", "g")
        assert client.read_reply().startswith(b"-NOGROUP ")


# ---- made anew


@for_each(
    "before",
    [
        "XGROUP CREATE k g $ MKSTREAM",
        "XADD k 5 f v; XDEL k 5",
        f"{THREE}; XDEL k 3",
        f"{THREE}; XTRIM k MAXLEN 0",
        READ,
        GONE,
        "XADD k 9 f v; XDEL k 9; XSETID k 5; XADD k 7 f v",
        f"{READ}; XTRIM k MAXLEN 0; XGROUP CREATE k other 7 ENTRIESREAD 9",
        f"{READ}; XDEL k 1 2 3; XADD k 9 f v; XREADGROUP GROUP g d STREAMS k >; XGROUP CREATECONSUMER k g idle",
        f"{READ}; XREADGROUP GROUP g c STREAMS k 0; XCLAIM k g d 0 2; XSETID k 50 ENTRIESADDED 60 MAXDELETEDID 40",
    ],
)
def test_a_stream_is_rebuilt_with_all_that_commands_can_see(before: str) -> None:
    bench, _ = prepared(before)
    value = bench.store.databases[0].get(b"k")
    other = Bench(default_ttl="0")
    other.store.begin_replay(START_MS)
    for argv in rebuild(b"k", value, NO_DEADLINE):
        other.engine.apply(0, list(argv))
    assert other.store.databases[0].get(b"k") == value
    other.store.databases[0].get(b"k").check()


def test_a_log_of_redis_may_hold_a_limit_whose_tilde_is_gone() -> None:
    """redis-server logs `MAXLEN ~ 9 LIMIT 1` as the length that was left, and keeps the LIMIT; replay ignores it."""
    follower = Bench(default_ttl="0")
    follower.store.begin_replay(START_MS)
    for number in range(1, 6):
        follower.engine.apply(0, [b"XADD", b"k", b"%d-0" % number, b"f", b"v"])
    follower.engine.apply(0, b"XADD k MAXLEN = 4 LIMIT 1 6-0 f v".split())
    assert follower.connect().ask("XLEN", "k") == 4
    follower.engine.apply(0, b"XTRIM k MAXLEN = 1 LIMIT 1".split())
    assert follower.connect().ask("XLEN", "k") == 1
