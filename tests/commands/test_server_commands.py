"""CONFIG, TIME, LASTSAVE, SHUTDOWN, DEBUG, MEMORY: what an operator asks."""

from __future__ import annotations

import sys

import pytest
from instances import START_MS, Bench
from servers import Raw, RedisProcess, parse
from tables import for_each

from config import BY_NAME, CONSTANTS, SETTINGS, OutputLimit
from errors import DEBUG_REFUSED, LOG_FAILED, NO_AUTH, NOT_A_FLOAT, SHUTDOWN_REFUSED, SLEEP_TOO_LONG, CommandError
from replies import NO_REPLY, OK
from values.entry import NO_DEADLINE

# The words of a request; a list where a word holds a space.
REFUSED: list[str | list[str]] = [
    "CONFIG",
    "CONFIG NOSUCH",
    "CONFIG GET",
    "CONFIG SET timeout",
    "CONFIG SET timeout 1 maxclients",
    "CONFIG SET nosuch 1",
    "CONFIG SET NoSuch 1 timeout x",
    "CONFIG SET timeout x nosuch 1",
    "CONFIG SET databases 3",
    "CONFIG SET timeout x databases 3",
    "CONFIG SET timeout 1 TIMEOUT 2",
    "CONFIG SET timeout 1 maxclients x",
    "CONFIG SET maxclients 0",
    "CONFIG SET timeout 2147483648",
    "CONFIG SET tcp-keepalive x",
    "CONFIG SET tcp-keepalive -1",
    "CONFIG SET protected-mode perhaps",
    "CONFIG SET loglevel loud",
    "CONFIG SET client-output-buffer-limit normal",
    ["CONFIG", "SET", "client-output-buffer-limit", "normal 1 2"],
    ["CONFIG", "SET", "client-output-buffer-limit", "nosuch 1 2 3"],
    ["CONFIG", "SET", "client-output-buffer-limit", "normal 1x 2 3"],
    ["CONFIG", "SET", "client-output-buffer-limit", "normal 1 2 -3"],
    ["CONFIG", "SET", "client-output-buffer-limit", "normal 1 2 3x"],
    ["CONFIG", "SET", "client-output-buffer-limit", "normal -1 2 3"],
    ["CONFIG", "SET", "client-output-buffer-limit", "normal 1.5mb 0 0"],
    ["CONFIG", "SET", "client-output-buffer-limit", "normal  1 2 3"],
    ["CONFIG", "SET", "client-output-buffer-limit", "master 1 2 3"],
    ["CONFIG", "SET", "client-output-buffer-limit", "normal 1 2 3 pubsub 1 2"],
    "CONFIG SET client-query-buffer-limit 1000",
    "CONFIG RESETSTAT x",
    "CONFIG REWRITE",
    "CONFIG REWRITE x",
    "TIME x",
    "LASTSAVE x",
    "SHUTDOWN NOSUCH",
    "SHUTDOWN SAVE NOSAVE",
    "SHUTDOWN ABORT",
    "SHUTDOWN ABORT NOW",
    "DEBUG",
    "DEBUG SLEEP",
    "DEBUG SLEEP 0 0",
    "DEBUG ERROR",
    "DEBUG ERROR CLUSTERDOWN",
    "DEBUG ERROR a\r\nb",
    "DEBUG NoSuch",
    "MEMORY",
    "MEMORY NOSUCH",
    "MEMORY USAGE",
    "MEMORY USAGE a SAMPLES",
    "MEMORY USAGE a SAMPLES x",
    "MEMORY USAGE a SAMPLES -1",
    "MEMORY USAGE a NOSUCH 1",
]
ANSWERED = [
    "CONFIG GET nosuch",
    "CONFIG GET timeout",
    "CONFIG GET TimeOut",
    "CONFIG GET timeout timeou? nosuch",
    "CONFIG GET data[b]ases",
    "CONFIG GET nosuch*",
    "CONFIG SET TIMEOUT 0",
    "CONFIG SET timeout 0 maxclients 10000",
    "CONFIG RESETSTAT",
    "MEMORY USAGE nosuch",
    "MEMORY USAGE nosuch SAMPLES 5 SAMPLES 0",
    "DEBUG SLEEP 0",
]


