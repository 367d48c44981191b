"""INFO: sections, field names, and that what it says is so."""

from __future__ import annotations

import os
import platform
from mmap import mmap

import pytest
from instances import START_MS, Bench, Client
from monitoring_tools import FIELDS, TEXTS
from servers import Raw
from tables import for_each

import commands.memory_report
from commands.info import SECTIONS as ALL_SECTIONS
from commands.memory_report import resident_bytes, show_bytes
from measuring.rates import Rates
from replies import Verbatim
from session import RewriteState
from version import REDIS_VERSION, VERSION

OWN_FIELDS = {"godis_version", "instance_id", "python_version", "aof_unsynced_bytes", "aof_rewritten_kept_size"}
LATER_FIELDS = {"client_query_buffer_limit_disconnections", "client_output_buffer_limit_disconnections"}  # of Redis 7.2

SECTIONS = [title for title in ALL_SECTIONS if title != "Pool"]  # which an instance alone does not have
USUAL = [title for title in SECTIONS if title not in ("Commandstats", "Latencystats")]


def read(text: bytes) -> dict[str, dict[str, str]]:
    """Read an INFO text as a client does: section -> field -> value."""
    sections: dict[str, dict[str, str]] = {}
    assert text == b"" or text.endswith(b"\r\n")
    for block in text.decode().removesuffix("\r\n").split("\r\n\r\n"):
        title, *lines = block.split("\r\n")
        if title:
            assert title.startswith("# ")
            sections[title[2:]] = dict(line.split(":", 1) for line in lines)
    return sections


def info(client: Client, *sections: str) -> dict[str, dict[str, str]]:
    return read(client.ask("INFO", *sections))


def test_fields_are_those_of_redis_or_named_here(bench: Bench, real: Raw) -> None:
    real.ask("CONFIG", "SET", "appendonly", "yes")
    try:
        real.ask("SET", "a", "1")
        real.ask("NOSUCH")
        theirs = read(real.ask("INFO", "everything").split(b"\r\n", 1)[1][:-2])
    finally:
        real.ask("DEL", "a")
        real.ask("CONFIG", "SET", "appendonly", "no")
    client = bench.connect()
    client.ask("SET", "a", "1")
    client.ask("NOSUCH")
    ours = info(client)
    assert [section for section in theirs if section in ours] == list(ours), "the order is Redis's"
    for section, fields in ours.items():
        assert fields.keys() - theirs[section].keys() <= OWN_FIELDS | LATER_FIELDS


@for_each(
    ("words", "titles"),
    [
        ([], USUAL),
        (["all"], list(SECTIONS)),
        (["DEFAULT"], USUAL),
        (["default", "latencystats"], [title for title in SECTIONS if title != "Commandstats"]),
        (["commandstats"], ["Commandstats"]),
        (["everything"], list(SECTIONS)),
        (["server"], ["Server"]),
        (["CPU"], ["CPU"]),
        (["keyspace", "Server", "server", "nosuch"], ["Server", "Keyspace"]),
        (["nosuch"], []),
        (["cluster", "all"], list(SECTIONS)),
    ],
)
def test_sections_are_shown_as_asked_in_their_own_order(words: list[str], titles: list[str], bench: Bench) -> None:
    assert list(info(bench.connect(), *words)) == titles


def test_the_answer_is_a_text_for_people(bench: Bench) -> None:
    client = bench.connect()
    assert type(client.ask("INFO", "cluster")) is Verbatim
    assert client.wire("INFO", "cluster") == b"$30\r\n# Cluster\r\ncluster_enabled:0\r\n\r\n"


def test_the_server_names_itself() -> None:
    bench = Bench(instance_id="pool-3", port="7777")
    bench.instance.id = bench.instance.config.instance_id
    bench.advance(90_000)
    server = info(bench.connect(), "server")["Server"]
    expected = {
        "redis_version": REDIS_VERSION,
        "godis_version": VERSION,
        "redis_mode": "standalone",
        "instance_id": "pool-3",
        "python_version": platform.python_version(),
        "process_id": str(os.getpid()),
        "run_id": "0" * 40,
        "tcp_port": "7777",
        "server_time_usec": str((START_MS + 90_000_000) * 1000),
        "uptime_in_seconds": "90000",
        "uptime_in_days": "1",
    }
    assert server.items() >= expected.items()


