"""DUMP and RESTORE: what they answer, what they log, and that long ones take slices."""

from __future__ import annotations

from typing import Any

import old_forms
import pytest
from instances import START_MS, Bench, Client, driven, state_of, work_of

import errors
from commands.dump import LONG_BYTES

TEXT = old_forms.payload(0, old_forms.string(b"text"))
NOW_MS = START_MS
CASES = [
    # before, words of RESTORE after the key, the reply, the effects
    ([], [b"0", TEXT], b"OK", [b"SET k text"]),
    ([], [b"5000", TEXT], b"OK", [b"SET k text PXAT %d" % (NOW_MS + 5000)]),
    ([], [b"%d" % (NOW_MS + 7), TEXT, b"ABSTTL"], b"OK", [b"SET k text PXAT %d" % (NOW_MS + 7)]),
    ([], [b"5", TEXT, b"ABSTTL"], b"OK", []),
    ([], [b"9223372036854775807", TEXT], b"OK", [b"SET k text PXAT 9223372036854775807"]),
    ([b"SET k old"], [b"0", TEXT], errors.BUSY_KEY, []),
    ([b"SET k old"], [b"-1", b"junk"], errors.BUSY_KEY, []),
    ([b"SET k old"], [b"0", TEXT, b"replace"], b"OK", [b"SET k text"]),
    ([b"SET k old"], [b"5", TEXT, b"REPLACE", b"ABSTTL"], b"OK", [b"DEL k"]),
    ([b"SET k old"], [b"0", b"junk", b"REPLACE"], errors.WRONG_PAYLOAD, []),
    ([], [b"-1", TEXT], errors.INVALID_TTL, []),
    ([], [b"x", TEXT], errors.NOT_AN_INTEGER, []),
    ([], [b"0", TEXT[:-1] + b"?"], errors.WRONG_PAYLOAD, []),
    ([], [b"0", old_forms.payload(0, old_forms.string(b"text"), 13)], errors.WRONG_PAYLOAD, []),
    ([], [b"0", old_forms.payload(1, old_forms.length(3))], errors.BAD_DATA_FORMAT, []),
    ([], [b"0", old_forms.payload(7, old_forms.length(3))], errors.BAD_DATA_FORMAT, []),
    ([], [b"0", TEXT, b"NX"], errors.SYNTAX, []),
    ([], [b"0", TEXT, b"IDLETIME"], errors.SYNTAX, []),
    ([], [b"0", TEXT, b"IDLETIME", b"1", b"FREQ", b"1"], errors.SYNTAX, []),
    ([], [b"0", TEXT, b"IDLETIME", b"-1"], errors.INVALID_IDLE_TIME, []),
    ([], [b"0", TEXT, b"FREQ", b"256"], errors.INVALID_FREQUENCY, []),
]


@pytest.mark.parametrize(("before", "words", "reply", "effects"), CASES)
def test_restore_answers_and_logs(
    client: Client, before: list[bytes], words: list[bytes], reply: bytes, effects: list[bytes]
) -> None:
    for line in before:
        client.ask(*line.split())
    client.bench.log.records.clear()
    answer = client.ask("RESTORE", "k", *words)
    assert (answer.text if isinstance(answer, errors.CommandError) else answer) == reply
    assert [b" ".join(record) for record in client.bench.log.records] == effects


@pytest.mark.parametrize("value", [b"", b"text", b"10", b"-129", b"007", b"9" * 30, b"x" * 20_000, b"ab" * 300_000])
def test_a_string_comes_back(client: Client, value: bytes) -> None:
    client.ask("SET", "k", value)
    payload = done(client.ask("DUMP", "k"))
    assert done(client.ask("RESTORE", "copy", "0", payload)) == b"OK"
    assert client.ask("GET", "copy") == value


def test_a_string_that_was_written_in_parts_comes_back(client: Client) -> None:
    for offset in (300_000, 70_000, 500_000):
        client.ask("SETRANGE", "k", offset, "part")
    payload = done(client.ask("DUMP", "k"))
    assert done(client.ask("RESTORE", "copy", "0", payload)) == b"OK"
    assert client.ask("GET", "copy") == bytes(70_000) + b"part" + bytes(229_996) + b"part" + bytes(199_996) + b"part"


@pytest.fixture
def client(bench: Bench) -> Client:
    """A client of the instance."""
    return bench.connect()


def done(reply: Any) -> Any:
    """Return a reply, after its work if it is work."""
    reply = driven(reply)[0] if hasattr(reply, "send") else reply
    return bytes(reply) if isinstance(reply, memoryview) else reply


def test_dump_of_no_key_is_null(client: Client) -> None:
    assert client.ask("DUMP", "k") is None


def test_a_restored_string_gets_no_default_ttl() -> None:
    client = Bench(default_ttl="1h").connect()
    client.ask("RESTORE", "k", "0", TEXT)
    assert client.ask("TTL", "k") == -1


