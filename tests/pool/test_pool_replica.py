"""What the log of a pool makes of a store: the same everywhere, once, in order, by the log's clock."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pool_logs import outcome, outcomes, random_log
from pool_member import START_MS, THEM, US, Member, add, copy_of, make, outcome_of
from servers import printed_under
from tables import for_each

from commands.long_commands import AT_ONCE_WORDS, PART_WORDS
from errors import PoolError
from pool.entry import HEAD, MOST_BYTES, PART_BYTES, Body, commands_of, digest_of, pack, unpack
from pool.replica import FORGET_ENTRIES, FORGET_MS, SWEEP_ENTRIES, Gap
from protocol import encode_command
from replies import HELD_BACK, OK

# ---- entries


def test_an_entry_reads_back_as_it_was_made() -> None:
    body = Body()
    add(body, 0, [[b"SET", b"k", b"\r\n$1\r\n"], [b"DEL", b"", b"x"]])
    add(body, 3, [[b"INCR", b"n"]])
    add(body, 0, [[b"INCR", b"m"]])
    [data] = pack(US, 5, START_MS, 21_600_000, body)
    entry = unpack(data)
    assert entry[:7] == (US, 5, START_MS, 21_600_000, 0, 1, 4)
    assert outcome_of(commands_of([entry.body], entry.commands)) == [
        (0, [b"SET", b"k", b"\r\n$1\r\n"]),
        (0, [b"DEL", b"", b"x"]),
        (3, [b"INCR", b"n"]),
        (0, [b"INCR", b"m"]),
    ]


def test_an_entry_of_a_later_version_is_refused() -> None:
    with pytest.raises(PoolError, match="format 2"):
        unpack(b"\x02" + bytes(60))


@pytest.mark.parametrize("body", [b"*1\r\n$4\r\nPI", b"+OK\r\n", b"*0\r\n", b"*1\r\n:1\r\n", b"x", b""])
def test_a_body_without_whole_commands_is_refused(body: bytes) -> None:
    with pytest.raises(PoolError):
        outcome_of(commands_of([body], 1))


@pytest.mark.parametrize("missing", [-1, 0, 1, PART_BYTES])
def test_parts_put_together_are_the_body_wherever_its_pieces_end(missing: int) -> None:
    body, pieces = Body(), [os.urandom(size) for size in (1, PART_BYTES - 1 + missing, 0, 2 * PART_BYTES - missing, 7)]
    body.add(0, 1, pieces)
    parts = list(body.cut())
    assert len(parts) == body.parts
    assert {len(part) for part in parts[:-1]} == {PART_BYTES}
    assert b"".join(parts) == b"".join(pieces)


def test_a_large_body_comes_in_parts_and_counts_at_the_last() -> None:
    value = os.urandom(2 * PART_BYTES + 5)
    parts = make(1, [[b"SET", b"large", value], [b"STRLEN", b"large"]])
    assert len(parts) == 3
    assert max(map(len, parts)) < PART_BYTES + 100
    member = Member()
    assert member.apply(parts[0]).replies is None
    assert member.apply(make(1, [[b"SET", b"other", b"1"]], instance=THEM)[0]).replies == [OK]
    assert member.apply(parts[0]).repeated
    assert member.apply(parts[1]).replies is None
    middle = copy_of(member)
    assert member.ask(b"DBSIZE") == 1
    for each in (member, middle):
        assert each.apply(parts[2]).replies == [OK, len(value)]
        assert each.ask(b"GET large") == value
    assert MOST_BYTES == 64 * PART_BYTES


def test_an_entry_given_up_in_the_middle_leaves_nothing_behind() -> None:
    first, *_ = make(1, [[b"SET", b"large", bytes(2 * PART_BYTES)]])
    member = Member()
    member.apply(first)
    member.apply(make(3, [[b"SET", b"k", b"v"]])[0])
    assert member.replica._parts == {}
    assert member.ask(b"DBSIZE") == 1


def test_parts_that_do_not_follow_each_other_are_no_log() -> None:
    _, second, _ = make(1, [[b"SET", b"large", bytes(2 * PART_BYTES)]])
    with pytest.raises(PoolError, match="part 2 of 3"):
        Member().apply(second)


@pytest.mark.parametrize(
    "foreign", [b"", b"hello", b'{"a": 1}', b"\0" * 60, b"\x01short", HEAD.pack(1, 3, 1, 0, 0, 3, 3, 1)]
)
def test_what_is_no_entry_is_passed_over_by_all_alike(foreign: bytes) -> None:
    member = Member()
    member.entry(b"SET k v")
    applied = member.apply(foreign)
    assert (applied.replies, applied.repeated) == (None, False)
    assert (member.replica.version, member.replica.digest) == (2, digest_of(foreign))
    assert copy_of(member).ask(b"GET k") == b"v"
    assert member.entry(b"APPEND k w") == [2]


# ---- order and repetition


def test_a_repeated_entry_is_applied_once_whatever_came_between() -> None:
    member = Member()
    [entry] = make(1, [[b"INCR", b"n"]])
    assert member.apply(entry).replies == [1]
    assert member.apply(make(1, [[b"INCR", b"n"]], instance=THEM)[0]).replies == [2]
    again = member.apply(entry)
    assert (again.repeated, again.replies) == (True, None)
    assert copy_of(member).apply(entry).repeated
    assert member.apply(make(2, [[b"INCR", b"n"]])[0]).replies == [3]


def test_an_instance_is_forgotten_only_when_time_and_entries_have_passed() -> None:
    member = Member()
    [entry] = make(1, [[b"INCR", b"n"]], instance=THEM)
    member.apply(entry)
    later_ms = START_MS + FORGET_MS + 1
    member.entry(b"INCR n", now_ms=later_ms)
    while member.replica.version % SWEEP_ENTRIES:
        member.entry(b"GET n", now_ms=later_ms)
    assert member.apply(entry).repeated, "a jump of the clock forgets nobody"
    while member.replica.version < FORGET_ENTRIES + SWEEP_ENTRIES:
        member.entry(b"GET n", now_ms=later_ms)
    assert THEM not in member.replica._seen
    assert US in member.replica._seen


def test_an_old_entry_is_skipped_and_a_missing_one_is_noticed() -> None:
    member = Member()
    [entry] = make(1, [[b"INCR", b"n"]])
    assert member.apply_at(10, 1, entry) is not None
    assert member.apply_at(10, 1, entry) is None
    with pytest.raises(Gap):
        member.apply_at(12, 3, make(2, [[b"INCR", b"n"]])[0])
    with pytest.raises(Gap):
        member.apply_at(12, 0, b"")
    assert (member.replica.index, member.replica.version) == (10, 1)


# ---- the clock


def test_in_the_middle_of_a_long_write_its_keys_wait_and_others_are_read() -> None:
    keys = [b"key:%d" % number for number in range(3 * AT_ONCE_WORDS)]
    seen: list[Any] = []

    def look(member: Member) -> None:
        if member.store.key_lock is not None:
            seen.append([member.ask(line) for line in (b"GET key:0", b"GET key:6143", b"DBSIZE", b"GET free")])
            assert member.store.now_ms == START_MS + 5000, "clients have their own time"
            assert not member.store.may_delete

    member = Member()
    member.entry(b"SET free 1")
    member.replica.tick(START_MS + 5000)
    member.paused = look
    member.apply(make(2, [[b"MSET", *(word for key in keys for word in (key, b"v"))]])[0])
    member.apply(make(3, [[b"DEL", *keys]])[0])
    assert len(seen) >= 2 * len(keys) // PART_WORDS - 2
    assert {tuple(map(str, each)) for each in seen} == {(str(HELD_BACK), str(HELD_BACK), str(HELD_BACK), str(b"1"))}
    member.paused = None
    assert member.ask(b"DBSIZE") == 1


def test_the_logs_clock_is_the_greatest_time_so_far() -> None:
    member = Member()
    member.entry(b"SET k v EX 10", now_ms=START_MS + 60_000)
    assert member.entry(b"SET early v EX 10", b"PEXPIRETIME early", now_ms=START_MS)[1] == START_MS + 70_000
    assert member.replica.clock_ms == START_MS + 60_000


def test_the_default_ttl_is_that_of_the_entry() -> None:
    member = Member()
    assert member.entry(b"SET a 1", b"PEXPIRETIME a", ttl_ms=5000)[1] == START_MS + 5000
    assert member.entry(b"SET b 1", b"PEXPIRETIME b")[1] == -1


def test_a_write_tests_expiry_by_the_logs_clock_and_a_read_by_the_later_one() -> None:
    member = Member()
    member.entry(b"SET k v EX 10", b"SET n 5 EX 10")
    member.replica.tick(START_MS + 20_000)  # by our own clock it is over; no entry says so yet
    assert member.ask(b"GET k") is None
    assert member.ask(b"EXISTS k") == member.ask(b"DBSIZE") == 0
    assert member.ask(b"TYPE k") == b"none"
    assert member.ask(b"RANDOMKEY") is None
    assert member.ask(b"SCAN 0") == [b"0", []]
    assert member.entry(b"INCR n", now_ms=START_MS + 9_999) == [6]
    assert len(member.store.databases[0]) == 2
    assert member.entry(b"INCR n", now_ms=START_MS + 10_000) == [1]
    assert member.ask(b"GET n") == b"1"


def test_keys_go_when_the_logs_clock_has_passed_their_second() -> None:
    member = Member()
    member.entry(*(b"SET k%d v PX %d" % (n, 1000 + n) for n in range(2000)))
    member.entry(now_ms=START_MS + 1999)
    assert len(member.store.databases[0]) == 2000
    member.entry(now_ms=START_MS + 2000)
    assert len(member.store.databases[0]) == 1000
    member.entry(now_ms=START_MS + 3000)
    assert len(member.store.databases[0]) == 0
    for db in member.store.databases:
        db.check()


def test_a_member_with_due_keys_knows_that_a_tick_is_due() -> None:
    member = Member()
    member.entry(b"SET k v PX 1500")
    assert not member.replica.has_due_keys(START_MS + 1999)
    assert member.replica.has_due_keys(START_MS + 2000)
    member.entry(now_ms=START_MS + 2000)
    assert not member.replica.has_due_keys(START_MS + 2000)


def test_housekeeping_deletes_nothing_that_no_entry_ended() -> None:
    member = Member()
    member.entry(b"SET k v PX 1")
    member.replica.tick(START_MS + 5000)
    assert member.store.expire_cycle(lambda: False)
    assert len(member.store.databases[0]) == 1


# ---- the same on every instance: random logs, applied in processes with other hash seeds


APPLY_ELSEWHERE = """
import pool_logs
print(*pool_logs.outcomes({every}, {pauses}))
"""


@pytest.mark.parametrize(("hash_seed", "every", "pauses"), [("1", 0, True), ("2", 50, False), ("3", 7, True)])
def test_random_logs_come_out_alike_in_processes_with_other_hash_seeds(
    hash_seed: str, every: int, pauses: bool
) -> None:
    printed = printed_under(hash_seed, APPLY_ELSEWHERE.format(every=every, pauses=pauses))
    assert printed.split() == outcomes(0)


def test_the_comparison_notices_one_key_more(tmp_path: Path) -> None:
    """A digest that is always equal would pass above."""
    log = random_log(0, 50)
    assert outcome(log, 0) != outcome([*log, make(1000, [[b"SET", b"more", b"1"]])[0]], 0)


def test_a_snapshot_is_that_of_its_entry_whatever_is_applied_while_it_is_taken() -> None:
    log = random_log(5, 300)
    member = Member()
    for data in log[:200]:
        member.apply(data)
    expected = member.replica.dump()
    snapshot = member.replica.snapshot()
    for _ in snapshot.begin():
        pass
    pieces = []
    walk = snapshot.walk()
    for data in log[200:]:
        pieces.append(next(walk, b""))
        member.apply(data)
    pieces += walk
    snapshot.end()
    assert b"".join(pieces) == expected
    assert all(db.views == () for db in member.store.databases)


def test_a_snapshot_that_is_cut_off_is_refused() -> None:
    member = Member()
    member.entry(b"SET k v", b"SET l w")
    loader = Member().replica.loader(START_MS)
    loader.feed(member.replica.dump()[:-5])
    with pytest.raises(PoolError):
        loader.finish()


@for_each(
    "stream",
    [
        encode_command([b"NEWTYPE", b"k", b"v"]),  # of a later version
        encode_command([b"SET", b"k"]),
        encode_command([b"GET", b"k"]),
        encode_command([b"@DB", b"999999", b"0", b"0"]),
        encode_command([b"@HOLES", b"x"]),
        b"-ERR\r\n",
        b"nonsense\r\n",
        b"*0\r\n",
    ],
)
def test_a_snapshot_that_cannot_be_read_is_refused(stream: bytes) -> None:
    with pytest.raises(PoolError):
        Member().replica.loader(START_MS).feed(stream)
