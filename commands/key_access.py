"""How a request uses each of its keys: Redis's flags of key specifications.

    RO read only   RW read and write   OW overwrite   RM remove
    access: the reply shows of the value; insert, update, delete: the change that may be made

A row is about the first key and, behind a semicolon, the others. For a command without a row, a reader has `RO access`,
and a writer `RW access update`.
"""

from __future__ import annotations

from functools import cache

from commands import PUBSUB, READONLY, Command

Flags = tuple[bytes, ...]

FLAGS = {
    "OW insert": "SETNX MSETNX",
    "OW update": "RESTORE SETEX PSETEX MSET MSETEX",
    "OW update;RO access": "BITOP ZUNIONSTORE ZINTERSTORE ZDIFFSTORE ZRANGESTORE GEOSEARCHSTORE SUNIONSTORE SDIFFSTORE",
    "RW update;RO access": "SINTERSTORE",
    "RM delete": "DEL UNLINK DELEX DELIFEQ",
    "RO access;OW update": "GEORADIUS GEORADIUSBYMEMBER COPY SORT",
    "RO access": "XREADGROUP",
    "RO": "LLEN ZCARD HEXISTS HSTRLEN HLEN EXISTS TOUCH TYPE OBJECT|ENCODING OBJECT|FREQ OBJECT|IDLETIME "
    "OBJECT|REFCOUNT MEMORY|USAGE SISMEMBER SCARD XLEN STRLEN WATCH",
    "RW access delete;OW insert": "RENAMENX",
    "RW access delete;OW update": "RENAME",
    "RW access delete;RW insert": "LMOVE RPOPLPUSH BLMOVE BRPOPLPUSH SMOVE",
    "RW access delete": "LPOP RPOP LMPOP BLPOP BRPOP BLMPOP ZPOPMIN ZPOPMAX ZMPOP BZPOPMIN BZPOPMAX BZMPOP HGETDEL "
    "SPOP GETDEL",
    "RW access insert;RO access": "PFMERGE",
    "RW access": "PFCOUNT",
    "RW delete": "LTRIM LREM ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREMRANGEBYLEX ZREM HDEL SREM XAUTOCLAIM XGROUP|DESTROY "
    "XGROUP|DELCONSUMER XDEL XTRIM",
    "RW insert": "LPUSH RPUSH LPUSHX RPUSHX LINSERT HSETNX PFADD SADD XGROUP|CREATE XGROUP|CREATECONSUMER APPEND",
    "RW update": "LSET ZADD GEOADD HSET HMSET HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT HPERSIST HSETEX PERSIST EXPIRE "
    "PEXPIRE EXPIREAT PEXPIREAT XCLAIM XGROUP|SETID XACK XADD XSETID SETRANGE",
    "RW access update variable_flags": "SET BITFIELD",
}
FLAGS_OF = {name.encode(): flags for flags, names in FLAGS.items() for name in names.split()}
READING = frozenset({b"access"})
WRITING = frozenset({b"insert", b"update", b"delete"})


@cache
def key_flags(row: Command) -> tuple[Flags, Flags]:
    """Return the flags of a command's first key, and of its other keys."""
    default = "not_key" if row.flags & PUBSUB else "RO access" if row.flags & READONLY else "RW access update"
    first, _, rest = FLAGS_OF.get(row.name, default).partition(";")
    return tuple(first.encode().split()), tuple((rest or first).encode().split())


def accesses(row: Command, argv: list[bytes]) -> list[tuple[bytes, Flags]]:
    """Return the keys of a request, whose arity must be right, each with its flags."""
    first, rest = key_flags(row)
    if b"variable_flags" in first:
        first = rest = _of_words(row, argv)
    return [(key, rest if place else first) for place, key in enumerate(row.key_arguments(argv))]


def _of_words(row: Command, argv: list[bytes]) -> Flags:
    """Return the flags that depend on the options of a request."""
    if row.name == b"SET":
        reads = any(word.upper() == b"GET" for word in argv[3:])
        return (b"RW", b"access", b"update") if reads else (b"OW", b"update")
    operations = argv[2::3]  # of BITFIELD: a GET has three words, and any other may change something
    reads = all(word.upper() == b"GET" for word in operations)
    return (b"RO", b"access") if reads else (b"RW", b"access", b"update")
