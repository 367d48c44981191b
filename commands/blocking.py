"""What the commands that block have in common: the timeout, and the reply that lets a client wait.

A command that blocks tries what it does first. If no key holds anything, it returns `wait_for(...)`. The connection
then parks, and the request runs again when a key has changed (`keyspace/blocked_clients.py`).

In a transaction nothing waits: the reply is null at once, as in Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from errors import TIMEOUT_NEGATIVE, TIMEOUT_NOT_A_FLOAT, TIMEOUT_OUT_OF_RANGE, CommandError
from keyspace.blocked_clients import state_of
from replies import Blocked, Reply
from session import Session
from values import ValueType
from wire.doubles import parse_float

MOST_SECONDS = float((1 << 63) // 1000)


def parse_timeout(text: bytes) -> float:
    """Return a timeout in seconds; 0: for ever. Raises CommandError."""
    try:
        seconds = parse_float(text)
    except ValueError:
        raise CommandError(TIMEOUT_NOT_A_FLOAT) from None
    if seconds < 0:
        raise CommandError(TIMEOUT_NEGATIVE)
    if seconds >= MOST_SECONDS:
        raise CommandError(TIMEOUT_OUT_OF_RANGE)
    return seconds


def wait_for(
    session: Session,
    keys: Sequence[bytes],
    kind: ValueType,
    timeout_seconds: float,
    null: Any,
    request: Callable[[bytes], list[bytes]],
    again_seconds: float | None = None,
) -> Reply:
    """Let a client wait until one of the keys holds a value of a type; then `request(key)` runs.

    With `again_seconds` it runs each time that so much time has passed, too.
    """
    if session.is_executing:
        return null  # type: ignore[no-any-return]
    states = {key: state_of(session.db, key, kind.python_type) for key in keys}
    return Blocked(states, kind.python_type, timeout_seconds, null, request, again_seconds)
