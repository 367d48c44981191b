"""Redis's own tools in all their modes, beside a redis-server: redis-cli, redis-benchmark, and redis_exporter's fields.

Their everyday use is in tests/process/test_clients.py.
"""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import PATIENCE_SECONDS, GodisProcess, RedisProcess, ServerProcess, encode, require_program
from tables import for_each

REQUESTS = (  # of all types
    *("MSET a 1 bb 22", "RPUSH list 1 2 3", "HSET hash f v g 2", "ZADD sorted 1.5 a 2 b", "SADD set a b"),
    *("XADD stream 1-1 f v", "SET number 41", r'SET bytes "\x00\xff\"\n"'),
)
MANY = 20_000  # characters
SAME = (  # arguments of redis-cli whose output is redis-server's
    *("--csv ZRANGE sorted 0 -1 WITHSCORES", "-3 --csv ZRANGE sorted 0 -1 WITHSCORES", "--csv GET bytes"),
    *("--json HGETALL hash", "-2 --json HGETALL hash", "--json CONFIG GET maxmemory", "--quoted-json GET bytes"),
    *("-3 HGETALL hash", "-3 --no-raw HGETALL hash", "-3 --no-raw ZSCORE sorted a", "--no-raw XRANGE stream - +"),
    *(
        "--no-raw GET bytes",
        r'--quoted-input --no-raw EXISTS "b\x62"',
        "--raw LRANGE list 0 -1",
        "-d ; LRANGE list 0 -1",
    ),
    *("-r 3 INCR number", "-n 3 --verbose DBSIZE", "-e NOSUCH", "--no-raw NOSUCH x", "--eval {script} k1 k2 , a1 a2"),
    *(
        "--scan --pattern ?",
        "--bigkeys",
        "-x SET given",
        "-X tag SET tagged tag",
        "MGET given tagged",
        "--cluster check {address}",
    ),
)
SAME_BUT_NUMBERS = (
    "--memkeys",
    "--memkeys --memkeys-samples 0",
    "--hotkeys",
    "--latency -i 0.05",
    "--csv --latency -i 0.05",
)
ON_A_TERMINAL = {
    "--stat -i 0.01": r"keys +mem +clients blocked requests +connections.*\n9 +\S+M +\d+ +0 +\d+ \(\+\d+\) +\d+ ",
    "--latency-history -i 0.05": r"min: \d+, max: \d+, avg: \S+ \(\d+ samples\) -- 0.0\d seconds range",
    "--latency-dist -i 0.05": r"milliseconds.*\x1b\[48;5;",
    "--lru-test 20": r"\d+ Gets/sec \| Hits: \d+ \(\S+%\) \| Misses: \d+ ",
}


def load(*servers: ServerProcess) -> None:
    for server in servers:
        with server.raw() as raw:
            for request in (
                "FLUSHALL",
                "CONFIG SET maxmemory 50mb",
                "CONFIG SET maxmemory-policy allkeys-lfu",
                *REQUESTS,
            ):
                raw.send(request.encode() + b"\r\n")
            raw.send(encode("ECHO", "done"))
            while raw.read_line() != b"done":
                pass


def command(server: ServerProcess, arguments: str, script: str = "") -> list[str]:
    filled = arguments.replace("{script}", script).replace("{address}", f"127.0.0.1:{server.port}")
    return [require_program("redis-cli"), "-p", str(server.port), *filled.split()]


