"""MONITOR, SLOWLOG, LATENCY, and the counts of commands: what they show, beside the real Redis."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from instances import Bench, Client
from random_commands import random_command
from servers import GodisProcess, Raw, encode, parse

from measuring.command_counts import FIRST_CALLS, SAMPLE_CALLS, CommandCount
from measuring.shown_words import cut, quote
from replies import FlatMap

REFUSED = [
    *("SLOWLOG", "SLOWLOG nosuch", "SLOWLOG GET x", "SLOWLOG GET -2", "SLOWLOG GET 1 2", "SLOWLOG LEN x"),
    *("LATENCY", "LATENCY nosuch", "LATENCY LATEST x", "LATENCY HISTORY", "LATENCY GRAPH nosuch", "LATENCY DOCTOR x"),
    *(
        "ROLE x",
        "SAVE x",
        "BGSAVE x",
        "BGSAVE SCHEDULE x",
        "MODULE",
        "MODULE nosuch",
        "MODULE LOAD x",
        "MODULE UNLOAD x",
    ),
    *("FAILOVER", "FAILOVER x", "FAILOVER ABORT", "FAILOVER TO host 1", "REPLICAOF", "CLUSTER", "CLUSTER INFO"),
    *(
        "READONLY",
        "READWRITE",
        "ASKING",
        "READONLY x",
        "MEMORY STATS x",
        "MEMORY nosuch",
        "COMMAND GETKEYSANDFLAGS GET",
    ),
    *("COMMAND GETKEYSANDFLAGS PING x", "COMMAND GETKEYSANDFLAGS nosuch x", "COMMAND GETKEYSANDFLAGS CLIENT ID"),
    *("CLIENT MAINT_NOTIFICATIONS ON", "COMMAND GETKEYSANDFLAGS GET a b"),
    *("MONITOR x", "CONFIG SET slowlog-log-slower-than -2", "CONFIG SET slowlog-log-slower-than x"),
    *("CONFIG SET slowlog-max-len x", "CONFIG SET latency-monitor-threshold -1", "CONFIG SET latency-tracking x"),
    "CONFIG SET latency-tracking-info-percentiles x",
    "CONFIG SET latency-tracking-info-percentiles 101",
]
ANSWERED = [
    *("ROLE", "MODULE LIST", "MEMORY PURGE", "LOLWUT", "LOLWUT x", "REPLICAOF NO ONE", "SLAVEOF no one"),
    *("COMMAND GETKEYSANDFLAGS GET a", "COMMAND GETKEYSANDFLAGS SET a b", "COMMAND GETKEYSANDFLAGS SET a b GET"),
    *("COMMAND GETKEYSANDFLAGS LMOVE a b LEFT RIGHT", "COMMAND GETKEYSANDFLAGS XGROUP CREATE a g 0"),
    *("COMMAND GETKEYSANDFLAGS ZUNIONSTORE a 2 b c", "COMMAND GETKEYSANDFLAGS BITFIELD a GET u8 0"),
    *("CONFIG SET slowlog-log-slower-than 10000000 slowlog-max-len 128", "SLOWLOG RESET"),
    *("SLOWLOG GET", "SLOWLOG GET -1", "SLOWLOG GET 0", "SLOWLOG LEN", "SLOWLOG RESET", "LATENCY LATEST"),
    *("LATENCY HISTORY nosuch", "LATENCY RESET", "LATENCY RESET a b", "LATENCY HISTOGRAM nosuch config|nosuch"),
    *(
        "CONFIG GET slowlog-max-len",
        "CONFIG GET slowlog-log-slower-than",
        "CONFIG GET latency-tracking",
        "CONFIG SET latency-tracking-info-percentiles 50",
    ),
    *("CONFIG GET latency-tracking-info-percentiles", "CONFIG SET latency-tracking-info-percentiles 99.99"),
    *("CONFIG GET latency-tracking-info-percentiles"),
]
# What a client asks while another one monitors. `\` at the start: the monitor asks it.
MONITORED: list[Any] = [
    *(["SET", "a", b'x\x00\r\n\t\a\b"\\\xff y'], "SELECT 3", "get a", "AUTH secret", "AUTH u secret"),
    *("HELLO 2 AUTH default pw", "HELLO 2 SETNAME me", "CONFIG GET save", "CLIENT ID", "CLIENT LIST", "COMMAND COUNT"),
    *("SLOWLOG LEN", "GET a b", "NOSUCH b", "GET", "KEYS *", "MULTI", "SET k v", "PING", "CONFIG GET save", "EXEC"),
    *("MULTI", "GET k", "DISCARD", "EXEC", "SUBSCRIBE ch", "UNSUBSCRIBE", "WATCH k", "BLPOP nokey 0.01", "SET a 1 EX"),
    *("MULTI", "MONITOR", "EXEC", "RESET", "SHUTDOWN ABORT", "PUBLISH a b", "LATENCY LATEST", r"\GET a", r"\SET a b"),
    ["EVAL", "redis.call('set', KEYS[1], ARGV[1]) redis.pcall('nosuch') return redis.call('GET', 'a')", "1", "k", "v"],
    *(
        ["EVAL_RO", "return redis.pcall('set', 'a', 1)", "0"],
        ["EVALSHA", "f" * 40, "0"],
        ["SCRIPT", "LOAD", "return 1"],
    ),
    *("EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0", "EVAL x( 0", "EVAL return 1", "FCALL nosuch 0"),
    *("MULTI", ["EVAL", "return redis.call('incr', 'n')", "0"], "EXEC"),
    *(r"\MONITOR", "PING 1", r"\RESET", "PING 2"),
]


@pytest.mark.parametrize("line", REFUSED)
def test_a_refusal_is_worded_as_in_redis(line: str, bench: Bench, real: Raw) -> None:
    wire = bench.connect().wire(*line.split(" "))
    assert wire.startswith(b"-")
    assert wire == real.ask(*line.split(" "))


@pytest.mark.parametrize("resp", [2, 3])
def test_answers_are_those_of_redis(resp: int, bench: Bench, real: Raw) -> None:
    client = bench.connect()
    client.wire("HELLO", resp)
    real.ask("HELLO", resp)
    real.ask("CONFIG", "SET", "latency-tracking-info-percentiles", "50 99 99.9")
    for line in ANSWERED:
        assert client.wire(*line.split(" ")) == real.ask(*line.split(" ")), line


# ---- MONITOR


def lines_until(monitor: Raw, marker: bytes) -> list[bytes]:
    """Read the lines of a monitor up to one with the marker, without times and addresses."""
    lines: list[bytes] = []
    while not lines or marker not in lines[-1]:
        lines.append(re.sub(rb"^\+[0-9]+\.[0-9]{6} (\[\d+) (?:[0-9.:]+|lua)\]", rb"+\1]", monitor.read_reply()))
    return lines


@pytest.mark.parametrize("resp", [2, 3])
def test_a_monitor_sees_what_one_of_redis_sees(
    resp: int, shared_godis: GodisProcess, real: Raw, redis_server: Any
) -> None:
    seen = []
    for server in (shared_godis, redis_server):
        with server.raw() as client, server.raw() as monitor:
            monitor.ask("HELLO", resp)
            replies = [monitor.ask("MONITOR")]
            for each in MONITORED:
                words: list[Any] = each.split(" ") if isinstance(each, str) else each
                if each == r"\RESET":
                    client.ask("ECHO", "end-of-lines")
                    replies += lines_until(monitor, b"end-of-lines")
                if isinstance(each, str) and each.startswith("\\"):
                    monitor.send(encode(each[1:].split(" ")[0], *words[1:]))
                    if each == r"\RESET":
                        replies.append(monitor.read_reply())
                    elif each != r"\MONITOR":  # which gets no reply
                        replies += lines_until(monitor, b"-ERR")
                elif each not in (
                    "SLOWLOG LEN",
                    "CLIENT ID",
                    "CLIENT LIST",
                    "COMMAND COUNT",
                    "KEYS *",
                    "HELLO 2 SETNAME me",
                ):
                    replies.append(client.ask(*words) if each[0] != "H" else client.ask(*words)[:2])
                else:
                    client.ask(*words)
            monitor.send(encode("ECHO", "no more"))
            replies.append(monitor.read_reply())
            client.ask("FLUSHALL")
        seen.append(replies)
    assert seen[0] == seen[1]
    assert any(b'"\\x00' in line or b"x\\x00" in line for line in seen[0])


def test_a_request_that_runs_in_slices_is_shown_from_its_beginning(shared_godis: GodisProcess) -> None:
    many = [str(number) for number in range(5000)]
    with shared_godis.raw() as client, shared_godis.raw() as monitor:
        monitor.ask("MONITOR")
        for line in ("RPUSH l", "LPUSHX none", "SADD s", "ZREM z", "HDEL h", "PFADD p", "MSET", "DEL"):
            client.ask(*line.split(" "), *many)
            (shown,) = lines_until(monitor, b'"9"')
            assert b'] "' + line.replace(" ", '" "').encode() + b'" "0" "1" "2" ' in shown
        client.ask("FLUSHALL")


def test_each_request_of_a_pipeline_is_shown_in_its_order(shared_godis: GodisProcess) -> None:
    with shared_godis.raw() as client, shared_godis.raw() as monitor:
        monitor.ask("MONITOR")
        for batch in (["SET a 1"] * 3, ["GET a", "SET b 2", "DBSIZE", "GET b"], ["MULTI", "INCR a", "EXEC", "PING"]):
            client.send(b"".join(encode(*line.split(" ")) for line in batch))
            for _ in batch:
                client.read_reply()
        client.ask("ECHO", "end")
        shown = [line.split(b'] "')[1] for line in lines_until(monitor, b'"end"')]
    expected = [*["SET a 1"] * 3, "GET a", "SET b 2", "DBSIZE", "GET b", "MULTI", "INCR a", "EXEC", "PING", "ECHO end"]
    assert [line.replace(b'" "', b" ").strip(b'"\r\n').decode() for line in shown] == expected


def test_a_monitor_that_does_not_read_is_dropped_and_delays_nobody(godis: GodisProcess) -> None:
    with godis.raw() as client, godis.raw() as monitor:
        client.ask("CONFIG", "SET", "client-output-buffer-limit", "normal 1mb 0 0")
        monitor.ask("MONITOR")
        value = b"x" * 60_000
        for _ in range(400):
            client.ask("SET", "k", value)
            if b"client_output_buffer_limit_disconnections:1" in client.ask("INFO", "stats"):
                break
        else:
            pytest.fail("the monitor was never dropped")
        assert client.ask("GET", "k") == b"$60000\r\n%b\r\n" % value
        assert client.ask("CLIENT", "LIST").count(b" addr=") == 1


def test_a_client_that_leaves_monitors_no_more(bench: Bench) -> None:
    client = bench.connect()
    client.ask("MONITOR")
    assert bench.instance.is_observed
    client.session.end()
    assert not bench.instance.is_observed
    assert not bench.instance.measures.monitors


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        (b"", b'""'),
        (b"plain word", b'"plain word"'),
        (b'"\\\n\r\t\a\b', rb'"\"\\\n\r\t\a\b"'),
        (b"\x00\x1f\x7f\xff~ ", rb'"\x00\x1f\x7f\xff~ "'),
    ],
)
def test_what_cannot_be_printed_is_escaped(word: bytes, shown: bytes) -> None:
    assert quote(word) == shown


def test_a_request_without_end_is_cut() -> None:
    words = cut([b"SET", b"x" * 100, *[b"y"] * 10], 5, 64)
    assert words == [b"SET", b"x" * 64 + b"... (36 more bytes)", b"y", b"y", b"... (8 more arguments)"]


# ---- SLOWLOG

LOGGED: list[Any] = [
    *("PING", "AUTH a b", "hello 2 AUTH default c", "HELLO 2 SETNAME joe", "CONFIG SET requirepass", "GET a b"),
    *("SLOWLOG LEN", "MULTI", "SET a 1", "INCR a", "EXEC", "NOSUCH", "LPUSH a 1", "CONFIG SET masterauth x", "KEYS *"),
    ["SET", "b", b"x" * 128],
    ["SET", "b", b"x" * 129],
    ["RPUSH", "l", *map(str, range(30))],
    ["RPUSH", "l", *map(str, range(31))],
    ["DEL", *[b"z" * 300] * 50],
]


def test_slow_requests_are_logged_as_redis_logs_them(shared_godis: GodisProcess, redis_server: Any) -> None:
    logs = []
    for server in (shared_godis, redis_server):
        with server.raw() as client:
            client.ask("CONFIG", "SET", "slowlog-log-slower-than", "0")
            client.ask("SLOWLOG", "RESET")
            for each in LOGGED:
                words: Any = each.split(" ") if isinstance(each, str) else each
                client.ask(*words)
            entries = parse(client.ask("SLOWLOG", "GET", "-1"))
            client.ask("CONFIG", "SET", "slowlog-log-slower-than", "10000")
            client.ask("FLUSHALL")
        numbers, seconds, microseconds, logged, addresses, names = zip(*entries, strict=True)
        assert list(numbers) == list(range(numbers[0], numbers[0] - len(numbers), -1))
        assert max(seconds) - min(seconds) < 60
        assert all(each >= 0 for each in microseconds)
        assert all(each.startswith(b"127.0.0.1:") for each in addresses)
        logs.append([pair for pair in zip(logged, names, strict=True) if pair[0][:2] != [b"CONFIG", b"SET"]])
    assert logs[0] == logs[1]


@pytest.fixture
def slow_clock() -> Callable[[Bench, float], None]:
    """Let each reading of the clock that measures requests be some seconds later than the last one."""

    def begin(bench: Bench, seconds: float) -> None:
        now = [0.0]

        def clock() -> float:
            now[0] += seconds
            return now[0]

        bench.instance.measures.clock = clock

    return begin


def slow_words(client: Client) -> list[list[bytes]]:
    return [entry.words for entry in client.session.instance.measures.slow_log.entries]


def test_what_is_quicker_than_the_threshold_is_not_logged(bench: Bench, slow_clock: Any) -> None:
    client = bench.connect()
    slow_clock(bench, 0.0099)
    client.ask("GET", "a")
    assert slow_words(client) == []
    slow_clock(bench, 0.0101)
    client.ask("GET", "a")
    assert slow_words(client) == [[b"GET", b"a"]]
    client.ask("CONFIG", "SET", "slowlog-log-slower-than", -1)
    client.ask("GET", "b")
    assert slow_words(client) == [[b"GET", b"a"]]


def test_each_slow_request_of_a_pipeline_is_logged(bench: Bench, slow_clock: Any) -> None:
    client = bench.connect()
    slow_clock(bench, 0.02)
    requests = [[b"GET", b"a"], [b"KEYS", b"*"], [b"CONFIG", b"GET", b"port"], [b"SET", b"a", b"1"]]
    assert len(bench.engine.run(client.session, requests)) == 4
    assert slow_words(client) == requests


def test_of_a_quick_command_not_each_call_is_measured_unless_that_is_asked_for(bench: Bench, slow_clock: Any) -> None:
    client = bench.connect()
    for _ in range(FIRST_CALLS + 1):
        client.ask("GET", "a")
    slow_clock(bench, 0.02)
    for _ in range(10):
        client.ask("GET", "a")
        client.ask("KEYS", "*")
    assert slow_words(client) == [[b"KEYS", b"*"]] * 10
    client.ask("SLOWLOG", "RESET")
    client.ask("CONFIG", "SET", "latency-monitor-threshold", 5)
    assert len(bench.engine.run(client.session, [[b"GET", b"a"]] * 2)) == 1
    client.ask("GET", "b")
    assert [words for words in slow_words(client) if words[0] == b"GET"] == [[b"GET", b"a"], [b"GET", b"b"]]


def test_the_log_keeps_the_last_entries(bench: Bench) -> None:
    client = bench.connect()
    client.ask("CONFIG", "SET", "slowlog-log-slower-than", 0, "slowlog-max-len", 3)
    for number in range(5):
        client.ask("ECHO", number)
    assert [entry[3][1] for entry in client.ask("SLOWLOG", "GET")] == [b"4", b"3", b"2"]
    client.ask("CONFIG", "SET", "slowlog-max-len", 2)
    assert client.ask("SLOWLOG", "LEN") == 2


def test_work_in_slices_is_logged_when_it_has_ended(godis: GodisProcess) -> None:
    with godis.raw() as client:
        for start in range(0, 6000, 2000):
            client.ask("MSET", *[word for number in range(start, start + 2000) for word in (f"key:{number}", "v")])
        client.ask("CONFIG", "SET", "slowlog-log-slower-than", "1")
        assert client.ask("KEYS", "*").startswith(b"*6000\r\n")
        entries = parse(client.ask("SLOWLOG", "GET", "-1"))
        assert [entry[3] for entry in entries if entry[3][0] == b"KEYS"] == [[b"KEYS", b"*"]]
        assert re.search(rb"cmdstat_keys:calls=1,usec=[1-9][0-9]*,", client.ask("INFO", "commandstats"))


# ---- LATENCY


def test_a_stall_is_an_event(godis: GodisProcess) -> None:
    with godis.raw() as client:
        assert b"latency-monitor-threshold is 0" in client.ask("LATENCY", "DOCTOR")
        client.ask("CONFIG", "SET", "latency-monitor-threshold", "5")
        assert b"Nothing took longer" in client.ask("LATENCY", "DOCTOR")
        client.ask("DEBUG", "SLEEP", "0.02")
        latest = {each[0]: each[1:] for each in parse(client.ask("LATENCY", "LATEST"))}
        second, last_ms, most_ms = latest[b"command"]
        assert 20 <= last_ms <= most_ms
        assert parse(client.ask("LATENCY", "HISTORY", "command"))[-1] == [second, last_ms]
        assert b"command - high" in client.ask("LATENCY", "GRAPH", "command")
        assert b"SLOWLOG GET" in client.ask("LATENCY", "DOCTOR")
        assert [b"DEBUG", b"SLEEP", b"0.02"] in [entry[3] for entry in parse(client.ask("SLOWLOG", "GET"))]
        assert client.ask("LATENCY", "RESET", "command", "nosuch") == b":1\r\n"
        assert parse(client.ask("LATENCY", "HISTORY", "command")) == []


def test_a_histogram_has_the_levels_of_redis() -> None:
    count = CommandCount()
    for microseconds in (0.2, 0.9, 1.02, 1.5, 7, 30, 31, 64, 500, 100_000):
        count.add(microseconds / 1e6, 1)
    assert count.levels() == [(1, 3), (2, 4), (8, 5), (33, 7), (66, 8), (528, 9), (135266, 10)]
    assert list(count.percentiles([0, 50, 100])) == [0.2, 7.007, max(count.buckets) / 1000]


def test_later_calls_are_sampled_and_none_is_lost() -> None:
    count, samples = CommandCount(swift=True), 0
    for _ in range(10_000):
        count.left -= 1
        if not count.left:
            count.add(1e-6, count.take())
            samples += 1
    assert count.calls == 10_000
    assert samples == 128 + (10_000 - 128) // SAMPLE_CALLS
    assert 10_000 - SAMPLE_CALLS < count.sampled == sum(count.buckets.values())
    assert count.seconds == pytest.approx(count.sampled * 1e-6)


def test_a_container_shows_the_histograms_of_its_subcommands(bench: Bench) -> None:
    client = bench.connect()
    for line in ("PING", "CLIENT ID", "CLIENT GETNAME", "CLIENT ID"):
        client.ask(*line.split(" "))
    shown = client.ask("LATENCY", "HISTOGRAM", "client", "ping", "nosuch", "CLIENT|ID")
    assert isinstance(shown, FlatMap)
    assert shown[::2] == [b"client|id", b"client|getname", b"ping", b"client|id"] or set(shown[::2]) == {
        *(b"client|id", b"client|getname", b"ping")
    }
    assert shown[-1][b"calls"] == 2


# ---- INFO commandstats, latencystats


def counts_of(client: Raw) -> dict[str, tuple[int, ...]]:
    """Return calls, rejected and failed calls by command."""
    text = client.ask("INFO", "commandstats").decode()
    found = re.findall(
        r"cmdstat_(\S+?):calls=(\d+),usec=\d+,usec_per_call=[\d.]+,rejected_calls=(\d+),failed_calls=(\d+)", text
    )
    return {name: tuple(map(int, numbers)) for name, *numbers in found}


@pytest.mark.parametrize("family", ["strings", "hashes", "sorted_sets", "streams"])
def test_calls_are_counted_as_redis_counts_them(family: str, shared_godis: GodisProcess, redis_server: Any) -> None:
    random = Random(5)
    commands = [random_command(random, family, for_redis=True) for _ in range(600)]
    commands = [each for each in commands if each[0].upper() not in (b"RESET", b"SCAN", b"HSCAN", b"ZSCAN")]
    counted = []
    for server in (shared_godis, redis_server):
        with server.raw() as client:
            client.ask("FLUSHALL")
            client.ask("CONFIG", "SET", *(["default-ttl", "0"] if server is shared_godis else ["maxclients", "10000"]))
            client.ask("CONFIG", "RESETSTAT")
            for start in range(0, len(commands), 20):
                batch = [*commands[start : start + 20], [b"GET", b"a"], [b"GET", b"a"], [b"GET"], [b"CLIENT", b"ID"]]
                client.send(b"".join(encode(*argv) for argv in batch))
                for _ in batch:
                    client.read_reply()
            for line in ("MULTI", "SET a 1", "LPUSH a 1", "GET", "EXEC", "MULTI", "SET a 1", "LPUSH a 1", "EXEC"):
                client.ask(*line.split(" "))
            counted.append(counts_of(client))
            client.ask("FLUSHALL")
    for each in counted:
        for name in ("config|resetstat", "info"):  # Redis counts a call when it has ended
            each.pop(name, None)
    assert counted[0] == counted[1]
    assert sum(calls for calls, _, _ in counted[0].values()) > 500


def test_times_are_shown_by_command(bench: Bench, slow_clock: Any) -> None:
    client = bench.connect()
    slow_clock(bench, 0.001)
    for line in ("GET a", "GET b", "CONFIG GET port", "GET", "LPUSH l 1", "GET l"):
        client.ask(*line.split(" "))
    bench.engine.run(client.session, [[b"GET", b"a"]] * 4)
    text = client.ask("INFO", "commandstats").decode()
    assert "cmdstat_get:calls=7,usec=4000,usec_per_call=571.43,rejected_calls=1,failed_calls=1\r\n" in text
    assert "cmdstat_config|get:calls=1,usec=1000,usec_per_call=1000.00,rejected_calls=0,failed_calls=0\r\n" in text
    text = client.ask("INFO", "latencystats").decode()
    assert re.search(r"latency_percentiles_usec_get:p50=250\.879,p99=1003\.519,p99\.9=1003\.519\r\n", text)
    client.ask("CONFIG", "SET", "latency-tracking", "no")
    assert client.ask("INFO", "latencystats") == b"# Latencystats\r\n"
    client.ask("CONFIG", "RESETSTAT")
    assert b"cmdstat_get" not in client.ask("INFO", "commandstats")


def test_a_transaction_counts_and_measures_what_it_runs(bench: Bench, slow_clock: Any) -> None:
    client = bench.connect()
    slow_clock(bench, 0.001)
    for line in ("MULTI", "GET a", "INCR b", "EXEC"):
        client.ask(*line.split(" "))
    counts = bench.instance.measures.counts
    assert [counts[name].calls for name in (b"MULTI", b"GET", b"INCR", b"EXEC")] == [1, 1, 1, 1]
    assert [round(counts[name].seconds, 6) for name in (b"GET", b"INCR")] == [0.001, 0.001]


# ---- SAVE, MEMORY


@pytest.mark.parametrize("command", ["SAVE", "BGSAVE", "bgsave schedule"])
def test_after_a_save_the_log_is_synced(command: str, godis: GodisProcess) -> None:
    with godis.raw() as client:
        client.ask("CONFIG", "SET", "appendfsync", "no")
        client.ask("SET", "a", "1")
        saved = parse(client.ask("LASTSAVE"))
        assert client.ask(*command.split()) in (b"+OK\r\n", b"+Background saving started\r\n")
        for _ in range(100_000):
            text = client.ask("INFO", "persistence")
            if b"rdb_bgsave_in_progress:0" in text:
                break
        assert b"rdb_bgsave_in_progress:0\r\n" in text
        assert b"aof_unsynced_bytes:0\r\n" in text
        assert b"rdb_changes_since_last_save:0\r\n" in text
        assert b"rdb_saves:1\r\n" in text
        assert parse(client.ask("LASTSAVE")) >= saved
        client.ask("MULTI")
        assert client.ask("SAVE") == b"-ERR Command not allowed inside a transaction\r\n"


def test_without_a_log_there_is_nothing_to_save() -> None:
    client = Bench(appendonly="no").connect()
    assert client.wire("BGSAVE").startswith(b"-ERR There is no append only file to save")


def test_the_statistics_of_memory_have_the_names_and_kinds_of_redis(bench: Bench, real: Raw) -> None:
    client = bench.connect()
    for ask in (client.wire, real.ask):
        ask("HELLO", "3")
        ask("SET", "a", "1")
    ours, theirs = dict(parse(client.wire("MEMORY", "STATS"))), dict(parse(real.ask("MEMORY", "STATS")))
    real.ask("DEL", "a")
    assert {name: type(value) for name, value in ours.items()} == {name: type(each) for name, each in theirs.items()}
    assert dict(ours[b"db.0"]).keys() == dict(theirs[b"db.0"]).keys()
    assert b"without maxmemory" in client.ask("MEMORY", "DOCTOR")
    client.ask("CONFIG", "SET", "maxmemory", 100 << 20)
    assert b"nothing to say" in client.ask("MEMORY", "DOCTOR")
    assert client.ask("MEMORY", "MALLOC-STATS").startswith(b"Stats not supported")
