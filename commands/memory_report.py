"""The memory of the process: INFO memory, MEMORY STATS and MEMORY DOCTOR."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import cache

from session import Instance

if sys.platform != "win32":
    import resource

Field = tuple[str, object]
SMALL_BYTES = 5 << 20  # of keys: about less there is nothing to say


@cache
def system_bytes() -> int:
    """Return the memory of the machine; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0


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


def memory(instance: Instance) -> Iterable[Field]:
    """Return the fields of INFO memory."""
    resident = resident_bytes()
    used = instance.eviction.memory.used_bytes if instance.eviction.memory else resident
    peak = max(resident, peak_bytes())
    clients = instance.clients.values()
    startup = instance.eviction.base_bytes
    dataset = max(0, used - startup)
    clients_bytes = sum(c.query_bytes() + c.output_bytes() for c in clients)
    return [
        ("used_memory", used),
        ("used_memory_human", show_bytes(used)),
        ("used_memory_rss", resident),
        ("used_memory_rss_human", show_bytes(resident)),
        ("used_memory_peak", peak),
        ("used_memory_peak_human", show_bytes(peak)),
        ("used_memory_peak_perc", f"{100 * used / max(1, peak):.2f}%"),
        ("used_memory_overhead", startup + clients_bytes),
        ("used_memory_startup", startup),
        ("used_memory_dataset", dataset),
        ("used_memory_dataset_perc", f"{100 * dataset / max(1, used):.2f}%"),
        *[("allocator_allocated", used), ("allocator_active", resident), ("allocator_resident", resident)],
        ("total_system_memory", system_bytes()),
        ("total_system_memory_human", show_bytes(system_bytes())),
        *_scripts(instance),
        ("maxmemory", instance.config.maxmemory),
        ("maxmemory_human", show_bytes(instance.config.maxmemory)),
        ("maxmemory_policy", instance.config.maxmemory_policy),
        ("allocator_frag_ratio", f"{resident / max(1, used):.2f}"),
        ("allocator_frag_bytes", resident - used),
        *[("allocator_rss_ratio", "1.00"), ("allocator_rss_bytes", 0)],
        *[("rss_overhead_ratio", "1.00"), ("rss_overhead_bytes", 0)],
        ("mem_fragmentation_ratio", f"{resident / max(1, used):.2f}"),
        ("mem_fragmentation_bytes", resident - used),
        *[("mem_not_counted_for_evict", 0), ("mem_replication_backlog", 0), ("mem_total_replication_buffers", 0)],
        ("mem_clients_slaves", 0),
        ("mem_clients_normal", clients_bytes),
        *[("mem_cluster_links", 0), ("mem_aof_buffer", 0), ("mem_allocator", "libc"), ("active_defrag_running", 0)],
        ("lazyfree_pending_objects", sum(map(len, instance.store.garbage))),
        ("lazyfreed_objects", 0),
    ]


def _scripts(instance: Instance) -> list[Field]:
    """Return the fields of scripts and functions. A library that has not been asked for since the start has none."""
    scripts, functions, libraries = instance.scripts, instance.functions, instance.store.libraries
    texts = scripts.texts if scripts is not None else {}
    scripts_vm = scripts.runtime.used_bytes if scripts is not None and scripts.runtime is not None else 0
    functions_vm = functions.used_bytes if functions is not None else 0
    scripts_bytes, functions_bytes = sum(len(text.body) for text in texts.values()), sum(map(len, libraries.values()))
    return [
        ("used_memory_lua", scripts_vm),
        ("used_memory_vm_eval", scripts_vm),
        ("used_memory_scripts_eval", scripts_bytes),
        ("number_of_cached_scripts", len(texts)),
        ("number_of_functions", functions.count if functions is not None else 0),
        ("number_of_libraries", len(libraries)),
        ("used_memory_vm_functions", functions_vm),
        ("used_memory_vm_total", scripts_vm + functions_vm),
        ("used_memory_functions", functions_bytes),
        ("used_memory_scripts", scripts_bytes + functions_bytes),
    ]


def memory_stats(instance: Instance) -> dict[bytes, object]:
    """Return the reply to MEMORY STATS, in Redis's order and names."""
    fields = dict(memory(instance))
    used, resident, startup = (fields[name] for name in ("used_memory", "used_memory_rss", "used_memory_startup"))
    peak, dataset = fields["used_memory_peak"], fields["used_memory_dataset"]
    assert isinstance(used, int)
    assert isinstance(resident, int)
    assert isinstance(peak, int)
    assert isinstance(dataset, int)
    databases = {
        b"db.%d" % db.index: {
            b"overhead.hashtable.main": sys.getsizeof(db.entries),
            b"overhead.hashtable.expires": 0,
            b"overhead.hashtable.slot-to-keys": 0,
        }
        for db in instance.store.databases
        if len(db)
    }
    keys = sum(map(len, instance.store.databases))
    return {
        b"peak.allocated": peak,
        b"total.allocated": used,
        b"startup.allocated": startup,
        b"replication.backlog": 0,
        b"clients.slaves": 0,
        b"clients.normal": fields["mem_clients_normal"],
        b"cluster.links": 0,
        b"aof.buffer": 0,
        b"lua.caches": fields["used_memory_scripts_eval"],
        b"functions.caches": fields["used_memory_functions"],
        **databases,
        b"overhead.total": fields["used_memory_overhead"],
        b"keys.count": keys,
        b"keys.bytes-per-key": dataset // keys if keys else 0,
        b"dataset.bytes": dataset,
        b"dataset.percentage": 100 * dataset / max(1, used),
        b"peak.percentage": 100 * used / max(1, peak),
        b"allocator.allocated": used,
        b"allocator.active": resident,
        b"allocator.resident": resident,
        b"allocator-fragmentation.ratio": resident / max(1, used),
        b"allocator-fragmentation.bytes": resident - used,
        b"allocator-rss.ratio": 1.0,
        b"allocator-rss.bytes": 0,
        b"rss-overhead.ratio": 1.0,
        b"rss-overhead.bytes": 0,
        b"fragmentation": resident / max(1, used),
        b"fragmentation.bytes": resident - used,
    }


def memory_advice(instance: Instance) -> str:
    """Return the reply to MEMORY DOCTOR."""
    fields = memory_stats(instance)
    dataset, peak, used = (fields[name] for name in (b"dataset.bytes", b"peak.allocated", b"total.allocated"))
    assert isinstance(dataset, int)
    assert isinstance(peak, int)
    assert isinstance(used, int)
    if dataset < SMALL_BYTES:
        return "The keys take very little memory: there is nothing to say about it.\n"
    found = []
    if peak > 1.5 * used:
        found.append(
            "- Peak: at its peak the process took much more than now. What was freed serves new keys, and may not go "
            "back to the system."
        )
    if not instance.config.maxmemory:
        found.append("- No limit: without maxmemory the process may take all memory of the machine.")
    elif instance.config.maxmemory > system_bytes() > 0:
        found.append("- Limit: maxmemory is more than the machine has.")
    return "\n".join(found or ["No problem was found."]) + "\n"