@for_each("line", REFUSED, ids=str)
def test_a_refusal_is_worded_as_in_redis(line: str | list[str], bench: Bench, real: Raw) -> None:
    words = line.split(" ") if isinstance(line, str) else line
    wire = bench.connect().wire(*words)
    assert wire.startswith(b"-")
    if words[:3] == ["CONFIG", "SET", "maxclients"] or words[2:3] == ["loglevel"]:  # the choices and bounds are our own
        wire, theirs = (reply.rpartition(b" - ")[0] for reply in (wire, real.ask(*words)))
        assert wire == theirs
    else:
        assert wire == real.ask(*words)


@pytest.mark.parametrize("resp", [2, 3])
def test_answers_are_those_of_redis(resp: int, bench: Bench, real: Raw) -> None:
    client = bench.connect()
    client.wire("HELLO", resp)
    real.ask("HELLO", resp)
    for line in ANSWERED:
        assert client.wire(*line.split(" ")) == real.ask(*line.split(" ")), line


# ---- CONFIG


def test_config_get_star_shows_every_setting(bench: Bench) -> None:
    shown = bench.connect().ask("CONFIG", "GET", "*")
    assert shown.keys() == {setting.name.encode() for setting in SETTINGS}
    assert shown[b"default-ttl"] == b"21600"
    assert (
        shown[b"client-output-buffer-limit"]
        == b"normal 1073741824 268435456 60 slave 268435456 67108864 60 pubsub 33554432 8388608 60"
    )
    assert (shown[b"save"], shown[b"appendonly"], shown[b"maxmemory-policy"]) == (b"", b"yes", b"noeviction")


@for_each("name", [setting.name for setting in SETTINGS])
def test_a_setting_can_be_set_to_what_it_is(name: str, bench: Bench) -> None:
    client = bench.connect()
    shown = client.ask("CONFIG", "GET", name)[name.encode()]
    assert client.ask("CONFIG", "SET", name, shown) == OK
    assert client.ask("CONFIG", "GET", name) == {name.encode(): shown}


OTHER_VALUES = {int: "77", bool: "no", str: "another", type(None): "etcd://other"}


@for_each("name", [setting.name for setting in SETTINGS if not setting.live])
def test_a_fixed_setting_refuses_another_value(name: str, bench: Bench) -> None:
    client = bench.connect()
    shown = client.ask("CONFIG", "GET", name)
    other = {"pool-reads": "linearizable", "enable-debug-command": "no"}.get(name)
    other = other or OTHER_VALUES[type(getattr(bench.instance.config, BY_NAME[name].attribute))]
    assert client.ask("CONFIG", "SET", "timeout", "5", name, other).text.endswith(b"- can't set immutable config")
    assert client.ask("CONFIG", "GET", name) == shown
    assert client.ask("CONFIG", "GET", "timeout") == {b"timeout": b"0"}


@for_each(
    ("setting", "begin", "more", "encodings"),
    [
        ("hash-max-listpack-entries", "HSET k", "{} x", [b"listpack", b"hashtable"]),
        ("zset-max-listpack-entries", "ZADD k", "{0} m{0}", [b"listpack", b"skiplist"]),
        ("set-max-listpack-entries", "SADD k", "m{}", [b"listpack", b"hashtable"]),
        ("set-max-intset-entries", "SADD k", "{}", [b"intset", b"hashtable"]),
    ],
)
def test_the_encoding_changes_beyond_the_limit_that_is_shown(
    setting: str, begin: str, more: str, encodings: list[bytes], bench: Bench
) -> None:
    client = bench.connect()
    limit = int(client.ask("CONFIG", "GET", setting)[setting.encode()])
    client.ask(*begin.split(), *" ".join(more.format(number) for number in range(limit)).split())
    short = client.ask("OBJECT", "ENCODING", "k")
    client.ask(*begin.split(), *more.format(limit).split())
    assert [short, client.ask("OBJECT", "ENCODING", "k")] == encodings