def cli(server: ServerProcess, arguments: str, script: str = "") -> tuple[int, str]:
    """Run redis-cli, and return its exit code and what it printed, without what differs from server to server."""
    done = subprocess.run(
        command(server, arguments, script),
        input=b"from stdin",
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    return done.returncode, said.replace(str(server.port), "PORT")


@contextmanager
def on_a_terminal(server: ServerProcess, arguments: str) -> Iterator[int]:
    """Run redis-cli on a terminal, where it shows each line at once; yield what it prints to."""
    terminal, inner = pty.openpty()
    argv = command(server, arguments)
    with subprocess.Popen(argv, stdin=inner, stdout=inner, stderr=inner, env={**os.environ, "TERM": "xterm"}) as shown:
        os.close(inner)
        try:
            yield terminal
        finally:
            shown.kill()
            os.close(terminal)


def read_until(terminal: int, pattern: str) -> None:
    told = ""
    while not re.search(pattern, told, re.DOTALL):
        assert len(told) < MANY, told
        assert select.select([terminal], [], [], PATIENCE_SECONDS)[0], told
        told += os.read(terminal, 4096).decode(errors="replace")


def test_redis_cli_shows_what_it_shows_of_redis(
    server: GodisProcess, redis_server: RedisProcess, tmp_path: Path
) -> None:
    load(server, redis_server)
    script = tmp_path / "script.lua"
    script.write_text("return {KEYS[2], ARGV[1], #KEYS, redis.call('GET', 'a')}")
    shown = {arguments: [cli(each, arguments, str(script)) for each in (server, redis_server)] for arguments in SAME}
    different = {arguments: pair for arguments, pair in shown.items() if sorted_lines(pair[0]) != sorted_lines(pair[1])}
    assert different == {}


def sorted_lines(shown: tuple[int, str]) -> list[object]:
    """Return the exit code and the lines, of a summary if there is one: SCAN has an order of its own."""
    return [shown[0], *sorted(shown[1].rpartition("summary")[2].splitlines())]


def test_modes_of_redis_cli_that_measure(server: GodisProcess, redis_server: RedisProcess) -> None:
    load(server, redis_server)
    for arguments in SAME_BUT_NUMBERS:
        ours, theirs = (re.sub(r"\d+(\.\d+)?", "N", cli(each, arguments)[1]) for each in (server, redis_server))
        names = r"N|[\"']\w+[\"']"  # of keys: which is the biggest may differ
        assert sorted_lines((0, re.sub(names, "", ours))) == sorted_lines((0, re.sub(names, "", theirs))), arguments


@for_each("arguments", ON_A_TERMINAL)
def test_modes_of_redis_cli_that_go_on(server: GodisProcess, arguments: str) -> None:
    load(server)
    with on_a_terminal(server, arguments) as terminal:
        read_until(terminal, ON_A_TERMINAL[arguments])


@for_each(
    ("arguments", "told"),
    [
        ("SUBSCRIBE channel", r'"message"\r\n2\) "channel"\r\n3\) "hello"'),
        ("-3 PSUBSCRIBE chan*", r'"pmessage"\r\n2\) "chan\*"\r\n3\) "channel"\r\n4\) "hello"'),
        ("MONITOR", r'\[0 127.0.0.1:\d+\] "PUBLISH" "channel" "hello"'),
    ],
)
def test_redis_cli_listens(server: GodisProcess, arguments: str, told: str) -> None:
    with on_a_terminal(server, arguments) as terminal, server.client() as client:
        read_until(terminal, r"OK|\(integer\) 1")
        client.publish("channel", "hello")
        read_until(terminal, told)


def test_redis_benchmark_runs_its_default_tests(server: GodisProcess) -> None:
    argv = [require_program("redis-benchmark"), "-p", str(server.port), "-n", "60", "-c", "3", "--csv"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=True)
    assert done.stderr == ""
    tests = [line.split(",")[0].strip('"') for line in done.stdout.splitlines()[1:]]
    assert [test.partition(" ")[0] for test in tests] == [
        *("PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH", "RPUSH", "LPOP", "RPOP", "SADD", "HSET", "SPOP"),
        *("ZADD", "ZPOPMIN", "LPUSH", "LRANGE_100", "LRANGE_300", "LRANGE_500", "LRANGE_600", "MSET"),
    ]


EXPORTED = """
    uptime_in_seconds process_id connected_clients blocked_clients tracking_clients client_recent_max_output_buffer
    client_recent_max_input_buffer used_memory used_memory_rss used_memory_peak used_memory_lua used_memory_overhead
    used_memory_startup used_memory_dataset used_memory_scripts maxmemory mem_fragmentation_ratio
    mem_fragmentation_bytes mem_clients_slaves mem_clients_normal mem_not_counted_for_evict lazyfree_pending_objects
    active_defrag_running active_defrag_hits active_defrag_misses active_defrag_key_hits active_defrag_key_misses
    allocator_active allocator_allocated allocator_resident allocator_frag_ratio allocator_frag_bytes
    allocator_rss_ratio allocator_rss_bytes expired_stale_perc expired_time_cap_reached_count migrate_cached_sockets
    loading rdb_changes_since_last_save rdb_bgsave_in_progress rdb_last_save_time rdb_last_bgsave_status
    rdb_last_bgsave_time_sec rdb_current_bgsave_time_sec rdb_last_cow_size aof_enabled aof_rewrite_in_progress
    aof_rewrite_scheduled aof_last_rewrite_time_sec aof_current_rewrite_time_sec aof_last_cow_size aof_current_size
    aof_base_size aof_pending_rewrite aof_buffer_length aof_pending_bio_fsync aof_delayed_fsync
    aof_last_bgrewrite_status aof_last_write_status module_fork_in_progress module_fork_last_cow_size pubsub_channels
    pubsub_patterns latest_fork_usec connected_slaves repl_backlog_size repl_backlog_active
    repl_backlog_first_byte_offset repl_backlog_histlen master_repl_offset second_repl_offset
    slave_expires_tracked_keys sync_full sync_partial_ok sync_partial_err total_connections_received
    total_commands_processed rejected_connections total_net_input_bytes total_net_output_bytes expired_keys
    evicted_keys keyspace_hits keyspace_misses used_cpu_sys used_cpu_user used_cpu_sys_children
    used_cpu_user_children total_system_memory
"""
STATES = {"rdb_last_bgsave_status": "ok", "aof_last_bgrewrite_status": "ok", "aof_last_write_status": "ok"}


def test_redis_exporter_finds_its_fields(server: GodisProcess) -> None:
    load(server)
    with server.client() as client:
        client.set("short", "1", ex=100)
        info = client.info("all")
        assert {name for name in EXPORTED.split() if not isinstance(info.get(name, STATES), int | float)} == set(STATES)
        assert {name: info[name] for name in STATES} == STATES
        assert info["db0"].keys() >= {"keys", "expires", "avg_ttl"}
        assert info["cmdstat_mset"].keys() >= {"calls", "usec", "usec_per_call", "rejected_calls", "failed_calls"}
        assert info["latency_percentiles_usec_mset"].keys() >= {"p50", "p99", "p99.9"}
        assert {"redis_version", "redis_mode", "os", "maxmemory_policy", "tcp_port", "run_id", "role"} <= info.keys()
        assert client.slowlog_len() >= 0
        assert client.latency_latest() == []
        assert client.config_get("*")["maxclients"] == "10000"
        assert all({"name", "age", "idle", "flags", "db", "omem", "cmd"} <= row.keys() for row in client.client_list())
