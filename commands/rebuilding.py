"""Which type is rebuilt how: a key as the commands that make it anew.

COPY and MOVE log a key so, and the log's rewrite writes all keys so. A module of a data type says how for its own
type, and is entered here; nothing else need know of it. Its commands must make the key whatever was there before
(begin with a DEL where they would add to it), since the rewrite may write a key twice.
"""

from __future__ import annotations

from typing import Any

from commands import strings

REBUILD = {bytes: strings.rebuild}


def rebuild(key: bytes, value: Any, deadline_ms: int) -> list[list[bytes]]:
    """Return the commands that make a key anew, whatever was there."""
    return REBUILD[type(value)](key, value, deadline_ms)
