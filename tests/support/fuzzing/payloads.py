"""A value in Redis's form judged on any bytes: RESTORE makes a key of it, or refuses it and changes nothing.

Of a value that is restored: the database is sound, and what DUMP makes of it makes the same value again.
"""

from __future__ import annotations

from typing import Any

import old_forms
from instances import Bench, driven, state_of

from errors import BAD_DATA_FORMAT, CommandError

TOKENS = [
    *(bytes([byte]) for byte in (0, 1, 0x7F, 0x80, 0x81, 0xC0, 0xC3, 0xF0, 0xF1, 0xF4, 0xFD, 0xFE, 0xFF)),
    old_forms.length(2**32),
    old_forms.length(2**40),
    old_forms.string(old_forms.ziplist([b"a", 1, b"b", -5])),
    old_forms.string(old_forms.listpack([b"a", 1, b"b", -5])),
    old_forms.compressed(b"ab" * 40),
]


def check(value: bytes) -> None:
    """Judge a value: its type, then its serialized form."""
    client = Bench(maxmemory="1gb").connect()
    store = client.bench.store
    client.ask("SET", "k", "old")
    before = state_of(store)
    reply = _done(client.ask("RESTORE", "k", "0", old_forms.payload(value[0] if value else 0, value[1:]), "REPLACE"))
    store.databases[0].check()
    if isinstance(reply, CommandError):
        assert reply.text == BAD_DATA_FORMAT, reply
        assert state_of(store) == before, "a refused payload has changed something"
        return
    assert reply == b"OK", reply
    again = _done(client.ask("DUMP", "k"))
    if again is None:  # all fields of a hash have ended
        return
    assert _done(client.ask("RESTORE", "copy", "0", again)) == b"OK", again
    assert _done(client.ask("DUMP", "copy")) == again
    store.databases[0].check()


def _done(reply: Any) -> Any:
    """Return a reply, after its work if it is work."""
    if hasattr(reply, "send"):
        try:
            reply = driven(reply)[0]
        except CommandError as error:
            return error
    return bytes(reply) if isinstance(reply, memoryview) else reply