def test_idle_time_and_frequency_are_restored() -> None:
    client = Bench().connect()
    client.ask("RESTORE", "k", "0", TEXT, "IDLETIME", "100")
    assert client.ask("OBJECT", "IDLETIME", "k") == 100
    client = Bench(maxmemory_policy="allkeys-lfu", maxmemory="1gb").connect()
    client.ask("RESTORE", "k", "0", TEXT, "FREQ", "77")
    assert client.ask("OBJECT", "FREQ", "k") == 77


LONG = old_forms.payload(0, old_forms.compressed(b"".join(b"%d " % (each * each) for each in range(60_000))))


def test_a_long_payload_is_restored_in_slices_and_as_one(client: Client) -> None:
    assert len(LONG) > LONG_BYTES
    client.ask("SET", "k", "old")
    before = state_of(client.bench.store)
    work = work_of(client.ask("RESTORE", "k", "0", LONG, "REPLACE"))
    seen: list[bool] = []
    reply, steps = driven(
        work, lambda: seen.append(client.bench.store.key_lock is not None or state_of(client.bench.store) == before)
    )
    assert reply == b"OK"
    assert steps > 5
    assert all(seen)
    assert [record[:2] for record in client.bench.log.records[-2:]] == [[b"SET", b"k"], [b"SET", b"k"]]


def test_a_long_payload_that_is_bad_changes_nothing(client: Client) -> None:
    client.ask("SET", "k", "old")
    client.bench.log.records.clear()
    bad = old_forms.payload(0, LONG[1:-11])
    with pytest.raises(errors.CommandError, match="Bad data format"):
        driven(work_of(client.ask("RESTORE", "k", "0", bad, "REPLACE")))
    assert client.ask("GET", "k") == b"old"
    assert not client.bench.log.records


def test_a_key_that_was_made_while_a_long_payload_was_read_is_busy(client: Client) -> None:
    work = work_of(client.ask("RESTORE", "k", "0", LONG))
    next(work)
    client.ask("SET", "k", "new")
    with pytest.raises(errors.CommandError, match="BUSYKEY"):
        driven(work)
    assert client.ask("GET", "k") == b"new"


def test_a_long_string_is_dumped_in_slices_as_it_was(client: Client) -> None:
    value = b"0123456789" * 300_000
    client.ask("SET", "k", value)
    reply, steps = driven(work_of(client.ask("DUMP", "k")), lambda: client.ask("SET", "k", "new"))
    assert steps > 10
    assert done(client.ask("RESTORE", "copy", "0", bytes(reply))) == b"OK"
    assert client.ask("GET", "copy") == value


def test_a_short_payload_of_a_long_value_is_restored_in_slices(client: Client) -> None:
    node = old_forms.compressed(old_forms.listpack([b"ab"] * 40_000))
    payload = old_forms.payload(18, old_forms.length(1) + old_forms.length(2) + node)
    assert len(payload) < LONG_BYTES
    seen: list[bool] = []
    work = work_of(client.ask("RESTORE", "k", "0", payload))
    reply, steps = driven(
        work,
        lambda: seen.append(client.bench.store.key_lock is not None or not client.bench.store.databases[0].entries),
    )
    assert (reply, all(seen)) == (b"OK", True)
    assert steps > 1000
    assert client.ask("LLEN", "k") == 40_000


def test_a_container_in_the_way_is_replaced_and_its_deadline_goes(client: Client) -> None:
    client.ask("RPUSH", "k", "a")
    client.ask("EXPIRE", "k", "100")
    client.bench.log.records.clear()
    payload = old_forms.payload(2, old_forms.length(1) + old_forms.string(b"x"))
    assert client.ask("RESTORE", "k", "0", payload, "REPLACE") == b"OK"
    assert client.bench.log.records == [[b"DEL", b"k"], [b"SADD", b"k", b"x"]]
    assert client.ask("TTL", "k") == -1


def test_fields_keep_their_deadlines_and_some_may_have_ended(client: Client) -> None:
    client.ask("HSET", "k", "f", "v", "g", "w", "h", "x")
    client.ask("HPEXPIREAT", "k", str(START_MS + 1000), "FIELDS", "1", "f")
    client.ask("HPEXPIREAT", "k", str(START_MS + 5000), "FIELDS", "1", "g")
    payload = client.ask("DUMP", "k")
    assert client.ask("RESTORE", "copy", "0", payload) == b"OK"
    times = [b"HPEXPIRETIME", b"copy", b"FIELDS", b"3", b"f", b"g", b"h"]
    assert client.ask(*times) == [START_MS + 1000, START_MS + 5000, -1]
    client.bench.advance(2)
    assert client.ask("RESTORE", "late", "0", payload) == b"OK"
    assert client.ask("HLEN", "late") == 2