def test_clients_and_their_buffers_are_counted(bench: Bench) -> None:
    client, other = bench.connect(), bench.connect()
    other.session.query_bytes, other.session.output_bytes = (lambda: 70), (lambda: 5000)
    other.session.waiting = True
    clients = info(client, "clients")["Clients"]
    assert (clients["connected_clients"], clients["blocked_clients"], clients["maxclients"]) == ("2", "1", "10000")
    assert (clients["client_recent_max_input_buffer"], clients["client_recent_max_output_buffer"]) == ("70", "5000")
    assert info(client, "memory")["Memory"]["mem_clients_normal"] == "5070"


def test_memory_is_what_the_process_occupies(bench: Bench) -> None:
    client = bench.connect()
    before = int(info(client, "memory")["Memory"]["used_memory"])
    with mmap(-1, 64 << 20) as taken:  # not malloc's, which may have as much left of what other tests freed
        taken.write(bytes(64 << 20))
        memory = info(client, "memory")["Memory"]
    assert int(memory["used_memory"]) - before > 60 << 20
    assert int(memory["used_memory_peak"]) >= int(memory["used_memory"])
    assert memory["used_memory_rss"] == memory["used_memory"]


def test_memory_is_known_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_file(*_: object) -> None:
        raise FileNotFoundError

    now = resident_bytes()
    monkeypatch.setattr(commands.memory_report, "open", no_such_file, raising=False)
    assert resident_bytes() > 0.9 * now, "the peak stands in; the system counts it a little late"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1.00K"), (990552, "967.34K"), (7290880, "6.95M"), (25276502016, "23.54G")],
)
def test_sizes_read_as_in_redis(size: int, text: str) -> None:
    assert show_bytes(size) == text


def test_the_log_is_described(bench: Bench) -> None:
    client = bench.connect()
    bench.log.written_bytes, bench.log.synced_bytes, bench.log.size_bytes = 500, 300, 250
    bench.instance.last_save_second = 1_700_000_000
    expected = {
        "loading": "0",
        "rdb_changes_since_last_save": "1",
        "rdb_last_save_time": "1700000000",
        "aof_enabled": "1",
        "aof_rewrite_in_progress": "0",
        "aof_rewrite_scheduled": "0",
        "aof_last_rewrite_time_sec": "-1",
        "aof_current_rewrite_time_sec": "-1",
        "aof_last_bgrewrite_status": "ok",
        "aof_last_write_status": "ok",
        "aof_current_size": "250",
        "aof_base_size": "0",
        "aof_rewritten_kept_size": "0",
        "aof_delayed_fsync": "0",
        "aof_unsynced_bytes": "200",
    }
    assert expected.items() <= info(client, "persistence")["Persistence"].items()
    bench.instance.rewrite = RewriteState(running=True, started_ms=START_MS - 2500, keys_total=100, keys_written=40)
    described = info(client, "persistence")["Persistence"]
    assert described["aof_rewrite_in_progress"] == "1"
    assert described["aof_current_rewrite_time_sec"] == "2"
    assert (described["aof_rewrite_keys_written"], described["aof_rewrite_keys_total"]) == ("40", "100")
    bench.log.failure = b"No space left on device"
    assert info(client, "persistence")["Persistence"]["aof_last_write_status"] == "err"


def test_without_a_log_there_is_none_to_describe() -> None:
    persistence = info(Bench(appendonly="no").connect(), "persistence")["Persistence"]
    assert persistence["aof_enabled"] == "0"
    assert "aof_current_size" not in persistence


def test_what_happened_is_counted(bench: Bench) -> None:
    client = bench.connect()
    statistics = bench.instance.statistics
    statistics.connections_received, statistics.connections_rejected = 4, 1
    statistics.commands_processed, statistics.input_bytes, statistics.output_bytes = 30, 2000, 9000
    statistics.query_limit_disconnections, statistics.output_limit_disconnections = 2, 3
    client.ask("SET", "a", "1", "PX", 100)
    client.ask("GET", "a")
    bench.advance(1)
    client.ask("GET", "a")
    client.ask("GET", "b")
    client.ask("NOSUCH")
    expected = {
        "total_connections_received": "4",
        "total_commands_processed": "30",
        "total_net_input_bytes": "2000",
        "total_net_output_bytes": "9000",
        "rejected_connections": "1",
        "expired_keys": "1",
        "evicted_keys": "0",
        "keyspace_hits": "1",
        "keyspace_misses": "2",
        "tracking_total_keys": "0",
        "tracking_total_items": "0",
        "tracking_total_prefixes": "0",
        "client_query_buffer_limit_disconnections": "2",
        "client_output_buffer_limit_disconnections": "3",
        "total_error_replies": "1",
        "pubsub_channels": "0",
        "pubsub_patterns": "0",
        "pubsubshard_channels": "0",
    }
    assert expected.items() <= info(client, "stats")["Stats"].items()