def test_the_limits_of_encodings_are_those_of_redis(bench: Bench, real: Raw) -> None:
    client = bench.connect()
    for name in CONSTANTS.keys() - {"save", "set-max-listpack-entries", "set-max-listpack-value"}:  # these since 7.2
        assert client.wire("CONFIG", "GET", name) == real.ask("CONFIG", "GET", name)


def test_what_tools_set_without_asking_is_taken(bench: Bench) -> None:
    """Such as test suites and redis-benchmark, whose servers have snapshots."""
    assert bench.connect().ask("CONFIG", "SET", "save", "", "appendonly", "yes") == OK


OUTPUT_LIMITS = [
    "normal 1 2 3",
    "normal 1mb 2k 3 pubsub 1gb 1 060",
    "slave 1 2 3",
    "REPLICA 1m 2MB 3",
    "normal 1 2 3 normal 4 5 +6",
    "pubsub 0 0 0 normal 0 0 0 slave 0 0 0",
    "",
]


def test_limits_of_replies_are_read_and_shown_as_in_redis(bench: Bench, real: Raw) -> None:
    """One after the other: a class that is not named keeps its limit."""
    name = "client-output-buffer-limit"
    client = bench.connect()
    default = parse(real.ask("CONFIG", "GET", name))[1]
    try:
        for asker in (client.wire, real.ask):
            asker("CONFIG", "SET", name, default)
        for text in OUTPUT_LIMITS:
            for words in (["SET", name, text], ["GET", name]):
                assert client.wire("CONFIG", *words) == real.ask("CONFIG", *words), text
    finally:
        real.ask("CONFIG", "SET", name, default)


def test_config_set_changes_all_or_none(bench: Bench) -> None:
    client = bench.connect()
    assert isinstance(client.ask("CONFIG", "SET", "timeout", 7, "loglevel", "loud"), CommandError)
    assert client.ask("CONFIG", "GET", "timeout") == {b"timeout": b"0"}
    assert client.ask("CONFIG", "SET", "timeout", 7, "loglevel", "WARNING") == OK
    assert client.ask("CONFIG", "GET", "timeout", "loglevel") == {b"timeout": b"7", b"loglevel": b"warning"}
    assert bench.instance.config.timeout_seconds == 7


@pytest.mark.parametrize(("text", "ttl_ms"), [("60", 60_000), ("30m", 1_800_000), ("0", None)])
def test_the_default_ttl_changes_from_the_next_command_on(text: str, ttl_ms: int | None, bench: Bench) -> None:
    client = bench.connect()
    client.ask("SET", "before", "1")
    assert client.ask("CONFIG", "SET", "default-ttl", text) == OK
    client.ask("SET", "after", "1")
    bench.advance(1)
    client.ask("SET", "later", "1")
    deadline_ms = bench.store.databases[0].deadline_ms
    assert deadline_ms(b"before") == START_MS + 6 * 3600 * 1000
    assert deadline_ms(b"after") == (NO_DEADLINE if ttl_ms is None else START_MS + ttl_ms)
    assert deadline_ms(b"later") == (NO_DEADLINE if ttl_ms is None else START_MS + 1000 + ttl_ms)


def test_a_new_password_is_asked_of_new_clients_only(bench: Bench) -> None:
    old = bench.connect()
    assert old.ask("CONFIG", "SET", "requirepass", "secret") == OK
    new = bench.connect()
    assert old.ask("PING") == b"PONG"
    assert new.ask("PING").text == NO_AUTH
    assert old.ask("CONFIG", "SET", "requirepass", "") == OK
    assert new.ask("PING") == b"PONG"


