"""INFO: the state of the instance, in Redis's sections and field names.

A field is present only if Godis knows its true value. Redis's fields about forks, replicas and modules are absent, as
in an older Redis.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterable

from commands import LOADING, STALE, command, fold
from commands.long_commands import PART_WORDS, word_by_word
from keyspace.subscriptions import CHANNEL, PATTERN, SHARD
from replies import Reply, Verbatim, Work
from session import Instance, Session
from store import Keyspace
from values.entry import NO_DEADLINE
from version import REDIS_VERSION, VERSION

if sys.platform != "win32":
    import resource

Field = tuple[str, object]
SAMPLE = 1000  # keys for the average TTL


def _server(instance: Instance) -> Iterable[Field]:
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
        ("run_id", instance.run_id),
        ("tcp_port", instance.config.port or instance.config.tls_port),
        ("server_time_usec", instance.store.now_ms * 1000),
        ("uptime_in_seconds", uptime_seconds),
        ("uptime_in_days", uptime_seconds // 86400),
        ("config_file", ""),
    ]


def _clients(instance: Instance) -> Iterable[Field]:
    return [
        ("connected_clients", len(instance.clients)),
        ("maxclients", instance.config.maxclients),
        ("client_recent_max_input_buffer", max((c.query_bytes() for c in instance.clients.values()), default=0)),
        ("client_recent_max_output_buffer", max((c.output_bytes() for c in instance.clients.values()), default=0)),
        ("blocked_clients", sum(client.waiting for client in instance.clients.values())),
    ]


def resident_bytes() -> int:
    """Return the resident memory of the process; on a system without /proc, the peak, or 0.

    The share of the keys is unknown without `maxmemory`, because Python cannot compute it cheaply.
    """
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return peak_bytes()


def peak_bytes() -> int:
    """Return the peak resident memory of the process in bytes; 0 on Windows, where Python cannot read it."""
    if sys.platform == "win32":
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def show_bytes(size: int) -> str:
    """Format a size as Redis does: 967.34K."""
    amount, unit = float(size), "B"
    for larger in "KMGT":
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{size}B" if unit == "B" else f"{amount:.2f}{unit}"


def _memory(instance: Instance) -> Iterable[Field]:
    resident = resident_bytes()
    used = instance.eviction.memory.used_bytes if instance.eviction.memory else resident
    peak = max(resident, peak_bytes())
    clients = instance.clients.values()
    return [
        ("used_memory", used),
        ("used_memory_human", show_bytes(used)),
        ("used_memory_rss", resident),
        ("used_memory_rss_human", show_bytes(resident)),
        ("used_memory_peak", peak),
        ("used_memory_peak_human", show_bytes(peak)),
        ("used_memory_startup", instance.eviction.base_bytes),
        ("maxmemory", instance.config.maxmemory),
        ("maxmemory_human", show_bytes(instance.config.maxmemory)),
        ("maxmemory_policy", instance.config.maxmemory_policy),
        ("mem_clients_normal", sum(c.query_bytes() + c.output_bytes() for c in clients)),
        ("lazyfree_pending_objects", sum(map(len, instance.store.garbage))),
    ]


def _persistence(instance: Instance) -> Iterable[Field]:
    log = instance.log
    enabled = instance.config.appendonly
    fields: list[Field] = [
        ("loading", 0),  # no client is served before the log is replayed
        ("rdb_last_save_time", instance.last_save_second),
        ("aof_enabled", int(enabled)),
        *_rewrite(instance),
        ("aof_last_write_status", "ok" if log.failure is None else "err"),
    ]
    if enabled:
        fields += [
            ("aof_current_size", log.size_bytes),
            ("aof_base_size", instance.rewrite.base_bytes),
            ("aof_rewritten_kept_size", instance.rewrite.kept_bytes),
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
    statistics, store = instance.statistics, instance.store
    return [
        ("total_connections_received", statistics.connections_received),
        ("total_commands_processed", statistics.commands_processed),
        ("total_net_input_bytes", statistics.input_bytes),
        ("total_net_output_bytes", statistics.output_bytes),
        ("rejected_connections", statistics.connections_rejected),
        ("expired_keys", store.expired_keys),
        ("evicted_keys", store.evicted_keys),
        ("keyspace_hits", store.hits),
        ("keyspace_misses", store.misses),
        ("client_query_buffer_limit_disconnections", statistics.query_limit_disconnections),
        ("client_output_buffer_limit_disconnections", statistics.output_limit_disconnections),
        ("total_error_replies", statistics.error_replies),
        ("pubsub_channels", instance.subscriptions.count(CHANNEL)),
        ("pubsub_patterns", instance.subscriptions.count(PATTERN)),
        ("pubsubshard_channels", instance.subscriptions.count(SHARD)),
    ]


def _replication(instance: Instance) -> Iterable[Field]:
    return [("role", "master"), ("connected_slaves", 0)]


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


def _errorstats(instance: Instance) -> Iterable[Field]:
    return [
        (f"errorstat_{code.decode()}", f"count={count}") for code, count in sorted(instance.statistics.errors.items())
    ]


def _commandstats(instance: Instance) -> Iterable[Field]:
    return [
        (
            f"cmdstat_{name.decode().lower()}",
            f"calls={count.calls},usec={count.seconds * 1e6:.0f},"
            f"usec_per_call={count.seconds * 1e6 / max(1, count.calls):.2f},"
            f"rejected_calls={count.rejected},failed_calls={count.failed}",
        )
        for name, count in list(instance.measures.counts.items())
        if count.calls or count.rejected
    ]


def _latencystats(instance: Instance) -> Iterable[Field]:
    if not instance.config.latency_tracking:
        return []
    wanted = instance.config.latency_percentiles
    return [
        (
            f"latency_percentiles_usec_{name.decode().lower()}",
            ",".join(
                [f"p{each:g}={time_us:.3f}" for each, time_us in zip(wanted, count.percentiles(wanted), strict=True)]
            ),
        )
        for name, count in list(instance.measures.counts.items())
        if count.sampled
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
    "Memory": _memory,
    "Persistence": _persistence,
    "Stats": _stats,
    "Replication": _replication,
    "CPU": _cpu,
    "Modules": _modules,
    "Commandstats": _commandstats,
    "Errorstats": _errorstats,
    "Latencystats": _latencystats,
    "Cluster": _cluster,
    "Keyspace": _keyspace,
    "Pool": _pool,
}
ALL_SECTIONS = {"all", "everything"}
DEFAULT = "default"
ONLY_OF_ALL = {"commandstats", "latencystats"}  # as in Redis; of `default` they are no part


@command("INFO", "[section [section ...]]", arity=-1, flags=LOADING | STALE)
def info(session: Session, argv: list[bytes]) -> Reply:
    """Show the state of the server: the usual sections, those named, or `all`.

    Differs from Redis: fields that Godis has no value for are absent. Without `maxmemory`, `used_memory` is the
    resident memory of the process.
    """
    return word_by_word(argv, _sections(session.instance, argv))


def _sections(instance: Instance, argv: list[bytes]) -> Work:
    known = {title.lower() for title in SECTIONS}
    usual = known - ONLY_OF_ALL
    wanted: set[str] = set() if len(argv) > 1 else usual
    for start in range(1, len(argv), PART_WORDS):
        names = {fold(word).decode(errors="replace").lower() for word in argv[start : start + PART_WORDS]}
        wanted |= known if names & ALL_SECTIONS else usual if DEFAULT in names else set()
        wanted |= names & known
        yield
    texts = [
        "".join([f"# {title}\r\n", *(f"{name}:{value}\r\n" for name, value in fields(instance))])
        for title, fields in SECTIONS.items()
        if title.lower() in wanted and (title != "Pool" or instance.pool is not None)
    ]
    return Verbatim("\r\n".join(texts).encode("utf-8", "surrogateescape"))