def test_errors_are_counted_by_their_code(bench: Bench) -> None:
    client = bench.connect()
    bench.instance.config.requirepass = "secret"
    bench.instance.apply_settings()
    for line in ("NOSUCH", "GET", "AUTH wrong", "HELLO 9"):
        client.ask(*line.split())
    bench.connect().ask("GET", "a")
    assert info(client, "errorstats")["Errorstats"] == {
        "errorstat_ERR": "count=2",
        "errorstat_NOAUTH": "count=1",
        "errorstat_NOPROTO": "count=1",
        "errorstat_WRONGPASS": "count=1",
    }


@pytest.mark.parametrize("tool", FIELDS)
def test_every_field_that_a_monitoring_tool_reads_is_there(tool: str, bench: Bench) -> None:
    client = bench.connect()
    client.ask("SET", "a", "1")
    shown = {name: value for fields in info(client, "everything").values() for name, value in fields.items()}
    numbers = {name: float(shown[name].rstrip("%")) for name in FIELDS[tool].split() if name not in TEXTS}
    assert numbers.keys() | TEXTS == {*FIELDS[tool].split()} | TEXTS
    assert shown.keys() >= TEXTS


def test_rates_are_the_growth_of_a_second() -> None:
    rates = Rates()
    rates.follow(10.0, 100, 1000, 5000)
    assert (rates.commands, rates.input_bytes, rates.output_bytes) == (0, 0, 0)
    rates.follow(12.0, 300, 1200, 5000)
    assert (rates.commands, rates.input_bytes, rates.output_bytes) == (100, 100, 0)
    rates.follow(13.0, 0, 0, 0)  # CONFIG RESETSTAT
    assert (rates.commands, rates.input_bytes, rates.output_bytes) == (0, 0, 0)


def test_databases_with_keys_are_listed(bench: Bench) -> None:
    client = bench.connect()
    client.ask("CONFIG", "SET", "default-ttl", 0)
    assert info(client, "keyspace") == {"Keyspace": {}}
    for key, options in (("a", []), ("b", ["PX", "1000"]), ("c", ["PX", "3000"]), ("d", ["PX", "10"])):
        client.ask("SET", key, "1", *options)
    client.ask("SELECT", 3)
    client.ask("SET", "a", "1")
    bench.advance(0.5)
    assert info(client, "keyspace")["Keyspace"] == {
        "db0": "keys=3,expires=2,avg_ttl=1500",
        "db3": "keys=1,expires=0,avg_ttl=0",
    }


def test_the_average_ttl_is_near_the_truth_with_many_keys(bench: Bench) -> None:
    client = bench.connect()
    for number in range(20_000):
        client.ask("SET", number, "1", "PX", 1000 + number)
    text = info(client, "keyspace")["Keyspace"]["db0"]
    assert text.startswith("keys=20000,expires=20000,avg_ttl=")
    assert abs(int(text.rpartition("=")[2]) - 11_000) < 50


def test_scripts_and_functions_are_counted() -> None:
    pytest.importorskip("lupa")
    client = Bench().connect()
    names = ("number_of_cached_scripts", "number_of_libraries", "number_of_functions", "used_memory_lua")
    assert [info(client, "memory")["Memory"][name] for name in names] == ["0"] * 4
    client.ask("EVAL", "return 1", 0)
    client.ask("FUNCTION", "LOAD", "#!lua name=m\nredis.register_function('f', function() return 1 end)")
    *counts, lua_bytes = [info(client, "memory")["Memory"][name] for name in names]
    assert counts == ["1", "1", "1"]
    assert int(lua_bytes) > 10_000
