"""INFO: the state of the instance, in Redis's sections and field names.

All fields that monitoring tools read are there (`tests/support/monitoring_tools.py` lists them). The value is true of
Godis: it has no forks, replicas and modules, so what Redis counts of them is 0 (`NONE_OF_IT`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable

from commands import LOADING, STALE, command, fold
from commands.command_statistics import commandstats, errorstats, latencystats
from commands.key_sizes import keysizes
from commands.long_commands import AT_ONCE_WORDS, PART_WORDS, word_by_word
from commands.memory_report import Field, memory
from keyspace.subscriptions import CHANNEL, PATTERN, SHARD
from replies import Reply, Verbatim, Work
from session import Instance, Session
from store import Keyspace
from values.entry import NO_DEADLINE
from version import REDIS_VERSION, VERSION

SAMPLE = 1000  # keys for the average TTL
LRU_CLOCK_MASK = (1 << 24) - 1
NONE_OF_IT: dict[str, list[Field]] = {  # section -> what is 0, because Godis has no such thing
    "persistence": [
        *[("async_loading", 0), ("current_cow_peak", 0), ("current_cow_size", 0), ("current_cow_size_age", 0)],
        *[("current_fork_perc", "0.00"), ("current_save_keys_processed", 0), ("current_save_keys_total", 0)],
    ],
    "modules": [("module_fork_in_progress", 0), ("module_fork_last_cow_size", 0)],
    "replication traffic": [("total_net_repl_input_bytes", 0), ("total_net_repl_output_bytes", 0)],
    "replication rates": [("instantaneous_input_repl_kbps", "0.00"), ("instantaneous_output_repl_kbps", "0.00")],
    "syncs": [("sync_full", 0), ("sync_partial_ok", 0), ("sync_partial_err", 0)],
    "expiry": [("expired_stale_perc", "0.00"), ("expired_time_cap_reached_count", 0)],
    "eviction": [("evicted_clients", 0), ("total_eviction_exceeded_time", 0), ("current_eviction_exceeded_time", 0)],
    "forks": [
        *[
            ("latest_fork_usec", 0),
            ("total_forks", 0),
            ("migrate_cached_sockets", 0),
            ("slave_expires_tracked_keys", 0),
        ],
        *[("active_defrag_hits", 0), ("active_defrag_misses", 0), ("active_defrag_key_hits", 0)],
        *[("active_defrag_key_misses", 0), ("total_active_defrag_time", 0), ("current_active_defrag_time", 0)],
    ],
    "threads": [("io_threaded_reads_processed", 0), ("io_threaded_writes_processed", 0)],
    "backlog": [
        *[("master_repl_offset", 0), ("second_repl_offset", -1), ("repl_backlog_active", 0), ("repl_backlog_size", 0)],
        *[("repl_backlog_first_byte_offset", 0), ("repl_backlog_histlen", 0)],
    ],
}


def _server(instance: Instance) -> Iterable[Field]:
    import platform  # noqa: PLC0415

    uptime_seconds = max(0, instance.store.now_ms - instance.started_ms) // 1000
    return [
        ("redis_version", REDIS_VERSION),  # the version whose behaviour Godis has
        ("godis_version", VERSION),
        ("redis_mode", "standalone"),
        ("instance_id", instance.id),
        ("os", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("arch_bits", 64 if sys.maxsize > 1 << 32 else 32),
        ("python_version", platform.python_version()),
        ("process_id", os.getpid()),
        ("process_supervised", "no"),
        ("run_id", instance.run_id),
        ("tcp_port", instance.config.port or instance.config.tls_port),
        ("server_time_usec", instance.store.now_ms * 1000),
        ("uptime_in_seconds", uptime_seconds),
        ("uptime_in_days", uptime_seconds // 86400),
        ("lru_clock", instance.store.now_ms // 1000 & LRU_CLOCK_MASK),
        ("executable", sys.executable),
        ("config_file", ""),
        ("io_threads_active", 0),
    ]


def _clients(instance: Instance) -> Iterable[Field]:
    return [
        ("connected_clients", len(instance.clients)),
        ("cluster_connections", 0),
        ("maxclients", instance.config.maxclients),
        ("client_recent_max_input_buffer", max((c.query_bytes() for c in instance.clients.values()), default=0)),
        ("client_recent_max_output_buffer", max((c.output_bytes() for c in instance.clients.values()), default=0)),
        ("tracking_clients", len(instance.tracking.ids)),
        ("blocked_clients", sum(client.waiting for client in instance.clients.values())),
        ("clients_in_timeout_table", 0),
    ]


def _persistence(instance: Instance) -> Iterable[Field]:
    log = instance.log
    enabled = instance.config.appendonly
    fields: list[Field] = [
        ("loading", 0),  # no client is served before the log is replayed
        *NONE_OF_IT["persistence"],
        ("rdb_changes_since_last_save", int(log.written_bytes != log.synced_bytes)),
        ("rdb_bgsave_in_progress", int(instance.save_requested)),
        ("rdb_last_save_time", instance.last_save_second),
        ("rdb_last_bgsave_status", "ok" if log.failure is None else "err"),
        ("rdb_last_bgsave_time_sec", -1),
        ("rdb_current_bgsave_time_sec", -1),
        ("rdb_saves", instance.statistics.saves),
        *[("rdb_last_cow_size", 0), ("rdb_last_load_keys_expired", 0), ("rdb_last_load_keys_loaded", 0)],
        ("aof_enabled", int(enabled)),
        *_rewrite(instance),
        ("aof_last_write_status", "ok" if log.failure is None else "err"),
        ("aof_last_cow_size", 0),
        *NONE_OF_IT["modules"],
    ]
    if enabled:
        fields += [
            ("aof_current_size", log.size_bytes),
            ("aof_base_size", instance.rewrite.base_bytes),
            ("aof_pending_rewrite", 0),
            ("aof_buffer_length", 0),
            ("aof_rewritten_kept_size", instance.rewrite.kept_bytes),
            ("aof_pending_bio_fsync", int(log.written_bytes != log.synced_bytes)),
            ("aof_delayed_fsync", instance.statistics.delayed_fsyncs),
            ("aof_unsynced_bytes", log.written_bytes - log.synced_bytes),
        ]
    return fields


def _rewrite(instance: Instance) -> Iterable[Field]:
    rewrite = instance.rewrite
    fields: list[Field] = [
        ("aof_rewrite_in_progress", int(rewrite.in_progress)),
        ("aof_rewrite_scheduled", 0),  # a rewrite starts at once: there is no fork to wait for
        ("aof_last_rewrite_time_sec", rewrite.last_seconds),
        (
            "aof_current_rewrite_time_sec",
            (instance.store.now_ms - rewrite.started_ms) // 1000 if rewrite.running else -1,
        ),
        ("aof_last_bgrewrite_status", "err" if rewrite.last_failure else "ok"),
    ]
    if rewrite.running:
        fields += [
            ("aof_rewrite_keys_written", rewrite.keys_written),
            ("aof_rewrite_keys_total", rewrite.keys_total),
        ]
    return fields


def _stats(instance: Instance) -> Iterable[Field]:
    statistics, store, rates = instance.statistics, instance.store, instance.measures.rates
    return [
        ("total_connections_received", statistics.connections_received),
        ("total_commands_processed", statistics.commands_processed),
        ("instantaneous_ops_per_sec", f"{rates.commands:.0f}"),
        ("total_net_input_bytes", statistics.input_bytes),
        ("total_net_output_bytes", statistics.output_bytes),
        *NONE_OF_IT["replication traffic"],
        ("instantaneous_input_kbps", f"{rates.input_bytes / 1024:.2f}"),
        ("instantaneous_output_kbps", f"{rates.output_bytes / 1024:.2f}"),
        *NONE_OF_IT["replication rates"],
        ("rejected_connections", statistics.connections_rejected),
        *NONE_OF_IT["syncs"],
        ("expired_keys", store.expired_keys),
        *NONE_OF_IT["expiry"],
        ("evicted_keys", store.evicted_keys),
        *NONE_OF_IT["eviction"],
        ("keyspace_hits", store.hits),
        ("keyspace_misses", store.misses),
        ("pubsub_channels", instance.subscriptions.count(CHANNEL)),
        ("pubsub_patterns", instance.subscriptions.count(PATTERN)),
        ("pubsubshard_channels", instance.subscriptions.count(SHARD)),
        *NONE_OF_IT["forks"],
        ("tracking_total_keys", len(instance.tracking.table)),
        ("tracking_total_items", instance.tracking.items),
        ("tracking_total_prefixes", len(instance.tracking.prefixes)),
        ("unexpected_error_replies", 0),
        ("total_error_replies", statistics.error_replies),
        *NONE_OF_IT["threads"],
        ("client_query_buffer_limit_disconnections", statistics.query_limit_disconnections),
        ("client_output_buffer_limit_disconnections", statistics.output_limit_disconnections),
    ]


def _replication(instance: Instance) -> Iterable[Field]:
    return [
        *[("role", "master"), ("connected_slaves", 0), ("master_failover_state", "no-failover")],
        *[("master_replid", instance.run_id), ("master_replid2", "0" * 40)],
        *NONE_OF_IT["backlog"],
    ]


def _modules(instance: Instance) -> Iterable[Field]:
    return []


def _cpu(instance: Instance) -> Iterable[Field]:
    times = os.times()
    return [
        ("used_cpu_sys", f"{times.system:.6f}"),
        ("used_cpu_user", f"{times.user:.6f}"),
        ("used_cpu_sys_children", f"{times.children_system:.6f}"),
        ("used_cpu_user_children", f"{times.children_user:.6f}"),
    ]


def _cluster(instance: Instance) -> Iterable[Field]:
    return [("cluster_enabled", 0)]


def _pool(instance: Instance) -> Iterable[Field]:
    pool = instance.pool
    assert pool is not None
    return [
        ("pool_instance_id", pool.id),
        ("pool_state", "down" if not pool.confirmed else "clock" if pool.clock_wrong else "ok"),
        ("pool_trouble", pool.trouble.replace("\r", " ").replace("\n", " ")),
        ("pool_reads", instance.config.pool_reads),
        ("pool_prefix", pool.prefix),
        ("pool_endpoints", ",".join(pool.endpoints)),
        ("pool_instances", len(pool.members)),
        ("pool_memory_limit_bytes", pool.limit_bytes),
        ("pool_log_index", pool.index),
        ("pool_log_entries", pool.entries),
        ("pool_log_clock_ms", pool.clock_ms),
        ("pool_clock_ahead_ms", pool.clock_ahead_ms),
        ("pool_lag_entries", max(0, pool.head_entries - pool.entries)),
        ("pool_entries_appended", pool.appended),
        ("pool_commands_appended", pool.appended_commands),
        ("pool_bytes_appended", pool.appended_bytes),
        ("pool_commands_per_entry", f"{pool.appended_commands / max(1, pool.appended):.1f}"),
        ("pool_append_ms", f"{pool.append_ms:.2f}"),
        ("pool_append_max_ms", f"{pool.append_max_ms:.2f}"),
        ("pool_duplicates_skipped", pool.duplicates),
        ("pool_watches_renewed", pool.rewatched),
        ("pool_snapshot_in_progress", int(pool.snapshot_running)),
        ("pool_last_snapshot_index", pool.snapshot_index),
        ("pool_last_snapshot_entries", pool.snapshot_entries),
        ("pool_last_snapshot_bytes", pool.snapshot_bytes),
    ]


def _average_ttl_ms(db: Keyspace) -> int:
    """Return the average TTL of SAMPLE keys, spread evenly over the key order; 0 if none has a TTL."""
    now_ms = db.store.now_ms
    places = db.key_order.places
    step = len(places) // SAMPLE + 1
    deadlines_ms = [db.deadline_ms(key) for key in places[::step] if key is not None and db.is_live(key)]
    ttls_ms = [deadline_ms - now_ms for deadline_ms in deadlines_ms if deadline_ms != NO_DEADLINE]
    return sum(ttls_ms) // max(1, len(ttls_ms))


def _keyspace(instance: Instance) -> Iterable[Field]:
    fields: list[Field] = []
    for db in instance.store.databases:
        keys = db.count()
        if keys:
            expires = db.expiry.volatile_count - (len(db) - keys)
            fields.append((f"db{db.index}", f"keys={keys},expires={expires},avg_ttl={_average_ttl_ms(db)}"))
    return fields


SECTIONS: dict[str, Callable[[Instance], Iterable[Field]]] = {
    "Server": _server,
    "Clients": _clients,
    "Memory": memory,
    "Persistence": _persistence,
    "Stats": _stats,
    "Replication": _replication,
    "CPU": _cpu,
    "Modules": _modules,
    "Commandstats": commandstats,
    "Errorstats": errorstats,
    "Latencystats": latencystats,
    "Cluster": _cluster,
    "Keyspace": _keyspace,
    "Pool": _pool,
}
KEYSIZES = "Keysizes"  # the only section that takes long, so it is shown to who names it
ALL_SECTIONS = {"all", "everything"}
DEFAULT = "default"
ONLY_OF_ALL = {"commandstats", "latencystats"}  # as in Redis; of `default` they are no part


@command("INFO", "[section [section ...]]", arity=-1, flags=LOADING | STALE)
def info(session: Session, argv: list[bytes]) -> Reply:
    """Show the state of the server: the usual sections, those named, or `all`.

    Differs from Redis: fields that Godis has no value for are absent. Without `maxmemory`, `used_memory` is the
    resident memory of the process. `keysizes` reads all keys, so it must be named: `all` leaves it out.
    """
    work = _sections(session.instance, argv)
    return work if KEYSIZES.lower().encode() in map(bytes.lower, argv[1:AT_ONCE_WORDS]) else word_by_word(argv, work)


def _sections(instance: Instance, argv: list[bytes]) -> Work:
    known = {title.lower() for title in SECTIONS}
    wants_sizes = False
    usual = known - ONLY_OF_ALL
    wanted: set[str] = set() if len(argv) > 1 else usual
    for start in range(1, len(argv), PART_WORDS):
        names = {fold(word).decode(errors="replace").lower() for word in argv[start : start + PART_WORDS]}
        wanted |= known if names & ALL_SECTIONS else usual if DEFAULT in names else set()
        wanted |= names & known
        wants_sizes = wants_sizes or KEYSIZES.lower() in names
        yield
    sizes = (yield from keysizes(instance.store)) if wants_sizes else []
    shown = {
        title: fields(instance)
        for title, fields in SECTIONS.items()
        if title.lower() in wanted and (title != "Pool" or instance.pool is not None)
    } | ({KEYSIZES: sizes} if wants_sizes else {})
    texts = [
        "".join([f"# {title}\r\n", *(f"{name}:{value}\r\n" for name, value in fields)])
        for title, fields in shown.items()
    ]
    return Verbatim("\r\n".join(texts).encode("utf-8", "surrogateescape"))