def test_the_password_is_kept_as_bytes(bench: Bench) -> None:
    client = bench.connect()
    client.ask("CONFIG", "SET", "requirepass", b"\xff\x00 \xc3\xa9")
    assert client.ask("CONFIG", "GET", "requirepass") == {b"requirepass": b"\xff\x00 \xc3\xa9"}
    assert bench.connect().ask("AUTH", b"\xff\x00 \xc3\xa9") == OK


def test_who_holds_a_copy_of_a_setting_is_told(bench: Bench) -> None:
    seen: list[tuple[int, OutputLimit]] = []
    config = bench.instance.config
    bench.instance.settings_changed.append(lambda: seen.append((config.maxclients, config.output_limits["normal"])))
    client = bench.connect()
    client.ask("CONFIG", "SET", "maxclients", 5, "client-output-buffer-limit", "normal 1mb 1k 3 pubsub 1 2 3")
    client.ask("CONFIG", "SET", "maxclients", "none")
    assert seen == [(5, OutputLimit(1 << 20, 1000, 3))]


def test_resetstat_counts_from_zero(bench: Bench) -> None:
    client = bench.connect()
    client.ask("GET", "a")
    client.ask("NOSUCH")
    statistics = bench.instance.statistics
    statistics.commands_processed = 9
    assert (bench.store.misses, statistics.errors) == (1, {b"ERR": 1})
    assert client.ask("CONFIG", "RESETSTAT") == OK
    assert bench.instance.statistics is statistics
    assert (bench.store.misses, bench.store.hits, bench.store.expired_keys) == (0, 0, 0)
    assert (statistics.commands_processed, statistics.errors, statistics.error_replies) == (0, {}, 0)


# ---- TIME, LASTSAVE, SHUTDOWN


def test_time_is_the_time_of_the_turn(bench: Bench) -> None:
    client = bench.connect()
    assert client.ask("TIME") == [b"1700000000", b"123000"]
    assert client.ask("TIME") == [b"1700000000", b"123000"]
    bench.advance(2.5)
    assert client.ask("TIME") == [b"1700000002", b"623000"]


def test_lastsave_tells_when_the_log_was_whole_on_the_disk(bench: Bench) -> None:
    assert bench.connect().ask("LASTSAVE") == START_MS // 1000
    bench.instance.last_save_second = 1_700_000_007
    assert bench.connect().ask("LASTSAVE") == 1_700_000_007


@pytest.mark.parametrize("options", ["", "SAVE", "nosave", "NOW FORCE", "NOSAVE NOW NOW"])
def test_shutdown_is_asked_for_and_not_answered(options: str, bench: Bench) -> None:
    assert bench.connect().ask("SHUTDOWN", *options.split()) is NO_REPLY
    assert bench.instance.shutdown


def test_shutdown_needs_force_while_the_log_fails(bench: Bench) -> None:
    bench.log.failure = b"No space left on device"
    client = bench.connect()
    assert client.ask("SHUTDOWN").text == SHUTDOWN_REFUSED
    assert not bench.instance.shutdown
    assert client.ask("SHUTDOWN", "FORCE") is NO_REPLY
    assert bench.instance.shutdown


def test_settings_can_be_changed_while_the_log_fails(bench: Bench) -> None:
    bench.log.failure = b"No space left on device"
    bench.instance.gate("log", closed=True)
    client = bench.connect()
    assert client.ask("SET", "a", "1").text == LOG_FAILED % b"No space left on device"
    assert client.ask("CONFIG", "SET", "timeout", "7") == OK


# ---- DEBUG


def test_debug_sleep_holds_up_the_server(bench: Bench) -> None:
    client = bench.connect()
    assert client.ask("DEBUG", "sleep", "0.25") == OK
    assert bench.slept == [0.25]


