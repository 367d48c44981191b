"""What a store holds, in a form that is equal for equal values of any type, however they came to be.

A value is read by what rebuilds it, so nothing here knows a type's class. The order of a hash and of a set is no part
of what they hold; that it is the same on all instances of a pool is shown by the bytes of their snapshots.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from instances import State, driven, run_one, state_of

import values
from engine import Engine
from errors import CommandError
from replies import LongArray
from session import Session
from store import Keyspace, Store
from values.entry import NO_DEADLINE, deadline_of, value_of

Held = tuple[bytes, Any, int]  # type, content, deadline


def content(value: Any) -> Any:
    """Return what a value holds."""
    if type(value) is bytes:
        return value
    commands = [tuple(map(bytes, argv)) for argv in values.rebuild(b"k", value, NO_DEADLINE)]
    return sorted(part for argv in commands for part in _parts(argv)) if _is_unordered(value) else commands


def _is_unordered(value: Any) -> bool:
    return values.type_of(value).name in (b"hash", b"set", b"zset")


def _parts(argv: tuple[bytes, ...]) -> Iterable[tuple[bytes, ...]]:
    """Return what a command says of each element: of HSET each field, of HPEXPIREAT each field's deadline."""
    name, _, *rest = argv
    if name in (b"HSET", b"ZADD"):
        return zip(rest[::2], rest[1::2], strict=True)
    if b"FIELDS" in rest:
        start = rest.index(b"FIELDS")
        return [(name, *rest[:start], field) for field in rest[start + 2 :]]
    return [(word,) for word in rest]


def held(db: Keyspace, key: bytes) -> Held | None:
    """Return what a key holds; None if there is no such key. An expired key that still stands there counts."""
    entry = db.entries.get(key)
    return None if entry is None else held_of(value_of(entry), deadline_of(entry))


def held_of(value: Any, deadline_ms: int) -> Held:
    return values.type_of(value).name, content(value), deadline_ms


def canonical(state: State) -> dict[tuple[int, bytes], Held]:
    """Return a state (`instances.state_of`) in a form that can be compared."""
    return {place: held_of(*entry) for place, entry in state.items()}


def all_of(store: Store) -> dict[tuple[int, bytes], Held]:
    """Return what a store holds."""
    return canonical(state_of(store))


def check(store: Store) -> None:
    """Assert the invariants of the databases and of each value that has some."""
    for db in store.databases:
        db.check()
        for entry in db.entries.values():
            if hasattr(value := value_of(entry), "check"):
                value.check()


def answer(engine: Engine, session: Session, argv: list[bytes]) -> Any:
    """Run a request to its end, in slices if it takes long; return its reply as a plain value, of an error the text."""
    try:
        reply = run_one(engine, session, argv)
        if isinstance(reply, Generator):
            reply, _ = driven(reply)
    except CommandError as error:
        reply = error
    if isinstance(reply, CommandError):
        return reply
    return reply.members() if isinstance(reply, LongArray) else reply
