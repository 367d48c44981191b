"""Keyspace notifications: what is published when keys change, named as in Redis.

1. It is a listener to all changes while `notify-keyspace-events` names a kind of channel and a class; else it is not
   there, and nothing is paid for it.
2. While a request runs, its changes are collected. At its end its row of EVENTS, or its function in ORDERED, says which
   events they were, in Redis's order. So no command publishes anything itself; it calls `Keyspace.event` only for what
   cannot be concluded from a change (`xtrim`).
3. What no request did (a key has expired) is published at once, and so is `keymiss`.

    __keyspace@<database>__:<key>     receives the event's name
    __keyevent@<database>__:<event>   receives the key
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any

from keyspace.subscriptions import Subscriptions
from store import Keyspace

Event = tuple[Keyspace, bytes, bytes]  # the database, the key, the name

CLASSES = {  # class -> the names of its events
    "g": b"del expire persist rename_from rename_to move_from move_to copy_to restore",
    "$": b"set setrange setbit append incrby incrbyfloat pfadd",
    "l": b"lpush rpush lpop rpop linsert lset lrem ltrim sortstore",
    "s": b"sadd srem spop sinterstore sunionstore sdiffstore",
    "h": b"hset hincrby hincrbyfloat hdel hexpire hpersist hexpired",
    "z": b"zadd zincr zrem zremrangebyscore zremrangebyrank zremrangebylex zpopmin zpopmax"
    b" zunionstore zinterstore zdiffstore zrangestore geosearchstore georadiusstore",
    "t": b"xadd xtrim xdel xsetid xgroup-create xgroup-createconsumer xgroup-delconsumer xgroup-destroy xgroup-setid",
    "x": b"expired",
    "e": b"evicted",
    "m": b"keymiss",
    "n": b"new",
}
CLASS_OF = {name: letter for letter, names in CLASSES.items() for name in names.split()}

# event -> the commands. Where one empties a key, `del` follows. Behind a `*`: then there is nothing but `del`.
EVENTS = """
    del               DEL UNLINK GETDEL DELIFEQ
    expire*           EXPIRE PEXPIRE EXPIREAT PEXPIREAT
    persist           PERSIST
    copy_to           COPY
    restore*          RESTORE RESTORE-ASKING
    set               GETSET SETNX
    set*              BITOP
    setrange          SETRANGE
    setbit            SETBIT BITFIELD
    append            APPEND
    incrby            INCR INCRBY DECR DECRBY
    incrbyfloat       INCRBYFLOAT
    pfadd             PFADD PFMERGE
    lpush             LPUSH LPUSHX
    rpush             RPUSH RPUSHX
    lpop              LPOP BLPOP
    rpop              RPOP BRPOP
    linsert           LINSERT
    lset              LSET
    lrem              LREM
    ltrim             LTRIM
    sortstore*        SORT
    sadd              SADD
    srem              SREM
    spop              SPOP
    sinterstore*      SINTERSTORE
    sunionstore*      SUNIONSTORE
    sdiffstore*       SDIFFSTORE
    hset              HSET HMSET HSETNX
    hincrby           HINCRBY
    hincrbyfloat      HINCRBYFLOAT
    hdel              HDEL HGETDEL
    hexpire           HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT
    hpersist          HPERSIST
    zincr             ZINCRBY
    zadd              GEOADD
    zrem              ZREM
    zremrangebyscore  ZREMRANGEBYSCORE
    zremrangebyrank   ZREMRANGEBYRANK
    zremrangebylex    ZREMRANGEBYLEX
    zpopmin           ZPOPMIN BZPOPMIN
    zpopmax           ZPOPMAX BZPOPMAX
    zunionstore*      ZUNIONSTORE
    zinterstore*      ZINTERSTORE
    zdiffstore*       ZDIFFSTORE
    zrangestore*      ZRANGESTORE
    geosearchstore*   GEOSEARCHSTORE
    georadiusstore*   GEORADIUS GEORADIUSBYMEMBER
    xadd              XADD
    xtrim             XTRIM
    xdel              XDEL
    xgroup-create     XGROUP|CREATE
    xgroup-createconsumer  XGROUP|CREATECONSUMER
    xgroup-delconsumer     XGROUP|DELCONSUMER
    xgroup-destroy         XGROUP|DESTROY