@pytest.mark.parametrize("text", ["9223372036", "2147483648", "9223372036854775807", "1e300"])
def test_debug_sleep_refuses_a_time_that_the_system_cannot_wait(text: str, bench: Bench) -> None:
    assert bench.connect().ask("DEBUG", "SLEEP", text).text == SLEEP_TOO_LONG
    assert bench.slept == []


@pytest.mark.parametrize("text", ["x", "-1", "nan", "inf", "", "1e400"])
def test_debug_sleep_takes_a_time_that_ends(text: str, bench: Bench) -> None:
    assert bench.connect().ask("DEBUG", "SLEEP", text).text == NOT_A_FLOAT
    assert bench.slept == []


@for_each(
    ("setting", "address", "allowed"),
    [
        ("local", "127.0.0.1:5", True),
        ("local", "127.8.9.1:5", True),
        ("local", "[::1]:5", True),
        ("local", "/run/godis.sock:0", True),
        ("local", "10.0.0.1:5", False),
        ("local", "[fe80::1]:5", False),
        ("local", "", False),
        ("yes", "10.0.0.1:5", True),
        ("no", "127.0.0.1:5", False),
    ],
)
def test_debug_is_for_whom_the_setting_says(setting: str, address: str, allowed: bool) -> None:
    bench = Bench(unixsocket="/run/godis.sock")
    bench.instance.config.debug_command = setting
    reply = bench.connect(address).ask("DEBUG", "SLEEP", "0")
    assert reply == OK if allowed else reply.text == DEBUG_REFUSED


def test_redis_refuses_debug_in_these_words(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    bench.instance.config.debug_command = "no"
    with RedisProcess(tmp_path_factory.mktemp("redis"), "--enable-debug-command", "no") as redis, redis.raw() as real:
        assert bench.connect().wire("DEBUG", "SLEEP", "0") == real.ask("DEBUG", "SLEEP", "0")


# ---- MEMORY


def test_memory_usage_grows_with_what_a_key_holds(bench: Bench) -> None:
    client = bench.connect()
    client.ask("CONFIG", "SET", "default-ttl", 0)
    client.ask("SET", "small", "x")
    client.ask("SET", "large", "x" * 1_000_001)
    client.ask("SET", "mortal", "x", "EX", 100)
    small, large, mortal = (client.ask("MEMORY", "USAGE", key) for key in ("small", "large", "mortal"))
    assert 1_000_000 <= large - small < 1_000_100
    assert mortal > small + len("mortal") - len("small")
    assert client.ask("MEMORY", "USAGE", "small", "samples", 0) == small


def test_memory_usage_is_near_what_the_process_pays(bench: Bench) -> None:
    """The estimate beside the tables as Python counts them, for ten thousand keys."""
    client = bench.connect()
    for number in range(10_000):
        client.ask("SET", f"key:{number:08}", "x" * 64)
    db = bench.store.databases[0]
    estimated = sum(client.ask("MEMORY", "USAGE", key) for key in db.entries)
    tables = [db.entries, db.key_order.places, *db.expiry.due.values()]
    objects = [*db.entries, *db.entries.values()]
    counted = sum(map(sys.getsizeof, tables)) + sum(map(sys.getsizeof, objects))
    assert 0.95 < estimated / counted < 1.05


def test_memory_usage_of_an_expired_key_is_none(bench: Bench) -> None:
    client = bench.connect()
    client.ask("SET", "a", "1", "PX", 100)
    bench.advance(0.1)
    assert client.ask("MEMORY", "USAGE", "a") is None
    assert bench.store.databases[0].deadline_ms(b"a") != NO_DEADLINE, "asking must change nothing"


@pytest.mark.parametrize("name", ["CONFIG", "MEMORY", "COMMAND", "CLIENT"])
def test_help_names_every_subcommand(name: str, bench: Bench) -> None:
    first, *lines = bench.connect().ask(name, "HELP")
    assert first.startswith(name.encode() + b" <subcommand>")
    assert b"HELP" in lines[::2]
    assert all(line.startswith(b"    ") for line in lines[1::2])
