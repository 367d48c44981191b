"""The memory that a pool's keys may take: a write that one instance cannot hold is refused before it becomes an entry.

All instances apply an entry, and each that starts applies it again. So one entry that does not fit would end them all.

It owns how many bytes a write takes, how long a value may be, and how much memory the system gives to a process. It
knows neither etcd nor the other instances.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress

from commands import Counted, fold
from commands.arguments import parse_integer
from commands.bitfields import parse_bit_offset, written_by
from commands.sort import stored_bytes
from commands.stream_arguments import parse_read
from errors import OUT_OF_MEMORY, POOL_VALUE_TOO_LARGE, CommandError
from keyspace.eviction import needed_bytes
from pool.entry import MOST_BYTES
from rdb.payload import string_bytes
from session import Session
from store import Keyspace
from values import is_string, size_of
from values.consumer_groups import CONSUMER_BYTES, GROUP_BYTES, PENDING_BYTES
from values.entry import value_of
from values.hyperloglog import DENSE_BYTES
from values.lists import List
from values.long_string import most_growth
from values.stream_chunks import ENTRY_BYTES, FIELD_BYTES
from values.streams import STREAM_BYTES, Stream
from values.table import CAP, Table

Growth = Callable[[Keyspace, "list[bytes]"], "tuple[int, int]"]

TABLE_ENTRY_BYTES = 160  # of a short key that is in a dict which has just grown
MOST_MOVED = 2 * CAP  # entries of a table that a new key may move, and the room for them in two new dicts
UNLIMITED_BYTES = 1 << 60
LONG_ENTRY_BYTES = 128  # the tuple of a long string, and the head of its `bytes`
THREADS_BYTES = 12 * (72 << 20)  # of address space: a thread reserves 8 MB for its stack, and glibc 64 MB for its heap
CONTAINER_BYTES = 2000  # of a container that leaves its compact form, without its elements
OPENED_BYTES = 10_000  # of a chunk of a list that leaves its packed form
SHORT_PAYLOAD_BYTES = 1 << 14  # a shorter payload may be a collection that Redis compressed as a whole
PAYLOAD_GROWTH, SHORT_PAYLOAD_GROWTH = 64, 256  # bytes in memory for a byte of a payload, at most
CGROUPS = "/sys/fs/cgroup"
OWN_CGROUPS = "/proc/self/cgroup"


def _length(db: Keyspace, key: bytes) -> int:
    entry = db.entries.get(key)
    value = b"" if entry is None else value_of(entry)
    return len(value) if is_string(value) else 0


def _append(db: Keyspace, argv: list[bytes]) -> tuple[int, int]:
    known = _length(db, argv[1])
    return _write(known, known, argv[2])


def _setrange(db: Keyspace, argv: list[bytes]) -> tuple[int, int]:
    try:
        start = parse_integer(argv[2])
    except CommandError:
        return 0, 0
    return _write(_length(db, argv[1]), start, argv[3])


def _write(known: int, start: int, patch: bytes) -> tuple[int, int]:
    end = start + len(patch)
    return (end, max(0, most_growth(known, end, 1, len(patch)) - len(patch))) if patch else (0, 0)


def _setbit(db: Keyspace, argv: list[bytes]) -> tuple[int, int]:
    try:
        end = (parse_bit_offset(argv[2]) >> 3) + 1
    except CommandError:
        return 0, 0
    return end, most_growth(_length(db, argv[1]), end, 1)


def _bitfield(db: Keyspace, argv: list[bytes]) -> tuple[int, int]:
    writes, end = written_by(argv)
    return end, most_growth(_length(db, argv[1]), end, writes) if writes else 0


def _bitop(db: Keyspace, argv: list[bytes]) -> tuple[int, int]:
    size = max((_length(db, key) for key in argv[3:]), default=0)
    return size, most_growth(0, size, 1, size)


def _hyperloglog(_db: Keyspace, _argv: list[bytes]) -> tuple[int, int]:
    return DENSE_BYTES, DENSE_BYTES + LONG_ENTRY_BYTES


def _copy(db: Keyspace, argv: list[bytes]) -> tuple[int, int]:
    entry = db.entries.get(argv[1])
    return 0, 0 if entry is None else size_of(entry)


def _add(db: Keyspace, argv: list[bytes]) -> tuple[int, int]:
    """Return the bytes of a table (`values/table.py`) that grows: its form may change, or chunks be split."""
    entry = db.entries.get(argv[1])
    value = b"" if entry is None else value_of(entry)
    return 0, TABLE_ENTRY_BYTES * min(len(argv) + (len(value) if isinstance(value, Table) else 0), MOST_MOVED)


def _set_deadlines(db: Keyspace, argv: list[bytes]) -> tuple[int, int]:
    """Return the bytes of fields that get deadlines: a hash may grow, and a sorted set of them."""
    return 0, 3 * _add(db, argv)[1] + CONTAINER_BYTES


def _made_of(keys: Callable[[list[bytes]], list[bytes]], choose: Callable[[list[int]], int]) -> Growth:
    """Return the function for a command that stores as many members as `choose` makes of those of its sets."""

    def growth(db: Keyspace, argv: list[bytes]) -> tuple[int, int]:
        entries = [db.entries.get(key) for key in keys(argv)]
        values = [b"" if entry is None else value_of(entry) for entry in entries]
        tables = [value if isinstance(value, Table) else None for value in values]
        sizes = [table.size_bytes() + TABLE_ENTRY_BYTES * len(table) if table else 0 for table in tables]
        return 0, choose(sizes or [0])

    return growth


def _create(_db: Keyspace, _argv: list[bytes]) -> tuple[int, int]:
    return 0, CONTAINER_BYTES


def _open_chunk(_db: Keyspace, _argv: list[bytes]) -> tuple[int, int]:
    return 0, OPENED_BYTES


def _move(db: Keyspace, argv: list[bytes]) -> tuple[int, int]:
    entry = db.entries.get(argv[1])
    items = None if entry is None else value_of(entry)
    element_bytes = max(len(items[0]), len(items[len(items) - 1])) if isinstance(items, List) else 0
    return 0, CONTAINER_BYTES + element_bytes


def _sort(db: Keyspace, argv: list[bytes]) -> tuple[int, int]:
    return 0, CONTAINER_BYTES + stored_bytes(db, argv)


def _restore(_db: Keyspace, argv: list[bytes]) -> tuple[int, int]:
    payload = argv[3]
    size = string_bytes(payload)
    growth = SHORT_PAYLOAD_GROWTH if len(payload) < SHORT_PAYLOAD_BYTES else PAYLOAD_GROWTH
    return size, max(size, growth * len(payload))


def _first(sizes: list[int]) -> int:
    return sizes[0]


def _xadd(db: Keyspace, argv: list[bytes]) -> tuple[int, int]:
    return 0, STREAM_BYTES + ENTRY_BYTES + FIELD_BYTES * len(argv)


def _xgroup(db: Keyspace, argv: list[bytes]) -> tuple[int, int]:
    return 0, STREAM_BYTES + GROUP_BYTES + CONSUMER_BYTES


def _xreadgroup(db: Keyspace, argv: list[bytes]) -> tuple[int, int]:
    try:
        reading = parse_read(argv, is_group=True)
    except CommandError:
        return 0, 0
    entries = 0
    for key in reading.keys:
        entry = db.entries.get(key)
        value = None if entry is None else value_of(entry)
        length = value.length if isinstance(value, Stream) else 0
        entries += min(reading.most or length, length)
    return 0, CONSUMER_BYTES * len(reading.keys) + PENDING_BYTES * entries


def _xclaim(db: Keyspace, argv: list[bytes]) -> tuple[int, int]:
    return 0, CONSUMER_BYTES + PENDING_BYTES * len(argv)


# Commands that may take more memory than their arguments: the length of the new value, and the additional bytes.
GROWTH: dict[bytes, Growth] = {
    b"APPEND": _append,
    b"SETRANGE": _setrange,
    b"SETBIT": _setbit,
    b"BITFIELD": _bitfield,
    b"BITOP": _bitop,
    b"PFADD": _hyperloglog,
    b"PFMERGE": _hyperloglog,
    b"COPY": _copy,
    b"HSET": _add,
    b"HMSET": _add,
    b"HSETNX": _add,
    b"HINCRBY": _add,
    b"HINCRBYFLOAT": _add,
    **dict.fromkeys((b"HEXPIRE", b"HPEXPIRE", b"HEXPIREAT", b"HPEXPIREAT", b"HSETEX"), _set_deadlines),
    b"SADD": _add,
    **dict.fromkeys((b"LPUSH", b"RPUSH", b"LPUSHX", b"RPUSHX"), _create),
    **dict.fromkeys((b"LSET", b"LINSERT"), _open_chunk),
    **dict.fromkeys((b"LMOVE", b"RPOPLPUSH", b"BLMOVE", b"BRPOPLPUSH"), _move),
    b"RESTORE": _restore,
    b"SORT": _sort,
    b"SUNIONSTORE": _made_of(lambda argv: argv[2:], sum),
    b"SINTERSTORE": _made_of(lambda argv: argv[2:], min),
    b"SDIFFSTORE": _made_of(lambda argv: argv[2:], _first),
    b"ZADD": _add,
    b"ZINCRBY": _add,
    b"GEOADD": _add,
    b"GEOSEARCHSTORE": _made_of(lambda argv: argv[2:3], _first),
    b"GEORADIUS": _made_of(lambda argv: argv[1:2], _first),
    b"GEORADIUSBYMEMBER": _made_of(lambda argv: argv[1:2], _first),
    b"ZRANGESTORE": _made_of(lambda argv: argv[2:3], _first),
    b"ZUNIONSTORE": _made_of(Counted(2).find, sum),
    b"ZINTERSTORE": _made_of(Counted(2).find, min),
    b"ZDIFFSTORE": _made_of(Counted(2).find, _first),
    b"XADD": _xadd,
    b"XGROUP": _xgroup,
    b"XREADGROUP": _xreadgroup,
    b"XCLAIM": _xclaim,
}


def require_room(session: Session, argv: list[bytes]) -> None:
    """Raise CommandError if a command of GROWTH makes a value that is too long, or for which there is no room.

    No value may be longer than the longest that one command can set, so the memory to copy and encode one is bounded.
    """
    value_bytes, more_bytes = GROWTH[fold(argv[0])](session.db, argv)
    if value_bytes > MOST_BYTES:
        raise CommandError(POOL_VALUE_TOO_LARGE % (value_bytes, MOST_BYTES))
    if not session.instance.eviction.has_room(more_bytes):
        raise CommandError(OUT_OF_MEMORY)


def taken_bytes(db: Keyspace, argv: list[bytes]) -> int:
    """Return how many bytes a write will take at most."""
    growth = GROWTH.get(fold(argv[0]))
    return needed_bytes(argv) + (growth(db, argv)[1] if growth else 0)


def default_limit_bytes(base_bytes: int) -> int:
    """Return the memory limit, in bytes, where none is set: `base_bytes` and three quarters of what the system leaves.

    0 if only the machine's memory bounds the process. The other quarter is for commands, entries and snapshots in work.
    """
    return min((base_bytes + max(1, left) * 3 // 4 for left in _left_bytes()), default=0)


def _left_bytes() -> Iterator[int]:
    """Yield how many more bytes each limit leaves to this process."""
    virtual, resident = _memory_of_process()
    for limit in _cgroup_limits():
        yield limit - resident
    with suppress(ImportError):  # Windows
        import resource  # noqa: PLC0415

        for kind, taken in (
            (resource.RLIMIT_AS, max(virtual, resident + THREADS_BYTES)),
            (resource.RLIMIT_DATA, resident),
        ):
            limit, _ = resource.getrlimit(kind)
            if 0 <= limit < UNLIMITED_BYTES:
                yield limit - taken


def _memory_of_process() -> tuple[int, int]:
    try:
        with open("/proc/self/statm", "rb") as file:
            virtual, resident, *_ = map(int, file.read().split())
    except OSError:
        return 0, 0
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return virtual * page_bytes, resident * page_bytes


def _cgroup_limits() -> Iterator[int]:
    """Yield the limits, in bytes, of this process's control groups and their parents, of cgroup v1 and v2."""
    try:
        with open(OWN_CGROUPS, encoding="utf-8", errors="surrogateescape") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return
    for _, controllers, path in groups:
        if controllers == "":
            directory, name = CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            directory, name = f"{CGROUPS}/memory", "memory.limit_in_bytes"
        else:
            continue
        names = [name for name in path.split("/") if name]
        for count in range(len(names) + 1):
            with suppress(OSError, ValueError), open("/".join([directory, *names[:count], name]), "rb") as file:
                limit = int(file.read())
                if limit < UNLIMITED_BYTES:
                    yield limit