"""
EVENT_OF = {
    command: line.split()[0].encode() for line in EVENTS.strip().splitlines() for command in line.encode().split()[1:]
}
MADE_ANEW = frozenset((b"COPY", b"RESTORE", b"RESTORE-ASKING"))  # the key is new, also where they replace one
QUIET = (b"OBJECT|", b"SPOP")  # the commands that miss a key and do not say so
ZADD_OPTIONS = frozenset((b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR"))
AT_ONCE = frozenset((b"expired", b"evicted", b"keymiss"))


class Request:
    """A request that runs: its client, its words, and what it has changed so far."""

    __slots__ = ("argv", "changed", "client", "events", "name")

    def __init__(self, client: Any, name: bytes, argv: Sequence[bytes]) -> None:
        self.client = client
        self.name = name  # of the row: XGROUP|CREATE
        self.argv = list(argv)  # a command with thousands of words removes them as it goes
        self.changed: dict[tuple[Keyspace, bytes], bool] = {}  # True: the key is new
        self.events: list[Event] = []


class Running:
    """The request that runs, if somebody wants to know."""

    request: Request | None = None


class Notifications:
    """Publishes the events of the classes in `classes`."""

    def __init__(self, subscriptions: Subscriptions, running: Running) -> None:
        self.classes = ""
        self._subscriptions = subscriptions
        self._running = running

    @property
    def is_on(self) -> bool:
        """Return True if there is something to publish."""
        return bool({"K", "E"} & set(self.classes) and CLASSES.keys() & set(self.classes))

    def end(self, request: Request) -> None:
        """Publish what a request has done."""
        if request.changed:
            ordered = ORDERED.get(request.name)
            for event in ordered(request) if ordered else _of_row(request):
                self._publish(*event)
        for event in request.events:
            self._publish(*event)

    def _publish(self, db: Keyspace, key: bytes, name: bytes) -> None:
        if CLASS_OF[name] in self.classes:
            if "K" in self.classes:
                self._subscriptions.send(b"__keyspace@%d__:%b" % (db.index, key), name)
            if "E" in self.classes:
                self._subscriptions.send(b"__keyevent@%d__:%b" % (db.index, name), key)

    # ---- as a ChangeListener

    def changed(self, db: Keyspace, key: bytes) -> None:
        """Collect a change."""
        if (request := self._running.request) is not None:
            request.changed.setdefault((db, key), False)

    def all_changed(self, db: Keyspace) -> None:
        """Do nothing: a flush has no event."""

    def event(self, db: Keyspace, key: bytes, name: bytes) -> None:
        """Collect an event, or publish it."""
        request = self._running.request
        if name == b"new":
            if request is not None:
                request.changed.setdefault((db, key), True)
        elif request is None or name in AT_ONCE:
            if request is not None:
                if name == b"keymiss" and request.name.startswith(QUIET):
                    return
                request.changed.pop((db, key), None)
            self._publish(db, key, name)
            if name == b"hexpired" and key not in db.entries:
                self._publish(db, key, b"del")
        elif request.name not in MADE_ANEW:
            request.events.append((db, key, name))


# ---- which events the changes of a request are


def _of_row(request: Request) -> Iterator[Event]:
    """Yield the events of a request that has one for each key."""
    name = request.name
    choose = CHOSEN.get(name)
    event = choose([word.upper() for word in request.argv]) if choose else EVENT_OF.get(name, b"")
    event, is_only = event.rstrip(b"*"), event.endswith(b"*")
    for (db, key), is_new in request.changed.items() if event else ():
        exists = key in db.entries
        if is_new or (exists and name in MADE_ANEW):
            yield db, key, b"new"
        if exists or not is_only:
            yield db, key, event
        if not exists and event != b"del":
            yield db, key, b"del"


def _one(request: Request, db: Keyspace, key: bytes, event: bytes) -> Iterator[Event]:
    """Yield the events of one key."""
    if (db, key) in request.changed:
        if request.changed[db, key] and key in db.entries:
            yield db, key, b"new"
        yield db, key, event
        if key not in db.entries:
            yield db, key, b"del"


def _database(request: Request) -> Keyspace:
    return next(iter(request.changed))[0]


def _set(request: Request) -> Iterator[Event]:
    db, key = next(iter(request.changed))
    yield from _one(request, db, key, b"set")
    if request.name != b"SET" or {word.upper() for word in request.argv[3:]} & {b"EX", b"PX", b"EXAT", b"PXAT"}:
        yield db, key, b"expire"


def _mset(request: Request) -> Iterator[Event]:
    db = _database(request)
    for key in request.argv[1::2]:
        yield from _one(request, db, key, b"set")
        request.changed[db, key] = False


def _rename(request: Request) -> Iterator[Event]:
    db, (old, new) = _database(request), request.argv[1:3]
    yield db, new, b"new"
    yield db, old, b"rename_from"
    yield db, new, b"rename_to"


def _move(request: Request) -> Iterator[Event]:
    (source, key), (target, _) = request.changed
    yield target, key, b"new"
    yield source, key, b"move_from"
    yield target, key, b"move_to"


def _lmove(request: Request) -> Iterator[Event]:
    db, (source, destination), sides = _database(request), request.argv[1:3], request.argv[3:5]
    if request.name in (b"RPOPLPUSH", b"BRPOPLPUSH"):
        sides = [b"RIGHT", b"LEFT"]
    pop, push = (side[:1].lower() for side in sides)
    yield from _one(request, db, destination, push + b"push")
    yield from _one(request, db, source, pop + b"pop")


def _smove(request: Request) -> Iterator[Event]:
    db, (source, destination) = _database(request), request.argv[1:3]
    yield from _one(request, db, source, b"srem")
    yield from _one(request, db, destination, b"sadd")


def _behind_keys(words: list[bytes], number: int) -> bytes:
    """Return the word behind keys that follow their number."""
    return words[number + 1 + int(words[number])]


def _hsetex(request: Request) -> Iterator[Event]:
    db, key = next(iter(request.changed))
    yield from _one(request, db, key, b"hset")
    if {word.upper() for word in request.argv[2:]} & {b"EX", b"PX", b"EXAT", b"PXAT"} and key in db.entries:
        yield db, key, b"hexpire"


ORDERED: dict[bytes, Callable[[Request], Iterable[Event]]] = {
    **dict.fromkeys((b"SET", b"SETEX", b"PSETEX"), _set),
    **dict.fromkeys((b"MSET", b"MSETNX"), _mset),
    **dict.fromkeys((b"RENAME", b"RENAMENX"), _rename),
    **dict.fromkeys((b"LMOVE", b"BLMOVE", b"RPOPLPUSH", b"BRPOPLPUSH"), _lmove),
    b"MOVE": _move,
    b"SMOVE": _smove,
    b"HSETEX": _hsetex,
}
# The event of a command that depends on its words, in upper case.
CHOSEN: dict[bytes, Callable[[list[bytes]], bytes]] = {
    b"GETEX": lambda words: b"persist" if words[2] == b"PERSIST" else b"expire*",
    b"HGETEX": lambda words: b"hpersist" if words[2] == b"PERSIST" else b"hexpire",
    b"ZADD": lambda words: b"zincr" if b"INCR" in takewhile(ZADD_OPTIONS.__contains__, words[2:]) else b"zadd",
    b"LMPOP": lambda words: b"lpop" if _behind_keys(words, 1) == b"LEFT" else b"rpop",
    b"BLMPOP": lambda words: b"lpop" if _behind_keys(words, 2) == b"LEFT" else b"rpop",
    b"ZMPOP": lambda words: b"zpop" + _behind_keys(words, 1).lower(),
    b"BZMPOP": lambda words: b"zpop" + _behind_keys(words, 2).lower(),
}
